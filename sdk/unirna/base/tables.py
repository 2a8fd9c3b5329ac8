"""Tables that people paste or send: which delimiter, which column holds the sequences."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from unirna.base.letters import Gathered

SEQUENCE_NAMES: Final = ("sequence", "seq", "rna", "rna_sequence", "dna_sequence", "sequences", "nucleotide_sequence")
ID_NAMES: Final = (
    "id",
    "name",
    "accession",
    "identifier",
    "seq_id",
    "sequence_id",
    "seqid",
    "gene",
    "gene_id",
    "transcript",
)
LOOKED_AT: Final = 50
"""Rows by which the column of sequences is recognised."""
_NUCLEOTIDES: Final = re.compile(r"[ACGUTRYKMSWBDHVN\s.~-]{6,}\*?", re.IGNORECASE)
csv.field_size_limit(1 << 30)  # a chromosome is a cell


class PastedError(ValueError):
    """A text in which no sequence is found; the message says why."""


@dataclass(frozen=True)
class Table:
    """The rows of a table as sequences.

    Attributes:
        columns: its header.
        rows: its sequences; none where `question` asks for the column.
        sequence_column: the column that was read.
        notes: what was assumed. question: what has to be decided first.
    """

    columns: tuple[str, ...]
    rows: list[Gathered]
    sequence_column: str = ""
    notes: tuple[str, ...] = ()
    question: str = ""


def delimiter_of(lines: Sequence[str]) -> str:
    """The delimiter of a table, from its first lines; "" if it is not a table."""
    for delimiter in "\t,;|":
        found = [row for row in csv.reader(lines, delimiter=delimiter) if row]
        if len(found) > 1 and len(found[0]) > 1 and any(cell.strip().lower() in SEQUENCE_NAMES for cell in found[0]):
            return delimiter  # a header tells, whatever the length of the rows
        rows = [len(row) for row in found]
        if rows and min(rows) > 1 and len(set(rows)) == 1 and (len(rows) > 1 or not _letters_alone(lines[0])):
            return delimiter
    first = lines[0].strip().strip('"').lower()
    return "," if first in SEQUENCE_NAMES[:2] and len(lines) > 1 else ""


def read_table(text: str, id_column: str, sequence_column: str, removed: Counter[str]) -> Table:
    """Read a table's sequences.

    Args:
        text: with a header, or without one where its first row holds a sequence.
        id_column: the column of identifiers, "" to look for it. sequence_column: the column of sequences, likewise.
        removed: where what is removed from sequences is counted.

    Raises:
        PastedError: a column that is not there.
    """
    delimiter = delimiter_of([line for line in text.splitlines()[:200] if line.strip()][:20]) or ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    numbered = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    header = tuple(cell.strip() for cell in numbered[0][1])
    rows = numbered[1:]
    if any(_NUCLEOTIDES.fullmatch(cell.strip()) and len(cell.strip()) >= 15 for cell in header):
        header, rows = tuple(f"column {i}" for i in range(1, len(header) + 1)), numbered
    for name, flag in ((id_column, "id_column"), (sequence_column, "sequence_column")):
        if name and name not in header:
            raise PastedError(f"the table has no column {name!r} ({flag}). It has: {', '.join(header)}")
        if name and header.count(name) > 1:
            raise PastedError(f"the table has {header.count(name)} columns called {name!r} ({flag}). Rename or remove one")
    if not rows:
        raise PastedError(f"the table has a header ({', '.join(header)}) and no row")
    notes: list[str] = []
    chosen = sequence_column
    if not chosen:
        found = _sequence_columns(header, [row for _, row in rows[:LOOKED_AT]])
        if len(found) != 1:
            what = f"{' and '.join(found)} all look like sequences" if found else "none is recognised by name or content"
            return Table(header, [], question=f"Which column holds the sequences? It has {', '.join(header)}; {what}.")
        chosen = found[0]
        notes.append(f"sequences are those of column {chosen!r}")
    at = header.index(chosen)
    names = _names(header, [row for _, row in rows], at, id_column)
    made = []
    for (line, row), name in zip(rows, names, strict=True):
        one = Gathered(name, line, removed)
        if any(cell.strip() for cell in row[len(header) :]):
            one.refuse(f"line {line} has {len(row)} cells, the header {len(header)}")
        one.add(row[at] if at < len(row) else "", line, f"line {{line}}, column {chosen!r}, position {{column}}")
        made.append(one)
    return Table(header, made, chosen, tuple(notes))


def _letters_alone(line: str) -> bool:
    return bool(re.fullmatch(r"[ACGUTRYKMSWBDHVN\s,;|.-]*", line, re.IGNORECASE))


def _sequence_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    for wanted in SEQUENCE_NAMES[:2]:
        named = [name for name in header if name.lower() == wanted]
        if len(named) == 1:
            return named
    found = []
    for at, name in enumerate(header):
        cells = [row[at].strip() for row in rows if at < len(row) and row[at].strip()]
        if cells and sum(bool(_NUCLEOTIDES.fullmatch(cell)) for cell in cells) >= 0.8 * len(cells):
            found.append(name)
    named = [name for name in found if name.lower() in SEQUENCE_NAMES]
    return named if len(named) == 1 else found


def _names(header: Sequence[str], rows: Sequence[Sequence[str]], sequences: int, id_column: str) -> list[str]:
    """What each row is called: its identifier, "" if there is no such column."""
    places = [header.index(id_column)] if id_column else []
    lowered = [name.lower() for name in header]
    places += [lowered.index(name) for name in ID_NAMES if name in lowered and lowered.index(name) != sequences]
    if not places and sequences > 0:
        places = [0]
    for at in places:
        names = [row[at].strip() if at < len(row) else "" for row in rows]
        if id_column or all(names):
            return names
    return [""] * len(rows)
