"""Structures against known ones: mean F1 of base pairs of the shipped predictor, and of RNAfold where it is installed.

    python benchmarks/structures.py --data ../shared/data/pdb_rna_ss/data.parquet --part test
    python benchmarks/structures.py --data ../shared/data/archiveII/data.parquet --longest 500 --by family

The table has sequence and either base_pairs (a JSON list of pairs from 1) or structure (brackets), and perhaps partition.
"""

from __future__ import annotations

import importlib
import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import tyro

from unirna.fold import load_structure_predictor
from unirna.sequence import parse_dot_bracket

Pairs = set[tuple[int, int]]


@dataclass(frozen=True)
class Config:
    """Score structures."""

    data: str
    """The table."""
    part: str = ""
    """Rows of this partition alone."""
    longest: int = 4_000
    """Longer sequences are left out."""
    by: str = ""
    """Column by whose values the means are given, too."""


def main(config: Config) -> None:
    """Fold, compare, print."""
    rows = pq.read_table(config.data).to_pylist()
    rows = [row for row in rows if not config.part or row["partition"] == config.part]
    rows = [row for row in rows if len(row["sequence"]) <= config.longest]
    letters = [re.sub("[^ACGU]", "N", row["sequence"].upper().replace("T", "U")) for row in rows]
    truth = [_known(row) for row in rows]
    found = load_structure_predictor().fold(letters)
    scored = {"this": [f1({(int(i), int(j)) for i, j in f.pairs}, known) for f, known in zip(found, truth, strict=True)]}
    for name, fold in _rnafold().items():
        scored[name] = [f1(fold(text), known) for text, known in zip(letters, truth, strict=True)]
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if config.by:
            groups[str(row[config.by])].append(i)
    print(f"{len(rows):,} sequences: " + ", ".join(f"{name} {np.mean(values):.3f}" for name, values in scored.items()))
    for group, members in sorted(groups.items()):
        means = ", ".join(f"{name} {np.mean([values[i] for i in members]):.3f}" for name, values in scored.items())
        print(f"  {group} ({len(members):,}): {means}")


def f1(predicted: Pairs, known: Pairs) -> float:
    """Of two sets of pairs; 1 where both are empty."""
    if not predicted and not known:
        return 1.0
    return 2 * len(predicted & known) / (len(predicted) + len(known))


def _known(row: dict[str, str]) -> Pairs:
    if "base_pairs" in row:
        return {(i - 1, j - 1) for i, j in json.loads(row["base_pairs"])}
    return {(int(i), int(j)) for i, j in parse_dot_bracket(row["structure"])}


def _rnafold() -> dict[str, Callable[[str], Pairs]]:
    try:
        RNA = importlib.import_module("RNA")
    except ImportError:
        print("RNAfold is not here (pip install ViennaRNA)")
        return {}

    def fold(text: str, *, centroid: bool) -> Pairs:
        compound = RNA.fold_compound(text)
        brackets, energy = compound.mfe()
        if centroid:
            compound.exp_params_rescale(energy)
            compound.pf()
            brackets = compound.centroid()[0]
        return {(int(i), int(j)) for i, j in parse_dot_bracket(brackets)}

    return {
        "RNAfold, minimum energy": lambda text: fold(text, centroid=False),
        "RNAfold, centroid": lambda text: fold(text, centroid=True),
    }


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
