"""What an encoder is trained for. The loop asks an objective for a batch and calls it for the loss; it knows no more.

A new objective is a subclass with its own `batch` and `forward`, a name in `config.OBJECTIVES` and a line in
`build_objective`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from unirna.corpus import Corpus
from unirna.model import Encoder
from unirna.model.attention import Segments
from unirna.train.batches import BatchSource, MaskedBatch
from unirna.train.config import TrainConfig

Metrics = dict[str, Tensor]


class Batch(Protocol):
    """One forward pass's input: arrays for `Objective.forward`, and the lengths that say how much work it is."""

    @property
    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """What `forward` takes, in its order; the workers' loop moves them to the device."""
        ...

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        ...


class Objective(nn.Module):
    """An encoder with an objective on top: the module whose gradients the workers share."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        if encoder.lm_head is None:
            raise ValueError("the encoder has no language-model head: it cannot be pre-trained")
        self.encoder = encoder

    def batch(self, step: int, number: int) -> Batch:
        """Forward pass `number` of optimiser step `step`: a function of these and of the seed alone."""
        raise NotImplementedError

    def forward(self, *arrays: Tensor) -> tuple[Tensor, Metrics]:
        """The loss of a batch, and numbers to log, each a mean over the batch."""
        raise NotImplementedError

    def score(self, tokens_T: Tensor, boundaries: Tensor, places_M: Tensor, targets_M: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy in nats [M] at the chosen places, and whether each was predicted right [M].

        Validation calls it whatever the objective is: every checkpoint has the masked-language-model head.
        """
        return self.losses(tokens_T, boundaries, places_M, targets_M)

    def losses(self, tokens_T: Tensor, boundaries: Tensor, places_M: Tensor, targets_M: Tensor) -> tuple[Tensor, Tensor]:
        """`score`, for use inside `forward`: with sharded weights `score` is an entry of its own, which gathers them."""
        hidden_TH = self.encoder(tokens_T.int(), Segments(boundaries, tokens_T.device))
        assert self.encoder.lm_head is not None
        # index_select, not brackets: its gradient is one index_add, that of brackets a serial scatter on the CPU.
        logits = self.encoder.lm_head(hidden_TH.index_select(0, places_M)).float()
        return F.cross_entropy(logits, targets_M, reduction="none"), logits.argmax(-1) == targets_M


class MaskedLanguageModel(Objective):
    """The masked-language-model objective: predict the hidden nucleotides."""

    def __init__(self, encoder: Encoder, source: BatchSource | None = None) -> None:
        super().__init__(encoder)
        self.source = source

    def batch(self, step: int, number: int) -> MaskedBatch:
        """Masked sequences, packed to the token budget."""
        assert self.source is not None
        return self.source.batch(step, number)

    def forward(self, *arrays: Tensor) -> tuple[Tensor, Metrics]:
        """Mean cross-entropy in nats over the chosen places, and the share predicted right."""
        loss_M, right_M = self.losses(*arrays)
        return loss_M.mean(), {"accuracy": right_M.float().mean()}


def build_objective(config: TrainConfig, encoder: Encoder, corpus: Corpus) -> Objective:
    """The objective that the settings name, over the training split."""
    from unirna.train.contrastive import Contrastive, PairSource  # it builds on this module

    kind = BatchSource if config.objective == "masked" else PairSource
    source = kind(corpus, seed=config.seed, budget=config.micro_tokens, context=config.crop, mask_rate=config.mask_rate)
    if isinstance(source, BatchSource):
        return MaskedLanguageModel(encoder, source)
    return Contrastive(encoder, source, masked_weight=float(config.objective == "both"))


def to_device(batch: Batch, device: torch.device) -> list[Tensor]:
    """A batch's arrays as tensors on the device."""
    tensors = [torch.from_numpy(array) for array in batch.arrays]
    if device.type == "cuda":
        return [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]
    return tensors
