"""Translation: ribosome load of random 5'UTRs, and translation efficiency of human ones in three cell types."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unirna.tasks.definition import Definition, Published, grouped_split
from unirna.tasks.requirements import InputRequirements

CELLS = ("HEK293", "PC3", "MUSCLE")


def read_load(path: Path) -> pa.Table:
    """Random 5'UTRs with a fixed split."""
    return pq.read_table(path, columns=["sequence", "mrl", "split"]).rename_columns(["sequence", "label", "split"])


def read_efficiency(path: Path, cell: str) -> pa.Table:
    """One cell type's windows of 100 nt, log2 of the efficiency, all windows of a gene on one side."""
    table = pq.read_table(path, columns=["transcript", "window", "cell", "te", "gene", "insert"])
    table = table.filter(pc.equal(table["cell"], cell))
    names = [f"{t}/{w}" for t, w in zip(table["transcript"].to_pylist(), table["window"].to_pylist(), strict=True)]
    return pa.table(
        {
            "id": names,
            "sequence": table["insert"],
            "label": np.log2(table["te"].to_numpy()),
            "split": grouped_split(table["gene"].to_pylist()),
        }
    )


def _efficiency(cell: str) -> Definition:
    return Definition(
        name=f"translation_efficiency_{cell.lower()}",
        predicts=f"log2 of the translation efficiency of a 5'UTR window in {cell.lower() if cell == 'MUSCLE' else cell}",
        numeric=True,
        unit="log2 ribosome footprints per mRNA",
        about=f"Windows of 100 nt of human 5'UTRs of high or low translation efficiency in {cell} (ribosome "
        "profiling over RNA-seq): Cao et al. 2021, "
        "Nat Commun 12:4138 (MIT). All windows of a gene on one side.",
        get="final_endogenous.txt of Cao et al. 2021 (5UTR_Optimizer) as one table of transcript, window, cell, "
        "te, gene, insert",
        file="data/utr5_te_endogenous_windows/data.parquet",
        read=partial(read_efficiency, cell=cell),
        metric="Spearman",
        requires=InputRequirements("a window of 100 nt of a 5'UTR", 100, 100),
        training={"mode": "lora", "epochs": 20, "patience": 5},
    )


DEFINITIONS = (
    Definition(
        name="ribosome_load",
        predicts="mean number of ribosomes on an mRNA, from the last 50 nucleotides of its 5'UTR",
        numeric=True,
        unit="ribosomes",
        about="Mean ribosome load of 20,000 random 5'UTRs of 50 nt before eGFP, with 1-methylpseudouridine, in "
        "HEK293T cells: Sample et al. 2019, "
        "Nat Biotechnol 37:803 (GSE114002; GEO data from a GPL-3 repository). The random 5'UTRs end at the start "
        "codon.",
        get="GSE114002 (m1pseudo, replicate 2; the 20,000 best covered) as one table of sequence, mrl and split",
        file="bench/splits/mrl_m1psu2_20k.parquet",
        read=read_load,
        metric="R2",
        goal=0.72,
        published=(Published("k-mers, linear", "R2", 0.406), Published("another 1D CNN", "R2", 0.681)),
        requires=InputRequirements("the last 50 nt of a 5'UTR, up to the start codon (not included)", 50, 50),
        training={"mode": "lora", "batch_size": 64, "cnn_ensemble_size": 5},
    ),
    *map(_efficiency, CELLS),
)
