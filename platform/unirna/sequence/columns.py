"""Columns of a table of records: the reader's own, the file's, and the types of those that are text in their file.

The reader's own columns are `number`, `id` and `sequence`, and what `clean_table` adds. A column of the file stands under
its name behind a mark, so that no name in a file can be that of a column of ours.

A CSV or TSV file has no types, so its columns are read as text. A reader that needs types passes over all of the
text first (`TextTypes`) and converts it then (`convert`); the first rows of a file decide nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

MARK: Final = ":"
"""What stands before the name of a column of the file."""
MISSING: Final = (
    "",
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "<NA>",
    "NaN",
    "nan",
    "NAN",
    "-nan",
    "-NaN",
    "NULL",
    "null",
    "Null",
    "None",
    "#NA",
    "#N/A N/A",
)
"""Cells of a text table that mean "no value", whatever the column; white space around them is ignored. In a column that is
declared as text only an empty cell does."""
TYPES: Final[Mapping[str, pa.DataType]] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "time": pa.timestamp("s"),
}
"""Types that `--column-type` can name."""
_NARROW: Final = (pa.int64(), pa.float64(), pa.date32(), pa.timestamp("s"))
"""Types that a column of text is tried as, in this order."""
_CODES: Final = r"^[+-]?(0[0-9xX]|[0-9]{19,}$)"
"""Codes such as 007 and 0x10, and very long numbers: text, as a number loses their zeros or last digits."""
_BOOLEAN: Final = r"^(true|True|TRUE|false|False|FALSE)$"


def column_of(name: str) -> str:
    """The column of a table of records that holds a column of the file."""
    return MARK + name


def file_columns(names: Iterable[str]) -> list[str]:
    """The names, in the file, of those columns of a table of records that are the file's."""
    return [name.removeprefix(MARK) for name in names if name.startswith(MARK)]


def is_missing(text: str | None) -> bool:
    """Whether a cell of a text table means "no value"."""
    return text is None or text.strip() in MISSING


def without_missing(column: pa.ChunkedArray, declared: pa.DataType | None = None) -> tuple[pa.ChunkedArray, Counter[str]]:
    """A column of text with null if a cell means "no value".

    Args:
        column: as read.
        declared: the type that `--column-type` names; as text, words such as NA are values.

    Returns:
        The column, and how often each word such as NA stood there (not the empty cells).
    """
    trimmed = pc.utf8_trim_whitespace(column)
    words = ("",) if declared is not None and pa.types.is_string(declared) else MISSING
    missing = pc.is_in(trimmed, pa.array(words, pa.string()))
    if not pc.any(missing).as_py():
        return column, Counter()
    counts = pc.value_counts(trimmed.filter(missing)).to_pylist()
    found = Counter({entry["values"]: entry["counts"] for entry in counts if entry["values"]})
    return pc.if_else(missing, pa.scalar(None, pa.string()), column), found


def parse_types(texts: Sequence[str]) -> dict[str, str]:
    """Read `NAME=TYPE` pairs of `--column-type`.

    Raises:
        ValueError: another form, or a type that is not one of `TYPES`.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, _, kind = text.rpartition("=")
        if not name or kind not in TYPES:
            raise ValueError(f"--column-type {text}: expected NAME=TYPE, with one of the types {', '.join(TYPES)}")
        found[name] = kind
    return found


class TextTypes:
    """The narrowest type that fits all the text of each column; what is looked at in several places is joined by `join`.

    Attributes:
        types: column of the file -> type; `pa.null()` where all cells are missing.
    """

    def __init__(self, types: Mapping[str, pa.DataType] | None = None) -> None:
        self.types: dict[str, pa.DataType] = dict(types or {})

    def look(self, table: pa.Table) -> None:
        """Take in the text columns of a table of records."""
        for field in table.schema:
            if field.name.startswith(MARK) and pa.types.is_string(field.type):
                name = field.name.removeprefix(MARK)
                known = self.types.get(name, pa.null())
                if not pa.types.is_string(known):  # text stays text
                    self.types[name] = wider(known, narrowest(table[field.name]))

    def join(self, other: Mapping[str, pa.DataType]) -> None:
        """Take in what was found elsewhere."""
        for name, kind in other.items():
            self.types[name] = wider(self.types.get(name, pa.null()), kind)

    def named(self) -> dict[str, str]:
        """The types by their names in `TYPES`, for a JSON file; "" where all cells are missing."""
        return {column: next((n for n, kind in TYPES.items() if kind == found), "") for column, found in self.types.items()}

    @classmethod
    def of_named(cls, names: Mapping[str, str]) -> TextTypes:
        """The types that `named` gave."""
        return cls({column: TYPES.get(name, pa.null()) for column, name in names.items()})


def narrowest(column: pa.ChunkedArray) -> pa.DataType:
    """The first of boolean, integer, number, date and time that all values of a text column are; else text."""
    values = pc.utf8_trim_whitespace(column.drop_null())
    if not len(values):
        return pa.null()
    if pc.any(pc.match_substring_regex(values, _CODES)).as_py():
        return pa.string()
    if pc.all(pc.match_substring_regex(values, _BOOLEAN)).as_py():
        return pa.bool_()
    for kind in _NARROW:
        try:
            pc.cast(values, kind)
            return kind
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
    return pa.string()


def wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type of text that is of one type in one place and of another type in another."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if {one, other} == {pa.date32(), pa.timestamp("s")}:
        return pa.timestamp("s")
    return pa.string()


def convert(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column of text as another type.

    Raises:
        pa.ArrowInvalid: a value that is not of the type.
    """
    if column.type == kind:
        return column
    if pa.types.is_string(column.type) and not pa.types.is_string(kind):
        column = pc.utf8_trim_whitespace(column)
    return column.cast(kind)


def convert_table(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """A table of records with its text columns as other types; a column with text that is not of its type stays text.

    Args:
        table: of the reader.
        types: column of the file -> type, as `TextTypes` found them.
    """
    for place, field in enumerate(table.schema):
        kind = types.get(field.name.removeprefix(MARK)) if field.name.startswith(MARK) else None
        if kind is None or pa.types.is_null(kind) or not pa.types.is_string(field.type):
            continue
        with suppress(pa.ArrowInvalid):
            table = table.set_column(place, field.name, convert(table[field.name], kind))
    return table
