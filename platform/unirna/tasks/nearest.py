"""Many vectors in two bits a dimension, and the cosines of a vector with the nearest of them.

A unit vector's entries are rounded to four levels (the uniform quantiser with the least squared error for a normal
distribution: Max 1960, IRE Trans. Inf. Theory 6:7) and scaled so that its product with the vector itself is 1, as RaBitQ
does (Gao & Long 2024, arXiv:2405.12497): cosines have no bias.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    def cosines(self, units: Vectors, ranks: Sequence[int]) -> Vectors:
        """Cosine of unit vectors [N, D] with the nearest, or the k-th nearest, of these: float32 [N, len(ranks)].

        Args:
            units: float32 [N, D]. ranks: k, from 1 up; beyond R it is the farthest.
        """
        units = np.pad(units, ((0, 0), (0, self.decoded.shape[1] - units.shape[1])))
        places = [len(self.packed) - min(rank, len(self.packed)) for rank in ranks]
        found = np.empty((len(units), len(ranks)), np.float32)
        for first in range(0, len(units), BLOCK):
            near = units[first : first + BLOCK] @ self.decoded.T
            found[first : first + BLOCK] = np.partition(near, sorted(set(places)), axis=1)[:, places]
        return found


def unit_vectors(vectors: Vectors, centre: Vectors) -> Vectors:
    """Vectors [N, D] less the centre [D], each divided by its length."""
    moved = vectors - centre
    units: Vectors = (moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return units
