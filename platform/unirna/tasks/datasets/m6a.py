"""m6A sites in eight tissues: is the adenosine in the middle of 41 nucleotides methylated?"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from unirna.tasks.definition import Definition, Published
from unirna.tasks.requirements import InputRequirements, Motif

HUMAN, MOUSE = ("Brain", "Kidney", "Liver"), ("brain", "heart", "kidney", "liver", "testis")
TISSUES = (*(f"Human {organ}" for organ in HUMAN), *(f"Mouse {organ}" for organ in MOUSE))
REACHED = {"Human Brain": (0.81, 0.799, 0.791), "Human Liver": (0.89, 0.878, 0.878), "Mouse heart": (0.83, 0.820, 0.816)}
"""Goals, and the AUC of 3-mers and letters and of a 1D CNN."""
SHARED = 20
"""Nucleotides in a row of a test window, of whatever tissue, that no training window may have."""


def read(path: Path) -> pa.Table:
    """A column for each tissue, null if a window is not of its data, and the published split. Training windows that
    overlap a test window are left out; of eight that a tissue has twice the later row counts."""
    found: dict[str, dict[str, dict[str, int]]] = {"test": {}, "train": {}}
    for row in pq.read_table(path, columns=["sequence", "label", "tissue", "split"]).to_pylist():
        tissue = {"Mouse_test": "Mouse testis"}.get(row["tissue"], row["tissue"].replace("_", " "))
        found[row["split"]].setdefault(row["sequence"], {})[tissue] = int(row["label"])
    tested = {piece for window in found["test"] for piece in _pieces(window)}
    windows = [(window, "train") for window in found["train"] if tested.isdisjoint(_pieces(window))]
    windows += [(window, "test") for window in found["test"]]
    labels = {tissue: [found[split][window].get(tissue) for window, split in windows] for tissue in TISSUES}
    return pa.table({"sequence": [s for s, _ in windows], "split": [split for _, split in windows], **labels})


def _pieces(window: str) -> list[str]:
    return [window[i : i + SHARED] for i in range(len(window) - SHARED + 1)]


DEFINITIONS = (
    Definition(
        name="m6a",
        predicts="in which of eight tissues the adenosine in the middle is methylated (N6-methyladenosine)",
        level="nucleotide",
        labels=TISSUES,
        about="m6A sites and as many other adenosines of eight tissues, windows of 41 nt: "
        "Dao et al. 2020, Comput Struct Biotechnol J 18:1084 (iRNA-m6A), with its independent test sets. Training windows "
        "that share 20 nt with a test window of any tissue are left out. No licence stated.",
        get="iRNA-m6A (Dao et al. 2020) as one table of sequence, label, tissue and split",
        file="data/m6a_41nt/data.parquet",
        read=read,
        metric="mean AUC",
        goals={tissue: goal for tissue, (goal, _, _) in REACHED.items()},
        published=tuple(
            Published(who, f"AUC, {tissue}", REACHED[tissue][i], "trained on this tissue alone, overlaps kept")
            for tissue in REACHED
            for i, who in ((1, "3-mers and letters, linear"), (2, "another 1D CNN"))
        ),
        requires=InputRequirements(
            "41 nt of a transcript with the adenosine in question in the middle",
            41,
            41,
            (
                Motif("A", why="the adenosine in question"),
                Motif("C", offset=1, why="every training sequence, site or not, has AC in the middle"),
            ),
            {"DRACH": Motif("DRACH", offset=-2, why="the motif of the m6A methyltransferase")},
        ),
        training={"mode": "lora", "pooling": "centre", "epochs": 3, "cnn_ensemble_size": 3}
        | {"batch_size": 64, "learning_rate": 4e-4},
    ),
)
