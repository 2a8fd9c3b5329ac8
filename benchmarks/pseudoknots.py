"""Pairs that cross others: how many are found, how many are right, and how many shuffled sequences get.

    python benchmarks/pseudoknots.py --data ../shared/data/bprna_ts0/data.parquet --structure structure_full
    python benchmarks/pseudoknots.py --data ../shared/data/pdb_rna_ss/data.parquet
    python benchmarks/pseudoknots.py --data ../shared/data/yeast_cds_halflife/data.parquet --lengths 400 1000 1400
    python benchmarks/pseudoknots.py --data ../shared/data/yeast_cds_halflife/data.parquet --lengths 400 1000 1400 --shuffle

Without a known structure only the share of crossing pairs among all predicted ones is given. Known crossing pairs are
those of the shorter of two helices that cross, both of two A-U, C-G or G-U pairs at least; the isolated pairs and third
partners of PDB structures are no pseudoknots. False ones are predicted crossing pairs that the known structure lacks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import tyro
from numpy.typing import NDArray

from unirna.fold import Fold, StructurePredictor, load_structure_predictor
from unirna.fold.decode import helices
from unirna.sequence import parse_dot_bracket, shuffle_dinucleotides

Pairs = set[tuple[int, int]]
CANONICAL = {"AU", "UA", "CG", "GC", "GU", "UG"}


@dataclass(frozen=True)
class Config:
    """Measure pseudoknots."""

    data: str
    """A table with `sequence`, and perhaps `structure` (brackets) or `base_pairs` (a JSON list of pairs from 1)."""
    structure: str = "structure"
    """Column of the known structure."""
    part: str = ""
    """Rows of this `partition` alone."""
    lengths: tuple[int, ...] = ()
    """Fold so many first nucleotides of sequences that are long enough, without known structures."""
    count: int = 20
    """With `--lengths`: sequences of each."""
    shuffle: bool = False
    """Shuffle the sequences, keeping the counts of dinucleotides."""
    seed: int = 0
    """Of the choice and the shuffling."""
    predictor: str = "secondary-structure"
    """Shipped name or folder."""


def main(config: Config) -> None:
    """Fold, compare, print."""
    predictor = load_structure_predictor(config.predictor)
    rows = pq.read_table(config.data).to_pylist()
    rows = [row for row in rows if not config.part or row["partition"] == config.part]
    if not config.lengths and not config.shuffle:
        known = [_known(row, config.structure) for row in rows]
        print(summary(_folded(predictor, [row["sequence"] for row in rows], config), known))
        return
    random = np.random.default_rng(config.seed)
    for length in config.lengths or (0,):
        long = [row["sequence"] for row in rows if len(row["sequence"]) >= length]
        chosen = [long[i][: length or None] for i in random.permutation(len(long))[: config.count]]
        print(f"{length or 'all'} nt: {summary(_folded(predictor, chosen, config), None)}")


def _folded(predictor: StructurePredictor, sequences: Sequence[str], config: Config) -> list[Fold]:
    letters = [re.sub("[^ACGU]", "N", text.upper().replace("T", "U")) for text in sequences]
    if config.shuffle:
        random = np.random.default_rng(config.seed)
        letters = [shuffle_dinucleotides(text, random) for text in letters]
    return predictor.fold(letters)


def summary(folds: Sequence[Fold], known: Sequence[Pairs] | None) -> str:
    """Counts of crossing pairs, and F1 of all and of crossing ones where structures are known."""
    nested, crossing = sum(len(f.nested) for f in folds), sum(len(f.crossing) for f in folds)
    kilobases = sum(len(f.sequence) for f in folds) / 1000
    both = nested + crossing
    text = f"{len(folds):,} sequences, {crossing:,} of {both:,} pairs cross ({crossing / max(both, 1):.2%})"
    if known is None:
        return f"{text}, {crossing / kilobases:.1f} per kb"
    right = true = false = 0
    scores, without = [], []
    for fold, truth in zip(folds, known, strict=True):
        ours = _set(fold.crossing)
        theirs = crossing_pairs(truth, fold.sequence)
        right, true, false = right + len(ours & theirs), true + len(theirs), false + len(ours - truth)
        scores.append(f1(_set(fold.pairs), truth))
        without.append(f1(_set(fold.nested), truth))
    whole = f"F1 of all pairs {np.mean(scores):.4f} (without crossing ones {np.mean(without):.4f})"
    precision, recall, mean = right / max(crossing, 1), right / max(true, 1), 2 * right / max(true + crossing, 1)
    return (
        f"{text}\nof {true:,} known crossing pairs {right:,} found: F1 {mean:.3f}, precision {precision:.3f}, "
        f"recall {recall:.3f}; {false / kilobases:.2f} false ones per kb; {whole}"
    )


def crossing_pairs(pairs: Pairs, sequence: str) -> Pairs:
    """Of helices that cross, the pairs of the shorter ones; each nucleotide is in one helix, the longest of its own."""
    may = [(i, j) for i, j in sorted(pairs) if sequence[i] + sequence[j] in CANONICAL]
    kept: list[tuple[int, int]] = []
    others: list[tuple[int, int]] = []
    used: set[int] = set()
    for helix in sorted(helices(np.array(may, np.int64).reshape(-1, 2)), key=len, reverse=True):
        ends = {place for pair in helix for place in pair}
        if len(helix) < 2 or ends & used:
            continue
        used |= ends
        i, j = helix[0]
        crosses = any((a < i < b) != (a < j < b) for a, b in kept)
        (others if crosses else kept).extend(helix)
    return set(others)


def f1(predicted: Pairs, known: Pairs) -> float:
    """Of two sets of pairs; 1 where both are empty."""
    return 2 * len(predicted & known) / (len(predicted) + len(known)) if predicted or known else 1.0


def _set(pairs: NDArray[np.int64]) -> Pairs:
    return {(int(i), int(j)) for i, j in pairs}


def _known(row: dict[str, str], column: str) -> Pairs:
    if "base_pairs" in row:
        listed: Iterable[Sequence[int]] = json.loads(row["base_pairs"])
        return {(min(pair) - 1, max(pair) - 1) for pair in listed}
    return _set(parse_dot_bracket(row[column]))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
