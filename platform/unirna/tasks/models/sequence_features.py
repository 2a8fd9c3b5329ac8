"""What the simple models that every predictor is set against read: the shares of a sequence's 4-mers, or of its codons, or
the nucleotides around one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

K: Final = 4
AROUND: Final = 7
CODON_FEATURES: Final = 65

_DIGIT = np.full(256, -1, np.int64)
for _digit, _letter in enumerate("ACGU"):
    _DIGIT[ord(_letter)] = _digit


def letter_digits(sequence: str) -> NDArray[np.int64]:
    """A, C, G, U as 0 to 3 and any other code as -1, int64 [L]."""
    digits: NDArray[np.int64] = _DIGIT[np.frombuffer(sequence.encode("ascii"), np.uint8)]
    return digits


def kmer_frequencies(sequences: Sequence[str]) -> NDArray[np.float32]:
    """Shares of the 256 4-mers in each sequence, float32 [N, 256]; 4-mers with an ambiguity code are not counted."""
    out = np.zeros((len(sequences), 4**K), np.float32)
    for row, sequence in enumerate(sequences):
        digits = letter_digits(sequence)
        if len(digits) < K:
            continue
        places = np.lib.stride_tricks.sliding_window_view(digits, K)
        places = places[(places >= 0).all(axis=1)]
        counts = np.bincount(places @ (4 ** np.arange(K)[::-1]), minlength=4**K)
        out[row] = counts / max(len(places), 1)
    return out


def codon_features(sequences: Sequence[str]) -> NDArray[np.float32]:
    """Shares of the 64 codons, read from the first nucleotide on, and ln of the length, float32 [N, 65]; codons with an
    ambiguity code are not counted."""
    out = np.zeros((len(sequences), CODON_FEATURES), np.float32)
    for row, sequence in enumerate(sequences):
        digits = letter_digits(sequence)
        codons = digits[: len(digits) // 3 * 3].reshape(-1, 3)
        codons = codons[(codons >= 0).all(axis=1)]
        out[row, :-1] = np.bincount(codons @ (16, 4, 1), minlength=64) / max(len(codons), 1)
        out[row, -1] = np.log(max(len(sequence), 1))
    return out


def letters_around(sequences: Sequence[str]) -> list[NDArray[np.float32]]:
    """The nucleotides within 7 of each one, one of four each: float32 [L, 60] for each sequence, 0 beyond its ends."""
    out = []
    for sequence in sequences:
        digits = letter_digits(sequence)
        one_hot = np.zeros((len(digits) + 2 * AROUND, 4), np.float32)
        one_hot[AROUND:-AROUND] = digits[:, None] == np.arange(4)
        windows = np.lib.stride_tricks.sliding_window_view(one_hot, 2 * AROUND + 1, axis=0)
        out.append(windows.transpose(0, 2, 1).reshape(len(digits), -1))
    return out
