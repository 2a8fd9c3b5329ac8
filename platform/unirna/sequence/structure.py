"""Secondary structures: base pairs <-> dot-bracket (pseudoknots included), CT and BPSEQ."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

OPEN: Final = "([{<" + string.ascii_uppercase
CLOSE: Final = ")]}>" + string.ascii_lowercase
UNPAIRED: Final = ".,:_-~"
"""Characters read as unpaired; dots are written."""

Pairs = NDArray[np.int64]


class StructureError(ValueError):
    """A secondary structure that is not one: an unbalanced bracket, a nucleotide paired twice, a line of another form."""


@dataclass(frozen=True)
class Structure:
    """A sequence and its base pairs.

    Attributes:
        sequence: the letters, as given; L nucleotides.
        pairs: int64 [P, 2], 0-based, i < j in each row, rows in ascending order, no nucleotide in two rows.
        name: the title of a CT or BPSEQ file.
    """

    sequence: str
    pairs: Pairs
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", _checked(self.pairs, len(self.sequence)))


def _checked(pairs: object, length: int) -> Pairs:
    array = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    array = np.sort(array, axis=1)
    array = array[np.argsort(array[:, 0], kind="stable")]
    if len(array) and (array.min() < 0 or array.max() >= length):
        raise StructureError(f"a pair lies outside the {length} nucleotides: {array[[0, -1]].tolist()}")
    places, counts = np.unique(array, return_counts=True)
    if (counts > 1).any():
        raise StructureError(f"nucleotide {int(places[counts > 1][0]) + 1} is in more than one pair")
    return array


def parse_dot_bracket(text: str) -> Pairs:
    """Base pairs of a dot-bracket string.

    Args:
        text: `()[]{}<>` and letter pairs `Aa` to `Zz` pair; `.,:_-~` are unpaired. One character per nucleotide.

    Returns:
        int64 [P, 2], 0-based, ascending.

    Raises:
        StructureError: a bracket without its partner, or another character; the position is named, counted from 1.
    """
    stacks: dict[str, list[int]] = {}
    pairs: list[tuple[int, int]] = []
    for j, mark in enumerate(text):
        if mark in UNPAIRED:
            continue
        if mark in OPEN:
            stacks.setdefault(mark, []).append(j)
        elif mark in CLOSE:
            stack = stacks.get(OPEN[CLOSE.index(mark)])
            if not stack:
                raise StructureError(f"position {j + 1}: {mark!r} closes nothing")
            pairs.append((stack.pop(), j))
        else:
            raise StructureError(f"position {j + 1}: {mark!r} is no dot-bracket character")
    for mark, stack in stacks.items():
        if stack:
            raise StructureError(f"position {stack[-1] + 1}: {mark!r} is never closed")
    return _checked(pairs, len(text))


def write_dot_bracket(pairs: Pairs | list[tuple[int, int]], length: int) -> str:
    """Dot-bracket string of base pairs [P, 2]; crossing pairs go to `[]`, `{}`, `<>`, `Aa` … in turn.

    Raises:
        StructureError: a pair outside `length`, a nucleotide paired twice, or more than 30 mutually crossing levels.
    """
    text = ["."] * length
    levels: list[list[tuple[int, int]]] = []
    for i, j in _checked(pairs, length).tolist():
        # Pairs come in ascending i, so (i, j) crosses (a, b) exactly when a < i < b < j.
        free = (n for n, placed in enumerate(levels) if not any(a < i < b < j for a, b in placed))
        level = next(free, len(levels))
        if level == len(OPEN):
            raise StructureError(f"more than {len(OPEN)} levels of crossing pairs")
        if level == len(levels):
            levels.append([])
        levels[level].append((i, j))
        text[i], text[j] = OPEN[level], CLOSE[level]
    return "".join(text)


def parse_ct(text: str) -> Structure:
    """Read a connectivity table (CT): a title line `L name`, then `i base i-1 i+1 partner i` for each nucleotide.

    Raises:
        StructureError: a missing or inconsistent line, named.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines or not lines[0].split()[0].isdigit():
        raise StructureError("a CT file starts with the number of nucleotides and a title")
    count, _, name = lines[0].strip().partition(" ")
    rows = [line.split() for line in lines[1 : 1 + int(count)]]
    if len(rows) != int(count):
        raise StructureError(f"the title says {count} nucleotides, {len(rows)} lines follow")
    return _from_columns(rows, partner=4, width=5, kind="CT", name=name.strip())


def parse_bpseq(text: str) -> Structure:
    """Read BPSEQ: `i base partner` for each nucleotide, partner 0 for none; lines that start with `#` are the title.

    Raises:
        StructureError: an inconsistent line, named.
    """
    name = " ".join(line[1:].strip() for line in text.splitlines() if line.startswith("#"))
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return _from_columns(rows, partner=2, width=3, kind="BPSEQ", name=name)


def _from_columns(rows: list[list[str]], partner: int, width: int, kind: str, name: str) -> Structure:
    partners: list[int] = []
    for place, row in enumerate(rows, 1):
        if len(row) < width or not row[0].isdigit() or not row[partner].isdigit() or len(row[1]) != 1:
            raise StructureError(f"{kind} line of nucleotide {place}: {' '.join(row)!r} is not of the form's columns")
        if int(row[0]) != place:
            raise StructureError(f"{kind}: nucleotide {place} is wanted here, the line says {row[0]}")
        partners.append(int(row[partner]))
    for place, other in enumerate(partners, 1):
        if other and (other > len(partners) or other == place or partners[other - 1] != place):
            raise StructureError(f"{kind}: nucleotide {place} pairs with {other}, but {other} does not pair back")
    pairs = [(i, j - 1) for i, j in enumerate(partners) if j - 1 > i]
    return Structure("".join(row[1] for row in rows), np.array(pairs, np.int64).reshape(-1, 2), name)


def _partners(structure: Structure) -> list[int]:
    partner = [0] * len(structure.sequence)
    for i, j in structure.pairs.tolist():
        partner[i], partner[j] = j + 1, i + 1
    return partner


def write_ct(structure: Structure) -> str:
    """Write a connectivity table; `parse_ct` reads the same structure back."""
    size = len(structure.sequence)
    lines = [f"{size} {structure.name}".rstrip()]
    for i, (base, partner) in enumerate(zip(structure.sequence, _partners(structure), strict=True), 1):
        lines.append(f"{i} {base} {i - 1} {i + 1 if i < size else 0} {partner} {i}")
    return "\n".join(lines) + "\n"


def write_bpseq(structure: Structure) -> str:
    """Write BPSEQ; `parse_bpseq` reads the same structure back."""
    title = [f"# {structure.name}"] if structure.name else []
    rows = zip(structure.sequence, _partners(structure), strict=True)
    return "\n".join([*title, *(f"{i} {base} {partner}" for i, (base, partner) in enumerate(rows, 1))]) + "\n"
