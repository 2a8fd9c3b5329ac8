"""Embed a collection of sequences into a vector store.

    python jobs/embed.py sequences.fasta --collection rfam --store store
    ray job submit --working-dir . --runtime-env jobs/runtime_env.yaml -- \\
        python jobs/embed.py s3://bucket/sequences --collection rfam --store s3://bucket/store --model s3://bucket/L16

Killed, and started again with the same command, it goes on where it was; finished, it adds nothing. The collection
changes in one step at the end. Records that are no RNA, or whose id is taken, are in the table `<collection>.rejects`,
each with its reason; the summary on stdout counts them: read = stored + rejected, stored = new + unchanged. A record is
unchanged when its id and its sequence are there; new labels for it are not taken up. However many records carry a sequence,
it is embedded once. Exit code 2 where no record of the input could be stored.

    python jobs/embed.py sequences.fasta --collection rfam --level nucleotide --layer -2    # a vector of each nucleotide
    python jobs/embed.py --collection rfam --model L16 --switch-model          # all rows again, with another model
"""

from __future__ import annotations

import sys

import tyro

from unirna.base import command
from unirna.embed import EmbedConfig, embed_collection
from unirna.job import run_job


def main() -> int:
    """Run the job."""
    config = tyro.cli(EmbedConfig, description=__doc__)
    return run_job(lambda: embed_collection(config))


if __name__ == "__main__":
    sys.exit(command(main))
