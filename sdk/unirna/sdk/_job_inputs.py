"""A look at the input of a job before it is sent: its format, its columns, and its first records.

Jobs read strictly: a record with a gap or another character that is not a nucleotide code is rejected with its reason,
and the others go on. Here it is said of the first one, and refused where none of the first records could be used.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from unirna.base.letters import NUCLEOTIDES, reason_of
from unirna.sdk._exceptions import InvalidRequestError
from unirna.sdk._fasta import parse_records

KINDS: Final = {
    **dict.fromkeys((".fa", ".fasta", ".fna", ".ffn", ".frn", ".fas", ".mfa"), "fasta"),
    **dict.fromkeys((".fq", ".fastq"), "fastq"),
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    ".csv": "csv",
}
"""Formats by the ending of a file's name."""
LOOKED_AT: Final = 1_000
"""Records that are looked at."""
LOOKED_AT_CHARACTERS: Final = 4_000_000


class RejectedRecordWarning(UserWarning):
    """Of a job's input, a record that the job will reject."""


def look_at(text: str, kind: str, called: str, parameters: Mapping[str, Any], *, labelled: bool = False) -> None:
    """See that a job can read a text.

    Args:
        text: of a file.
        kind: "fasta", "fastq", "csv" or "tsv".
        called: the file's name, for messages.
        parameters: of the job; the columns are looked for.
        labelled: whether it is a table to learn from, whose rows need no identifier.

    Raises:
        InvalidRequestError: another format, a column that is not there, or first records none of which can be used.
    """
    if kind in ("csv", "tsv"):
        records = _rows(text, "\t" if kind == "tsv" else ",", called, parameters, labelled)
    else:
        records = _records(text, called)
    if labelled:
        next(records, None)  # what it takes as a sequence depends on the task
        return
    problems: list[str] = []
    good = 0
    for name, sequence, place in islice(records, LOOKED_AT):
        problem = "" if name else "no id"
        problem = problem or ("" if sequence.strip() else "empty sequence") or _problem(sequence.strip())
        good += not problem
        if problem:
            problems.append(f"{place}{f' ({name})' if name else ''}: {problem}")
    if not good and not problems:
        raise InvalidRequestError(f"{called} holds no record")
    if not good:
        of = (
            "the record cannot be used"
            if len(problems) == 1
            else f"none of its first {len(problems):,} records can be used"
        )
        raise InvalidRequestError(f"{called}: {of}. {problems[0]}. Expected RNA or DNA sequences")
    if problems:
        message = f"{called}: the job will reject {problems[0]}" + (
            f" (and {len(problems) - 1:,} more)" if problems[1:] else ""
        )
        warnings.warn(message, RejectedRecordWarning, stacklevel=2)


def _problem(sequence: str) -> str:
    wrong = next((place for place, letter in enumerate(sequence) if letter not in NUCLEOTIDES), -1)
    return "" if wrong < 0 else f"{reason_of(sequence[wrong])} {sequence[wrong]!r} at position {wrong + 1}"


def _records(text: str, called: str) -> Iterator[tuple[str, str, str]]:
    start = text.lstrip()
    if start and start[0] not in ">@;#":
        found = start.split("\n", 1)[0][:40]
        raise InvalidRequestError(
            f"{called} is not FASTA: expected a line that starts with '>', got {found!r}. A table ends in .csv or .tsv"
        )
    part = text[:LOOKED_AT_CHARACTERS]
    if len(part) < len(text):  # to the end of a record
        part = part[: max(part.rfind("\n>" if start[0] == ">" else "\n@"), 0)] or text
    for number, (name, sequence) in enumerate(parse_records(part, called), 1):
        yield name, sequence, f"record {number}"


def _rows(
    text: str, delimiter: str, called: str, parameters: Mapping[str, Any], labelled: bool
) -> Iterator[tuple[str, str, str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = next(reader, [])
    if header:
        header[0] = header[0].removeprefix("\ufeff")
    columns = {"sequence_column": "sequence", "id_column": "id"}
    wanted = {name: str(parameters.get(name) or default) for name, default in columns.items()}
    if labelled:
        del wanted["id_column"]
        wanted |= {n: str(parameters[n]) for n in ("label_column", "target_column", "split_column") if parameters.get(n)}
    missing = {name: column for name, column in wanted.items() if column not in header}
    for column in parameters.get("label_columns") or ():
        if column not in header:
            missing["label_columns"] = column
    for name, column in missing.items():
        have = ", ".join(header) or "no column at all"
        semicolons = ". Is it separated by semicolons? Save it with commas" if len(header) == 1 and ";" in header[0] else ""
        hint = f"Name the right one with {name}=… (--{name.replace('_', '-')})"
        raise InvalidRequestError.of(name, f"{called} has no column {column!r}. It has: {have}{semicolons}. {hint}")
    at = [header.index(wanted["sequence_column"]), header.index(wanted.get("id_column", wanted["sequence_column"]))]
    for number, row in enumerate(reader, 2):
        if row:
            sequence, name = (row[place] if place < len(row) else "" for place in at)
            yield name, sequence, f"line {number}"
