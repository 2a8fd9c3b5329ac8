"""Designed RNA: siRNA efficacy and riboswitch activation."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unirna.tasks.definition import Definition, Published
from unirna.tasks.requirements import InputRequirements


def read_sirna(path: Path) -> pa.Table:
    """Guide strands with the published split."""
    table = pq.read_table(path, columns=["id", "full_sequence", "inhibition", "split"])
    return table.rename_columns(["id", "sequence", "label", "split"])


def read_riboswitch(path: Path) -> pa.Table:
    """All designs with an activation ratio, and the published filtered test set."""
    table = pq.read_table(path, columns=["sequence", "log_AR", "in_test80"])
    table = table.filter(pc.is_finite(table["log_AR"]))
    split = pc.if_else(table["in_test80"], "test", "train")
    return pa.table({"sequence": table["sequence"], "label": table["log_AR"], "split": split})


DEFINITIONS = (
    Definition(
        name="sirna",
        predicts="inhibition by an siRNA, from its guide strand of 21 nucleotides",
        numeric=True,
        unit="normalised inhibition",
        about="Inhibition by 2,431 siRNAs (guide strands of 21 nt), normalised as published: Huesken et al. "
        "2005, Nat Biotechnol 23:995. "
        "Values from the paper's supplement, no licence stated; the published split (2,182 / 249), a tenth of "
        "its training part for validation.",
        get="the supplement of Huesken et al. 2005 as one table of id, full_sequence, inhibition and split",
        file="data/sirna_huesken/data.parquet",
        read=read_sirna,
        metric="Pearson",
        goal=0.67,
        published=(Published("letters, ridge", "Pearson", 0.649),),
        requires=InputRequirements("the guide strand of an siRNA, 5' to 3', with its overhang", 21, 21),
        training={"mode": "lora", "epochs": 30, "patience": 6},
    ),
    Definition(
        name="riboswitch_activation",
        predicts="ln of the activation ratio of a designed riboswitch (MS2 binding with over without its ligand)",
        numeric=True,
        unit="ln activation ratio",
        about="26,244 riboswitches designed by players of Eterna: Andreasson et al. 2022, PNAS 119:e2112979119; "
        "Wayment-Steele et al. 2022 (EternaBench, "
        "with its test set filtered at 80 % identity). MIT-style licence (Stanford).",
        get="EternaBench_Riboswitch_Full as one table of sequence, log_AR and in_test80",
        file="data/eternabench_riboswitch/data.parquet",
        read=read_riboswitch,
        metric="Spearman",
        published=(Published("5-mers, ridge", "Spearman", 0.243),),
        training={"mode": "frozen"},
    ),
)
