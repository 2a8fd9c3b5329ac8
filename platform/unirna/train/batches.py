"""Packed batches filled to a token budget, in an order that is a function of (seed, step, number) alone.

Each forward pass draws its sequences at random with replacement, so there is no position in the data to save: a resumed
run, and a run on another number of workers, sees the same batches. Sequences longer than the context are cropped at
random, the last one of a batch to what is left of the budget, so every forward pass does the same work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unirna.corpus import Corpus
from unirna.model import pack_tokens
from unirna.train.objective import mask_tokens

SHORTEST = 8
"""The budget's rest is left empty rather than filled with fewer nucleotides than this."""


@dataclass(frozen=True)
class MaskedBatch:
    """One forward pass: `tokens` uint8 [T] with masks, `boundaries` int32 [N + 1], `places` and `targets` int64 [M]."""

    tokens: NDArray[np.uint8]
    boundaries: NDArray[np.int32]
    places: NDArray[np.int64]
    targets: NDArray[np.int64]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        lengths: list[int] = np.diff(self.boundaries).tolist()
        return lengths


class BatchSource:
    """Draws masked batches from a corpus.

    Args:
        corpus: one split of a corpus.
        seed: of order, crops and masks.
        budget: tokens of a batch, special tokens included.
        context: longest sequence, in nucleotides.
    """

    def __init__(self, corpus: Corpus, *, seed: int, budget: int, context: int) -> None:
        self.corpus, self.seed, self.budget, self.context = corpus, seed, budget, context

    def batch(self, step: int, number: int) -> MaskedBatch:
        """Batch `number` of optimiser step `step`."""
        random = np.random.default_rng((self.seed, step, number))
        pieces: list[NDArray[np.uint8]] = []
        room = self.budget
        while room >= SHORTEST + 2:
            tokens = self.corpus[int(random.integers(len(self.corpus)))]
            size = min(len(tokens), self.context, room - 2)
            start = int(random.integers(len(tokens) - size + 1))
            pieces.append(tokens[start : start + size])
            room -= size + 2
        return _masked(pieces, random)

    def fixed(self, budget: int) -> list[MaskedBatch]:
        """The same batches at every call, each sequence once from the first on, about `budget` tokens: for validation."""
        batches: list[MaskedBatch] = []
        pieces: list[NDArray[np.uint8]] = []
        size = total = 0
        for index in range(len(self.corpus)):
            tokens = self.corpus[index][: self.context]
            if pieces and size + len(tokens) + 2 > self.budget:
                batches.append(_masked(pieces, np.random.default_rng((self.seed, len(batches)))))
                pieces, size = [], 0
            pieces.append(tokens)
            size += len(tokens) + 2
            total += len(tokens) + 2
            if total >= budget:
                break
        if pieces:
            batches.append(_masked(pieces, np.random.default_rng((self.seed, len(batches)))))
        return batches


def _masked(pieces: list[NDArray[np.uint8]], random: np.random.Generator) -> MaskedBatch:
    packed = pack_tokens(sorted(pieces, key=len))  # equal lengths side by side: fewer attention calls on the CPU
    hidden, places, targets = mask_tokens(packed.tokens, random)
    return MaskedBatch(hidden, packed.boundaries, places, targets)
