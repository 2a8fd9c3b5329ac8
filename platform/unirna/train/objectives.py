"""The objective that a run's settings name."""

from __future__ import annotations

from typing import Any

from unirna.corpus import Corpus
from unirna.model import Encoder
from unirna.train.batches import BatchSource
from unirna.train.config import TrainConfig
from unirna.train.contrastive import Contrastive, PairSource
from unirna.train.objective import MaskedLanguageModel, Objective


def build_objective(config: TrainConfig, encoder: Encoder, corpus: Corpus) -> Objective:
    """The objective that the settings name, over the training split."""
    common: dict[str, Any] = {
        "seed": config.seed,
        "budget": config.micro_tokens,
        "context": config.crop,
        "mask_rate": config.mask_rate,
    }
    if config.objective == "masked":
        return MaskedLanguageModel(encoder, BatchSource(corpus, **common))
    pairs = PairSource(corpus, **common, group_share=config.group_share, mutation_rate=config.mutation_rate)
    return Contrastive(encoder, pairs, masked_weight=float(config.objective == "both"))
