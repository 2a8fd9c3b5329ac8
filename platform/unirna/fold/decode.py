"""From probabilities of pairs to one structure: the one of maximum expected accuracy, with crossing helices added."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirna.fold.compiled import compiled
from unirna.fold.energies import KIND, NEAREST, Energies, codes_of

Array = NDArray[np.float64]
Pairs = NDArray[np.int64]
RARE = 1e-3
"""Pairs less probable than this are not looked at."""
SPAN = 100.0
"""Nucleotides from end to end of a crossing helix whose least score is given; others ask for more or less."""
UNSATISFIED = 1e6
"""What leaving a nucleotide that has to pair unpaired costs: more than all else together."""

_jit = compiled()


def most_accurate(pairs: Array, gamma: float = 1.0, forced: NDArray[np.bool_] | None = None) -> Pairs:
    """The nested structure of maximum expected accuracy (Do et al. 2006).

    Args:
        pairs: float64 [L, L], probability of each pair in the upper triangle.
        gamma: weight of a nucleotide rightly paired against one rightly unpaired: more gives more pairs.
        forced: bool [L], nucleotides that have to pair, as every structure behind `pairs` pairs them; None for none.

    Returns:
        int64 [P, 2], 0-based, ascending.
    """
    length = len(pairs)
    unpaired = 1 - pairs.sum(axis=0) - pairs.sum(axis=1)
    likely = pairs.T > RARE
    if forced is not None:  # one of its pairs has to be taken, if all are rare
        likely[forced], likely[:, forced] = pairs.T[forced] > 0, pairs.T[:, forced] > 0
    first, last = np.nonzero(likely)  # by the second nucleotide
    starts = np.searchsorted(first, np.arange(length + 1))
    gains = 2 * gamma * pairs[last, first]
    unpaired = np.maximum(unpaired, 0)
    if forced is not None:
        unpaired[forced] = -UNSATISFIED
    found = _most_accurate(length, unpaired, starts, last, gains)
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


def crossing_helices(
    sequence: str,
    first: Pairs,
    energies: Energies,
    extra: Array,
    *,
    least_score: float,
    growth: float = 0.0,
    least: int = 3,
) -> Pairs:
    """Helices that the unpaired nucleotides of a nested structure form across it: pseudoknots.

    A helix's score is the sum of its stacks and pairs. The score that is asked for stands for what it costs to close the
    loops around it, and grows with the logarithm of its span, as the number of places for a helix grows with its span:
    the highest of n chance scores grows with ln n (Karlin and Altschul 1990). So a sequence of any length gets as many
    helices by chance per kilobase. The helix that exceeds its least score most is taken first, then the next of what is
    left.

    Args:
        sequence: normalised, L nucleotides.
        first: int64 [P, 2], the nested structure.
        energies, extra: scores, as for `fold_all`.
        least_score: of a helix that spans `SPAN` nucleotides.
        growth: what is added to it for each e-fold of the span.
        least: pairs of a helix.

    Returns:
        int64 [Q, 2]: the pairs of the helices that cross a pair of `first`.
    """
    codes = codes_of(sequence)
    kind = KIND[codes[:, None], codes[None, :]]
    kind[~np.isfinite(extra)] = -1
    free = np.ones(len(codes), bool)
    free[first.reshape(-1)] = False
    pair = energies.pair[np.maximum(kind, 0)] + np.where(kind >= 0, extra, 0)
    runs = []
    for i, j, size, score in _runs(kind, free, pair, energies.stack, least):
        beyond = score - least_score - growth * np.log((j - i) / SPAN)
        if beyond >= 0:
            runs.append((i, j, size, beyond))
    found: list[tuple[int, int]] = []
    for i, j, size, _ in sorted(runs, key=lambda run: (-run[3], run[0], run[1])):
        helix = [(i + k, j - k) for k in range(size)]
        between = (first[:, 0] > i) & (first[:, 0] < j)
        crosses = bool((between != ((first[:, 1] > i) & (first[:, 1] < j))).any())
        if crosses and all(free[a] and free[b] for a, b in helix):
            found += helix
            free[np.array(helix).reshape(-1)] = False
    return np.array(sorted(found), np.int64).reshape(-1, 2)


@_jit
def _runs(kind: Any, free: Any, pair: Any, stack: Any, least: int) -> Any:
    """The best part of each run of stacked pairs of free nucleotides: first and last nucleotide, pairs, score."""
    length = len(free)
    found = [(0, 0, 0, 0.0) for _ in range(0)]
    for total in range(1, 2 * length - 2):
        i = max(0, total - length + 1)
        j = total - i
        start, score = -1, 0.0
        best_size, best_score = 0, 0.0
        while j - i >= NEAREST:
            bound = free[i] and free[j] and kind[i, j] >= 0
            if bound:
                step = pair[i, j]
                if start >= 0:
                    step += stack[kind[i - 1, j + 1], kind[i, j] ^ 1]
                if start < 0 or score + step - pair[i, j] < 0:  # what came before is worth less than nothing
                    if best_size >= least:
                        found.append((start, total - start, best_size, best_score))
                    start, score = i, pair[i, j]
                    best_size, best_score = 1, score
                else:
                    score += step
                    if score >= best_score:
                        best_size, best_score = i - start + 1, score
            if not bound or j - i < NEAREST + 2:
                if start >= 0 and best_size >= least:
                    found.append((start, total - start, best_size, best_score))
                start, score, best_size, best_score = -1, 0.0, 0, 0.0
            i += 1
            j -= 1
    return found


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
