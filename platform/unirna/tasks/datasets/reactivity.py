"""Values of each nucleotide: reactivity and degradation of mRNA designs, and chemical mapping of designed RNA."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unirna.tasks.definition import Definition, grouped_split
from unirna.tasks.table.homology import similar_groups

COLUMNS = {
    "reactivity": ("reactivity", "1M7 reactivity"),
    "deg_Mg_pH10": ("degradation_mg_ph10", "degradation at pH 10 with magnesium"),
    "deg_Mg_50C": ("degradation_mg_50c", "degradation at 50 °C with magnesium"),
}


def read_openvaccine(path: Path, column: str) -> pa.Table:
    """One of the measurements; designs that share a quarter of their 10-mers stand on one side."""
    table = pq.read_table(path, columns=["id", "sequence", column])
    return _divided(table["id"].to_pylist(), table["sequence"].to_pylist(), table[column].to_pylist())


def read_mapping(path: Path) -> pa.Table:
    """1M7 reactivities at the places that were read, in units of a profile's mean over all that are positive."""
    table = pq.read_table(path, columns=["ID", "sequence", "modifier", "reactivity", "seqpos"])
    ids, sequences, profiles = [], [], []
    for row in table.to_pylist():
        profile = np.full(len(row["sequence"]), np.nan)
        values = np.array(row["reactivity"], float)
        places = np.array(row["seqpos"])[: len(values)]
        inside = places < len(profile)
        profile[places[inside]] = np.clip(values[: len(places)][inside] / values[values > 0].mean(), -1, 5)
        ids.append(str(row["ID"]))
        sequences.append(row["sequence"])
        profiles.append(profile.tolist())
    return _divided(ids, sequences, profiles)


def _divided(ids: list[str], sequences: list[str], profiles: list[Any]) -> pa.Table:
    upper = [text.upper().replace("T", "U") for text in sequences]
    split = grouped_split(similar_groups(upper))
    return pa.table({"id": ids, "sequence": sequences, "label": profiles, "split": split})


def _openvaccine(column: str) -> Definition:
    name, words = COLUMNS[column]
    return Definition(
        name=name,
        predicts=f"{words} of each nucleotide",
        level="nucleotide",
        each=True,
        numeric=True,
        unit="normalised",
        about=f"{words[0].upper()}{words[1:]} of 3,634 designs of 107 and 130 nt: Wayment-Steele et al. 2022, Nat "
        "Mach Intell 4:1174 (OpenVaccine, its "
        "public and private test sets; MIT). Designs that share a quarter of their 10-mers stand on one side.",
        get="the OpenVaccine test set with its labels as one table of id, sequence and one list for each measurement",
        file="data/openvaccine_testset/data.parquet",
        read=partial(read_openvaccine, column=column),
        metric="Pearson",
        training={"mode": "lora", "epochs": 8, "batch_size": 32},
    )


DEFINITIONS = (
    *map(_openvaccine, COLUMNS),
    Definition(
        name="chemical_mapping",
        predicts="1M7 reactivity of each nucleotide",
        level="nucleotide",
        each=True,
        numeric=True,
        unit="of the mean",
        about="1M7 reactivities of 1,492 RNAs of Eterna's cloud labs: Wayment-Steele et al. 2022, Nat Methods "
        "19:1234 (EternaBench, its set filtered at 60 % "
        "identity; MIT-style licence). Each profile is divided by its mean over positive values, and cut at -1 and 5.",
        get="EternaBench_ChemMapping_Test60Filt as one table of ID, sequence, modifier, reactivity and seqpos",
        file="data/eternabench_chemmapping_test60/data.parquet",
        read=read_mapping,
        metric="Pearson",
        training={"mode": "lora", "epochs": 8, "batch_size": 32},
    ),
)
