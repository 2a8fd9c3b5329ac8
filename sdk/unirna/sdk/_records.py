"""Asking for the records of a file: those that are refused are named and left out, the others are answered."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from unirna.sdk._exceptions import InvalidRequestError
from unirna.sdk._http import PARALLEL
from unirna.sdk._output import say

Part = TypeVar("Part")
Record = tuple[str, str]
"""An id and its sequence."""
GROUP: Final = 64
"""Records that are asked for together once some of a file are refused."""
FIELD: Final = re.compile(r"sequences\[(\d+)\]")


@dataclass
class Answered(Generic[Part]):
    """What was answered of a file.

    Attributes:
        records: those that were answered, in their order.
        parts: the answers, one after the other for all records.
        refused: id and message of the others.
    """

    records: list[Record] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


def answer_each(records: Sequence[Record], call: Callable[[list[str]], Part]) -> Answered[Part]:
    """Ask for all records; those that are refused are named on stderr and left out.

    Args:
        records: ids and sequences.
        call: answers sequences, in their order.

    Raises:
        InvalidRequestError: what is refused is no record, or the only one.
    """
    try:
        return Answered(list(records), [call([sequence for _, sequence in records])])
    except InvalidRequestError as error:
        if len(records) == 1 or not _refused(error):
            raise
    groups = [records[first : first + GROUP] for first in range(0, len(records), GROUP)]
    with ThreadPoolExecutor(PARALLEL) as pool:
        found = list(pool.map(lambda group: _answer_group(group, call), groups))
    whole: Answered[Part] = Answered()
    for part in found:
        whole.records += part.records
        whole.parts += part.parts
        whole.refused += part.refused
    for name, message in whole.refused:
        say(f"left out: {name}: {message}")
    return whole


def _answer_group(records: Sequence[Record], call: Callable[[list[str]], Part]) -> Answered[Part]:
    left, refused = list(records), dict[int, tuple[str, str]]()
    places = list(range(len(records)))
    while left:
        try:
            parts = [call([sequence for _, sequence in left])]
            return Answered(left, parts, [refused[place] for place in sorted(refused)])
        except InvalidRequestError as error:
            wrong = _refused(error)
            if not wrong:
                raise
            refused |= {places[i]: (left[i][0], message) for i, message in wrong.items()}
            places = [place for i, place in enumerate(places) if i not in wrong]
            left = [record for i, record in enumerate(left) if i not in wrong]
    return Answered(refused=[refused[place] for place in sorted(refused)])


def _refused(error: InvalidRequestError) -> dict[int, str]:
    """Places and messages of the sequences at fault; none where something else is."""
    found = {FIELD.fullmatch(name): message for name, message in error.errors}
    return {} if None in found else {int(match[1]): message for match, message in found.items() if match}
