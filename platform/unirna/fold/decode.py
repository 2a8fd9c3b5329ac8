"""From probabilities of pairs to one structure: the one of maximum expected accuracy, with crossing helices added."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirna.fold.compiled import compiled
from unirna.fold.energies import KIND, NEAREST, Energies, codes_of

Array = NDArray[np.float64]
Pairs = NDArray[np.int64]
RARE = 1e-3
"""Pairs less probable than this are not looked at."""
LEAST_PAIRS = 3
"""Of a crossing helix."""
LEAST_SCORE = 4.0
"""Crossing helices of a lower score are never likely enough."""
FAINTEST = 1e-6
"""Probabilities below this count as this, where their logarithm is taken."""
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


@dataclass(frozen=True)
class CrossingModel:
    """How likely a helix across a nested structure is real: a logistic function, fitted by recipes/pseudoknots.py.

    Attributes:
        intercept: of the log-odds.
        score: weight of the sum of the helix's stacks and pairs, by the scores of the loops.
        size: weight of its number of pairs.
        span: weight of ln(nucleotides from end to end / 100). It is negative: the number of places for a helix grows with
            its span, and so does what chance reaches (Karlin and Altschul 1990). So shuffled sequences of any length get as
            few crossing pairs per kilobase.
        probability: weight of ln of the mean probability of its pairs over nested structures.
        unpaired: weight of the mean over its pairs of ln(p_i p_j), the probabilities of its nucleotides to be unpaired in
            nested structures.
    """

    intercept: float
    score: float
    size: float
    span: float
    probability: float
    unpaired: float


@dataclass(frozen=True)
class Crossing:
    """A helix that crosses a nested structure: pairs (first + k, last - k), and what `CrossingModel` reads of it."""

    first: int
    last: int
    size: int
    score: float
    probability: float
    unpaired: float

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Its pairs, the outermost first."""
        return [(self.first + k, self.last - k) for k in range(self.size)]

    def log_odds(self, model: CrossingModel) -> float:
        """Of being real."""
        return (
            model.intercept
            + model.score * self.score
            + model.size * self.size
            + model.span * math.log((self.last - self.first) / 100)
            + model.probability * self.probability
            + model.unpaired * self.unpaired
        )


def crossing_candidates(
    sequence: str, first: Pairs, energies: Energies, pairs: Array, allowed: NDArray[np.bool_] | None = None
) -> list[Crossing]:
    """Helices of three pairs and more that the unpaired nucleotides of a nested structure could form across it.

    Args:
        sequence: normalised, L nucleotides.
        first: int64 [P, 2], the nested structure.
        energies: scores of the loops.
        pairs: float64 [L, L], probability of each pair over nested structures, upper triangle.
        allowed: bool [L, L], pairs that may form; None for all.
    """
    codes = codes_of(sequence)
    kind = KIND[codes[:, None], codes[None, :]]
    if allowed is not None:
        kind[~allowed] = -1
    free = np.ones(len(codes), bool)
    free[first.reshape(-1)] = False
    pair = np.ascontiguousarray(energies.pair[np.maximum(kind, 0)])
    alone = np.log(np.maximum(1 - pairs.sum(axis=0) - pairs.sum(axis=1), FAINTEST))
    found = []
    for i, j, size, score in _runs(kind, free, pair, energies.stack, LEAST_PAIRS):
        between = (first[:, 0] > i) & (first[:, 0] < j)
        if score >= LEAST_SCORE and (between != ((first[:, 1] > i) & (first[:, 1] < j))).any():
            left, right = np.arange(i, i + size), np.arange(j, j - size, -1)
            probability = math.log(float(pairs[left, right].mean()) + FAINTEST)
            found.append(Crossing(i, j, size, score, probability, float((alone[left] + alone[right]).mean())))
    return found


def crossing_helices(candidates: Sequence[Crossing], model: CrossingModel) -> Pairs:
    """Of the helices that are more likely real than not the likeliest one, then the next of what is left: pseudoknots.

    Returns:
        int64 [Q, 2]: their pairs, ascending.
    """
    scored = [(helix.log_odds(model), helix) for helix in candidates]
    chosen = sorted((x for x in scored if x[0] >= 0), key=lambda x: (-x[0], x[1].first, x[1].last))
    found: list[tuple[int, int]] = []
    used: set[int] = set()
    for _, helix in chosen:
        places = {place for pair in helix.pairs for place in pair}
        if not places & used:
            found += helix.pairs
            used |= places
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
