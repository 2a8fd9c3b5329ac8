"""Settings of a pre-training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from unirna.model import SIZES, EncoderConfig

LEARNING_RATES: Final[Mapping[str, float]] = {
    "nano": 3e-3,
    "mini": 1e-3,
    "L8": 5e-4,
    "L12": 3e-4,
    "L16": 2e-4,
    "L24": 1.5e-4,
}
"""Peak learning rate of each size: falls with the width."""

OBJECTIVES: Final = ("masked", "contrastive", "both")
OPTIMIZERS: Final = ("adamw", "muon")
PRECISIONS: Final = ("auto", "fp32", "bf16")
PARALLEL: Final = ("auto", "ddp", "fsdp")

FREE: Final = frozenset(
    {"checkpoint_every", "log_every", "keep", "parallel", "compile", "activation_checkpointing", "batch_processes"}
)
"""Settings that may change from one start of a run to the next: they decide no numbers (beyond rounding)."""


class TrainError(ValueError):
    """A run that cannot start or go on: settings that do not fit each other or the run in the folder, or a loss of NaN."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run. Everything here but what is named in `FREE` decides the numbers."""

    size: str = "nano"
    """Size of the model: nano, mini, L8, L12, L16 or L24."""
    objective: str = "masked"
    """What is trained: masked, contrastive or both."""
    init: str = ""
    """A model to start from (shipped name, folder or URI), with a fresh optimiser; random weights without."""
    steps: int = 300
    """Optimiser steps; more of them extend a run."""
    batch_tokens: int = 16384
    """Tokens of one step over all workers."""
    micro_tokens: int = 8192
    """Tokens of one forward pass of one worker."""
    context: int = 0
    """Longest sequence in training, in nucleotides; longer ones are cropped at random. 0 takes the model's."""
    mask_rate: float = 0.15
    """Share of the nucleotides to predict."""
    group_share: float = 1.0
    """Contrastive: share of the pairs that are two members of a group; the others are a sequence and its mutated self."""
    mutation_rate: float = 0.25
    """Contrastive: most changes of a mutated sequence, as a share of its nucleotides."""
    token_dropout: bool = True
    """Rescale embeddings for the share of masked tokens."""
    optimizer: str = "adamw"
    """adamw, or muon for the matrices inside the layers."""
    learning_rate: float = 0.0
    """Peak learning rate; 0 takes the size's default."""
    warmup_steps: int = 0
    """Steps of linear warm-up; 0 takes a share of the steps."""
    warmup_share: float = 0.05
    """Share of the steps for warm-up."""
    decay_share: float = 0.2
    """Share of the steps for the decay at the end."""
    weight_decay: float = 0.05
    """Weight decay of the matrices."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    seed: int = 0
    """Seed of weights, data order and masks."""
    precision: str = "auto"
    """fp32, bf16, or auto: bf16 on GPUs, fp32 on CPUs."""
    parallel: str = "auto"
    """ddp, fsdp, or auto: DDP up to L12."""
    compile: bool = False
    """Run the layers through torch.compile."""
    activation_checkpointing: bool = False
    """Less memory for a third more work."""
    batch_processes: int = -1
    """Processes that make batches ahead; -1: none on the CPU, most of the cores beside a GPU."""
    valid_every: int = 100
    """Steps between validations."""
    valid_tokens: int = 65536
    """Tokens of the held-out sequences to validate on."""
    whitening_sequences: int = 16384
    """Training sequences on which the vectors' whitening is fitted at the end; 0 for none."""
    vector_size: int = 512
    """Length of the vectors that the whitening gives, at most the states of all layers side by side."""
    checkpoint_every: int = 50
    """Steps between checkpoints."""
    keep: int = 2
    """Checkpoints that stay, beside the one before the decay and the best model."""
    log_every: int = 10
    """Steps between log lines."""

    def __post_init__(self) -> None:
        choices = {
            "size": tuple(SIZES),
            "objective": OBJECTIVES,
            "optimizer": OPTIMIZERS,
            "precision": PRECISIONS,
            "parallel": PARALLEL,
        }
        for field, names in choices.items():
            if getattr(self, field) not in names:
                raise TrainError(f"no {field} {getattr(self, field)!r}. {field.capitalize()}s: {', '.join(names)}")
        for field in ("steps", "batch_tokens", "micro_tokens", "checkpoint_every", "keep", "log_every", "valid_every"):
            if getattr(self, field) < 1:
                raise TrainError(f"{field} is {getattr(self, field)}: expected at least 1")
        if self.batch_tokens % self.micro_tokens:
            raise TrainError(
                f"batch_tokens {self.batch_tokens} is no multiple of micro_tokens {self.micro_tokens}: an optimiser step "
                "is made of whole forward passes"
            )
        if self.warmup_share + self.decay_share > 1:
            raise TrainError("warmup_share and decay_share are more than 1 together")
        if not 0 < self.mask_rate < 1:
            raise TrainError(f"mask_rate is {self.mask_rate}: expected a share between 0 and 1, such as 0.15")
        for field in ("group_share", "mutation_rate"):
            if not 0 <= getattr(self, field) <= 1:
                raise TrainError(f"{field} is {getattr(self, field)}: expected a share between 0 and 1")
        longest = SIZES[self.size].context
        if not 0 <= self.context <= longest:
            raise TrainError(
                f"context is {self.context}: {self.size} takes up to {longest} nucleotides (0 for all of them)"
            )
        if self.optimizer == "muon" and self.parallelism == "fsdp":
            raise TrainError("muon needs whole matrices and fsdp shards them. Use optimizer adamw, or parallel ddp")

    @property
    def encoder(self) -> EncoderConfig:
        """Shape of the encoder."""
        return replace(SIZES[self.size], token_dropout=self.token_dropout)

    @property
    def crop(self) -> int:
        """Longest sequence in training, in nucleotides."""
        return self.context or self.encoder.context

    @property
    def parallelism(self) -> str:
        """ "ddp" or "fsdp". From L16 on weights, gradients and optimiser states are worth sharding."""
        if self.parallel != "auto":
            return self.parallel
        return "ddp" if self.encoder.num_parameters < 150e6 else "fsdp"

    @property
    def num_micro(self) -> int:
        """Forward passes of one optimiser step, over all workers."""
        return self.batch_tokens // self.micro_tokens

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate between warm-up and decay."""
        return self.learning_rate or LEARNING_RATES[self.size]

    @property
    def num_warmup(self) -> int:
        """Steps of the warm-up."""
        return self.warmup_steps or max(1, round(self.warmup_share * self.steps))

    @property
    def decay_start(self) -> int:
        """The first step of the decay: up to there a run is the same as a longer one."""
        return self.steps - max(1, round(self.decay_share * self.steps))

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step, from 0: linear warm-up, a plateau, linear decay to zero."""
        decay = self.steps - self.decay_start
        return self.peak_learning_rate * min(1.0, (step + 1) / self.num_warmup, (self.steps - step) / decay)
