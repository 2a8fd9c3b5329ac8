"""Contacts in space: fit the head that comes with the structure predictor, and measure it.

    python recipes/contacts.py --data ../shared/data/rna3d_contacts/data.parquet \\
        --out weights/predictors/secondary-structure

The table has id, partition (TR, VL, TS1 to TS3), sequence and contacts (a JSON list of pairs from 1): PDB chains of
SPOT-RNA-2D (Singh et al. 2022, Bioinformatics; MIT). Fitted on TR, measured on the three test sets: precision of the L
best pairs six apart and more, mean over the chains. Beside it the same head fitted on pair probabilities of the published
energies alone, the pair probabilities themselves, and the nearest pairs first.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import tyro
from numpy.typing import NDArray

from unirna.fold import Energies, fold_all, load_structure_predictor
from unirna.fold.contacts import ContactHead, fit_contacts, precision_at_length

TESTS = ("TS1", "TS2", "TS3")
NONE = np.zeros((0, 2), np.int64)
Folds = list[tuple[NDArray[np.float32], NDArray[np.int64]]]


@dataclass(frozen=True)
class Config:
    """Fit and measure contacts."""

    data: str
    """The table."""
    out: str = ""
    """Folder of the structure predictor, for the head; empty to measure alone."""


def main(config: Config) -> None:
    """Fit, measure, write, print."""
    rows = [row for row in pq.read_table(config.data).to_pylist() if row["partition"] in ("TR", *TESTS)]
    letters = [re.sub("[^ACGU]", "N", row["sequence"].upper().replace("T", "U")) for row in rows]
    known = [_matrix(row, len(text)) for row, text in zip(rows, letters, strict=True)]
    print(f"folding {len(rows)} chains", flush=True)
    ours = [(found.matrix, found.crossing) for found in load_structure_predictor().fold(letters)]
    plain = [
        (fold_all(text, Energies.published(), np.zeros((len(text),) * 2)).pairs.astype(np.float32), NONE)
        for text in letters
    ]
    train = [i for i, row in enumerate(rows) if row["partition"] == "TR"]

    def fitted(folds: Folds) -> ContactHead:
        return fit_contacts([folds[i] for i in train], [known[i] for i in train])

    head, of_energies = fitted(ours), fitted(plain)
    scores = {
        "this": [head.probabilities(*found) for found in ours],
        "of published energies alone": [of_energies.probabilities(*found) for found in plain],
        "pair probabilities": [matrix for matrix, _ in ours],
        "nearest pairs first": [-np.abs(np.subtract.outer(range(len(k)), range(len(k)))).astype(np.float32) for k in known],
    }
    for name, found in scores.items():
        means = []
        for part in TESTS:
            chains = [i for i, row in enumerate(rows) if row["partition"] == part]
            values = [precision_at_length(found[i], known[i]) for i in chains]
            means.append(f"{part} ({len(chains)}) {np.mean(values):.3f}")
        print(f"{name}: {', '.join(means)}")
    tested = [i for i, row in enumerate(rows) if row["partition"] in TESTS]
    said = np.concatenate([scores["this"][i][np.triu_indices(len(known[i]), 6)] for i in tested])
    true = np.concatenate([known[i][np.triu_indices(len(known[i]), 6)] for i in tested])
    for low in (0.1, 0.3, 0.5, 0.7, 0.9):
        at = (said >= low) & (said < low + 0.1)
        print(f"said {low:.1f} to {low + 0.1:.1f}: {true[at].mean():.2f} of {at.sum():,} are contacts")
    if config.out:
        head.save(Path(config.out))


def _matrix(row: dict[str, Any], length: int) -> NDArray[np.bool_]:
    found = np.zeros((length, length), bool)
    for i, j in json.loads(row["contacts"]):
        found[i - 1, j - 1] = found[j - 1, i - 1] = True
    return found


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
