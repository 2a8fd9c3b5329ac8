"""FASTA without the platform: enough for a command line. `unirna.sequence.read` reads more formats, and streams."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

from unirna.sdk._exceptions import InvalidRequestError


def read_fasta(path: str | Path) -> list[tuple[str, str]]:
    """Read a FASTA file, plain or gzip, into memory.

    Args:
        path: the file; "-" is standard input. A text without any header line ('>') is one sequence to a line.

    Returns:
        Pairs of id (the header's first word) and letters as they stand, line breaks removed.

    Raises:
        OSError: a file that cannot be read.
        InvalidRequestError: no record in it, or text before the first header.
    """
    raw = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
    name = "standard input" if str(path) == "-" else str(path)
    try:
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig", "replace")
    except (EOFError, OSError) as error:
        raise InvalidRequestError(f"{name} is damaged or cut short ({error}). Fetch or compress it again") from error
    lines = [line.strip() for line in text.split("\n")]  # splitlines() would also split at U+0085 and its like
    lines = [line for line in lines if line]
    while lines and lines[0][0] in ";#":  # comments before the first record
        del lines[0]
    if not lines:
        raise InvalidRequestError(f"{name} holds no sequence")
    if not any(line.startswith(">") for line in lines):
        return [(f"sequence_{i}", line) for i, line in enumerate(lines, 1)]
    if not lines[0].startswith(">"):
        raise InvalidRequestError(f"{name} is not FASTA: wanted a line that starts with '>', got {lines[0][:40]!r}")
    records: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith(">"):
            words = line[1:].split()
            records.append((words[0] if words else f"sequence_{len(records) + 1}", []))
        else:
            records[-1][1].append(line)
    return [(record, "".join(parts)) for record, parts in records]
