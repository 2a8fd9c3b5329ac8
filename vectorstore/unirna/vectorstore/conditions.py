"""Filters as the store is to run them: standard SQL names and missing values, token by token.

The store's own SQL differs from the standard in two ways that give wrong rows without an error. It reads "name" as a text,
so that `"family" <> 'tRNA'` holds for every row. And it takes NaN, which tables from pandas have for a missing value, for
the largest number, so that it passes `score > 1`. Here names in double quotes become names in backticks, which the store
reads as columns, and a column of floats becomes one whose NaN is null, as hits show it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

KEYWORDS: Final = frozenset(
    """all and any as asc between by case cast desc distinct else end escape exists false from ilike in interval is like
    limit not null or order select similar then true try_cast when where""".split()  # noqa: SIM905
)
"""Words that are no column where they stand without quotes."""
COMPARISON: Final = frozenset("<>=!")
NAN: Final = "'NaN'"
DOUBLE: Final = "CAST({} AS DOUBLE)"
NARROW: Final = {pa.float32(): "CAST({} AS FLOAT)", pa.float16(): "arrow_cast({}, 'Float16')"}
"""How a number is written that is compared with a column of a type of fewer than 64 bits."""
_TOKEN = re.compile(
    r"""(?P<apart>[\s,]+)|(?P<text>'(?:[^']|'')*')|(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`)|"""
    r"""(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w'"`]))|(?P<word>\w+)(?!['"`])|"""
    r"""(?P<sign>::|(?!--|/\*)[^\s\w'"`$\\\#?:])"""
)
"""A token of a filter. Comments, `$$` quotes, prefixed quotes (E'…') and placeholders are none:
within them the store sees other boundaries than we do, and on some it panics."""


@dataclass(frozen=True)
class Token:
    """A part of a filter.

    Attributes:
        kind: "text" (in single quotes), "quoted" (a name in double quotes or backticks), "number", "word" or "sign".
        text: as it is written. start: its first character's place in the filter.
    """

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """The place after its last character."""
        return self.start + len(self.text)

    @property
    def name(self) -> str:
        """A name without its quotes."""
        if self.kind != "quoted":
            return self.text
        mark = self.text[0]
        return self.text[1:-1].replace(2 * mark, mark)

    @property
    def lower(self) -> str:
        """The text in lower case, empty for what stands in quotes: to compare with keywords and signs."""
        return "" if self.kind in ("text", "quoted") else self.text.lower()


class UnclearError(ValueError):
    """A filter that cannot be taken apart, or a name in it that is no column; the message says why."""


def id_in(ids: Iterable[str]) -> str:
    """The condition that a row has one of some ids.

    SQL and no Arrow expression: that is sent as Substrait with the types of all columns, some of which it does not know.
    """
    quoted = ",".join("'" + name.replace("'", "''") + "'" for name in ids)
    return f"`id` IN ({quoted})"


def tokens_of(where: str) -> list[Token]:
    """The tokens of a filter, without the space and the commas between them.

    Raises:
        UnclearError: a comment, an escape, a placeholder or a quote that is left open.
    """
    found, place = [], 0
    while place < len(where):
        match = _TOKEN.match(where, place)
        if match is None:
            shown = where[place : place + 12]
            raise UnclearError(f"cannot be parsed at {shown!r}: a comment, an escape, a placeholder or an open quote")
        if match.lastgroup != "apart":
            found.append(Token(str(match.lastgroup), match[0], place))
        place = match.end()
    return found


def condition_of(where: str, tokens: list[Token], schema: pa.Schema) -> str:
    """A filter as the store is to run it.

    Args:
        where: the filter. tokens: of it. schema: the table's columns.

    Raises:
        UnclearError: a name in quotes that is no column.
    """
    changes: list[tuple[Token, Token, str]] = []
    place = 0
    while place < len(tokens):
        end = _end_of_name(tokens, place)
        if end > place:
            column = _Column.of(tokens[place:end], schema, called=_text_at(tokens, end) == "(")
            if column is not None:
                asked = _text_at(tokens, place - 1) == "(" and _text_at(tokens, place - 2) == "isnan"
                changes.append((tokens[place], tokens[end - 1], column.sql(missing=not asked)))
                if column.type in NARROW and not asked:
                    numbers = [tokens[i] for i in _compared(tokens, place, end)]
                    changes += [(number, number, NARROW[column.type].format(number.text)) for number in numbers]
        place = max(end, place + 1)
    parts, done = [], 0
    for first, last, text in sorted(changes, key=lambda change: change[0].start):
        if first.start >= done:  # a number may stand between two columns
            parts += [where[done : first.start], text]
            done = last.end
    return "".join([*parts, where[done:]])


