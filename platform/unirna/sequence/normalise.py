"""One spelling for every sequence: upper case, U for T, IUPAC ambiguity codes kept; anything else is a reasoned reject."""

from __future__ import annotations

import hashlib
from typing import Final

import pyarrow as pa

LETTERS: Final = "ACGURYKMSWBDHVN"
"""Letters of a normalised sequence: the four nucleotides and the IUPAC ambiguity codes (Cornish-Bowden 1985)."""

REASONS: Final = (
    "empty sequence",
    "no sequence",
    "no id",
    "duplicate id",
    "gap",
    "digit",
    "space",
    "protein letter",
    "unexpected character",
)
"""Every reason for which a record is rejected. Fixed words, so that they can be counted and filtered on."""

_TABLE = bytes(
    {
        **{ord(c): ord(c) for c in LETTERS},
        **{ord(c.lower()): ord(c) for c in LETTERS},
        **dict.fromkeys(b"Tt", ord("U")),
    }.get(i, 0)
    for i in range(256)
)


class SequenceError(ValueError):
    """A sequence that is not RNA or DNA.

    Attributes:
        reason: one of `REASONS`.
        position: 1-based position of the invalid letter, 0 if the whole record is invalid.
        letter: that letter, or an empty string.
    """

    def __init__(self, reason: str, position: int = 0, letter: str = "", name: str = "") -> None:
        self.reason, self.position, self.letter, self.name = reason, position, letter, name
        where = f" at position {position}: {letter!r}" if position else ""
        who = f"{name}: " if name else ""
        super().__init__(
            f"{who}{reason}{where}. Expected RNA or DNA (A C G U T and the IUPAC codes {LETTERS[4:]}), upper or lower case."
        )

    def __reduce__(self) -> tuple[type[SequenceError], tuple[str, int, str, str]]:  # survives the way between processes
        return SequenceError, (self.reason, self.position, self.letter, self.name)


def normalise(sequence: str, name: str = "") -> str:
    """Bring a sequence to upper-case RNA.

    Args:
        sequence: RNA or DNA, upper or lower case; white space at both ends is ignored.
        name: what to call the sequence in an error message.

    Returns:
        The same molecule in A C G U and IUPAC codes; as long as the stripped input.

    Raises:
        SequenceError: empty, or with a letter that is not a nucleotide code. Nothing is dropped or guessed.
    """
    sequence = sequence.strip()
    if not sequence:
        raise SequenceError("empty sequence", name=name)
    raw = sequence.encode("latin-1", "replace").translate(_TABLE)
    bad = raw.find(0)
    if bad < 0:
        return raw.decode("ascii")
    letter = sequence[bad]
    raise SequenceError(_reason(letter), bad + 1, letter, name)


def _reason(letter: str) -> str:
    if letter in "-.~_":
        return "gap"
    if letter.isspace():
        return "space"
    if letter.isdigit():
        return "digit"
    if letter.upper() in "EFILPQJOZX*":
        return "protein letter"
    return "unexpected character"


def sequence_sha(sequence: str) -> str:
    """Name of a normalised sequence: the first 32 hex digits (128 bits) of its SHA-256."""
    return hashlib.sha256(sequence.encode("ascii")).hexdigest()[:32]


REJECT_SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("number", pa.int64()),
        ("reason", pa.string()),
        ("position", pa.int64()),
        ("letter", pa.string()),
    ]
)
"""Columns of a table of rejects. `number` is the record's 1-based place in its source, `position` the letter's."""


def clean_table(table: pa.Table, source: str) -> tuple[pa.Table, pa.Table]:
    """Normalise a table of records and set the bad ones aside.

    Args:
        table: columns `number`, `id`, `sequence` (as read) and any labels, as `read_tables` gives them.
        source: the file or piece the rows come from, for the rejects.

    Returns:
        The good rows, with `sequence` normalised and columns `length` (nucleotides) and `sha` added, and the rejects
        (`REJECT_SCHEMA`). Their numbers of rows add up to the input's.
    """
    sequences: list[str] = []
    keep: list[int] = []
    rejects: list[dict[str, object]] = []
    numbers = table["number"].to_pylist()
    columns = zip(numbers, table["id"].to_pylist(), table["sequence"].to_pylist(), strict=True)
    for row, (number, record_id, sequence) in enumerate(columns):
        try:
            if sequence is None:
                raise SequenceError("no sequence")
            if not record_id:
                raise SequenceError("no id")
            sequences.append(normalise(sequence))
            keep.append(row)
        except SequenceError as error:
            rejects.append(
                {
                    "id": record_id or "",
                    "source": source,
                    "number": number,
                    "reason": error.reason,
                    "position": error.position,
                    "letter": error.letter,
                }
            )
    good = table if len(keep) == table.num_rows else table.take(pa.array(keep, pa.int64()))
    good = good.set_column(good.schema.get_field_index("sequence"), "sequence", pa.array(sequences, pa.string()))
    for name, column in (
        ("length", pa.array([len(s) for s in sequences], pa.int32())),
        ("sha", pa.array([sequence_sha(s) for s in sequences], pa.string())),
    ):
        index = good.schema.get_field_index(name)
        good = good.append_column(name, column) if index < 0 else good.set_column(index, name, column)
    return good, pa.Table.from_pylist(rejects, REJECT_SCHEMA)
