"""Secondary structures: base pairs <-> dot-bracket (pseudoknots included), CT and BPSEQ."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import Final, NamedTuple

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
        sequence: as given, L nucleotides.
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
            raise StructureError(f"position {j + 1}: {mark!r} is not a dot-bracket character")
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
    """Read the structure of a connectivity table (CT) that holds one.

    Args:
        text: a title line that starts with the number of nucleotides (`73 ENERGY = -17.5 name`), then
            `i base i-1 i+1 partner i` for each nucleotide. Blank lines, lines that start with `#`, header lines above the
            title, tabs and any line ending are allowed.

    Raises:
        StructureError: a missing or inconsistent line, which is named; or several structures (`parse_ct_all` reads them).
    """
    return _only(parse_ct_all(text), "CT", "parse_ct_all")


def parse_ct_all(text: str) -> list[Structure]:
    """Read all structures of a connectivity table, which may hold several, one below the other.

    Args:
        text: as for `parse_ct`.

    Raises:
        StructureError: a missing or inconsistent line, which is named.
    """
    lines = _lines(text)
    found: list[Structure] = []
    place = 0
    while place < len(lines):
        above: list[str] = []
        while place < len(lines) and not _is_number(lines[place].fields[0]):
            above.append(lines[place].text)
            place += 1
        if place == len(lines):
            if all(line.startswith("#") for line in above) and found:
                break
            number = lines[-1].number if found else 1
            raise StructureError(f"CT line {number}: expected a title that starts with the number of nucleotides")
        title = lines[place]
        if found and _is_ct_row(title.fields):
            raise StructureError(
                f"CT line {title.number}: the title says {len(found[-1].sequence)} nucleotides, but more lines follow"
            )
        count = int(title.fields[0])
        rows: list[_Line] = []
        place += 1
        while place < len(lines) and len(rows) < count:
            line = lines[place]
            if not line.text.startswith("#"):
                if not _is_number(line.fields[0]):
                    break
                rows.append(line)
            place += 1
        if len(rows) != count:
            raise StructureError(f"CT line {title.number}: the title says {count} nucleotides, {len(rows)} lines follow")
        name = title.text[len(title.fields[0]) :].strip() or _title(above)
        found.append(_from_columns(rows, partner=4, kind="CT", form="i base i-1 i+1 partner", name=name))
    if not found:
        raise StructureError("CT line 1: expected a title that starts with the number of nucleotides")
    return found


def parse_bpseq(text: str) -> Structure:
    """Read the structure of a BPSEQ file that holds one.

    Args:
        text: `i base partner` for each nucleotide, partner 0 for none. Lines above them are the title, with or without a
            `#`, as the Comparative RNA Web writes them. Blank lines, tabs and any line ending are allowed.

    Raises:
        StructureError: an inconsistent line, which is named; or several structures (`parse_bpseq_all` reads them).
    """
    return _only(parse_bpseq_all(text), "BPSEQ", "parse_bpseq_all")


def parse_bpseq_all(text: str) -> list[Structure]:
    """Read all structures of a BPSEQ file: each starts with nucleotide 1, and with the title above that.

    Args:
        text: as for `parse_bpseq`.

    Raises:
        StructureError: an inconsistent line, which is named.
    """
    blocks: list[tuple[list[str], list[_Line]]] = []
    above: list[str] = []
    for line in _lines(text):
        is_row = not line.text.startswith("#") and _is_number(line.fields[0])
        if is_row and (not blocks or above):  # a title may start with a number: `16 S rRNA`, `120 nucleotides`
            is_row = len(line.fields) < 2 or (len(line.fields[1]) == 1 and all(map(_is_number, line.fields[2:3])))
        if not is_row:
            above.append(line.text)
        elif not blocks or (line.fields[0] == "1" and blocks[-1][1]) or any(not a.startswith("#") for a in above):
            blocks.append((above, [line]))
            above = []
        else:
            blocks[-1][1].append(line)
            above = []  # a comment between nucleotides
    if any(not line.startswith("#") for line in above) or not blocks:
        raise StructureError(f"BPSEQ: expected lines `i base partner` below {' '.join(above)[:80]!r}")
    return [
        _from_columns(rows, partner=2, kind="BPSEQ", form="i base partner", name=_title(title)) for title, rows in blocks
    ]


class _Line(NamedTuple):
    """A line that is not blank: its number from 1, its text without spaces at the ends, its columns."""

    number: int
    text: str
    fields: list[str]


def _lines(text: str) -> list[_Line]:
    numbered = enumerate(re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff")), 1)
    return [_Line(number, line.strip(), line.split()) for number, line in numbered if line.strip()]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _is_ct_row(fields: list[str]) -> bool:
    return len(fields) >= 5 and len(fields[1]) == 1 and all(_is_number(field) for field in fields[2:5])


def _title(lines: list[str]) -> str:
    return " ".join(line.lstrip("#").strip() for line in lines).strip()


def _only(found: list[Structure], kind: str, reader: str) -> Structure:
    if len(found) > 1:
        raise StructureError(f"this {kind} file holds {len(found)} structures, expected one: read them with {reader}")
    return found[0]


def _from_columns(rows: list[_Line], partner: int, kind: str, form: str, name: str) -> Structure:
    partners: list[int] = []
    for place, (number, text, row) in enumerate(rows, 1):
        if len(row) <= partner or not _is_number(row[0]) or not _is_number(row[partner]) or len(row[1]) != 1:
            raise StructureError(f"{kind} line {number}: {text[:80]!r} does not have the columns `{form}`")
        if int(row[0]) != place:
            raise StructureError(f"{kind} line {number}: expected nucleotide {place}, got {row[0]}")
        partners.append(int(row[partner]))
    for place, other in enumerate(partners, 1):
        if other and (other > len(partners) or other == place or partners[other - 1] != place):
            number = rows[place - 1].number
            raise StructureError(
                f"{kind} line {number}: nucleotide {place} pairs with {other}, but {other} does not pair back"
            )
    pairs = [(i, j - 1) for i, j in enumerate(partners) if j - 1 > i]
    return Structure("".join(row.fields[1] for row in rows), np.array(pairs, np.int64).reshape(-1, 2), name)


def _partners(structure: Structure) -> list[int]:
    partner = [0] * len(structure.sequence)
    for i, j in structure.pairs.tolist():
        partner[i], partner[j] = j + 1, i + 1
    return partner


def _one_line(name: str) -> str:
    return " ".join(name.split())


def write_ct(structure: Structure) -> str:
    """Write a connectivity table; `parse_ct` reads the same structure back."""
    size = len(structure.sequence)
    lines = [f"{size} {_one_line(structure.name)}".rstrip()]
    for i, (base, partner) in enumerate(zip(structure.sequence, _partners(structure), strict=True), 1):
        lines.append(f"{i} {base} {i - 1} {i + 1 if i < size else 0} {partner} {i}")
    return "\n".join(lines) + "\n"


def write_bpseq(structure: Structure) -> str:
    """Write BPSEQ; `parse_bpseq` reads the same structure back."""
    name = _one_line(structure.name)
    title = [f"# {name}"] if name else []
    rows = zip(structure.sequence, _partners(structure), strict=True)
    return "\n".join([*title, *(f"{i} {base} {partner}" for i, (base, partner) in enumerate(rows, 1))]) + "\n"
