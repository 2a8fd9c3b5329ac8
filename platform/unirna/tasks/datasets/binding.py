"""RNA-binding proteins: which of eight bind a window of 101 nucleotides, by their CLIP experiments."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unirna.tasks.definition import Definition, Published
from unirna.tasks.requirements import InputRequirements

PROTEINS = ("ELAVL1", "FUS", "NSUN2", "PUM2", "QKI", "TDP43", "U2AF65", "hnRNPC")
ROWS = {"train": 3_000, "test": 1_000}
"""Windows taken from an experiment, drawn by a hash of their sequence."""


def read(path: Path) -> pa.Table:
    """A column for each protein, null if a window is not of its experiment. The published split, without test windows
    that stand in training."""
    table = pq.read_table(path, columns=["experiment", "split", "label", "sequence"])
    found = {"train": dict[str, dict[str, int]](), "test": dict[str, dict[str, int]]()}
    for protein in PROTEINS:
        rows = table.filter(pc.match_substring(table["experiment"], f"_{protein}")).to_pylist()
        taken = Counter[str]()
        for row in sorted(rows, key=lambda row: hashlib.sha256(row["sequence"].encode()).digest()):
            if taken[row["split"]] < ROWS[row["split"]]:
                taken[row["split"]] += 1
                found[row["split"]].setdefault(row["sequence"], {})[protein] = row["label"]
    windows = [(window, "train", of_it) for window, of_it in found["train"].items()]
    windows += [(window, "test", of_it) for window, of_it in found["test"].items() if window not in found["train"]]
    columns = {protein: [of_it.get(protein) for _, _, of_it in windows] for protein in PROTEINS}
    return pa.table({"sequence": [s for s, _, _ in windows], "split": [side for _, side, _ in windows], **columns})


DEFINITIONS = (
    Definition(
        name="protein_binding",
        predicts="which of eight proteins bind an RNA of 101 nucleotides",
        labels=PROTEINS,
        about="Windows of 101 nt around sites of CLIP experiments, and others of the same genes, a fifth bound; 3,000 for "
        "training and 1,000 to test each of eight proteins: Stražar et al. 2016, Bioinformatics 32:1527; Pan et al. "
        "2018, BMC Genomics 19:511 (iDeepS). No licence stated.",
        get="the training and test samples of iDeepS as one table of experiment, split, label and sequence",
        file="data/rbp_clip_8/data.parquet",
        read=read,
        metric="mean AUC",
        published=(Published("5-mers, linear", "mean AUC", 0.889, "all test windows, 12,000 of training each"),),
        requires=InputRequirements("a window of 101 nt of a transcript"),
        training={"mode": "frozen"},
    ),
)
