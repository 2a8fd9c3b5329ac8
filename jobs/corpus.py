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

import tyro

from unirna.base import command
from unirna.corpus import BuildConfig, corpus_job
from unirna.job import run_job


def main() -> int:
    """Run the job: the parts of each stage are spread over the cluster."""
    default = BuildConfig(tyro.MISSING, clustering="auto")  # the library alone does not cluster
    config = tyro.cli(BuildConfig, default=default, description=__doc__)
    return run_job(lambda: corpus_job(config))


if __name__ == "__main__":
    sys.exit(command(main))
