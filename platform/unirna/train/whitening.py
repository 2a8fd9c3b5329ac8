"""The map from mean states to vectors, fitted on the sequences of a corpus."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unirna.corpus import Corpus
from unirna.model import Encoder, Model, Whitening, fit_whitening, pooled_layers

GROUP_SHARE = 16
"""Members of one group on which the whitening is fitted, at most: a large family should not decide it alone."""

MIN_GROUPED = 1000
"""Fewer members of groups than this are no ground for a whitening by groups."""


def corpus_whitening(
    encoder: Encoder, corpus: Corpus, size: int, *, sequences: int = 16384, seed: int = 0
) -> Whitening | None:
    """Fit an encoder's whitening on members of a corpus's groups, or on any of its sequences where these are few.

    Args:
        encoder: whole; where it lies is where the work is done. A whitening that it has plays no part.
        corpus: training sequences. size: of the vectors that the map gives.
        sequences: how many are used, at most. seed: of their choice.

    Returns:
        None if the sequences are too few for any (`fit_whitening`).
    """
    random = np.random.default_rng(seed)
    grouped = _group_members(corpus, random)
    groups = None
    if len(grouped) > MIN_GROUPED:
        chosen = grouped[random.permutation(len(grouped))][:sequences]
        groups = corpus.group_numbers()[chosen]
    else:
        chosen = random.permutation(len(corpus))[:sequences]
    tokens = [corpus[int(i)][: encoder.config.context] for i in chosen]
    device = encoder.embedding.weight.device
    before = encoder.whitening
    try:
        for layers in (pooled_layers(encoder.config), ()):  # too few for all layers may be enough for the last state
            encoder.whitening = Whitening.identity(encoder.config, layers).to(device)
            states = Model(encoder, "", device).embed_tokens(tokens)
            if whitening := fit_whitening(states, size, groups, layers):
                return whitening
    finally:
        encoder.whitening = before
    return None


def _group_members(corpus: Corpus, random: np.random.Generator) -> NDArray[np.int64]:
    """Indices of up to `GROUP_SHARE` members of each group that has several, in the order of the corpus."""
    numbers = corpus.group_numbers()
    order = random.permutation(len(numbers))
    order = order[np.argsort(numbers[order], kind="stable")]
    ranked = numbers[order]
    starts = np.searchsorted(ranked, ranked)
    sizes = np.searchsorted(ranked, ranked, side="right") - starts
    wanted = (ranked >= 0) & (sizes > 1) & (np.arange(len(order)) - starts < GROUP_SHARE)
    return np.sort(order[wanted])
