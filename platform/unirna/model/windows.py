"""Sequences longer than the context: overlapping windows and the weights that blend them.

L nucleotides are covered by the fewest windows of at most `context` nucleotides that overlap by at least `overlap`; their
starts are spread evenly. Where windows overlap, each one's weight rises linearly from its edge; the weights of a
nucleotide are scaled to sum to 1. A nucleotide's vector is the weighted mean of its vectors, and a sequence's vector is
the mean over its L nucleotides, so a sequence a little above the limit is treated almost like one a little below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pooling = Literal["mean", "centre"]
"""What a sequence's vector is made of: all nucleotides alike, or the middle one (of an even number the two of them)."""

OVERLAP = 256
"""Least overlap of neighbouring windows, in nucleotides: context on both sides of every nucleotide."""


@dataclass(frozen=True)
class Window:
    """Nucleotides [start, end) of a sequence; `weights` float32 [end - start], summing to 1 over a nucleotide's windows."""

    start: int
    end: int
    weights: NDArray[np.float32]


def plan_windows(length: int, context: int, overlap: int = OVERLAP) -> list[Window]:
    """Windows that cover a sequence of `length` nucleotides; one window of weight 1 where it fits in `context`.

    Raises:
        ValueError: an overlap that leaves no room to move on.
    """
    if length <= context:
        return [Window(0, length, np.ones(length, np.float32))]
    if not 0 <= overlap < context:
        raise ValueError(f"overlap {overlap}: expected 0 up to less than the context, {context} nucleotides")
    count = -(-(length - overlap) // (context - overlap))
    starts = np.linspace(0, length - context, count).round().astype(int).tolist()
    ramp = np.minimum(np.arange(1, context + 1), np.arange(context, 0, -1)).astype(np.float64)
    ramp = np.minimum(ramp, max(overlap, 1))
    total = np.zeros(length)
    for start in starts:
        total[start : start + context] += ramp
    return [Window(s, s + context, (ramp / total[s : s + context]).astype(np.float32)) for s in starts]


def pooling_weights(window: Window, length: int, pooling: Pooling = "mean") -> NDArray[np.float32]:
    """What each nucleotide of a window counts in the vector of its sequence of `length` nucleotides: float32 [end - start].

    Over all windows of the sequence the weights sum to 1.
    """
    if pooling == "mean":
        return window.weights / np.float32(length)
    place = np.arange(window.start, window.end)
    share = (place == (length - 1) // 2) * np.float32(0.5) + (place == length // 2) * np.float32(0.5)
    weights: NDArray[np.float32] = window.weights * share.astype(np.float32)
    return weights
