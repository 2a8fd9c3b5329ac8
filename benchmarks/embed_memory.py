"""Peak memory, seconds and rate of the embedding job on generated collections of growing size.

    python benchmarks/embed_memory.py                                     # 20,000 and 200,000 records
    python benchmarks/embed_memory.py --sizes 2000000 --distinct 20000 --out embed-memory.json

Each collection is random RNA of 20 to 60 nt, of which the records carry `--distinct` sequences over and over, one in a
thousand no RNA at all. So everything but the model sees all records: scanning, ids, spreading, writing and the commit.
The counts of the job's summary are checked against what was generated, and the rows of the collection counted.

Memory is what cannot be given back: anonymous and shared pages (RssAnon + RssShmem of /proc), sampled four times a second.
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

from unirna import model, vectorstore

ROOT = Path(__file__).resolve().parent.parent
CHUNK = 50_000
BAD = 1000


@dataclass(frozen=True)
class Config:
    """Measure the embedding job."""

    sizes: tuple[int, ...] = (20_000, 200_000)
    """Records of each collection."""
    distinct: int = 20_000
    """Sequences that they carry."""
    workers: int = 1
    """Processes that hold the model (nano, random weights)."""
    folder: str | None = None
    """Where collections go for the time being; by default a temporary folder."""
    out: str | None = None
    """JSON file for the figures."""


@dataclass(frozen=True)
class Figures:
    """What one run took. Memory in MB; the input, the job's files and the store too."""

    records: int
    input_mb: float
    seconds: float
    records_per_second: float
    driver_mb: float
    largest_worker_mb: float
    all_workers_mb: float
    state_mb: float
    store_mb: float


def generate(path: Path, records: int, distinct: int) -> int:
    """Write a collection; how many records of it are no RNA."""
    chance = np.random.default_rng(records)
    sequences = ["".join(chance.choice(list("ACGU"), length)) for length in chance.integers(20, 61, distinct)]
    bad = 0
    with path.open("w", encoding="utf-8") as sink:
        for first in range(0, records, CHUNK):
            numbers = np.arange(first, min(first + CHUNK, records))
            for number, which in zip(numbers.tolist(), chance.integers(0, distinct, len(numbers)).tolist(), strict=True):
                wrong = number % BAD == BAD - 1
                bad += wrong
                sink.write(f">s{number}\n{'MKLV' if wrong else ''}{sequences[which]}\n")
    return bad


def measure(config: Config, records: int, folder: Path) -> Figures:
    """Generate a collection, run the job over it, and watch its processes."""
    collection, store = folder / f"{records}.fasta", folder / f"{records}-store"
    encoder = model.initialise("nano", seed=0).save(folder / "nano")
    bad = generate(collection, records, config.distinct)
    command = [sys.executable, str(ROOT / "jobs" / "embed.py"), str(collection), "--collection", "c", "--store", str(store)]
    command += ["--model", str(encoder), "--workers", str(config.workers)]
    text, seconds, peak = watch(command, folder, store / "_unirna")
    summary: dict[str, Any] = json.loads(text.splitlines()[-1])
    assert (summary["read"], summary["rejected"]) == (records, bad), summary
    assert summary["stored"] == records - bad == len(vectorstore.open(str(store), "c"))
    figures = Figures(
        records=records,
        input_mb=collection.stat().st_size / 1e6,
        seconds=seconds,
        records_per_second=records / seconds,
        driver_mb=peak["driver"],
        largest_worker_mb=peak["largest"],
        all_workers_mb=peak["workers"],
        state_mb=peak["scratch"],
        store_mb=size_of(store),
    )
    collection.unlink()
    subprocess.run(["rm", "-r", str(store)], check=True)
    return figures


def main(config: Config) -> None:
    """Measure each size and print the table."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(dir=config.folder) as scratch:
        figures = []
        for size in config.sizes:
            figures.append(measure(config, size, Path(scratch)))
            console.print(asdict(figures[-1]))
    table = Table(*(name.replace("_", " ") for name in asdict(figures[0])))
    for one in figures:
        table.add_row(*(f"{value:,.0f}" for value in asdict(one).values()))
    console.print(table)
    if config.out:
        Path(config.out).write_text(json.dumps([asdict(one) for one in figures], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
