"""What the command line prints: rows to stdout, as a table for reading or for pipes; messages to stderr."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from shutil import get_terminal_size
from typing import Annotated, Any, Literal

import tyro

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
