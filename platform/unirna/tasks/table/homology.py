"""Groups of similar sequences, so that a split can put relatives on one side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from unirna.tasks.errors import TaskError
from unirna.tasks.models.sequence_features import letter_digits

K: Final = 10
SHARED: Final = 0.25
COMMON: Final = 0.1
"""K-mers in more than this share of the sequences say nothing: adapters, barcodes, tails of a library. But where they are
most of a sequence's k-mers it is not a tail that is common, it is a large family."""
MOST: Final = 100_000
"""Sequences that are compared with each other."""


def similar_groups(sequences: Sequence[str]) -> list[str]:
    """The group of each sequence; two sequences are in one if they share a quarter of the k-mers of the shorter.

    Each distinct 10-mer counts once. 10-mers that a tenth of the sequences have are left out, unless they are most of a
    sequence's 10-mers. The groups are the connected components of the sharing graph (single linkage). Sequences share a
    quarter of their 10-mers at about 87 % identity if the differences are spread evenly, at less if they are not.

    Args:
        sequences: normalised.

    Raises:
        TaskError: more than 100,000 distinct sequences.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    distinct = list(dict.fromkeys(sequences))
    if len(distinct) > MOST:
        raise TaskError(
            f"{len(distinct):,} distinct sequences are too many to compare with each other here (at most {MOST:,}). "
            "Cluster them with MMseqs2, and give the split as a column"
        )
    kmers = [_kmers(sequence) for sequence in distinct]
    sizes = np.array([len(found) for found in kmers])
    names, columns = np.unique(np.concatenate([*kmers, np.empty(0, np.int64)]), return_inverse=True)
    rows = np.repeat(np.arange(len(distinct)), sizes)
    often = np.bincount(columns, minlength=len(names)) > max(2, COMMON * len(distinct))
    shape = (len(distinct), len(names))
    keep = ~often[columns]
    whole = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    holds = csr_matrix((np.ones(int(keep.sum()), np.float32), (rows[keep], columns[keep])), shape=shape)
    linked = _families(whole, sizes, np.asarray(holds.sum(axis=1)).ravel() < sizes / 2)
    sizes = np.asarray(holds.sum(axis=1)).ravel()
    for first in range(0, len(distinct), 1000):
        common = (holds[first : first + 1000] @ holds.T).tocoo()
        row = common.row + first
        enough = common.data >= SHARED * np.minimum(sizes[row], sizes[common.col])
        linked.append((row[enough], common.col[enough]))
    one, other = (np.concatenate(part) for part in zip(*linked, strict=True))
    graph = csr_matrix((np.ones(len(one), bool), (one, other)), shape=(len(distinct), len(distinct)))
    _, number = connected_components(graph, directed=False)
    named: dict[int, str] = {}  # a group is called by its first sequence in alphabetical order: not by the order of rows
    for place, sequence in sorted(zip(number.tolist(), distinct, strict=True)):
        named.setdefault(place, sequence)
    group = dict(zip(distinct, (named[place] for place in number.tolist()), strict=True))
    return [group[sequence] for sequence in sequences]


def _families(whole: Any, sizes: NDArray[np.int64], large: NDArray[np.bool_]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Links of sequences in large families, by all their k-mers: each to every leader with which it shares enough.

    A sequence that is linked to no leader is the next one: pairs need not all be compared where thousands share a k-mer.
    """
    members = np.flatnonzero(large)
    part, left, linked = whole[members], np.ones(len(members), bool), []
    while left.any():
        leader = int(members[left.argmax()])
        common = np.asarray((part @ whole[leader].T).todense()).ravel()
        near = common >= SHARED * np.minimum(sizes[members], sizes[leader])
        linked.append((np.full(int(near.sum()), leader), members[near]))
        left &= ~near
    return linked


def _kmers(sequence: str) -> NDArray[np.int64]:
    """The distinct k-mers of a sequence; those with an ambiguity code are not counted."""
    digits = letter_digits(sequence)
    if len(digits) < K:
        return np.empty(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(digits, K)
    windows = windows[(windows >= 0).all(axis=1)]
    return np.unique(windows @ (4 ** np.arange(K)[::-1]))
