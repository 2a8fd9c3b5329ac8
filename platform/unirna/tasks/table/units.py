"""What is predicted one by one: each sequence of a labelled table, or each of its nucleotides that was measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirna.tasks.table.labelled import LabelledTable

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """U units of N sequences, in the order of the sequences.

    Attributes:
        rows: int64 [U], the sequence of each. places: int64 [U], its nucleotide (from 0); None if units are sequences.
    """

    rows: Numbers
    places: Numbers | None = None

    @classmethod
    def of(cls, table: LabelledTable) -> Units:
        """The sequences of a table, or its nucleotides with a value."""
        if table.level == "sequence":
            return cls(np.arange(len(table.labels)))
        known = [np.flatnonzero(np.isfinite(profile)) for profile in table.profiles]
        rows = np.repeat(np.arange(len(known)), [len(places) for places in known])
        return cls(rows, np.concatenate(known).astype(np.int64))

    def within(self, rows: Numbers) -> Numbers:
        """Which units are of these sequences: int64, in the order of the units."""
        return rows if self.places is None else np.flatnonzero(np.isin(self.rows, rows))

    def gather(self, found: Sequence[NDArray[Any]] | NDArray[Any]) -> NDArray[Any]:
        """What stands for each unit in arrays of the N sequences, [L, …] each: [U, …]; of sequences, an array [N, …]."""
        if self.places is None:
            return np.asarray(found)
        out: NDArray[Any] = np.empty((len(self.rows), *found[0].shape[1:]), found[0].dtype)
        starts = np.searchsorted(self.rows, np.arange(len(found) + 1))
        for row, (start, end) in enumerate(itertools.pairwise(starts)):
            out[start:end] = found[row][self.places[start:end]]
        return out
