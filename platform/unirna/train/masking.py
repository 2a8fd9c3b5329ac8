"""Which nucleotides are to be predicted, and how they are hidden: 80 % masked, 10 % replaced, 10 % left.

As in BERT (Devlin et al. 2019).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unirna.model import MASK, NUCLEOTIDES

MASK_RATE = 0.15
"""Share of the nucleotides to predict, if nothing else is said; always at validation, so that runs can be compared."""


def mask_tokens(
    tokens: NDArray[np.uint8], random: np.random.Generator, rate: float = MASK_RATE
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Choose the tokens to predict and hide them.

    Args:
        tokens: uint8 [T].
        random: the only source of chance.
        rate: share of the nucleotides that is chosen.

    Returns:
        The input with `<mask>` at 80 % and a random nucleotide at 10 % of the chosen places [T], the chosen places
        int64 [M], and what stood there int64 [M].
    """
    candidates = np.flatnonzero(np.isin(tokens, NUCLEOTIDES))
    chosen = candidates[random.random(len(candidates)) < rate]
    if not len(chosen) and len(candidates):
        chosen = candidates[random.integers(len(candidates), size=1)]
    fate = random.random(len(chosen))
    hidden = tokens.copy()
    hidden[chosen[fate < 0.8]] = MASK
    replaced = chosen[(fate >= 0.8) & (fate < 0.9)]
    hidden[replaced] = random.choice(NUCLEOTIDES, len(replaced))
    return hidden, chosen.astype(np.int64), tokens[chosen].astype(np.int64)
