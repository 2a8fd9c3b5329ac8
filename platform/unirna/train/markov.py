"""What counting k-mers predicts: the baselines that a language model must beat to have learned anything.

Three predictors of a nucleotide, fitted on the training split: its frequency alone (unigram); the k nucleotides before
it (a Markov chain of order k); and the k nucleotides on either side, which is fair to a model that sees both. Longer
contexts fall back on shorter ones (interpolation with a Dirichlet prior, MacKay and Peto 1995):
p_k(x | c) = (n(c, x) + a p_{k-1}(x | c')) / (n(c) + a), where c' is c without its farthest nucleotides.
k and a are chosen on the held-out sequences themselves, which flatters these baselines. They also see the true
nucleotides around the position in question, where the model sees masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unirna.corpus import Corpus

LEFT = 8
"""Longest context before a nucleotide."""
BOTH = 5
"""Longest context on each side of a nucleotide: 4^11 counts."""
PRIORS = (1.0, 4.0, 16.0, 64.0, 256.0)
"""Weights of the shorter context among which the best is taken."""
NUM_COUNTED = 20_000_000
"""Nucleotides that are counted: the whole training split, or sequences drawn from it."""
CHUNK = 1 << 20
"""Nucleotides that are counted at once."""

_CODES = np.full(10, 4, np.int64)
_CODES[[5, 7, 8, 9]] = np.arange(4)  # the tokens of A, C, G, U

Tokens = NDArray[np.uint8]
Floats = NDArray[np.float64]
KmerCounts = list[NDArray[np.int64]]


@dataclass(frozen=True)
class TargetPosition:
    """A nucleotide to predict: its place in `tokens`, uint8 [L], the whole sequence."""

    tokens: Tokens
    place: int


@dataclass(frozen=True)
class Prediction:
    """What a baseline gave for each place.

    Attributes:
        name: "unigram", "markov" or "markov_both". context: nucleotides before, or on each side.
        losses: negative log probability in nats, float64 [M]. right: whether the likeliest nucleotide was right, bool [M].
    """

    name: str
    context: int
    losses: Floats
    right: NDArray[np.bool_]


def sample_sequences(corpus: Corpus, seed: int, nucleotides: int = NUM_COUNTED) -> Iterator[Tokens]:
    """All sequences of a split if they have at most this many nucleotides, else sequences drawn at random up to that
    many."""
    if corpus.num_tokens <= nucleotides:
        yield from (corpus[i] for i in range(len(corpus)))
        return
    random = np.random.default_rng(seed)
    while nucleotides > 0:
        tokens = corpus[int(random.integers(len(corpus)))]
        nucleotides -= len(tokens)
        yield tokens


def count_kmers(sequences: Iterable[Tokens], longest: int = max(LEFT + 1, 2 * BOTH + 1)) -> KmerCounts:
    """Counts of each k-mer of 0 to `longest` nucleotides in the sequences: entry k is int64 [4^k], A C G U as digits.

    K-mers with an `N`, and k-mers that cross the end of a sequence, are not counted.
    """
    counts = [np.zeros(4**k, np.int64) for k in range(longest + 1)]
    for chunk in _chunks(sequences):
        kmers, good = np.zeros(len(chunk) + 1, np.int64), np.ones(len(chunk) + 1, bool)
        counts[0][0] += len(chunk)
        for k in range(1, longest + 1):
            last = chunk[k - 1 :]  # each (k - 1)-mer, and the one after it
            if not len(last):
                break
            kmers, good = 4 * kmers[: len(last)] + last, good[: len(last)] & (last < 4)
            counts[k] += np.bincount(kmers[good], minlength=4**k)
    return counts


def _chunks(sequences: Iterable[Tokens]) -> Iterator[NDArray[np.int64]]:
    """Codes of many sequences end to end, a 4 after each."""
    stop = np.array([4], np.int64)
    parts: KmerCounts = []
    size = 0
    for tokens in sequences:
        parts += [_CODES[tokens], stop]
        size += len(tokens)
        if size >= CHUNK:
            yield np.concatenate(parts)
            parts, size = [], 0
    if parts:
        yield np.concatenate(parts)


def tables_left(counts: KmerCounts, longest: int, prior: float) -> list[Floats]:
    """P(x | the k nucleotides before): float64 [4^k, 4] for k from 0 to `longest`."""
    tables = [_unigram(counts)]
    for k in range(1, longest + 1):
        seen = counts[k + 1].reshape(4**k, 4)
        shorter = np.tile(tables[-1], (4, 1))  # the first digit, the farthest nucleotide, left out
        tables.append((seen + prior * shorter) / (seen.sum(1, keepdims=True) + prior))
    return tables


def tables_both(counts: KmerCounts, longest: int, prior: float) -> list[Floats]:
    """P(x | the k nucleotides before and after): float64 [4^k, 4^k, 4] for k from 0 to `longest`."""
    tables = [_unigram(counts).reshape(1, 1, 4)]
    for k in range(1, longest + 1):
        seen = counts[2 * k + 1].reshape(4**k, 4, 4**k).swapaxes(1, 2)
        shorter = np.repeat(np.tile(tables[-1], (4, 1, 1)), 4, axis=1)
        tables.append((seen + prior * shorter) / (seen.sum(2, keepdims=True) + prior))
    return tables


def _unigram(counts: KmerCounts) -> Floats:
    shares: Floats = (counts[1] + 1.0) / (counts[1].sum() + 4)
    return shares.reshape(1, 4)


def predict(counts: KmerCounts, places: list[TargetPosition]) -> list[Prediction]:
    """Predict held-out nucleotides with each baseline, at the context length and prior that do best on them."""
    left, right, target = _contexts(places, max(LEFT, BOTH))
    rows = np.arange(len(target))

    def of(name: str, context: int, given: Floats) -> Prediction:
        return Prediction(name, context, -np.log(given[rows, target]), given.argmax(1) == target)

    found = [of("unigram", 0, np.tile(_unigram(counts), (len(target), 1)))]
    best: dict[str, Prediction] = {}
    for prior in PRIORS:
        before, around = tables_left(counts, LEFT, prior), tables_both(counts, BOTH, prior)
        given = {"markov": np.tile(before[0], (len(target), 1)), "markov_both": np.tile(around[0][0], (len(target), 1))}
        for k in range(1, LEFT + 1):
            known = left[k] >= 0  # elsewhere the end of the sequence is nearer: the shorter context stays
            given["markov"][known] = before[k][left[k][known]]
            if k <= BOTH:
                known &= right[k] >= 0
                given["markov_both"][known] = around[k][left[k][known], right[k][known]]
            for name in ("markov", "markov_both")[: 2 if k <= BOTH else 1]:
                new = of(name, k, given[name])
                if name not in best or new.losses.mean() < best[name].losses.mean():
                    best[name] = new
    return [*found, best["markov"], best["markov_both"]]


def _contexts(places: list[TargetPosition], longest: int) -> tuple[KmerCounts, KmerCounts, NDArray[np.int64]]:
    """Contexts of 0 to `longest` nucleotides before and after each position: int64 [M] each, -1 if shorter; and targets."""
    windows = np.full((len(places), 2 * longest + 1), 4, np.int64)
    for row, (tokens, place) in enumerate((p.tokens, p.place) for p in places):
        start, end = max(0, place - longest), min(len(tokens), place + longest + 1)
        windows[row, start - place + longest : end - place + longest] = _CODES[tokens[start:end]]
    left = [np.zeros(len(places), np.int64)]
    right = [np.zeros(len(places), np.int64)]
    for k in range(1, longest + 1):
        before, after = windows[:, longest - k], windows[:, longest + k]
        left.append(np.where((left[-1] >= 0) & (before < 4), left[-1] + before * 4 ** (k - 1), -1))
        right.append(np.where((right[-1] >= 0) & (after < 4), 4 * right[-1] + after, -1))
    return left, right, windows[:, longest]
