"""The masked-language-model objective: 15 % chosen; 80 % masked, 10 % replaced, 10 % left (Devlin et al. 2019)."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from unirna.model import MASK, Encoder
from unirna.model.attention import Segments

CHOSEN_SHARE = 0.15
NUCLEOTIDES = np.array([5, 7, 8, 9], np.uint8)
"""Tokens of A, C, G and U: what is predicted. `N` and the special tokens never are."""


def mask_tokens(
    tokens: NDArray[np.uint8], random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Choose the tokens to predict and hide them.

    Args:
        tokens: uint8 [T].
        random: the only source of chance.

    Returns:
        The input with `<mask>` at 80 % and a random nucleotide at 10 % of the chosen places [T], the chosen places
        int64 [M], and what stood there int64 [M].
    """
    candidates = np.flatnonzero(np.isin(tokens, NUCLEOTIDES))
    chosen = candidates[random.random(len(candidates)) < CHOSEN_SHARE]
    if not len(chosen) and len(candidates):
        chosen = candidates[random.integers(len(candidates), size=1)]
    fate = random.random(len(chosen))
    hidden = tokens.copy()
    hidden[chosen[fate < 0.8]] = MASK
    replaced = chosen[(fate >= 0.8) & (fate < 0.9)]
    hidden[replaced] = random.choice(NUCLEOTIDES, len(replaced))
    return hidden, chosen.astype(np.int64), tokens[chosen].astype(np.int64)


class MaskedLanguageModel(nn.Module):
    """An encoder with the objective on top: the module whose gradients the workers share."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        if encoder.lm_head is None:
            raise ValueError("the encoder has no language-model head: it cannot be pre-trained")
        self.encoder = encoder

    def forward(self, tokens_T: Tensor, boundaries: Tensor, places_M: Tensor, targets_M: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy in nats over the M chosen places, and how many were predicted right."""
        hidden_TH = self.encoder(tokens_T, Segments(boundaries, tokens_T.device))
        assert self.encoder.lm_head is not None
        logits = self.encoder.lm_head(hidden_TH[places_M]).float()
        return F.cross_entropy(logits, targets_M), (logits.argmax(-1) == targets_M).sum()
