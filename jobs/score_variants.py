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

import tyro

from unirna.base import command
from unirna.job import run_job
from unirna.tasks.variants import VariantsConfig, score_collection


def main() -> int:
    """Run the job."""
    config = tyro.cli(VariantsConfig, description=__doc__)
    return run_job(lambda: score_collection(config))


if __name__ == "__main__":
    sys.exit(command(main))
