"""Measure a predictor on labelled data and enter it in the results table, beside the simple models.

    python jobs/evaluate.py --registry predictors --predictor rfam_type --data jobs/demo/rfam_sample.parquet
    python jobs/evaluate.py --registry predictors --predictor rfam_type --data others.csv --label-column kind --split all

Writes `results.parquet` and `results.md`: a row for each model, split and metric (the AUC of each of several labels too),
with its number of rows, bootstrap 95 % interval, seeds and seconds, and the figures of others for tasks on public data.
Measuring the same again replaces its rows and leaves the others. Columns and split are those the predictor was made with,
unless they are named here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

import tyro

from unirna.base import command
from unirna.job import run_job
from unirna.tasks import EvaluateConfig, evaluate


@dataclass(frozen=True)
class Config:
    """Measure a predictor on labelled data."""

    predictor: str
    """Name of the predictor."""
    data: tuple[str, ...]
    """The labelled table: files, folders, globs or URIs."""
    registry: str = "predictors"
    """Folder of the predictors."""
    split: Literal["test", "valid", "train", "all"] = "test"
    """Which rows; all takes the whole table."""
    label_column: str = ""
    """Column of the class; by default the one the predictor was made with, as for the other columns."""
    label_columns: tuple[str, ...] = ()
    """Columns of several labels, in the order of the predictor's."""
    sequence_column: str = ""
    """Column of the RNA or DNA letters."""
    id_column: str = ""
    """Column of the names."""
    split_column: str = ""
    """Column that says train, valid or test (heldout)."""
    split_names: tuple[str, ...] = ()
    """Other names of splits, as test=test13."""
    reference_column: str = ""
    """Column of what each sequence is compared with."""
    encoding: str = ""
    """Of the text of the table, such as latin-1; by default UTF-8, or what its byte-order mark says."""
    column_type: tuple[str, ...] = ()
    """Types of columns of CSV and TSV, as chrom=text: text, integer, number, boolean, date or time."""
    out: str = ""
    """Folder of the results table; by default the registry."""


def main() -> int:
    """Run the job."""
    config = tyro.cli(Config, description=__doc__)
    return run_job(lambda: evaluate(EvaluateConfig(**vars(config))))


if __name__ == "__main__":
    sys.exit(command(main))
