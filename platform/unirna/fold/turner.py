"""Free energy of a structure by the published nearest-neighbour parameters (Turner 2004).

The parameters are those of the Nearest Neighbor Database (Mathews et al. 2004, PNAS 101:7287; Turner and Mathews 2010, NAR
38:D280) at 37 °C and 1 M NaCl. Dangling ends and terminal mismatches are added to every branch of a multiloop and of the
exterior loop, as RNAfold does by default (`-d2`; Lorenz et al. 2011, Algorithms Mol Biol 6:26).
`recipes/turner2004.py` makes `turner2004.json`.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from unirna.fold.energies import KIND, LONGEST, codes_of

TABLES: Final = Path(__file__).parent / "turner2004.json"
UNIT: Final = 100
"""The tables hold integers, in this part of a kcal/mol."""
WEAK: Final = 2
"""Kinds of pairs from this one on are A-U and G-U, which cost `terminal_au` at the end of a helix."""


def free_energy(sequence: str, pairs: NDArray[np.int64]) -> float:
    """Free energy of a nested structure in kcal/mol at 37 °C, relative to the unfolded sequence.

    Args:
        sequence: normalised, L nucleotides.
        pairs: int64 [P, 2], 0-based, nested, of A-U, C-G and G-U alone, at least 4 apart.

    Raises:
        ValueError: a pair of other nucleotides, pairs that cross, or a hairpin loop of fewer than three nucleotides.
    """
    codes = codes_of(sequence).tolist()
    partner = [-1] * len(codes)
    for i, j in np.asarray(pairs).tolist():
        if KIND[codes[i], codes[j]] < 0:
            raise ValueError(f"nucleotides {i + 1} and {j + 1} ({sequence[i]}-{sequence[j]}) have no pairing energy")
        if j - i < 4:
            raise ValueError(f"nucleotides {i + 1} and {j + 1} are too close to pair")
        partner[i], partner[j] = j, i
    loops = _Loops(sequence, codes, _tables())
    total = 0
    open_ = [(-1, len(codes))]
    while open_:
        i, j = open_.pop()
        inner, place = [], i + 1
        while place < j:
            other = partner[place]
            if other >= 0:
                if not place < other < j:
                    raise ValueError(f"the pair of nucleotide {place + 1} crosses others: give nested pairs")
                inner.append((place, other))
                place = other
            place += 1
        total += loops.exterior(inner) if i < 0 else loops.closed(i, j, inner)
        open_ += inner
    return total / UNIT


@cache
def _tables() -> dict[str, Any]:
    found = json.loads(TABLES.read_text(encoding="utf-8"))
    return {name: np.array(value) if isinstance(value, list) else value for name, value in found.items()}


class _Loops:
    """Energies of the loops of one sequence, in the tables' unit."""

    def __init__(self, sequence: str, codes: list[int], tables: dict[str, Any]) -> None:
        self.sequence, self.codes, self.tables = sequence, codes, tables

    def exterior(self, inner: list[tuple[int, int]]) -> int:
        """Of the branches outside all pairs."""
        total = 0
        for i, j in inner:
            t = self._kind(i, j)
            total += self._end(t)
            first, last = i > 0, j + 1 < len(self.codes)
            if first and last:
                total += int(self.tables["mismatch_exterior"][t, self.codes[i - 1], self.codes[j + 1]])
            elif first:
                total += int(self.tables["dangle5"][t, self.codes[i - 1]])
            elif last:
                total += int(self.tables["dangle3"][t, self.codes[j + 1]])
        return total

    def closed(self, i: int, j: int, inner: list[tuple[int, int]]) -> int:
        """Of the loop that a pair closes, given the pairs inside it."""
        if not inner:
            return self._hairpin(i, j)
        return self._interior(i, j, *inner[0]) if len(inner) == 1 else self._multi(i, j, inner)

    def _kind(self, i: int, j: int) -> int:
        return int(KIND[self.codes[i], self.codes[j]])

    def _end(self, kind: int) -> int:
        return int(self.tables["terminal_au"]) if kind >= WEAK else 0

    def _by_size(self, table: str, size: int) -> int:
        """Loops of more than 30 are extrapolated (Jacobson and Stockmayer 1950)."""
        values = self.tables[table]
        if size <= LONGEST:
            return int(values[size])
        return int(values[LONGEST]) + int(self.tables["logarithmic"] * math.log(size / LONGEST))

    def _hairpin(self, i: int, j: int) -> int:
        size, t = j - i - 1, self._kind(i, j)
        special = self.tables["special_hairpins"].get(self.sequence[i : j + 1])
        if special is not None:
            return int(special)
        total = self._by_size("hairpin", size)
        if size == 3:
            return total + self._end(t)
        return total + int(self.tables["mismatch_hairpin"][t, self.codes[i + 1], self.codes[j - 1]])

    def _interior(self, i: int, j: int, p: int, q: int) -> int:
        t, back = self._kind(i, j), self._kind(p, q) ^ 1
        left, right = p - i - 1, j - q - 1
        small, large = sorted((left, right))
        codes, tables = self.codes, self.tables
        after, before = codes[i + 1], codes[j - 1]  # beside the outer pair, then beside the inner one
        inner_before, inner_after = codes[p - 1], codes[q + 1]
        if large == 0:
            return int(tables["stack"][t, back])
        if small == 0:
            total = self._by_size("bulge", large)
            return total + (int(tables["stack"][t, back]) if large == 1 else self._end(t) + self._end(back))
        if (small, large) == (1, 1):
            return int(tables["interior_1x1"][t, back, after, before])
        if (small, large) == (1, 2):
            if left == 1:
                return int(tables["interior_1x2"][t, back, after, inner_after, before])
            return int(tables["interior_1x2"][back, t, inner_after, after, inner_before])
        if (small, large) == (2, 2):
            return int(tables["interior_2x2"][t, back, after, inner_before, inner_after, before])
        mismatch = tables[
            "mismatch_1xn" if small == 1 else "mismatch_2x3" if (small, large) == (2, 3) else "mismatch_interior"
        ]
        total = self._by_size("interior", small + large)
        total += min(int(tables["most_asymmetry"]), (large - small) * int(tables["asymmetry"]))
        return total + int(mismatch[t, after, before]) + int(mismatch[back, inner_after, inner_before])

    def _multi(self, i: int, j: int, inner: list[tuple[int, int]]) -> int:
        codes = self.codes
        ends = [(self._kind(i, j) ^ 1, codes[j - 1], codes[i + 1])]
        ends += [(self._kind(p, q), codes[p - 1], codes[q + 1]) for p, q in inner]
        total = int(self.tables["multiloop"]) + len(ends) * int(self.tables["multiloop_branch"])
        for t, before, after in ends:
            total += self._end(t) + int(self.tables["mismatch_multi"][t, before, after])
        return total
