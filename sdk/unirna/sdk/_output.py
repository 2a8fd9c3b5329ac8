"""What the command line prints: rows to stdout, as a table for reading or for pipes; messages to stderr."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Format = Literal["auto", "table", "tsv", "jsonl"]


def show(rows: list[dict[str, Any]], format: Format, hidden: Sequence[str] = ()) -> None:
    if format == "auto":
        format = "table" if sys.stdout.isatty() else "tsv"
    if format == "jsonl":
        for row in rows:
            print(json.dumps(row))
    elif format == "tsv":
        columns = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    elif rows:
        _table([{name: value for name, value in row.items() if name not in hidden} for row in rows])


def _table(rows: list[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        numbers = all(isinstance(row.get(name), (int, float)) for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(name), short=True)) for name in columns))
    Console().print(table)


def _cell(value: Any, short: bool = False) -> str:
    if value is None:
        return ""
    if short and isinstance(value, float):
        return f"{value:.4f}"
    return value if isinstance(value, str) else json.dumps(value)


def say(message: str) -> None:
    print(message, file=sys.stderr)
