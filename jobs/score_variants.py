"""Score variants of sequences by the language model: all single substitutions, or those of a table.

    python jobs/score_variants.py sequences.fasta --out variants
    python jobs/score_variants.py sequences.fasta --variants listed.csv --out variants     # columns id, variant

Writes `variants.parquet` (id, variant, place, score; what could not be scored with its reason) and, for all single
substitutions, `heat_maps/NUMBER.svg` of the first sequences. A score is in nats; positive: the model finds the variant more
likely. `--method masked` hides the sites of a variant, `pseudo-likelihood` compares whole sequences and takes L passes for
each variant. Killed and started again, the same command goes on.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

import tyro

from unirna.base import command
from unirna.job import run_job
from unirna.tasks.variants import VariantsConfig, score_collection


@dataclass(frozen=True)
class Config:
    """Score variants of sequences."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Sequences: files, folders, globs or URIs."""
    out: str
    """Folder of the results."""
    variants: str = ""
    """A table of id and variant (CSV, TSV, Parquet), such as A10G or G3C+C70G; by default all single substitutions."""
    model: str = "unirna-mini"
    """A shipped name, a folder or a URI."""
    method: Literal["masked", "pseudo-likelihood"] = "masked"
    """How a variant is scored."""
    id_column: str = "id"
    """Of tables of sequences."""
    sequence_column: str = "sequence"
    """Of tables of sequences."""
    encoding: str = ""
    """Of text, such as latin-1; by default UTF-8, or what a file's byte-order mark says."""
    drawings: int = 100
    """Heat maps that are drawn, of the first sequences."""


def main() -> int:
    """Run the job."""
    config = tyro.cli(Config, description=__doc__)
    return run_job(lambda: score_collection(VariantsConfig(**vars(config))))


if __name__ == "__main__":
    sys.exit(command(main))
