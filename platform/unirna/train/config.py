"""Settings of a pre-training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from unirna.model import SIZES

LEARNING_RATES: Final[Mapping[str, float]] = {
    "nano": 3e-3,
    "mini": 1e-3,
    "L8": 5e-4,
    "L12": 3e-4,
    "L16": 2e-4,
    "L24": 1.5e-4,
}
"""Peak learning rate of each size: falls with the width."""


class TrainError(ValueError):
    """A run that cannot start or go on: settings that do not fit each other or the run in the folder, or a loss of NaN."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run. Everything here but `checkpoint_every`, `log_every` and `keep` decides the numbers.

    Attributes:
        size: a name in `unirna.model.SIZES`.
        steps: optimiser steps.
        batch_tokens: tokens of one optimiser step over all workers.
        micro_tokens: tokens of one forward pass of one worker; divides `batch_tokens`.
        learning_rate: peak; 0 takes the size's default.
        warmup_share, decay_share: shares of the steps for linear warm-up and for linear decay to zero at the end.
        weight_decay: of the matrices (AdamW).
        clip: largest norm of the gradient.
        seed: of weights, data order and masks.
        valid_every: steps between validations; also after the last step. valid_tokens: how much is validated on.
        whitening_sequences: training sequences on which the model's whitening is fitted at the end; 0 for none.
        checkpoint_every: steps between checkpoints. keep: how many of them stay.
        log_every: steps between log lines.
    """

    size: str = "nano"
    steps: int = 300
    batch_tokens: int = 16384
    micro_tokens: int = 8192
    learning_rate: float = 0.0
    warmup_share: float = 0.05
    decay_share: float = 0.2
    weight_decay: float = 0.05
    clip: float = 1.0
    seed: int = 0
    valid_every: int = 100
    valid_tokens: int = 65536
    whitening_sequences: int = 2048
    checkpoint_every: int = 50
    keep: int = 2
    log_every: int = 10

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise TrainError(f"no size {self.size!r}. Sizes: {', '.join(SIZES)}")
        for field in ("steps", "batch_tokens", "micro_tokens", "checkpoint_every", "keep", "log_every", "valid_every"):
            if getattr(self, field) < 1:
                raise TrainError(f"{field} is {getattr(self, field)}: wanted at least 1")
        if self.batch_tokens % self.micro_tokens:
            raise TrainError(
                f"batch_tokens {self.batch_tokens} is no multiple of micro_tokens {self.micro_tokens}: an optimiser step "
                "is made of whole forward passes"
            )
        if self.warmup_share + self.decay_share > 1:
            raise TrainError("warmup_share and decay_share are more than 1 together")

    @property
    def num_micro(self) -> int:
        """Forward passes of one optimiser step, over all workers."""
        return self.batch_tokens // self.micro_tokens

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate between warm-up and decay."""
        return self.learning_rate or LEARNING_RATES[self.size]

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step, from 0: linear warm-up, a plateau, linear decay to zero."""
        warm = max(1, round(self.warmup_share * self.steps))
        decay = max(1, round(self.decay_share * self.steps))
        return self.peak_learning_rate * min(1.0, (step + 1) / warm, (self.steps - step) / decay)
