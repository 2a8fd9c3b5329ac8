"""Screen a library: rank every record by likeness to references and by predicted labels, keep the best, write a report.

    python jobs/screen.py library.fasta --similar-to references.fasta --out screen
    python jobs/screen.py library/*.parquet --predict rna_type=tRNA --registry predictors --out screen --top 500
    python jobs/screen.py library.fasta.gz --similar-to references.fasta --predict rna_type=tRNA \
        --registry predictors --out screen

One pass in flat memory: only the best rows travel. Records that are not RNA or DNA are set aside, counted and saved, so
`read = screened + not_applicable + rejected`: a record that a predictor does not take, such as one of another length, is
not ranked, and `rejects.parquet` says why. Writes `ranked.parquet`, `ranked.csv`, `rejects.parquet` and `report.html` into
`--out`; other files there are left alone. Killed and started again, the same command goes on.

The score is the geometric mean of the criteria, each from 0 to 1, and depends on no other record: the probability of each
label, and the similarity d0 / (d0 + 1 - cosine to the nearest reference), where d0 is the distance that random RNA reaches.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import tyro

from unirna.base import command
from unirna.job import run_job
from unirna.screen import ScreenConfig, screen_library


@dataclass(frozen=True)
class Config:
    """Rank a library."""

    library: tyro.conf.Positional[tuple[str, ...]]
    """Files, folders, globs or URIs, or - for standard input."""
    out: str
    """Folder of the outputs."""
    similar_to: tuple[str, ...] = ()
    """Files of reference sequences."""
    predict: tuple[str, ...] = ()
    """Labels that are wanted, as task=label; the task names a predictor."""
    prior: tuple[str, ...] = ()
    """Prevalence that the probability of a label is to hold for, instead of that of the training data: task=label=0.05, or
    task=0.05 for all labels of a task."""
    model: str = "unirna-mini"
    """Encoder for the similarity: a shipped name, a checkpoint's folder, or a URI."""
    registry: str = "predictors"
    """Folder of the predictors."""
    top: int = 100
    """Length of the shortlist."""
    id_column: str = "id"
    """Column of the names, where the library is a table."""
    sequence_column: str = "sequence"
    """Column of the RNA or DNA letters, where the library is a table."""
    encoding: str = ""
    """Of the text of the library and the references, such as latin-1; by default UTF-8, or what a byte-order mark says."""
    column_type: tuple[str, ...] = ()
    """Types of columns of CSV and TSV, as chrom=text: text, integer, number, boolean, date or time. By default what all
    values of a column are."""
    workers: int | None = None
    """Processes that hold the model; by default one to each GPU, else one to each core."""


def main() -> int:
    """Run the job."""
    config = tyro.cli(Config, description=__doc__)
    return run_job(lambda: screen_library(ScreenConfig(**vars(config))))


if __name__ == "__main__":
    sys.exit(command(main))
