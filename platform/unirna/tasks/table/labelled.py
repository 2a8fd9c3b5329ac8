"""The rows of a labelled table that can be used."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unirna.tasks.table.censoring import parse


@dataclass(frozen=True)
class LabelledTable:
    """The usable rows of a labelled table, N of them, in file order.

    Attributes:
        ids, sequences, shas, labels: N strings each; sequences normalised.
        numeric: whether the labels are measured values. level: of what; lists of them stand as text in `labels`.
        label_names: of several labels, which then stand as text in `labels`.
        pairs: whether `sequences` are pairs (`unirna.tasks.table.pairs`).
        held_out: "families" or "members" of each row, where the table says how it is held out; else empty.
        splits: "train", "valid" or "test" of each row.
        split: how the table was divided, in words.
        counts: what was read, kept and rejected, by reason; classes, lengths, duplicates.
    """

    ids: list[str]
    sequences: list[str]
    shas: list[str]
    labels: list[str]
    splits: NDArray[np.str_]
    split: str
    counts: dict[str, Any]
    numeric: bool = False
    level: Literal["sequence", "nucleotide"] = "sequence"
    label_names: tuple[str, ...] = ()
    pairs: bool = False
    held_out: list[str] = field(default_factory=list)

    @property
    def flags(self) -> NDArray[np.float64]:
        """Several labels of each row: float64 [N, C] of 1, 0 and, where one is not known, NaN."""
        return np.array([[float(flag) for flag in label.split(" ")] for label in self.labels])

    @property
    def values(self) -> NDArray[np.float64]:
        """The labels as measured values, float64 [N]; of nucleotides, those that were measured, sequence after sequence."""
        if self.level == "nucleotide":
            everything = np.concatenate(self.profiles)
            return everything[np.isfinite(everything)]
        return np.array([float(parse(label)[0]) for label in self.labels])

    @property
    def sides(self) -> NDArray[np.int8]:
        """Of the values of sequences, int8 [N]: 1 if the value is at least that, -1 if at most, 0 if it is that."""
        return np.array([parse(label)[1] for label in self.labels], np.int8)

    @property
    def profiles(self) -> list[NDArray[np.float64]]:
        """The values of each sequence's nucleotides, float64 [L] each, NaN if none was measured."""
        return [np.array([float(value) for value in label.split(" ")]) for label in self.labels]

    def held_out_as(self, rows: NDArray[np.int64], kind: str) -> NDArray[np.int64]:
        """Those of the rows that are held out as "families" or as "members"; none where the table does not say."""
        return np.array([i for i in rows.tolist() if self.held_out and self.held_out[i] == kind], np.int64)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Indices of the rows of a split; of all rows for "all"."""
        return np.arange(len(self.labels)) if split == "all" else np.flatnonzero(self.splits == split)

    def classes_in(self, split: str) -> Counter[str]:
        """Rows of each class in a split."""
        return Counter(self.labels[i] for i in self.rows(split))

    @property
    def digest(self) -> str:
        """16 hex digits that name the content: sequences, labels and splits, in order."""
        lines = (f"{a} {b} {c}\n" for a, b, c in zip(self.shas, self.labels, self.splits.tolist(), strict=True))
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]

    def unseen(self, rows: NDArray[np.int64], training: set[str]) -> NDArray[np.bool_]:
        """Which of the rows have a sequence that is not among `training` (shas)."""
        return np.array([self.shas[i] not in training for i in rows], bool)
