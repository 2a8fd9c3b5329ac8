"""Build a training corpus: collections in any readable format -> clean, split, memory-mapped token shards.

    python jobs/corpus.py collection.fasta.gz more/*.parquet --out runs/corpus
    ray job submit --working-dir . --runtime-env jobs/runtime_env.yaml -- \\
        python jobs/corpus.py /data/collections --out /data/corpus

Each file, and each 64 MB range of a plain FASTA file, becomes one shard, written by one worker in bounded memory.
Killed, and started again with the same command, it keeps the shards that are finished. Records that are not RNA or
DNA are counted by reason: `read = kept + rejected`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from unirna.corpus import BuildConfig, build_corpus
from unirna.job import connect_ray, run_job


@dataclass(frozen=True)
class Config:
    """Build a training corpus from sequence files."""

    data: tyro.conf.Positional[tuple[str, ...]]
    """Sequence files (FASTA, FASTQ, Parquet, CSV, TSV; plain, gz, zst), folders, globs, URIs, or - for standard input."""
    out: str = "runs/corpus"
    """Folder of the corpus; on a cluster one that every node sees."""
    valid_share: float = 0.02
    """Share of the distinct sequences held out for validation."""
    id_column: str = "id"
    """Column of table input that names its rows."""
    sequence_column: str = "sequence"
    """Column of table input that holds the letters."""


def main(config: Config) -> dict[str, Any]:
    """Spread the pieces of the input over the cluster; one shard each."""
    connect_ray()
    out = str(Path(config.out).absolute())
    manifest = build_corpus(
        BuildConfig(config.data, out, config.valid_share, config.id_column, config.sequence_column), map_with_ray
    )
    return {"corpus": out, **{key: manifest[key] for key in ("read", "kept", "rejected", "rejected_by_reason", "splits")}}


def map_with_ray(function: Callable[[Any], dict[str, Any]], items: list[Any]) -> Iterable[dict[str, Any]]:
    """Apply a function to every item in Ray Data tasks; results come as they finish."""
    import ray.data

    pieces = ray.data.from_items([{"item": item} for item in items], override_num_blocks=len(items))
    for row in pieces.map(lambda row: {"result": function(row["item"])}).iter_rows():
        yield row["result"]


if __name__ == "__main__":
    arguments = tyro.cli(Config, description=__doc__)
    sys.exit(run_job(lambda: main(arguments)))
