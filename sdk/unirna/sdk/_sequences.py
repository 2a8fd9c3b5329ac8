"""Sequences that a command is given: typed, of a file, or of standard input, read with tolerance (`unirna.base`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from unirna.base import PastedError, counted, parse_text
from unirna.sdk._exceptions import InvalidRequestError
from unirna.sdk._files import is_file, is_folder, read_text, shown, undecoded, wrong_encoding
from unirna.sdk._output import say

ENDINGS: Final = (
    *(".fa", ".fasta", ".fna", ".ffn", ".frn", ".fas", ".mfa", ".fq", ".fastq", ".txt", ".seq", ".gb", ".gbk", ".embl"),
    *(".sto", ".aln", ".csv", ".tsv", ".tab", ".gz", ".zst", ".bgz", ".bz2", ".xz", ".zip", ".xlsx"),
)
"""Endings by which a text is the name of a file that is not there, rather than a sequence or an identifier."""
SHOWN: Final = 5
"""Sequences that are named where several cannot be used."""


@dataclass(frozen=True)
class ReadsSequences:
    """Options of every command that reads sequences."""

    encoding: str = field(default="", kw_only=True)
    """Encoding of the text of a file, such as latin-1; by default UTF-8, or what its byte-order mark says."""
    id_column: str = field(default="", kw_only=True)
    """Column of identifiers in a table (CSV, TSV); by default recognised by its name."""
    sequence_column: str = field(default="", kw_only=True)
    """Column of sequences in a table; by default the one that holds nucleotides."""


@dataclass(frozen=True)
class Sequences:
    """What a command was given.

    Attributes:
        named: pairs of name and sequence.
        left_out: how many could not be used; each was named on stderr.
    """

    named: list[tuple[str, str]]
    left_out: int = 0


def read_sequences(given: str, how: ReadsSequences, *, identifiers: bool = False) -> Sequences:
    """Read what a command was given.

    Args:
        given: a sequence; or a file (FASTA, FASTQ, GenBank, EMBL, alignments, CSV, TSV; plain or gzip); or "-".
        how: encoding and columns.
        identifiers: whether a text may be the identifier of a stored sequence, to be looked up by the service.

    Raises:
        InvalidRequestError: nothing in it can be used; or it has to be said which column holds the sequences.
    """
    of_file = given == "-" or is_file(given)
    source = shown(given) if of_file else "the sequence"
    if not of_file and Path(given[:4096]).suffix.lower() in ENDINGS:
        raise InvalidRequestError(f"no file {given!r}")
    if not of_file and is_folder(given):
        raise InvalidRequestError(f"{given} is a folder: give one of its files")
    text = read_text(given, how.encoding, lenient=True) if of_file else given
    try:
        found = parse_text(text, id_column=how.id_column, sequence_column=how.sequence_column)
    except PastedError as error:
        raise InvalidRequestError(f"{source}: {error}") from error
    if found.question:
        raise InvalidRequestError(f"{source}: {found.question} Name it with --sequence-column")
    if found.identifier and not of_file:
        if identifiers:
            return Sequences([(found.identifier, found.identifier)])
        if found.records[0].problem and "/" in given:
            raise InvalidRequestError(f"no file {given!r}, and it is not a sequence: {found.records[0].problem}")
    good: list[tuple[str, str]] = []
    bad: list[str] = []
    for number, record in enumerate(found.records, 1):
        if (byte := undecoded(record.name)) is not None:
            raise InvalidRequestError(f"{source}, line {record.line}: {wrong_encoding('utf-8', byte)}")
        name = record.name or f"sequence_{number}"
        if record.problem:
            bad.append(f"{name}: {record.problem}")
        else:
            good.append((name, record.sequence))
    if not good:
        more = f" (and {counted(len(bad) - 1, 'further sequence')})" if len(bad) > 1 else ""
        raise InvalidRequestError(f"{source}: {bad[0].removeprefix('sequence_1: ')}{more}. Expected RNA or DNA")
    for note in found.notes:
        say(f"note: {source}: {note}")
    for line in bad[:SHOWN]:
        say(f"left out: {line}")
    if len(bad) > SHOWN:
        say(f"left out: {counted(len(bad) - SHOWN, 'further sequence')}")
    return Sequences(good, len(bad))
