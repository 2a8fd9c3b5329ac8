"""Many vectors in two bits a dimension, and which of them are nearest to a vector.

A unit vector's entries are rounded to four levels (the uniform quantiser with the least squared error for a normal
distribution: Max 1960, IRE Trans. Inf. Theory 6:7) and scaled so that its product with the vector itself is 1, as RaBitQ
does (Gao & Long 2024, arXiv:2405.12497): cosines have no bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

STEP: Final = 0.9957
"""Width of a level in standard deviations, for four levels (Max 1960)."""
LEVELS: Final = np.array([-1.5, -0.5, 0.5, 1.5], np.float32)
BLOCK: Final = 512
"""Vectors that are compared at once."""
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Codes:
    """R unit vectors of D dimensions, D a multiple of four.

    Attributes:
        packed: uint8 [R, D / 4], four entries in a byte. scale: float32 [R], what the levels are multiplied by.
    """

    packed: NDArray[np.uint8]
    scale: Vectors

    @classmethod
    def of(cls, units: Vectors) -> Codes:
        """The codes of unit vectors, float32 [R, D]."""
        units = np.pad(units, ((0, 0), (0, -units.shape[1] % 4)))
        spread = np.maximum(units.std(axis=1, keepdims=True), 1e-12)
        levels = np.clip(np.floor(units / (spread * STEP)), -2, 1).astype(np.int64) + 2
        product = (LEVELS[levels] * units).sum(axis=1)
        grouped = levels.reshape(len(units), -1, 4)
        packed = (grouped << np.array([0, 2, 4, 6])).sum(axis=2).astype(np.uint8)
        return cls(packed, (1 / np.maximum(product, 1e-12)).astype(np.float32))

    @cached_property
    def decoded(self) -> Vectors:
        """The vectors as they are compared, float32 [R, D]."""
        table = LEVELS[(np.arange(256)[:, None] >> np.array([0, 2, 4, 6])) & 3]
        found: Vectors = table[self.packed].reshape(len(self.packed), -1) * self.scale[:, None]
        return found

    def neighbours(self, units: Vectors) -> Iterator[Vectors]:
        """Cosines of unit vectors with all of these, for up to `BLOCK` of them at a time: float32 [at most `BLOCK`, R].

        Args:
            units: float32 [N, D].
        """
        units = np.pad(units, ((0, 0), (0, self.decoded.shape[1] - units.shape[1])))
        for first in range(0, len(units), BLOCK):
            yield units[first : first + BLOCK] @ self.decoded.T


def ranked(cosines: Vectors, ranks: Sequence[int]) -> Vectors:
    """The greatest of each row of cosines [N, R], or the k-th greatest: float32 [N, len(ranks)].

    Args:
        cosines: float32 [N, R]. ranks: k, from 1 up; beyond R it is the least.
    """
    places = [cosines.shape[1] - min(rank, cosines.shape[1]) for rank in ranks]
    found: Vectors = np.partition(cosines, sorted(set(places)), axis=1)[:, places]
    return found


def nearest_rows(cosines: Vectors, count: int) -> NDArray[np.int64]:
    """Numbers of the `count` greatest of each row of cosines [N, R], in no order: int64 [N, min(count, R)].

    Args:
        cosines: float32 [N, R]. count: at least 1.
    """
    count = min(count, cosines.shape[1])
    return np.argpartition(cosines, cosines.shape[1] - count, axis=1)[:, -count:]


def unit_vectors(vectors: Vectors, centre: Vectors) -> Vectors:
    """Vectors [N, D] less the centre [D], each divided by its length."""
    moved = vectors - centre
    units: Vectors = (moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return units
