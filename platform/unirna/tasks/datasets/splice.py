"""Splice junctions of primates: donor, acceptor or neither in the middle of 60 nucleotides?"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from unirna.tasks.definition import Definition, Published
from unirna.tasks.requirements import InputRequirements


def read(path: Path) -> pa.Table:
    """All rows; the file has no split."""
    table = pq.read_table(path, columns=["sequence", "label_name"])
    return table.rename_columns(["sequence", "label"])


DEFINITIONS = (
    Definition(
        name="splice_site",
        predicts="donor, acceptor or neither, between the two nucleotides in the middle",
        level="nucleotide",
        about="3,186 windows of 60 nt around exon-intron and intron-exon boundaries of primates, and around "
        "neither: Noordewier, Towell & "
        "Shavlik 1991 (UCI Molecular Biology, CC BY 4.0; StatLog coding, which forced ambiguity codes to T).",
        get="the UCI splice-junction data (StatLog coding) as one table of sequence and label_name",
        file="data/uci_splice/data.parquet",
        read=read,
        metric="accuracy",
        goal=0.96,
        published=(Published("letters, logistic regression", "accuracy", 0.951, "another random split"),),
        requires=InputRequirements(
            "60 nt of a pre-mRNA around the place in question, between the two nucleotides in the middle"
        ),
        training={"mode": "lora", "pooling": "centre", "epochs": 20, "patience": 5, "learning_rate": 4e-4},
    ),
)
