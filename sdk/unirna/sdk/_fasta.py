"""FASTA and FASTQ without the platform: enough for a command line. `unirna.sequence.read` reads more, and streams."""

from __future__ import annotations

from pathlib import Path

from unirna.sdk._exceptions import InvalidRequestError
from unirna.sdk._files import read_text, shown, undecoded, wrong_encoding

Lines = list[tuple[int, str]]
"""Lines that are not blank, with their numbers, from 1."""


def read_fasta(path: str | Path, *, encoding: str = "") -> list[tuple[str, str]]:
    """Read a FASTA or FASTQ file, plain or compressed, into memory.

    Args:
        path: the file or named pipe; "-" is standard input. A text without any header line ('>' or '@') is one sequence to
            a line.
        encoding: of the text, such as "latin-1"; by default UTF-8, or what a byte-order mark says.

    Returns:
        Pairs of id (the header's first word) and sequence as it stands, line breaks removed.

    Raises:
        OSError: a file that cannot be read.
        InvalidRequestError: no record in it, text before the first header, a FASTQ record that is cut short, a header in
            another encoding, or a compressed file that is damaged.
    """
    return parse_records(read_text(path, encoding, lenient=True), shown(path))


def parse_records(text: str, name: str) -> list[tuple[str, str]]:
    """Records of FASTA or FASTQ text, by its first character.

    Args:
        text: from `read_text`.
        name: the file's, for messages.

    Returns:
        As `read_fasta`.

    Raises:
        InvalidRequestError: as `read_fasta`.
    """
    lines = _lines(text)
    while lines and lines[0][1][0] in ";#":  # comments before the first record
        del lines[0]
    if not lines:
        raise InvalidRequestError(f"{name} holds no sequence")
    if lines[0][1].startswith("@"):
        return _fastq(text.split("\n"), name)
    if not any(line.startswith(">") for _, line in lines):
        return [(f"sequence_{i}", _letters(line)) for i, (_, line) in enumerate(lines, 1)]
    return _fasta(lines, name)


def _lines(text: str) -> Lines:
    if "\n" not in text:
        text = text.replace("\r", "\n")  # line ends of old Macintosh files
    # splitlines() would also split at U+0085 and its like
    return [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _fasta(lines: Lines, name: str) -> list[tuple[str, str]]:
    number, first = lines[0]
    if not first.startswith(">"):
        raise InvalidRequestError(
            f"{name}, line {number}: not FASTA: expected a line that starts with '>', got {first[:40]!r}"
        )
    records: list[tuple[str, list[str]]] = []
    for number, line in lines:
        if line.startswith(">"):
            records.append((_id(line, len(records), name, number), []))
        else:
            records[-1][1].append(_letters(line))
    return [(record, "".join(parts)) for record, parts in records]


def _fastq(lines: list[str], name: str) -> list[tuple[str, str]]:
    """Records of FASTQ, their qualities passed over; a sequence may stand on several lines, and so may its qualities."""
    records: list[tuple[str, str]] = []
    place = 0
    while place < len(lines):
        header, start = lines[place].strip(), place + 1
        place += 1
        if not header:
            continue
        if not header.startswith("@"):
            wrong = f"not FASTQ: expected a line that starts with '@', got {header[:40]!r}"
            raise InvalidRequestError(f"{name}, line {start}: {wrong}")
        parts: list[str] = []
        while place < len(lines) and not lines[place].startswith("+"):
            parts.append(lines[place].strip())
            place += 1
        sequence = "".join(parts)
        cut = place >= len(lines)
        place += 1
        length = 0
        while length < len(sequence) and place < len(lines):
            length += len(lines[place].rstrip("\r"))
            place += 1
        if cut or length != len(sequence):
            wrong = "no line that starts with '+'" if cut else f"{length} qualities for {len(sequence)} nucleotides"
            raise InvalidRequestError(
                f"{name}, line {start}: FASTQ record {header[1:41]!r} is cut short or damaged: {wrong}"
            )
        records.append((_id(header, len(records), name, start), _letters(sequence)))
    return records


def _id(header: str, before: int, name: str, number: int) -> str:
    wrong = undecoded(header)
    if wrong is not None:
        raise InvalidRequestError(f"{name}, line {number}: {wrong_encoding('utf-8', wrong)}")
    words = header[1:].split()
    return words[0] if words else f"sequence_{before + 1}"


def _letters(line: str) -> str:
    """A line of sequence; bytes that are not UTF-8 become U+FFFD, for which this sequence alone is refused."""
    return line if line.isascii() else "".join("\ufffd" if "\udc80" <= one <= "\udcff" else one for one in line)
