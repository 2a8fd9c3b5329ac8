"""Records of FASTA and FASTQ, streamed.

Ours because a piece may be a byte range of a large FASTA file, and because the readers at hand stop a whole file at the
first byte outside ASCII or at an empty line, where here only the record is rejected, or the line passed over.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import IO

from unirna.sequence.streams import InputError, not_utf8

Rows = Iterator[tuple[str, str, str]]
"""Name, description and sequence of each record."""


def fasta_records(path: str, stream: IO[bytes], start: int = 0, end: int | None = None) -> Rows:
    """Stream the records of FASTA text in UTF-8.

    Args:
        path: the file's name, for messages.
        stream: the text; one that can be sought where `start` is not 0.
        start, end: the byte range whose records are read: those whose ">" stands in it. `end` is None for all the rest.

    Raises:
        InputError: text before the first record, a header that is not UTF-8, or old Macintosh line ends.
    """
    offset = start
    if start:
        stream.seek(start - 1)
        offset += len(stream.readline()) - 1  # to the first line that starts in the range
    header: bytes | None = None
    letters: list[bytes] = []
    line_of_header = 0
    for number, line in enumerate(stream, 1):
        if not offset and line.startswith(BOM_UTF8):
            offset, line = len(BOM_UTF8), line.removeprefix(BOM_UTF8)
        if line.startswith(b">"):
            if header is not None:
                yield _fasta_record(path, header, letters, line_of_header, start)
            if end is not None and offset >= end:
                return
            header, letters, line_of_header = line, [], number
        elif header is not None:
            letters.append(line.strip())
        elif start == 0 and line.strip() and line[:1] not in b";#":  # comments before the first record
            shown = line[:40].decode("utf-8", "replace").strip()
            raise InputError(path, f"is not FASTA: expected a line that starts with '>', got {shown!r} in line {number}")
        elif end is not None and offset >= end:
            return
        offset += len(line)
    if header is not None:
        if not header.endswith(b"\n") and offset == len(header) and b"\r" in header.strip():  # one line: the file
            raise InputError(path, "has old Macintosh line ends (a bare carriage return). Convert them: tr '\\r' '\\n'")
        yield _fasta_record(path, header, letters, line_of_header, start)


def _fasta_record(path: str, header: bytes, letters: list[bytes], line: int, start: int) -> tuple[str, str, str]:
    text = _header_text(path, header, line, start)
    if "\r" in text:  # a lost line end: part of the sequence may stand in the header, so the record is rejected
        text, _, lost = text.partition("\r")
        letters = ["␍".encode(), lost.encode(), *letters]
    name, description = _named(text)
    return name, description, b"".join(letters).decode("utf-8", "replace")


def fastq_records(path: str, stream: IO[bytes]) -> Rows:
    """Stream the records of FASTQ text in UTF-8, without their qualities.

    Sequences and qualities may stand on several lines; blank lines between records are passed over.

    Args:
        path: the file's name, for messages.
        stream: the text.

    Raises:
        InputError: a record that is cut short, or a header that is none or not UTF-8; the line is named.
    """
    number = 0
    while line := stream.readline():
        number += 1
        header = line.strip()
        if not header:
            continue
        first = number
        if header[:1] != b"@":
            shown = header[:40].decode("utf-8", "replace")
            raise InputError(path, f"is not FASTQ: expected a line that starts with '@', got {shown!r} in line {number}")
        letters = b""
        while (line := stream.readline()) and line[:1] != b"+":
            number += 1
            letters += line.strip()
        number += 1
        problem = "" if line else "no line that starts with '+'"
        length = 0
        wanted = len(letters)
        while line and length < wanted and (line := stream.readline()):
            number += 1
            length += len(line.rstrip(b"\r\n"))
        if problem or length != wanted:
            problem = problem or f"{length} qualities for {wanted} nucleotides"
            shown = header[1:41].decode("utf-8", "replace")
            raise InputError(
                path, f"is not valid FASTQ: record {shown!r} in line {first} is cut short or damaged: {problem}"
            )
        name, description = _named(_header_text(path, header, first, 0))
        yield name, description, letters.decode("utf-8", "replace")


def _header_text(path: str, header: bytes, line: int, start: int) -> str:
    try:
        return header[1:].decode().strip()
    except UnicodeDecodeError as error:
        place = f"{line} after byte {start:,}" if start else line
        raise InputError(path, not_utf8(place, error.object[error.start])) from error


def _named(text: str) -> tuple[str, str]:
    """Name and description of a header."""
    name, _, description = text.partition(" ") if "\t" not in text else text.replace("\t", " ").partition(" ")
    return name, description.strip()
