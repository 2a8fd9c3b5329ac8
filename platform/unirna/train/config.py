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
    """Settings of a run. Everything here but what is named in `FREE` decides the numbers.

    Attributes:
        size: a name in `unirna.model.SIZES`.
        objective: what the encoder is trained for: "masked" (predict hidden nucleotides), "contrastive" (members of one
            group of the corpus, or two views of one sequence, get similar vectors), or "both" on the same forward pass.
        init: a model whose weights the run starts from (a shipped name, a folder or a URI), with a fresh optimiser; empty
            for random weights.
        steps: optimiser steps. They may grow when a run goes on (`claim_run`).
        batch_tokens: tokens of one optimiser step over all workers.
        micro_tokens: tokens of one forward pass of one worker; divides `batch_tokens`.
        context: longest sequence in training, in nucleotides, longer ones are cropped at random; 0 takes the model's.
        mask_rate: share of the nucleotides to predict.
        group_share: share of the contrastive pairs that are two members of a group; the others are a sequence and its
            mutated self. mutation_rate: most changes of a mutated sequence, as a share of its nucleotides.
        token_dropout: rescale embeddings for the share of masked tokens (a property of the model).
        optimizer: "adamw", or "muon" for the matrices inside the layers and AdamW for the rest.
        learning_rate: peak; 0 takes the size's default. Muon's steps are scaled to the size of AdamW's.
        warmup_steps: steps of linear warm-up; 0 takes `warmup_share` of the steps.
        warmup_share, decay_share: shares of the steps for linear warm-up and for linear decay to zero at the end.
        weight_decay: of the matrices.
        clip: largest norm of the gradient.
        seed: of weights, data order and masks.
        precision: "fp32", "bf16" (autocast), or "auto": bf16 on CUDA, fp32 on the CPU.
        parallel: "ddp", "fsdp" (weights, gradients and optimiser sharded), or "auto": DDP up to L12.
        compile: run the layers through torch.compile.
        activation_checkpointing: keep each layer's input alone and compute the rest again in the backward pass.
        batch_processes: processes that make batches ahead; -1 takes none on the CPU and most of the cores beside a GPU.
        valid_every: steps between validations; also after the last step. valid_tokens: how much is validated on.
        whitening_sequences: training sequences on which the model's whitening is fitted at the end; 0 for none.
        vector_size: length of the vectors that it gives, at most the states of all layers side by side.
        checkpoint_every: steps between checkpoints. keep: how many of them stay.
        log_every: steps between log lines.
    """

    size: str = "nano"
    objective: str = "masked"
    init: str = ""
    steps: int = 300
    batch_tokens: int = 16384
    micro_tokens: int = 8192
    context: int = 0
    mask_rate: float = 0.15
    group_share: float = 1.0
    mutation_rate: float = 0.25
    token_dropout: bool = True
    optimizer: str = "adamw"
    learning_rate: float = 0.0
    warmup_steps: int = 0
    warmup_share: float = 0.05
    decay_share: float = 0.2
    weight_decay: float = 0.05
    clip: float = 1.0
    seed: int = 0
    precision: str = "auto"
    parallel: str = "auto"
    compile: bool = False
    activation_checkpointing: bool = False
    batch_processes: int = -1
    valid_every: int = 100
    valid_tokens: int = 65536
    whitening_sequences: int = 16384
    vector_size: int = 512
    checkpoint_every: int = 50
    keep: int = 2
    log_every: int = 10

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
