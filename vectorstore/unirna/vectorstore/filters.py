"""Filters: SQL conditions that come from outside, checked before the store reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import lance

from unirna.vectorstore.conditions import Token, UnclearError, condition_of, tokens_of
from unirna.vectorstore.errors import FilterError, StoreError

FILTER_LETTERS: Final = 2_000
FILTER_MARKS: Final = 100
"""Most characters, and most words and operators, of a filter. The parser and the planner recurse, and end the whole process
where the stack does: at some hundred operators."""
FUNCTIONS: Final = frozenset(
    """abs cast ceil character_length char_length coalesce contains date ends_with floor ifnull isnan length lower ltrim
    nullif regexp_like regexp_match round rtrim sqrt starts_with strpos substr substring trim try_cast upper
    array_contains array_has array_has_all array_has_any array_length""".split()  # noqa: SIM905
)
"""Functions that a filter may call: none whose answer is much longer than what it is given, as that of `repeat` is."""
_BEFORE_BRACKET: Final = frozenset(
    "and or not in when then else case like ilike between is any all decimal varchar char timestamp".split()  # noqa: SIM905
)
_ON_A_ROW = re.compile(
    "Divide by zero|Cast error|overflow|Parser error|Compute error|Invalid argument error", re.IGNORECASE
)


def check_filter(dataset: lance.LanceDataset, where: str | None) -> str | None:
    """See that a filter is one condition on the columns of a table, before it runs.

    Args:
        dataset: the table.
        where: an SQL condition: text stands in single quotes, a column's name in none, in double quotes or in backticks.

    Returns:
        The condition as the store is to run it (`condition_of`).

    Raises:
        FilterError: it is not; the columns are named.
    """
    if where is None:
        return None
    columns = dataset.schema.names
    try:
        if not where.strip():
            raise UnclearError("is empty; leave it out for no filter")
        if len(where) > FILTER_LETTERS:
            raise UnclearError(
                f"has {len(where):,} characters, at most {FILTER_LETTERS:,} are read. "
                "Look ids up with get(), or filter the result"
            )
        tokens = tokens_of(where)
        _check_tokens(tokens)
        condition = condition_of(where, tokens, dataset.schema)
    except UnclearError as error:
        raise FilterError(where, str(error), columns) from error
    try:
        dataset.scanner(columns=["id"], filter=condition).explain_plan()
    except (ValueError, OSError) as error:
        raise FilterError(where, _plain(error), columns) from error
    try:
        dataset.scanner(columns=["id"], filter=f"({condition}\n)").explain_plan()
    except (ValueError, OSError) as error:
        raise FilterError(where, "continues after the end of a condition", columns) from error
    return condition


@contextmanager
def filter_errors(where: str | None, columns: Sequence[str]) -> Iterator[None]:
    """Turn the errors of a filter that reads well and fails on a row (a division, a cast) into FilterError, no others."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if where is None or isinstance(error, StoreError) or not _ON_A_ROW.search(str(error)):
            raise
        raise FilterError(where, f"failed on a row: {_plain(error)}", columns) from error


def _check_tokens(tokens: Sequence[Token]) -> None:
    """Keep a filter from the store's parser that could bring it down.

    Raises:
        UnclearError: it calls another function, is too long, or its brackets do not match.
    """
    depth = 0
    before = ""
    for token in tokens:
        if token.lower == "(" and before and before.lower() not in FUNCTIONS | _BEFORE_BRACKET:
            raise UnclearError(f"calls {before}(). A filter may call {', '.join(sorted(FUNCTIONS))}")
        depth += {"(": 1, ")": -1}.get(token.lower, 0)
        if depth < 0:
            break
        before = token.name if token.kind in ("word", "quoted") else ""  # the store calls `repeat`(…) too
    # The parser stops without a word where a condition ends: "length < 9) OR (1 = 1" or "length < 9 LIMIT 3" would run
    # as "length < 9". Matching brackets and a parse in brackets rule that out; what runs is the filter as given.
    if depth:
        raise UnclearError("brackets do not match")
    marks = sum(token.kind not in ("text", "quoted") for token in tokens)
    if marks > FILTER_MARKS:
        raise UnclearError(
            f"has {marks:,} words, numbers and operators, at most {FILTER_MARKS} are read. x IN (…) is shorter than OR"
        )


def _plain(error: Exception) -> str:
    """What the store says, less the wrapping around it and its Rust source positions."""
    text = re.sub(r",? /\S+\.rs:\d+:\d+", "", str(error)).strip()
    parser = re.search(r"sql parser error: ([^)]*)", text)
    if parser:
        return parser[1].strip()
    if unknown := re.search(r'No field named "?([^".]+?)"?\.', text):
        near = re.search(r"Did you mean '([^']+)'", text)
        hint = f"; did you mean {near[1]}?" if near else ""
        return f"{unknown[1]} is no column{hint} (a text stands in single quotes: '{unknown[1]}')"
    if literal := re.search(r"literal (\w+)\((.*)\) and could not convert to literal of type '(\w+)'", text):
        kind, value, wanted = literal.groups()
        if "Utf8" in wanted:
            return f"compares text with {value}, which is no text (a text stands in single quotes: '{value}')"
        shown = f"the text {value}" if "Utf8" in kind else value
        return f"compares a column of {_kind(wanted)} with {shown}, which is none"
    return re.sub(
        r"^((Invalid user input|Schema error|Error resolving filter expression .*?Invalid user input): )+", "", text
    ).rstrip(". ")


def _kind(name: str) -> str:
    """A type of the store in words."""
    if re.fullmatch(r"U?Int\d+", name):
        return "whole numbers"
    return "numbers" if re.fullmatch(r"Float\d+", name) else f"the type {name}"
