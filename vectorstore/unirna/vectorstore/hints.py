"""Values of text columns: which no row has although a filter asks for them, and which column has one."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from unirna.vectorstore.collection import Collection

EQUALS: Final = re.compile(r"""(?P<column>\w+|`[^`]+`|"[^"]+")\s*=\s*'(?P<value>(?:[^']|'')*)'""")
LIST: Final = re.compile(r"""(?P<column>\w+|`[^`]+`|"[^"]+")\s+IN\s*\((?P<values>[^()]*)\)""", re.IGNORECASE)
DIFFERS: Final = re.compile(EQUALS.pattern.replace(r"\s*=\s*", r"\s*(?:<>|!=)\s*"))
NOT_IN: Final = re.compile(LIST.pattern.replace(r"\s+IN", r"\s+NOT\s+IN"), re.IGNORECASE)
PATTERN: Final = re.compile(r"\s(NOT\s+)?LIKE\s", re.IGNORECASE)
NULL: Final = re.compile(r"(=|<>|!=)\s*NULL\b", re.IGNORECASE)
TEXT: Final = re.compile(r"'((?:[^']|'')*)'")
MOST_VALUES: Final = 10_000
"""Distinct values of a column among which one is looked for."""


def explain_empty(collection: Collection, where: str) -> list[str]:
    """Say of a filter that passes no row which of its values no row has, and which one was perhaps meant.

    Args:
        collection: that was searched.
        where: the filter. Values that are compared by `=` and `IN` are looked at.

    Returns:
        A sentence for each such value; one that says only that no row passes where there is none.
    """
    said = [_missing(collection, column, value) for column, value in _compared(where)]
    hint = ". LIKE tells upper and lower case apart, ILIKE does not" if PATTERN.search(where) else ""
    hint += ". Nothing is equal to NULL: write IS NULL, or IS NOT NULL" if NULL.search(where) else ""
    return [text for text in said if text] or [f"no row of {collection.name} passes the filter {where}{hint}"]


def explain_passing(collection: Collection, where: str) -> list[str]:
    """Say of a filter that takes rows out by a value, as `family <> 'trna'` does, which of its values no row has.

    Args:
        collection: that was searched.
        where: the filter. Values that are compared by `<>`, `!=` and `NOT IN` are looked at.

    Returns:
        A sentence for each value that no row has: it takes out nothing.
    """
    found = [(match["column"], match["value"]) for match in DIFFERS.finditer(where)]
    found += [(match["column"], value) for match in NOT_IN.finditer(where) for value in TEXT.findall(match["values"])]
    plain = [(column.strip('`"'), value.replace("''", "'")) for column, value in found]
    return [text for text in (_missing(collection, *one) for one in plain) if text]


def columns_with(collection: Collection, value: str) -> list[str]:
    """Text columns, other than those of the identifier and the sequence, in which some row has a value.

    Args:
        collection: where to look.
        value: letters, digits and '_' alone; nothing else is looked for.
    """
    if not re.fullmatch(r"\w+", value):
        return []
    names = [field.name for field in collection.schema if _is_text(field.type)]
    return [
        name
        for name in names
        if name not in ("id", "sequence", "sha")
        and any(batch.num_rows for batch in collection.scan(columns=["id"], where=f"`{name}` = '{value}'"))
    ]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _compared(where: str) -> list[tuple[str, str]]:
    found = [(match["column"], match["value"]) for match in EQUALS.finditer(where)]
    found += [(match["column"], value) for match in LIST.finditer(where) for value in TEXT.findall(match["values"])]
    return [(column.strip('`"'), value.replace("''", "'")) for column, value in found]


def _missing(collection: Collection, column: str, value: str) -> str:
    """What to say where no row has that value."""
    if column not in collection.schema.names or not _is_text(collection.schema.field(column).type):
        return ""
    values: set[str] = set()
    for batch in collection.scan(columns=[column]):
        values.update(text for text in pc.unique(batch[column]).to_pylist() if text is not None)
        if value in values or len(values) > MOST_VALUES:
            return ""
    alike = sorted(text for text in values if text.casefold() == value.casefold())
    alike = alike or [text for text in sorted(values) if value.casefold() in text.casefold()][:3]
    alike = alike or get_close_matches(value, sorted(values), 3, 0.6)
    meant = f"; did you mean {' or '.join(map(repr, alike))}?" if alike else ""
    case = " Upper and lower case differ." if alike and alike[0].casefold() == value.casefold() else ""
    return f"no row of {collection.name} has {column} = {value!r}{meant}{case}"
