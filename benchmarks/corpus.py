"""Peak memory, seconds and rate of the corpus job on generated collections of growing size.

    python benchmarks/corpus.py                                      # 200,000 and 2,000,000 sequences
    python benchmarks/corpus.py --sizes 2000000 20000000 --folder /scratch --out corpus.json

Each collection is random RNA of 30 to 1,000 nt (log-normal, median 120), a fifth of it copies of earlier records, half of
those as DNA, and one record in a thousand no RNA at all. It runs through `jobs/corpus.py` in a process of its own:
scanning, removal of copies, exclusion (against `--members` planted sequences, if any), splitting, weighing and writing;
`--clustering` adds the clustering. The manifest's sums are checked against what was generated.

Memory is what cannot be given back: anonymous and shared pages (RssAnon + RssShmem of /proc), sampled four times a second.
Memory-mapped files count for nothing, since the system may drop them. Linux only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from processes import size_of, watch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
CHUNK = 50_000
COPIES, BAD = 0.2, 0.001


@dataclass(frozen=True)
class Config:
    """Measure the corpus job."""

    sizes: tuple[int, ...] = (200_000, 2_000_000)
    """Records of each collection."""
    members: int = 0
    """Members of an exclusion set, one record of which stands in the collection for each."""
    clustering: str = "none"
    """As for the job."""
    folder: str | None = None
    """Where collections and corpora go for the time being; by default a temporary folder."""
    out: str | None = None
    """JSON file for the figures."""


@dataclass(frozen=True)
class Figures:
    """What one run took. Memory in MB."""

    records: int
    input_mb: float
    seconds: float
    records_per_second: float
    nucleotides_per_second: float
    driver_mb: float
    largest_worker_mb: float
    all_workers_mb: float
    scratch_mb: float
    corpus_mb: float


def generate(path: Path, records: int, members: Path | None, num_members: int) -> dict[str, int]:
    """Write a collection; how many records of each kind it has."""
    chance = np.random.default_rng(records)
    letters = np.frombuffer(b"ACGU", np.uint8)
    counts = {"bad": 0, "copies": 0}
    earlier: list[bytes] = []
    with path.open("wb") as sink:
        for first in range(0, records, CHUNK):
            number = min(CHUNK, records - first)
            lengths = np.clip(chance.lognormal(np.log(120), 0.6, number).astype(int), 30, 1000)
            text = letters[chance.integers(0, 4, lengths.sum(), dtype=np.uint8)].tobytes()
            ends = np.cumsum(lengths).tolist()
            kind = chance.random(number)
            lines: list[bytes] = []
            fresh: list[bytes] = []
            start = 0
            for i, end in enumerate(ends):
                sequence = text[start:end]
                start = end
                if kind[i] < BAD:
                    sequence = b"MKLV" + sequence
                    counts["bad"] += 1
                elif kind[i] < BAD + COPIES and earlier:
                    sequence = earlier[i % len(earlier)]
                    counts["copies"] += 1
                    if i % 2:
                        sequence = sequence.replace(b"U", b"t").lower()
                else:
                    fresh.append(sequence)
                lines.append(b">s%d\n%s\n" % (first + i, sequence))
            sink.writelines(lines)
            if not earlier and members is not None:
                members.write_bytes(b"".join(b">m%d\n%s\n" % (i, s) for i, s in enumerate(fresh[:num_members])))
            earlier = earlier or fresh[num_members : num_members + 10_000]
    return counts


def measure(config: Config, records: int, folder: Path) -> Figures:
    """Generate a collection, run the job over it, and watch its processes."""
    collection, corpus = folder / f"{records}.fasta", folder / f"{records}-corpus"
    members = folder / f"{records}-members.fasta" if config.members else None
    counts = generate(collection, records, members, config.members)
    command = [sys.executable, str(ROOT / "jobs" / "corpus.py"), str(collection), "--out", str(corpus)]
    command += ["--clustering", config.clustering, *(["--exclude", str(members)] if members else [])]
    text, seconds, peak = watch(command, folder, corpus / "work")
    summary: dict[str, Any] = json.loads(text.splitlines()[-1])
    assert summary["read"] == records
    assert summary["rejected"] == counts["bad"]
    assert summary["duplicates"] == counts["copies"]
    assert summary["excluded"] >= config.members
    nucleotides = sum(split["nucleotides"] for split in summary["splits"].values())
    figures = Figures(
        records=records,
        input_mb=collection.stat().st_size / 1e6,
        seconds=seconds,
        records_per_second=records / seconds,
        nucleotides_per_second=nucleotides / seconds,
        driver_mb=peak["driver"],
        largest_worker_mb=peak["largest"],
        all_workers_mb=peak["workers"],
        scratch_mb=peak["scratch"],
        corpus_mb=size_of(corpus),
    )
    collection.unlink()
    subprocess.run(["rm", "-r", str(corpus)], check=True)
    return figures


def main(config: Config) -> None:
    """Measure each size and print the table."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(dir=config.folder) as scratch:
        figures = []
        for size in config.sizes:
            figures.append(measure(config, size, Path(scratch)))
            console.print(asdict(figures[-1]))
    names = list(asdict(figures[0]))
    table = Table(*(name.replace("_", " ") for name in names))
    for one in figures:
        table.add_row(*(f"{value:,.0f}" for value in asdict(one).values()))
    Console().print(table)
    if config.out:
        Path(config.out).write_text(
            json.dumps({"config": asdict(config), "runs": [asdict(f) for f in figures]}, indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
