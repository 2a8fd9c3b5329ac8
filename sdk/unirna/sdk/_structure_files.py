"""Structures as dot-bracket, CT and BPSEQ files."""

from __future__ import annotations

import string
from typing import Final

OPEN: Final = "([{<" + string.ascii_uppercase
CLOSE: Final = ")]}>" + string.ascii_lowercase


def dot_bracket(sequence: str, structure: str, name: str) -> str:
    """`>name`, the sequence and the brackets, a line each."""
    return f">{_line(name)}\n{sequence}\n{structure}\n"


def ct(sequence: str, structure: str, name: str, free_energy: float | None = None) -> str:
    """A connectivity table: `L ENERGY = … name`, then `i base i-1 i+1 partner i` for each nucleotide, 0 for none."""
    size = len(sequence)
    energy = "" if free_energy is None else f" ENERGY = {free_energy:.2f}"
    lines = [f"{size}{energy} {_line(name)}".rstrip()]
    for i, (base, partner) in enumerate(zip(sequence, partners(structure), strict=True), 1):
        lines.append(f"{i} {base} {i - 1} {i + 1 if i < size else 0} {partner} {i}")
    return "\n".join(lines) + "\n"


def bpseq(sequence: str, structure: str, name: str) -> str:
    """`# name`, then `i base partner` for each nucleotide, 0 for none."""
    rows = enumerate(zip(sequence, partners(structure), strict=True), 1)
    title = [f"# {_line(name)}"] if name.strip() else []
    return "\n".join([*title, *(f"{i} {base} {partner}" for i, (base, partner) in rows)]) + "\n"


def partners(structure: str) -> list[int]:
    """The partner of each nucleotide of a structure in brackets, from 1; 0 for none."""
    found = [0] * len(structure)
    open_: dict[str, list[int]] = {}
    for place, mark in enumerate(structure):
        if mark in OPEN:
            open_.setdefault(mark, []).append(place)
        elif mark in CLOSE:
            other = open_[OPEN[CLOSE.index(mark)]].pop()
            found[place], found[other] = other + 1, place + 1
    return found


def _line(name: str) -> str:
    return " ".join(name.split())