@dataclass(frozen=True)
class _Column:
    """A column, or a field within one, that a filter names.

    Attributes:
        names: of the column and of the fields. type: of its values. written: as it stands in the filter.
    """

    names: tuple[str, ...]
    type: pa.DataType
    written: str

    @classmethod
    def of(cls, tokens: list[Token], schema: pa.Schema, *, called: bool) -> _Column | None:
        """The column that some tokens (`a`, `"a"."b"`) name; None for words that the store is to judge.

        Raises:
            UnclearError: a name in quotes that is no column.
        """
        first, *fields = [token for token in tokens if token.text != "."]
        if called:  # a function
            return None if first.kind == "word" else cls((), pa.null(), first.name)
        found = first.name if first.name in schema.names else None
        if found is None and first.kind == "word":
            alike = [name for name in schema.names if name.lower() == first.name.lower()]
            if len(alike) != 1 or first.lower in KEYWORDS:
                return None
            found = alike[0]
        if found is None:
            lower = {name.lower(): name for name in schema.names}
            near = difflib.get_close_matches(first.name.lower(), lower, 1)
            hint = f"; did you mean {lower[near[0]]}?" if near else ""
            text = first.name.replace("'", "''")
            raise UnclearError(f"{first.text} is no column{hint} (a text stands in single quotes: '{text}')")
        kind, names = schema.field(found).type, [found]
        for token in fields:
            if not pa.types.is_struct(kind) or kind.get_field_index(token.name) < 0:
                raise UnclearError(f"{'.'.join(names)} has no field {token.name}")
            kind, names = kind.field(token.name).type, [*names, token.name]
        if any("`" in name for name in names):
            raise UnclearError(f"the column {found} has a backtick in its name, which a filter cannot express: rename it")
        plain = all(token.kind != "quoted" or token.text[0] == "`" for token in tokens)
        return cls(tuple(names), kind, "".join(token.text for token in tokens) if plain else "")

    def sql(self, *, missing: bool) -> str:
        """The column as the store reads it, NaN as null if `missing` is."""
        text = self.written or ".".join(f"`{name}`" for name in self.names)
        if not missing or not pa.types.is_floating(self.type):
            return text
        quoted = ".".join(f"`{name}`" for name in self.names)
        return f"nullif({quoted}, {NARROW.get(self.type, DOUBLE).format(NAN)})"


def _end_of_name(tokens: list[Token], place: int) -> int:
    """The place after a name with its fields, which starts at a place; the place itself where none does."""
    token = tokens[place]
    before = _text_at(tokens, place - 1)
    if token.kind == "quoted":
        if before in ("::", "as"):
            return place
    elif token.kind != "word" or token.lower in KEYWORDS or before in ("::", "as", "."):
        return place
    if token.kind == "word" and _kind_at(tokens, place + 1) == "text":  # date '2020-01-01'
        return place
    end = place + 1
    while _text_at(tokens, end) == "." and end + 1 < len(tokens) and tokens[end + 1].kind in ("word", "quoted"):
        end += 2
    return end


def _compared(tokens: list[Token], start: int, end: int) -> Iterator[int]:
    """Places of the numbers with which a column, of the tokens from start to end, is compared.

    The store compares a float32 column with 0.1 as float32, but an expression as float64: the two are not equal.
    """
    before = start - 1
    while _text_at(tokens, before) in COMPARISON:
        before -= 1
    if before != start - 1 and before >= 0 and tokens[before].kind == "number":
        yield before
    place = end + (_text_at(tokens, end) == "not")
    if _text_at(tokens, place) in COMPARISON or _text_at(tokens, place) == "between":
        while _text_at(tokens, place) in COMPARISON | {"between", "+", "-"}:
            place += 1
        if _kind_at(tokens, place) != "number":
            return
        yield place
        if _text_at(tokens, place + 1) == "and" and _text_at(tokens, end + (_text_at(tokens, end) == "not")) == "between":
            place += 2 + (_text_at(tokens, place + 2) in ("+", "-"))
            if _kind_at(tokens, place) == "number":
                yield place
    elif _text_at(tokens, place) == "in" and _text_at(tokens, place + 1) == "(":
        place += 2
        while _kind_at(tokens, place) == "number" or _text_at(tokens, place) in ("+", "-"):
            if tokens[place].kind == "number":
                yield place
            place += 1


def _text_at(tokens: list[Token], place: int) -> str:
    return tokens[place].lower if 0 <= place < len(tokens) else ""


def _kind_at(tokens: list[Token], place: int) -> str:
    return tokens[place].kind if 0 <= place < len(tokens) else ""
