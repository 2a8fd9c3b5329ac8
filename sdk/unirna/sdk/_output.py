"""What the command line prints: rows to stdout, as a table for reading or for pipes; messages to stderr."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Any, Literal

import tyro

from unirna.sdk._exceptions import InvalidRequestError

Format = Literal["auto", "table", "tsv", "jsonl"]


@dataclass(frozen=True)
class Output:
    """How rows are printed."""

    format: Format = "auto"
    """table for reading, tsv or jsonl for pipes; by default a table on a terminal, else tsv."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The same as --format jsonl: a line of JSON for each row."""
    tsv: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The same as --format tsv."""

    def show(self, rows: list[dict[str, Any]], hidden: Sequence[str] = (), columns: Sequence[str] = ()) -> None:
        """Print rows; without any the names of `columns`."""
        show(rows, "jsonl" if self.json else "tsv" if self.tsv else self.format, hidden, columns)


def show(rows: list[dict[str, Any]], format: Format, hidden: Sequence[str] = (), columns: Sequence[str] = ()) -> None:
    if format == "auto":
        format = "table" if sys.stdout.isatty() else "tsv"
    if format == "jsonl":
        for row in rows:
            print(json.dumps(row))
    elif format == "tsv":
        columns = list(dict.fromkeys(name for row in rows for name in row)) or columns
        writer = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    elif rows or columns:
        shown = [{name: value for name, value in row.items() if name not in hidden} for row in rows]
        _table(shown, [name for name in columns if name not in hidden])


def _table(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    """As wide as the terminal at most: the widest columns are folded first."""
    columns = list(dict.fromkeys(name for row in rows for name in row)) or columns
    cells = [[_cell(row.get(name), short=True) for name in columns] for row in rows]
    lines = [[_cell(name, short=True) for name in columns], *cells]
    widths = [max(1, *map(len, column)) for column in zip(*lines, strict=True)]
    room = max(get_terminal_size().columns - 2 * (len(columns) - 1), 4 * len(columns))
    while sum(widths) > room:
        widths[widths.index(max(widths))] -= 1
    numbers = [bool(rows) and all(isinstance(row.get(name), (int, float)) for row in rows) for name in columns]
    for line in lines:
        folded = [
            [text[i : i + width] for i in range(0, len(text), width)] or [""]
            for text, width in zip(line, widths, strict=True)
        ]
        for part in zip_longest(*folded, fillvalue=""):
            aligned = zip(part, widths, numbers, strict=True)
            print("  ".join(t.rjust(w) if number else t.ljust(w) for t, w, number in aligned).rstrip())


def _cell(value: Any, short: bool = False) -> str:
    """Of a value its text; ``short`` is for a terminal: four decimals, and no character that could steer it."""
    if value is None:
        return ""
    if short and isinstance(value, float):
        return f"{value:.4f}"
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text) if short else text


def say(message: str) -> None:
    print(message, file=sys.stderr)


def check_file(flag: str, path: Path | None) -> None:
    """See that a file can be written, before any work; a file that is there will be replaced.

    Args:
        flag: that names it.
        path: the file; None for none.

    Raises:
        InvalidRequestError: it cannot.
    """
    if path is None:
        return
    if path.is_dir():
        raise InvalidRequestError(f"{flag} {path}: a folder is there. Name a file")
    if not path.parent.is_dir():
        raise InvalidRequestError(f"{flag} {path}: there is no folder {path.parent}")
    _check_access(flag, path, path if path.exists() else path.parent)


def check_folder(flag: str, path: Path | None) -> None:
    """See that files can be written into a folder, before any work; it is made where it is absent.

    Args, Raises: as `check_file`.
    """
    if path is None:
        return
    if path.exists() and not path.is_dir():
        raise InvalidRequestError(f"{flag} {path}: a file is there. Name a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequestError(f"{flag} {path}: the folder cannot be made ({error.strerror})") from error
    _check_access(flag, path, path)


def _check_access(flag: str, path: Path, place: Path) -> None:
    if not os.access(place, os.W_OK):
        raise InvalidRequestError(f"{flag} {path}: {place} cannot be written to. Name another place, or change its mode")


def described(error: OSError) -> str:
    """An error of the operating system in words: the file and what is wrong with it."""
    named = f"{error.filename}: " if error.filename else ""
    return f"{named}{error.strerror}" if error.strerror else str(error)
