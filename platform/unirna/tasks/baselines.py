"""What the simple models that every predictor is set against read: the shares of a sequence's 4-mers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

K: Final = 4

_DIGIT = np.full(256, -1, np.int64)
for _digit, _letter in enumerate("ACGU"):
    _DIGIT[ord(_letter)] = _digit


def kmer_frequencies(sequences: Sequence[str]) -> NDArray[np.float32]:
    """Shares of the 256 4-mers in each sequence, float32 [N, 256]; 4-mers with an ambiguous letter are not counted."""
    out = np.zeros((len(sequences), 4**K), np.float32)
    for row, sequence in enumerate(sequences):
        digits = _DIGIT[np.frombuffer(sequence.encode("ascii"), np.uint8)]
        if len(digits) < K:
            continue
        places = np.lib.stride_tricks.sliding_window_view(digits, K)
        places = places[(places >= 0).all(axis=1)]
        counts = np.bincount(places @ (4 ** np.arange(K)[::-1]), minlength=4**K)
        out[row] = counts / max(len(places), 1)
    return out
