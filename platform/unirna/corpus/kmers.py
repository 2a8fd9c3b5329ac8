"""k-mers of many sequences at once, and the identity that the share of common k-mers implies.

A k-mer of the shorter of two sequences stands in the longer one, under independent substitutions, with probability
identity^k, and only if it lies in the part that both share; so two sequences of at least the required identity over at
least the required coverage have about coverage * identity^k of the shorter one's k-mers in common (Mash, Ondov et al.
2016, uses the same relation). This is an estimate: near the threshold it errs on either side, the more so for short
sequences, and it cannot tell a short identical part from a long similar one, so a tenth of a sequence that is identical
passes for the whole.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

VERIFY_K: Final = 10
"""Length for comparing two sequences: by chance 1,500 nucleotides hold .1 % of all 10-mers."""
_DIGITS: Final = np.full(256, 4, np.uint8)
_DIGITS[np.frombuffer(b"ACGU", np.uint8)] = np.arange(4)
_NUCLEOTIDES: Final = 4_000_000
"""Nucleotides whose k-mers are in memory at once."""


def text_of(sequences: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Large strings end to end, uint8 [T], and where each starts, int64 [n + 1]."""
    offsets = np.frombuffer(sequences.buffers()[1], np.int64, len(sequences) + 1, 8 * sequences.offset)
    data = sequences.buffers()[2]
    text = np.frombuffer(data, np.uint8) if data is not None and data.size else np.array([], np.uint8)
    return text[offsets[0] : offsets[-1]], offsets - offsets[0]


def blocks(offsets: NDArray[np.int64], nucleotides: int = _NUCLEOTIDES) -> list[tuple[int, int]]:
    """Ranges of sequences with about this many nucleotides each."""
    cuts, start = [0], 0
    while start < len(offsets) - 1:
        start = max(start + 1, int(np.searchsorted(offsets, offsets[start] + nucleotides, side="right")) - 1)
        cuts.append(start)
    return list(pairwise(cuts))


def distinct_kmers(sequences: pa.Array, k: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The distinct k-mers of each sequence.

    Args:
        sequences: large strings, normalised. k: at most 16.

    Returns:
        k-mers as numbers of 2 bits per nucleotide, uint64 [m], sorted within each sequence; and the row of each, int64 [m],
        ascending. A k-mer with an ambiguity code is left out.
    """
    text, offsets = text_of(sequences)
    count = len(text) - k + 1
    if count <= 0:
        return np.array([], np.uint64), np.array([], np.int64)
    digits = _DIGITS[text]
    code = np.zeros(count, np.uint64)
    for i in range(k):
        code = (code << np.uint64(2)) | digits[i : i + count]
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    unknown = np.concatenate([[0], np.cumsum(digits == 4)])
    whole = (owner[:count] == owner[k - 1 :]) & (unknown[k:] == unknown[:-k])
    key = np.unique((owner[:count][whole].astype(np.uint64) << np.uint64(2 * k)) | code[whole])
    return key & np.uint64(4**k - 1), (key >> np.uint64(2 * k)).astype(np.int64)


def least_shared(identity: float, coverage: float, k: int) -> float:
    """Share of the shorter sequence's k-mers that two sequences of this identity and coverage have in common."""
    return coverage * identity**k


def estimated_identity(shared: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Identity that a share of common k-mers implies, over the whole of the shorter sequence."""
    return np.asarray(shared ** (1 / k))


def shared_kmers(left: pa.Array, right: pa.Array, pairs: NDArray[np.int64], k: int = VERIFY_K) -> NDArray[np.float64]:
    """Of pairs (row of left, row of right), int64 [p, 2]: share of the k-mers of the one with fewer that the other has too.

    Returns:
        float64 [p]; 0 if a sequence is shorter than k.
    """
    (codes_l, owners_l), (codes_r, owners_r) = distinct_kmers(left, k), distinct_kmers(right, k)
    codes, owners = np.concatenate([codes_l, codes_r]), np.concatenate([owners_l, owners_r + len(left)])
    keys = (owners.astype(np.uint64) << np.uint64(2 * k)) | codes
    ends = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(left) + len(right)))])
    sizes = np.diff(ends)
    a, b = pairs[:, 0], pairs[:, 1] + len(left)
    few, many = np.where(sizes[a] <= sizes[b], a, b), np.where(sizes[a] <= sizes[b], b, a)
    result = np.zeros(len(pairs))
    for start, end in blocks(np.concatenate([[0], np.cumsum(sizes[few])]).astype(np.int64)):
        number = sizes[few[start:end]]
        first = np.concatenate([[0], np.cumsum(number)])
        place = np.arange(first[-1]) + np.repeat(ends[few[start:end]] - first[:-1], number)
        probe = (np.repeat(many[start:end], number).astype(np.uint64) << np.uint64(2 * k)) | codes[place]
        at = np.searchsorted(keys, probe)
        hit = np.concatenate([[0], np.cumsum(keys[np.minimum(at, len(keys) - 1)] == probe)]) if len(keys) else first * 0
        result[start:end] = (hit[first[1:]] - hit[first[:-1]]) / np.maximum(number, 1)
    return result


def mixed(codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A random-looking, fixed permutation of 64-bit numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    z = codes + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: NDArray[Any] = z ^ (z >> np.uint64(31))
    return result
