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

import tyro

from unirna.base import command
from unirna.job import run_job
from unirna.tasks import EvaluateConfig, evaluate


def main() -> int:
    """Run the job."""
    config = tyro.cli(EvaluateConfig, description=__doc__)
    return run_job(lambda: evaluate(config))


if __name__ == "__main__":
    sys.exit(command(main))
