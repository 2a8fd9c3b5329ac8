"""Nucleotide codes, and a sequence gathered from pasted lines."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

NUCLEOTIDES: Final = frozenset("ACGUTRYKMSWBDHVNacgutrykmswbdhvn")
"""Codes of nucleotides in RNA and DNA, upper and lower case, and the IUPAC ambiguity codes."""
GAPS: Final = frozenset("-.~_\u2010\u2011\u2013\u2014\u2212")
"""What alignments put where a sequence has nothing; hyphens and dashes of word processors included."""
INVISIBLE: Final = frozenset("\u00ad\u200b\u200c\u200d\u2060\ufeff")
PROTEIN: Final = frozenset("EFILPQJOZX*")
_PLAIN: Final = re.compile(r"[ACGUTRYKMSWBDHVN]*", re.IGNORECASE)
_NUMBER: Final = re.compile(r"(?<!\S)\d+(?!\S)|^\s*\d+(?=(?:[ACGUTRYKMSWBDHVN]\s?){10})", re.IGNORECASE)
_ENDS: Final = re.compile(r"^\s*5\s*['\u2032\u2019]\s*[-\u2013]?|[-\u2013]?\s*3\s*['\u2032\u2019]\s*$")


def reason_of(letter: str) -> str:
    """Why a letter is not a nucleotide code: fixed texts, so that they can be counted."""
    if letter in GAPS:
        return "gap"
    if letter.isspace():
        return "space"
    if letter.isdigit():
        return "digit"
    if letter.upper() in PROTEIN:
        return "protein letter"
    return "unexpected character"


class Gathered:
    """One sequence, gathered line by line: white space, line numbers, gaps and a final '*' are removed and counted.

    Args:
        name: of the record, "" for none.
        line: on which it begins, from 1.
        removed: where what is removed is counted, for all records together.
    """

    def __init__(self, name: str, line: int, removed: Counter[str]) -> None:
        self.name, self.line, self.problem = name, line, ""
        self._parts: list[str] = []
        self._removed = removed
        self._star: tuple[int, int] | None = None
        self._protein: set[str] = set()

    def add(self, text: str, line: int, where: str = "line {line}, column {column}") -> None:
        """Add a line of the sequence.

        Args:
            text: as it stands.
            line: its number, from 1.
            where: how a place in it is named.
        """
        if self._star is None and _PLAIN.fullmatch(text):
            self._parts.append(text)
            return
        blanked, ends = _ENDS.subn(lambda found: " " * len(found[0]), text)
        blanked, numbers = _NUMBER.subn(lambda found: " " * len(found[0]), blanked)
        self._removed["ends"] += ends
        self._removed["numbers"] += numbers
        kept: list[str] = []
        for column, letter in enumerate(blanked, 1):
            if letter in NUCLEOTIDES or letter == "&":  # & joins the two sequences of a pair
                if self._star is not None:
                    self._refuse("*", where.format(line=self._star[0], column=self._star[1]))
                kept.append(letter)
            elif letter in GAPS:
                self._removed["gaps"] += 1
            elif letter == "*" and self._star is None:
                self._star = line, column
            elif not (letter.isspace() or letter in INVISIBLE):
                self._refuse(letter, where.format(line=line, column=column))
        self._parts.append("".join(kept))

    def letters(self) -> str:
        """The sequence, once all lines are there."""
        if self._star is not None and not self.problem:
            self._removed["stars"] += 1
        sequence = "".join(self._parts)
        if not sequence and not self.problem:
            self.problem = f"no sequence at line {self.line}"
        elif len(self._protein) > 3:
            self.problem += ". It looks like a protein"
        return sequence

    def refuse(self, problem: str) -> None:
        """Record a problem; only the first is kept."""
        self.problem = self.problem or problem

    def _refuse(self, letter: str, place: str) -> None:
        if letter.upper() in PROTEIN:
            self._protein.add(letter.upper())
        self.refuse(f"{reason_of(letter)} {letter!r} at {place}")


def notes_of(removed: Counter[str]) -> list[str]:
    """What was removed, in words."""
    said = []
    if removed["gaps"]:
        said.append(f"{removed['gaps']:,} gap{'s' * (removed['gaps'] > 1)} removed")
    if removed["numbers"]:
        said.append("numbers within the sequence removed")
    if removed["stars"]:
        said.append("final * removed" + (f" from {removed['stars']:,} sequences" if removed["stars"] > 1 else ""))
    if removed["ends"]:
        said.append("5' and 3' marks removed")
    if removed["structures"]:
        said.append("structure lines left out")
    return said
