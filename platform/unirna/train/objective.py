"""What an encoder is trained for. The loop asks an objective for a batch and calls it for the loss; it knows no more.

A new objective is a subclass with its own `forward` and a source of batches, a name in `config.OBJECTIVES` and a line in
`unirna.train.objectives`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unirna.model import Encoder
from unirna.model.attention import Segments
from unirna.train.batches import Batch
from unirna.train.prefetch import BatchProvider

Metrics = dict[str, Tensor]


class Objective(nn.Module):
    """An encoder with an objective on top: the module whose gradients the workers share.

    Args:
        encoder: what is trained.
        source: of its batches; none is needed to validate.
    """

    def __init__(self, encoder: Encoder, source: BatchProvider | None = None) -> None:
        super().__init__()
        self.source = source
        if encoder.lm_head is None:
            raise ValueError("the encoder has no language-model head: it cannot be pre-trained")
        self.encoder = encoder

    def batch(self, step: int, number: int) -> Batch:
        """Forward pass `number` of optimiser step `step`: a function of these and of the seed alone."""
        assert self.source is not None
        return self.source.batch(step, number)

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

    def forward(self, *arrays: Tensor) -> tuple[Tensor, Metrics]:
        """Mean cross-entropy in nats over the chosen places, and the share predicted right."""
        loss_M, right_M = self.losses(*arrays)
        return loss_M.mean(), {"accuracy": right_M.float().mean()}


def to_device(batch: Batch, device: torch.device) -> list[Tensor]:
    """A batch's arrays as tensors on the device."""
    tensors = [torch.from_numpy(array) for array in batch.arrays]
    if device.type == "cuda":
        return [tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors]
    return tensors
