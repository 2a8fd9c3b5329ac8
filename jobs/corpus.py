"""Build a training corpus: collections in any format -> clean, deduplicated, clustered, split, weighted token shards.

    python jobs/corpus.py collection.fasta.gz more/*.parquet --out runs/corpus
    python jobs/corpus.py rfam=rfam.parquet@2 rrna=silva/ --group-column rfam_acc \\
        --exclude ts0=bprna_ts0.parquet --exclude test=test.fasta --out runs/corpus
    ray job submit --working-dir . --runtime-env jobs/runtime_env.yaml -- \\
        python jobs/corpus.py /data/collections --out /data/corpus

An input is `[NAME=]PATH[@WEIGHT]`. Copies of one molecule, DNA or RNA, become one; near-duplicates are clustered, so that a
cluster stands in one split and large clusters do not drown the rest; what is identical or near-identical to a member of an
`--exclude` set is left out and listed. `read = kept + rejected + duplicates + excluded`. Near-duplicates are found with
MMseqs2 where it is installed. Killed, and started again with the same command, it goes on where it was. docs/corpus.md
describes the steps, the formats and the costs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from unirna.base import command
from unirna.corpus import BuildConfig, build_corpus
from unirna.job import connect_ray, raise_told, run_job, tell


@dataclass(frozen=True)
class Config:
    """Build a training corpus from sequence files."""

    data: tyro.conf.Positional[tuple[str, ...]]
    """Inputs `[NAME=]PATH[@WEIGHT]`: sequence files (FASTA, FASTQ, Parquet, CSV, TSV; plain, gz, zst), folders, globs,
    URIs, or - for standard input. Inputs of one name are one source."""
    out: str = "runs/corpus"
    """Folder of the corpus; on a cluster one that every node sees."""
    valid_share: float = 0.02
    """Share of the clusters held out for validation."""
    test_share: float = 0.0
    """Share of the clusters held out for testing."""
    id_column: str = "id"
    """Column of table input that names its rows."""
    sequence_column: str = "sequence"
    """Column of table input that holds the letters."""
    group_column: str = ""
    """Label column that names a sequence's group, such as its family. Inputs without it give records without a group."""
    drop: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Boolean label column: a sequence with a true value is left out. May be given several times."""
    drop_groups: str = ""
    """CSV or TSV with the names of groups to leave out, in a column called as the group column."""
    exclude: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Sequence set `[NAME=]PATH`: what is identical or near-identical to a member is left out. Repeatable."""
    exclude_identity: float = 0.8
    """Least identity of an alignment with a member, forward strand."""
    exclude_coverage: float = 0.8
    """Least share of the shorter of the two in the alignment."""
    clustering: Literal["auto", "mmseqs2", "minhash", "none"] = "auto"
    """How near-duplicates are clustered; auto: MMseqs2 where it is installed, else MinHash."""
    identity: float = 0.8
    """Least identity of a member to its cluster's representative."""
    coverage: float = 0.8
    """Least share of the member in its alignment with the representative."""
    cluster_exponent: float = 0.5
    """A cluster of n sequences is drawn in proportion to n to this power. 1: by sequences; 0: by clusters."""
    source_exponent: float = 0.5
    """A source is drawn in proportion to its weight times its number of clusters to this power."""
    shard_nucleotides: int = 64_000_000
    """About how many nucleotides a shard holds; also bounds the memory of a worker."""
    encoding: str = ""
    """Of the text of the inputs, such as latin-1; by default UTF-8, or what a file's byte-order mark says."""


def main(config: Config) -> dict[str, Any]:
    """Spread the parts of each stage over the cluster."""
    connect_ray()
    out = str(Path(config.out).absolute())
    settings = {field.name: getattr(config, field.name) for field in fields(config)}
    manifest = build_corpus(BuildConfig(**{**settings, "out": out}), map_with_ray)
    splits = {name: {k: split[k] for k in ("sequences", "nucleotides")} for name, split in manifest["splits"].items()}
    counts = ("read", "kept", "rejected", "rejected_by_reason", "duplicates", "excluded", "excluded_by_set")
    return {
        "corpus": out,
        **{key: manifest[key] for key in counts},
        "splits": splits,
        "clustering": manifest["clustering"],
        "clusters": manifest["clusters"]["clusters"],
    }


def map_with_ray(function: Callable[[Any], dict[str, Any]], items: list[Any]) -> Iterable[dict[str, Any]]:
    """Apply a function to every item in Ray Data tasks; results come as they finish."""
    import ray.data

    def one(row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"result": function(row["item"])}
        except Exception as error:
            return {"failure": tell(error)}

    pieces = ray.data.from_items([{"item": item} for item in items], override_num_blocks=len(items))
    for row in pieces.map(one).iter_rows():
        raise_told(row.get("failure") or "")
        yield row["result"]


if __name__ == "__main__":
    sys.exit(command(lambda: run_job(lambda: main(tyro.cli(Config, description=__doc__)))))
