"""Free energies of structures beside those of RNAeval (ViennaRNA, -d2): how many agree to the hundredth of a kcal/mol.

    pip install ViennaRNA
    python benchmarks/free_energy.py --data ../shared/data/bprna_ts0/data.parquet

For random sequences, and sequences of the table if one is given: the structure of minimum free energy and three that are
drawn from the ensemble of each, so that loops of all kinds occur.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import tyro

from unirna.fold import free_energy
from unirna.sequence import parse_dot_bracket


@dataclass(frozen=True)
class Config:
    """Compare free energies."""

    data: str = ""
    """A table with a column `sequence`."""
    count: int = 300
    """Random sequences, and sequences of the table."""


def main(config: Config) -> None:
    """Fold, evaluate twice, compare."""
    rna: Any = importlib.import_module("RNA")
    random = np.random.default_rng(0)
    sequences = ["".join(random.choice(list("ACGU"), random.integers(15, 300))) for _ in range(config.count)]
    if config.data:
        rows = pq.read_table(config.data, columns=["sequence"]).column("sequence").to_pylist()
        chosen = random.permutation(len(rows))[: config.count]
        sequences += [re.sub("[^ACGU]", "N", rows[i].upper().replace("T", "U")) for i in chosen]
    details = rna.md()
    details.uniq_ML = 1  # sampling needs it
    total, differ, farthest = 0, 0, 0.0
    for sequence in sequences:
        compound = rna.fold_compound(sequence, details)
        brackets, energy = compound.mfe()
        compound.exp_params_rescale(energy)
        compound.pf()
        for structure in (brackets, *compound.pbacktrack(3)):
            apart = abs(compound.eval_structure(structure) - free_energy(sequence, parse_dot_bracket(structure)))
            total, differ, farthest = total + 1, differ + (apart > 0.005), max(farthest, apart)
    print(f"{total:,} structures of {len(sequences):,} sequences: {differ:,} differ, by {farthest:.2f} kcal/mol at most")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
