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
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from unirna.base import command
from unirna.embed import EmbedConfig, embed_collection
from unirna.job import run_job


@dataclass(frozen=True)
class Config:
    """Embed a collection of sequences into a vector store."""

    collection: str
    """Name of the collection; made if it is absent, added to if it is there."""
    inputs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Sequence files (FASTA, FASTQ, Parquet, CSV, TSV; plain, gz, zst), folders, globs or URIs."""
    model: str = "unirna-mini"
    """Shipped name, folder or URI of the model."""
    store: str = "store"
    """Folder or URI (s3://, gs://) of the store."""
    id_column: str = "id"
    """Column of table input that names its rows."""
    sequence_column: str = "sequence"
    """Column of table input that holds the letters."""
    drop_labels: tuple[str, ...] = ()
    """Label columns to leave out; all others go into the collection."""
    encoding: str = ""
    """Of the text of the input, such as latin-1; by default UTF-8, or what a file's byte-order mark says."""
    column_type: tuple[str, ...] = ()
    """Types of label columns of CSV and TSV, as chrom=text: text, integer, number, boolean, date or time. By default what
    all values of a column are."""
    level: Literal["sequence", "nucleotide"] = "sequence"
    """A vector of each sequence, or of each nucleotide: in half precision, in a table <collection>.nucleotides."""
    layer: int = -1
    """-1 for the model's own vectors; -2 for the states of the last layer but one, 1 for those of the first, …"""
    index: str = "auto"
    """Index to build: auto (if vectors or k-mers do not fit in memory), none, hnsw, ivf_flat, ivf_sq, ivf_pq or ivf_rq."""
    min_recall: float = 0.95
    """The least recall@10 of the index against exact search; below it there is none."""
    map: bool = False
    """Lay the collection out on a plane when all is stored, for the page's map; wants umap-learn (unirna[map])."""
    switch_model: bool = False
    """Embed what the collection holds, and no input, with this model; it is switched over in one step when all is done."""
    batch_tokens: int | None = None
    """Tokens of one forward pass; by default what suits the device."""
    workers: int | None = None
    """Processes that hold the model; by default one to each GPU, or one to each core."""
    cpus_per_worker: int = 1
    """Cores, and threads, of each of them."""


def main() -> int:
    """Run the job."""
    config = tyro.cli(Config, description=__doc__)
    return run_job(lambda: embed_collection(EmbedConfig(**vars(config))))


if __name__ == "__main__":
    sys.exit(command(main))
