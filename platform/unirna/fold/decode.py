"""From probabilities of pairs to one structure: the one of maximum expected accuracy, with crossing helices added."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pairs = NDArray[np.int64]
RARE = 1e-3
"""Pairs less probable than this are not looked at."""

_jit: Any = numba.njit(cache=True, nogil=True)


def most_accurate(pairs: Array, gamma: float = 1.0) -> Pairs:
    """The nested structure of maximum expected accuracy (Do et al. 2006).

    Args:
        pairs: float64 [L, L], probability of each pair in the upper triangle.
        gamma: weight of a nucleotide rightly paired against one rightly unpaired: more gives more pairs.

    Returns:
        int64 [P, 2], 0-based, ascending.
    """
    length = len(pairs)
    unpaired = 1 - pairs.sum(axis=0) - pairs.sum(axis=1)
    first, last = np.nonzero(pairs.T > RARE)  # by the second nucleotide
    starts = np.searchsorted(first, np.arange(length + 1))
    gains = 2 * gamma * pairs[last, first]
    useful = gains > 0
    found = _most_accurate(length, np.maximum(unpaired, 0), starts, last, np.where(useful, gains, 0))
    return np.array(sorted(found), np.int64).reshape(-1, 2)


@_jit
def _most_accurate(length: int, unpaired: Any, starts: Any, partners: Any, gains: Any) -> Any:
    best = np.zeros((length + 2, length + 2))  # of i to j - 1, at [i, j]
    for i in range(length - 1, -1, -1):
        for j in range(i, length):
            value = best[i, j] + unpaired[j]
            for place in range(starts[j], starts[j + 1]):
                k = partners[place]
                if k >= i:
                    other = best[i, k] + best[k + 1, j] + gains[place]
                    value = max(value, other)
            best[i, j + 1] = value
    found = [(0, 0) for _ in range(0)]
    open_ = [(0, length - 1)]
    while len(open_) > 0:
        i, j = open_.pop()
        while j >= i:
            value = best[i, j + 1]
            chosen = -1
            if value > best[i, j] + unpaired[j]:
                for place in range(starts[j], starts[j + 1]):
                    k = partners[place]
                    if k >= i and best[i, k] + best[k + 1, j] + gains[place] >= value:
                        chosen = k
                        break
            if chosen >= 0:
                found.append((chosen, j))
                open_.append((chosen + 1, j - 1))
                j = chosen - 1
            else:
                j -= 1
    return found


def crossing_helices(pairs: Array, first: Pairs, *, gamma: float = 0.5, least: int = 3) -> Pairs:
    """Helices that cross a structure, from the pairs that its unpaired nucleotides form among themselves.

    Args:
        pairs: float64 [L, L], probability of each pair where those of `first` are taken out.
        first: int64 [P, 2], the nested structure.
        gamma: as for `most_accurate`. least: pairs of a helix.

    Returns:
        int64 [Q, 2]: the pairs of the helices that cross a pair of `first`.
    """
    found: list[tuple[int, int]] = []
    starts, ends = first[:, 0], first[:, 1]
    for helix in helices(most_accurate(pairs, gamma)):
        i, j = helix[0]
        inside = (starts > i) & (starts < j)
        if len(helix) >= least and bool((inside != ((ends > i) & (ends < j))).any()):
            found += helix
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def helices(pairs: Pairs) -> list[list[tuple[int, int]]]:
    """Pairs as runs of neighbours: (i, j), (i + 1, j - 1) and so on."""
    runs: list[list[tuple[int, int]]] = []
    open_: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i, j in sorted(map(tuple, pairs.tolist())):
        run = open_.pop((i, j), None)
        if run is None:
            run = []
            runs.append(run)
        run.append((i, j))
        open_[i + 1, j - 1] = run
    return runs
