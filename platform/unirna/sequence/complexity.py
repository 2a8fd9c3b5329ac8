"""How varied a sequence is, by the entropy of its 3-mers: repeats and homopolymers are not."""

from __future__ import annotations

from typing import Final

import numpy as np

LOW_COMPLEXITY: Final = 0.55
"""Complexity of a repeat is below this: units of up to 7 nt have less than .5, and of 8,000 Rfam seed sequences 1 in 2,000
has less than .71."""
_DIGITS: Final = np.zeros(256, np.int64)
_DIGITS[[ord(nucleotide) for nucleotide in "ACGU"]] = range(4)


def complexity_of(sequence: str) -> float:
    """Entropy of a sequence's 3-mers over the most that its length allows: 0 for a homopolymer, 1 at most.

    Args:
        sequence: normalised; what is not A, C, G or U counts as A. Shorter than 4 nt it has complexity 0.
    """
    digits = _DIGITS[np.frombuffer(sequence.encode("ascii"), np.uint8)]
    if len(digits) < 4:
        return 0.0
    counts = np.bincount(digits[:-2] * 16 + digits[1:-1] * 4 + digits[2:])
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(min(64, len(digits) - 2)))
