"""Hard constraints on a structure, in the notation of ViennaRNA: which nucleotides pair, and with what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unirna.fold.energies import KIND, NEAREST, codes_of

MARKS = ".x|<>()"


class FoldError(ValueError):
    """A sequence that cannot be folded or a predictor that cannot be read; the message says what to do."""


class ConstraintError(FoldError):
    """A constraint that is not one, or that no structure satisfies; the message names the position, from 1.

    Attributes:
        message: the problem. number: which of several sequences the constraint is for, from 0; None for a single one.
    """

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message if number is None else f"constraint {number}: {message}")
        self.message, self.number = message, number


@dataclass(frozen=True)
class Constraint:
    """What a structure of L nucleotides has to satisfy.

    Attributes:
        text: as given.
        allowed: bool [L, L], upper triangle: pairs that may form.
        forced: bool [L], nucleotides that have to pair.
    """

    text: str
    allowed: NDArray[np.bool_]
    forced: NDArray[np.bool_]


def read_constraint(text: str, sequence: str) -> Constraint | None:
    """Read a constraint; None if it asks for nothing.

    Args:
        text: one character for each nucleotide: `.` free, `x` unpaired, `|` paired, `<` paired with a later nucleotide, `>`
            paired with an earlier one, `(` and `)` paired with each other.
        sequence: normalised.

    Raises:
        ConstraintError: another length or character, a bracket without its partner, a forced pair of nucleotides that
            cannot pair, or a nucleotide that has to pair and has nothing to pair with.
    """
    length = len(sequence)
    if len(text) != length:
        raise ConstraintError(f"{len(text):,} characters for {length:,} nucleotides: expected one for each")
    for place, mark in enumerate(text, 1):
        if mark not in MARKS:
            raise ConstraintError(f"position {place}: {mark!r} is none of {' '.join(MARKS)}")
    if text == "." * length:
        return None
    codes = codes_of(sequence)
    marks = np.array(list(text))
    places = np.arange(length)
    allowed = (KIND[codes[:, None], codes[None, :]] >= 0) & (places[None, :] - places[:, None] >= NEAREST)
    allowed[marks == "x"] = allowed[:, marks == "x"] = False
    allowed[:, marks == "<"] = False  # never the second nucleotide of a pair
    allowed[marks == ">"] = False
    for i, j in _brackets(text):
        pair = f"positions {i + 1} and {j + 1} ({sequence[i]}-{sequence[j]})"
        if j - i < NEAREST:
            raise ConstraintError(f"{pair} are too close to pair: at least {NEAREST - 1} nucleotides lie between")
        if KIND[codes[i], codes[j]] < 0:
            raise ConstraintError(f"{pair} cannot pair: A-U, C-G and G-U do")
        allowed[[i, j]] = allowed[:, [i, j]] = False
        allowed[i, j] = True
    forced = np.isin(marks, list("|<>()"))
    alone = np.flatnonzero(forced & ~(allowed.any(axis=0) | allowed.any(axis=1)))
    if len(alone):
        place = int(alone[0])
        raise ConstraintError(f"position {place + 1}: {sequence[place]} has no nucleotide to pair with")
    return Constraint(text, allowed, forced)


def _brackets(text: str) -> list[tuple[int, int]]:
    open_: list[int] = []
    pairs = []
    for place, mark in enumerate(text):
        if mark == "(":
            open_.append(place)
        elif mark == ")":
            if not open_:
                raise ConstraintError(f"position {place + 1}: ')' closes nothing")
            pairs.append((open_.pop(), place))
    if open_:
        raise ConstraintError(f"position {open_[-1] + 1}: '(' is never closed")
    return pairs
