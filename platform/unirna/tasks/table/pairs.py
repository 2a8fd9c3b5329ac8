"""Two sequences of one molecule, as a gene's region and a variant of it, whose values differ: written FIRST&SECOND, as
ViennaRNA writes two strands. What is read of a pair is that of the second less that of the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna.sequence import SequenceError, normalise, sequence_sha
from unirna.tasks.errors import TaskError

PAIR_MARK: Final = "&"
Number = TypeVar("Number", bound=np.floating[Any])


def split_pairs(pairs: Sequence[str]) -> tuple[list[str], list[str]]:
    """The first sequences and the second ones.

    Raises:
        TaskError: what is no pair.
    """
    parts = [pair.split(PAIR_MARK) for pair in pairs]
    for number, part in enumerate(parts):
        if len(part) != 2:
            raise TaskError(f"sequence {number}: expected two sequences as FIRST{PAIR_MARK}SECOND, got {len(part)}")
    return [part[0] for part in parts], [part[1] for part in parts]


def distinct(pairs: Sequence[str]) -> tuple[list[str], list[int], list[int]]:
    """The distinct sequences of pairs, and where among them the first and the second one of each pair stand.

    Raises:
        TaskError: what is no pair.
    """
    first, second = split_pairs(pairs)
    places = {letters: place for place, letters in enumerate(dict.fromkeys([*first, *second]))}
    return list(places), [places[letters] for letters in first], [places[letters] for letters in second]


def difference(read: Callable[[list[str]], NDArray[Number]], pairs: Sequence[str]) -> NDArray[Number]:
    """What is read of the second sequences less what is read of the first, [N, …]; each distinct one is read once."""
    letters, first, second = distinct(pairs)
    found = read(letters)
    less: NDArray[Number] = np.subtract(found[second], found[first])
    return less


def paired(table: pa.Table) -> tuple[pa.Table, list[str]]:
    """A table whose `sequence` is the pair of the row's `reference` and its sequence, and the problem of each
    reference, empty if there is none."""
    pairs, problems = [], []
    for first, second in zip(table["reference"].to_pylist(), table["sequence"].to_pylist(), strict=True):
        problem = ""
        try:
            first = normalise(first or "")
        except SequenceError as error:
            first, problem = "N", f"reference: {error.reason}"
        pairs.append(f"{first}{PAIR_MARK}{second}")
        problems.append(problem)
    for name, column in (("sequence", pairs), ("sha", [sequence_sha(pair) for pair in pairs])):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(column, pa.string()))
    return table, problems
