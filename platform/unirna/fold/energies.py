"""Scores of the loops of a secondary structure: a nearest-neighbour model whose numbers are learned.

A structure's score is the sum over its loops (Tinoco et al. 1971; Mathews et al. 2004): stacked pairs, hairpins, bulges,
interior loops, multiloops and what lies outside. Scores are natural logarithms of weights: a score of 1 makes a structure
e times as likely; an energy of -0.616 kcal/mol at 37 °C is a score of 1. They begin near published energies and are then
trained on known structures, as CONTRAfold's are (Do et al. 2006).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NEAREST: Final = 4
"""Least distance of two nucleotides that pair."""
LONGEST: Final = 30
"""Unpaired nucleotides of an interior loop, at most; hairpins longer than this are extrapolated."""
EXPLICIT: Final = 4
"""Interior loops with up to so many unpaired nucleotides on each side have a score of their own."""
PAIRS: Final = ("CG", "GC", "GU", "UG", "AU", "UA")
"""Kinds of pairs, in the order of the tables; kind `t` read from its other end is `t ^ 1`."""
KT: Final = 0.61632
"""kcal/mol at 37 °C."""
LETTERS: Final = "ACGU"
OTHER: Final = 4
"""Code of N, of other ambiguity codes and of what lies beyond the ends."""

_STACK: Final = (
    (-2.4, -3.3, -2.1, -1.4, -2.1, -2.1),
    (-3.3, -3.4, -2.5, -1.5, -2.2, -2.4),
    (-2.1, -2.5, 1.3, -0.5, -1.4, -1.3),
    (-1.4, -1.5, -0.5, 0.3, -0.6, -1.0),
    (-2.1, -2.2, -1.4, -0.6, -1.1, -0.9),
    (-2.1, -2.4, -1.3, -1.0, -0.9, -1.3),
)
"""kcal/mol of the outer pair by the inner one read from its other end (Mathews et al. 2004, PNAS 101:7287, table S4)."""
_HAIRPIN: Final = (5.4, 5.6, 5.7, 5.4, 6.0, 5.5, 6.4)
"""kcal/mol of hairpins of 3 to 9 nucleotides; as _BULGE of 1 to 6 and _INTERIOR of 2 to 6 from the same source."""
_BULGE: Final = (3.8, 2.8, 3.2, 3.6, 4.0, 4.4)
_INTERIOR: Final = (0.5, 1.6, 1.1, 2.0, 2.0)


@dataclass
class Energies:
    """The scores. Sizes count unpaired nucleotides; nucleotides are A, C, G, U and "other".

    Attributes:
        stack: [6, 6], of two neighbouring pairs: kind of the outer, kind of the inner read from its other end; symmetric.
        hairpin: [31] by size. hairpin_slope: [1], times ln(size / 30) above 30.
        hairpin_mismatch: [6, 5, 5], closing pair, first and last nucleotide of the loop.
        tetraloop: [256], of a hairpin of four, by its nucleotides as a base-4 number.
        bulge: [31] by size. interior: [31] by the size of both sides. asymmetry: [31] by the difference of the sides.
        explicit: [5, 5], by both sides up to 4; symmetric.
        interior_mismatch: [6, 5, 5], each pair of a loop of two or more on both sides, seen from the loop.
        one_mismatch: the same where one side is of one nucleotide.
        close: [6], of a pair at the end of a helix that is no hairpin's and no interior loop's.
        multi: [3], of a multiloop, of each unpaired nucleotide in it, of each pair of it.
        multi_mismatch, outer_mismatch: [6, 5, 5], pairs of multiloops and of the outside, the nucleotides beside them.
        pair: [6], of each pair.
    """

    stack: Array
    hairpin: Array
    hairpin_slope: Array
    hairpin_mismatch: Array
    tetraloop: Array
    bulge: Array
    interior: Array
    asymmetry: Array
    explicit: Array
    interior_mismatch: Array
    one_mismatch: Array
    close: Array
    multi: Array
    multi_mismatch: Array
    outer_mismatch: Array
    pair: Array

    @classmethod
    def zeros(cls) -> Energies:
        """All scores 0."""
        sizes = {
            "stack": (6, 6),
            "hairpin": (LONGEST + 1,),
            "hairpin_slope": (1,),
            "tetraloop": (256,),
            "bulge": (LONGEST + 1,),
            "interior": (LONGEST + 1,),
            "asymmetry": (LONGEST + 1,),
            "explicit": (EXPLICIT + 1, EXPLICIT + 1),
            "close": (6,),
            "multi": (3,),
            "pair": (6,),
        }
        return cls(**{field.name: np.zeros(sizes.get(field.name, (6, 5, 5))) for field in fields(cls)})

    @classmethod
    def published(cls) -> Energies:
        """Near the energies of Mathews et al. 2004: their stacks, loops by size, and simplified ends and multiloops."""
        scores = cls.zeros()
        scores.stack[:] = np.array(_STACK) / -KT
        scores.hairpin[:] = _by_size(_HAIRPIN, 3) / -KT
        scores.hairpin_slope[:] = -1.75
        scores.bulge[:] = _by_size(_BULGE, 1) / -KT
        scores.interior[:] = _by_size(_INTERIOR, 2) / -KT
        scores.asymmetry[:] = -0.6 / KT * np.minimum(np.arange(LONGEST + 1), 8)
        weak = np.array([0, 0, 1, 1, 1, 1.0])  # pairs of A or G with U
        scores.close[:] = -0.5 / KT * weak
        for table in (scores.interior_mismatch, scores.one_mismatch):
            table[:] = -0.7 / KT * weak[:, None, None]
        scores.hairpin_mismatch[:] = 0.8 / KT
        scores.hairpin_mismatch[:, 2, 0] += 0.8 / KT  # G and A, U and U, G and G
        scores.hairpin_mismatch[:, 3, 3] += 0.9 / KT
        scores.hairpin_mismatch[:, 2, 2] += 0.8 / KT
        scores.interior_mismatch[:, [0, 2], [2, 0]] += 0.8 / KT
        scores.interior_mismatch[:, 3, 3] += 0.7 / KT
        scores.multi[:] = np.array([3.4, 0.0, 0.4]) / -KT
        for table in (scores.multi_mismatch, scores.outer_mismatch):
            table[:] = 0.3 / KT
        return scores

    def flat(self) -> Array:
        """All scores side by side."""
        return np.concatenate([getattr(self, field.name).reshape(-1) for field in fields(self)])

    @classmethod
    def from_flat(cls, values: Array) -> Energies:
        """What `flat` wrote; symmetric tables are made so."""
        scores = cls.zeros()
        place = 0
        for field in fields(cls):
            table = getattr(scores, field.name)
            table[...] = values[place : place + table.size].reshape(table.shape)
            place += table.size
        for table in (scores.stack, scores.explicit):
            table[...] = (table + table.T) / 2
        return scores

    def loops(self) -> Array:
        """Scores of interior loops by the sizes of both sides, [31, 31]; row or column 0 are bulges, [0, 0] is 0."""
        left, right = np.indices((LONGEST + 1, LONGEST + 1))
        total = np.minimum(left + right, LONGEST)
        table: Array = self.interior[total] + self.asymmetry[np.abs(left - right)]
        small = slice(EXPLICIT + 1)
        table[small, small] += self.explicit
        table[0], table[:, 0] = self.bulge, self.bulge
        table[0, 0] = 0
        table[left + right > LONGEST] = -np.inf
        return table

    def count_loops(self, counts: Array) -> None:
        """Add counts of interior loops by the sizes of both sides, [31, 31], to the tables that `loops` reads."""
        left, right = np.indices(counts.shape)
        inner = (left > 0) & (right > 0)
        np.add.at(self.interior, np.minimum(left + right, LONGEST)[inner], counts[inner])
        np.add.at(self.asymmetry, np.abs(left - right)[inner], counts[inner])
        small = slice(1, EXPLICIT + 1)
        self.explicit[small, small] += counts[small, small]
        self.bulge[1:] += counts[0, 1:] + counts[1:, 0]

    def hairpins(self, longest: int) -> Array:
        """Scores of hairpins by size, [longest + 1]; smaller than 3 is impossible."""
        sizes = np.arange(longest + 1)
        table: Array = self.hairpin[np.minimum(sizes, LONGEST)]
        table = table + self.hairpin_slope * np.log(np.maximum(sizes, LONGEST) / LONGEST)
        table[:3] = -np.inf
        return table


def _by_size(given: tuple[float, ...], first: int) -> Array:
    """Energies by size: those given from `first` on, then by 1.75 kT ln of the size (Jacobson and Stockmayer 1950)."""
    table = np.zeros(LONGEST + 1)
    table[first : first + len(given)] = given
    last = first + len(given) - 1
    sizes = np.arange(last + 1, LONGEST + 1)
    table[last + 1 :] = given[-1] + 1.75 * KT * np.log(sizes / last)
    return table


CODES: Final = np.full(256, OTHER, np.int64)
CODES[np.frombuffer(LETTERS.encode(), np.uint8)] = np.arange(4)
KIND: Final = np.full((5, 5), -1, np.int64)
"""Kind of a pair of two nucleotides; -1 for none."""
for _number, _pair in enumerate(PAIRS):
    KIND[LETTERS.index(_pair[0]), LETTERS.index(_pair[1])] = _number


def codes_of(sequence: str) -> NDArray[np.int64]:
    """A normalised sequence as codes: A 0, C 1, G 2, U 3, others 4. int64 [L]."""
    codes: NDArray[np.int64] = CODES[np.frombuffer(sequence.encode("ascii"), np.uint8)]
    return codes
