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

import tyro

from unirna.base import command
from unirna.job import run_job
from unirna.screen import ScreenConfig, screen_library


def main() -> int:
    """Run the job."""
    config = tyro.cli(ScreenConfig, description=__doc__)
    return run_job(lambda: screen_library(config))


if __name__ == "__main__":
    sys.exit(command(main))
