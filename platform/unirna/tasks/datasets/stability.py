"""How long an mRNA lives: half-lives of yeast mRNAs, from their coding sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unirna.tasks.definition import Definition, Published, grouped_split


def read(path: Path) -> pa.Table:
    """Genes with a half-life, in log2 minutes; a gene's side depends on its name."""
    table = pq.read_table(path, columns=["gene_id", "sequence", "half_life_min"])
    table = table.filter(pc.greater(table["half_life_min"], 0))
    values = np.log2(table["half_life_min"].to_numpy())
    genes = table["gene_id"].to_pylist()
    return pa.table({"id": genes, "sequence": table["sequence"], "label": values, "split": grouped_split(genes)})


DEFINITIONS = (
    Definition(
        name="mrna_half_life",
        predicts="log2 of the half-life of a yeast mRNA in minutes, from its coding sequence",
        numeric=True,
        unit="log2 minutes",
        about="Half-lives of 3,888 mRNAs of S. cerevisiae: Presnyak et al. 2015, Cell 160:1111 (GSE57385), with "
        "coding sequences of Ensembl 107, as in "
        "the package cubar (MIT). Paralogs are not kept apart.",
        get="yeast_cds and yeast_half_life of the R package cubar as one table of gene_id, sequence, half_life_min",
        file="data/yeast_cds_halflife/data.parquet",
        read=read,
        metric="Spearman",
        goal=0.38,
        published=(Published("codon frequencies, ridge", "Spearman", 0.378, "another random split"),),
        training={"mode": "frozen", "coding": True},
    ),
)
