"""Seconds, MB/s and peak resident memory of streaming a large FASTA file.

    python benchmarks/read.py                  # 2 GB, generated into a temporary folder
    python benchmarks/read.py --megabytes 100 --clean

Records are 1,000 random nucleotides in lines of 100. The reader runs in a process of its own, which prints the memory it
held before the first record and at its peak; `--clean` also normalises every record, as the jobs do.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Config:
    """Measure the FASTA reader."""

    megabytes: int = 2_000
    """Size of the file, in units of 10^6 bytes."""
    clean: bool = False
    """Normalise the records too, and set bad ones aside."""


def write_fasta(path: Path, size: int) -> None:
    """About `size` bytes of records of 1,000 nucleotides; the sequences repeat, the ids do not."""
    chooser = random.Random(0)
    bodies = ["\n".join("".join(chooser.choices("ACGU", k=100)) for _ in range(10)) for _ in range(1_000)]
    with path.open("w", encoding="utf-8") as out:
        number = 0
        while out.tell() < size:
            block = range(number, number + 10_000)
            out.write("".join(f">r{i}\n{bodies[i % 1_000]}\n" for i in block))
            number += len(block)


def measure(path: str, clean: bool) -> dict[str, float]:
    """Stream a file in this process."""
    from unirna.sequence import clean_table, plan_pieces, read_tables

    before = peak_megabytes()
    start, rows = time.perf_counter(), 0
    for piece in plan_pieces(path):
        for table in read_tables(piece):
            good, rejects = clean_table(table, piece.name) if clean else (table, table.slice(0, 0))
            rows += good.num_rows + rejects.num_rows
    seconds = time.perf_counter() - start
    rate = Path(path).stat().st_size / 1e6 / seconds
    return {"records": rows, "seconds": seconds, "mb_per_s": rate, "mb_at_start": before, "mb_at_peak": peak_megabytes()}


def peak_megabytes() -> float:
    """Peak resident memory of this process, 10^6 bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: `ru_maxrss` starts from the peak of the process that started this one
        return int(status.read_text(encoding="utf-8").partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts in bytes


def measure_apart(path: Path, *, clean: bool) -> dict[str, float]:
    """Stream a file in a process of its own, whose peak is the reader's."""
    command = [sys.executable, __file__, "--measure", str(path), *(["--clean"] if clean else [])]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8")
    result: dict[str, float] = json.loads(answer.stdout)
    return result


def main(config: Config) -> None:
    with tempfile.TemporaryDirectory(prefix="unirna-bench-") as folder:
        path = Path(folder) / "generated.fasta"
        write_fasta(path, config.megabytes * 1_000_000)
        found = measure_apart(path, clean=config.clean)
    print(
        f"{config.megabytes:,} MB, {found['records']:,.0f} records: "
        f"{found['seconds']:.1f} s, {found['mb_per_s']:.0f} MB/s, "
        f"resident memory {found['mb_at_start']:.0f} MB before, {found['mb_at_peak']:.0f} MB at its peak"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], "--clean" in sys.argv)))
    else:
        main(tyro.cli(Config, description=__doc__))
