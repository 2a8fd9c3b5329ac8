"""RNA that belongs to no class: what an out-of-distribution detector is fitted to tell apart, and what it is measured on.

Fitting needs no data but the training rows: their dinucleotide shuffles, and low-complexity sequences made of random
repeats. Measuring takes other sequences: shuffles of test rows, pieces of real coding sequences, and low complexity of
other kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from unirna.sequence import shuffle_dinucleotides

NUCLEOTIDES: Final = "ACGU"
CODING: Final = Path(__file__).with_name("coding.txt")
"""Pieces of 50 coding sequences of S. cerevisiae, 735 to 1,000 nt, one a line (Ensembl 107, free of restriction)."""
MUTATED: Final = 0.08
"""Share of the nucleotides that are replaced at random in every second repeat."""


def shuffles(sequences: Sequence[str], random: np.random.Generator) -> list[str]:
    """A dinucleotide-preserving shuffle of each sequence.

    Args:
        sequences: normalised. random: the source of chance.
    """
    return [shuffle_dinucleotides(sequence, random) for sequence in sequences]


def repeats(lengths: Sequence[int], random: np.random.Generator) -> list[str]:
    """Low complexity to fit on: homopolymers and tandem repeats of 2 to 6 nt, half of the latter mutated, and sequences of
    two nucleotides in random order.

    Args:
        lengths: of the sequences, in nucleotides. random: the source of chance.
    """

    def tandem(length: int) -> str:
        unit = _drawn(int(random.integers(2, 7)), random)
        return _mutated((unit * length)[:length], MUTATED * int(random.integers(2)), random)

    def two(length: int) -> str:
        return _drawn(length, random, random.permutation([0.5, 0.5, 0.0, 0.0]))

    def one(length: int) -> str:
        return _drawn(1, random) * length

    return _in_turn((one, tandem, two, tandem), lengths)


def low_complexity(lengths: Sequence[int], random: np.random.Generator) -> list[str]:
    """Low complexity to measure on, of kinds that `repeats` does not make: homopolymers with one nucleotide in twenty
    replaced, tandem repeats of 7 to 12 nt, tandem repeats of 3 nt with one nucleotide in ten replaced, and sequences of
    which 85 % are one nucleotide.

    Args:
        lengths: of the sequences, in nucleotides. random: the source of chance.
    """

    def homopolymer(length: int) -> str:
        return _mutated(_drawn(1, random) * length, 0.05, random)

    def long_unit(length: int) -> str:
        return (_drawn(int(random.integers(7, 13)), random) * length)[:length]

    def triplet(length: int) -> str:
        return _mutated((_drawn(3, random) * length)[:length], 0.1, random)

    def biased(length: int) -> str:
        return _drawn(length, random, random.permutation([0.85, 0.05, 0.05, 0.05]))

    return _in_turn((homopolymer, long_unit, triplet, biased), lengths)


def coding_pieces(lengths: Sequence[int], random: np.random.Generator) -> list[str]:
    """Pieces of real coding sequences, each from a random place in a random gene.

    Args:
        lengths: of the pieces, in nucleotides; a piece is at most as long as what is kept of its gene.
        random: the source of chance.
    """
    genes = CODING.read_text(encoding="utf-8").split()
    found = []
    for length in lengths:
        gene = genes[int(random.integers(len(genes)))]
        start = int(random.integers(max(1, len(gene) - length + 1)))
        found.append(gene[start : start + length])
    return found


def _in_turn(kinds: Sequence[Callable[[int], str]], lengths: Sequence[int]) -> list[str]:
    return [kinds[i % len(kinds)](int(length)) for i, length in enumerate(lengths)]


def _drawn(length: int, random: np.random.Generator, shares: NDArray[np.float64] | None = None) -> str:
    return "".join(random.choice(list(NUCLEOTIDES), length, p=shares))


def _mutated(sequence: str, share: float, random: np.random.Generator) -> str:
    drawn = _drawn(len(sequence), random)
    chosen = random.random(len(sequence)) < share
    return "".join(new if hit else old for old, new, hit in zip(sequence, drawn, chosen, strict=True))
