"""Packed batches filled to a token budget, in an order that is a function of (seed, step, number) alone.

Each forward pass draws its sequences at random with replacement, by their sampling weights, so there is no position in
the data to save: a resumed run, and a run on another number of workers, sees the same batches. Sequences longer than the
context are cropped at random, the last one of a batch to what is left of the budget, so every forward pass does the same
work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unirna.corpus import Corpus
from unirna.model import pack_tokens
from unirna.train.masking import MASK_RATE, mask_tokens

SHORTEST = 8
"""The budget's rest is left empty rather than filled with fewer nucleotides than this."""


class Batch(Protocol):
    """One forward pass's input: arrays for `Objective.forward`, and the lengths that say how much work it is."""

    @property
    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """What `forward` takes, in its order; the workers' loop moves them to the device."""
        ...

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        ...


@dataclass(frozen=True)
class MaskedBatch:
    """One forward pass: `tokens` uint8 [T] with masks, `boundaries` int32 [N + 1], `places` and `targets` int64 [M]."""

    tokens: NDArray[np.uint8]
    boundaries: NDArray[np.int32]
    places: NDArray[np.int64]
    targets: NDArray[np.int64]

    @property
    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """What the model's forward pass takes, in its order."""
        return self.tokens, self.boundaries, self.places, self.targets

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
        mask_rate: share of the nucleotides to predict.
    """

    def __init__(self, corpus: Corpus, *, seed: int, budget: int, context: int, mask_rate: float = MASK_RATE) -> None:
        self.corpus, self.seed, self.budget, self.context = corpus, seed, budget, context
        self.mask_rate = mask_rate

    def batch(self, step: int, number: int) -> MaskedBatch:
        """Batch `number` of optimiser step `step`."""
        random = np.random.default_rng((self.seed, step, number))
        pieces: list[NDArray[np.uint8]] = []
        room = self.budget
        while room >= SHORTEST + 2:
            tokens = self.corpus[self.corpus.draw(random)]
            size = min(len(tokens), self.context, room - 2)
            start = int(random.integers(len(tokens) - size + 1))
            pieces.append(tokens[start : start + size])
            room -= size + 2
        return mask_pieces(pieces, random, self.mask_rate)


def mask_pieces(pieces: list[NDArray[np.uint8]], random: np.random.Generator, rate: float = MASK_RATE) -> MaskedBatch:
    """Pack token arrays, shortest first, and hide some of them."""
    packed = pack_tokens(sorted(pieces, key=len))  # equal lengths side by side: fewer attention calls on the CPU
    hidden, places, targets = mask_tokens(packed.tokens, random, rate)
    return MaskedBatch(hidden, packed.boundaries, places, targets)
