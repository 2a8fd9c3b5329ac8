"""Fine-tuning: the encoder, or adapters on it, trained with a linear head, in one plain loop that does not depend on Ray.

With several processes (torch.distributed) each takes its share of every batch, and the gradient is the same as on one.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from unirna.model import (
    Encoder,
    Pooling,
    adapters_of,
    add_adapters,
    load,
    load_checkpoint,
    merge_adapters,
    save_checkpoint,
)
from unirna.model.attention import Segments
from unirna.model.tensors import save_tensors
from unirna.runs import new_file, new_folder, write_json
from unirna.tasks.errors import TaskError
from unirna.tasks.finetuning.feed import Feed, Part, Rows, read_rows
from unirna.tasks.kinds.task import Task
from unirna.tasks.models.head import LinearHead

ADAPTERS = "adapters.safetensors"
START = "start.safetensors"
"""The head that a run begins with, in its folder."""


@dataclass(frozen=True)
class FullConfig:
    """Settings of full fine-tuning.

    Attributes:
        epochs: passes over the training rows, at most.
        patience: epochs without a lower validation loss after which training stops.
        batch_size: sequences of one optimiser step, over all workers.
        rank: of adapters that are trained instead of the encoder's own matrices (`unirna.model.add_adapters`); 0 for none.
        head_input: input of the head. "vector": the model's own vector, starting from the head of the frozen mode (Kumar et
            al. 2022, arXiv:2202.10054). "state": the mean of the last layer's states, starting from scratch.
        learning_rate: peak, of the encoder or its adapters; 0 takes 3e-4, with adapters 2e-3.
        head_learning_rate: of the head.
        weight_decay: of the matrices (AdamW). clip: largest norm of the gradient.
        warmup_share: share of the steps of linear warm-up; then linear decay to zero.
        seed: of the order of the rows.
    """

    epochs: int = 10
    patience: int = 3
    batch_size: int = 32
    rank: int = 0
    head_input: Literal["vector", "state"] = "state"
    learning_rate: float = 0.0
    head_learning_rate: float = 3e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("epochs", "patience", "batch_size"):
            if getattr(self, field) < 1:
                raise TaskError(f"{field} is {getattr(self, field)}: expected at least 1")
        if self.rank < 0 or self.learning_rate < 0:
            raise TaskError(f"rank {self.rank}, learning rate {self.learning_rate}: expected 0 or more")

    @property
    def peak_learning_rate(self) -> float:
        """Of the encoder or its adapters."""
        return self.learning_rate or (2e-3 if self.rank else 3e-4)


class EncoderWithHead(nn.Module):
    """An encoder with a linear head: the module whose gradients workers share.

    Args:
        encoder: changed in place. num_outputs: C. rank: of adapters, 0 for none.
        start: the head to begin with, on the encoder's vectors; without one it reads the mean of the last states.
    """

    def __init__(self, encoder: Encoder, num_outputs: int, rank: int = 0, start: LinearHead | None = None) -> None:
        super().__init__()
        encoder.lm_head = None  # predicts nucleotides, has no part here
        if start is None:
            encoder.whitening = None
        if rank:
            add_adapters(encoder, rank)
        if encoder.whitening is not None and encoder.whitening.layers:  # what comes behind them is not used
            for part in (encoder.final_norm, *encoder.layers[max(encoder.whitening.layers) :]):
                part.requires_grad_(False)
        self.encoder = encoder
        width = encoder.config.hidden_size if start is None else start.weight.shape[1]
        self.head = nn.Linear(width, num_outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        if start is not None:
            weight = torch.from_numpy(start.weight / start.scale)
            with torch.no_grad():
                self.head.weight.copy_(weight)
                self.head.bias.copy_(torch.from_numpy(start.bias) - weight @ torch.from_numpy(start.mean))

    def forward(self, tokens_T: Tensor, boundaries: Tensor, weights_T: Tensor, owner_T: Tensor, count: int) -> Tensor:
        """Outputs [count, C]; `weights_T` pools each token into `owner_T`: a sequence, as `embed`, or a nucleotide."""
        parts = []
        for state_TH in self.encoder.states(tokens_T, Segments(boundaries, tokens_T.device)):
            pooled = torch.zeros(count, state_TH.shape[1], device=state_TH.device)
            parts.append(pooled.index_add(0, owner_T, state_TH.float() * weights_T[:, None]))
        vectors = torch.cat(parts, dim=1)
        outputs: Tensor = self.head(vectors if self.encoder.whitening is None else self.encoder.whitening(vectors))
        return outputs


def train_full(
    config: FullConfig,
    work: Path,
    task: Task,
    num_outputs: int,
    pooling: Pooling = "mean",
    report: Callable[[float], None] = lambda loss: None,
) -> None:
    """Train from `<work>/base/` (a checkpoint) on `<work>/train.npz`, and leave the best epoch in `<work>/best/`.

    The best epoch is the one with the lowest validation loss, the beginning counted in where there is a head to begin with
    (`<work>/start.safetensors`): training does not make it worse. After every epoch the state goes to `<work>/state.pt`
    and the epochs' records to `<work>/epochs.json`; a run that finds a state goes on after it, and one that finds
    `<work>/done` returns at once.

    Args:
        config: the settings.
        work: a folder that all workers see.
        task: whose loss is lowered; measured values are best given in units of their deviation from their mean.
        num_outputs: C. pooling: which nucleotides the head reads, for a task of sequences.
        report: is told the validation loss of each epoch, those of an earlier run first.
    """
    torch.set_flush_denormal(True)  # attention's tiniest weights would cost the CPU half of its speed
    try:
        _train(config, work, task, num_outputs, pooling, report)
    finally:
        torch.set_flush_denormal(False)  # it is a setting of the whole process


def _train(
    config: FullConfig, work: Path, task: Task, num_outputs: int, pooling: Pooling, report: Callable[[float], None]
) -> None:
    # ---- where we are
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    if config.batch_size < 2 * world:
        raise TaskError(f"batch size {config.batch_size} over {world} workers: expected at least {2 * world}")
    for earlier in read_epochs(work):
        report(earlier["valid_loss"])
    if (work / "done").exists():
        return

    # ---- data, model, optimiser
    train, valid = read_rows(work / "train.npz"), read_rows(work / "valid.npz")
    base = load(work / "base")
    device, windows, budget = base.device, base.windows, base.batch_tokens
    torch.manual_seed(config.seed)
    start = LinearHead.load(work / START) if config.head_input == "vector" else None
    classifier = EncoderWithHead(base.encoder, num_outputs, config.rank, start).to(device)
    optimizer = _optimizer(classifier, config)
    history, best = _restore(work, classifier, optimizer)
    model: nn.Module = classifier
    without_sync: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    if world > 1:
        shared = DistributedDataParallel(classifier)
        model, without_sync = shared, shared.no_sync
    feed = Feed(windows, budget, device, "each" if task.level == "nucleotide" else pooling)
    if start is not None and not history:
        best, score = _validate(classifier, task, feed, valid, rank, world)
        if rank == 0:
            _save_best(work, classifier, config.rank)
            (work / "start.json").write_text(
                json.dumps({"valid_loss": round(best, 6), "valid_score": round(score, 6)}), encoding="utf-8"
            )
    steps_per_epoch = _num_batches(len(train.tokens), config.batch_size)
    per_row = train.known / len(train.tokens)
    steps = config.epochs * steps_per_epoch

    # ---- epochs
    for epoch in range(len(history), config.epochs):
        if _stale(history, config.patience):
            break
        started = time.monotonic()
        model.train()
        total = 0.0
        for number, batch in enumerate(_batches(len(train.tokens), config.batch_size, config.seed, epoch)):
            step = epoch * steps_per_epoch + number
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * _schedule(step, steps, config.warmup_share)
            parts = list(feed.parts(train, batch[rank::world]))
            for i, part in enumerate(parts):
                with contextlib.nullcontext() if i == len(parts) - 1 else without_sync():
                    logits = _logits(model, part)
                    loss = task.loss(logits, part.truth)
                    # DDP averages over the workers, the batch's mean is over its rows
                    (loss * world / (len(batch) * per_row)).backward()
                total += float(loss.detach())
            torch.nn.utils.clip_grad_norm_(classifier.parameters(), config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        train_loss = float(_sum_over_workers(torch.tensor([total], dtype=torch.float64), device)) / train.known
        if not math.isfinite(train_loss):
            raise TaskError(f"the loss is {train_loss} in epoch {epoch + 1}. Lower the learning rate")
        valid_loss, score = _validate(classifier, task, feed, valid, rank, world)
        record = {
            "epoch": epoch + 1,
            "loss": round(train_loss, 6),
            "valid_loss": round(valid_loss, 6),
            "valid_score": round(score, 6),
            "score": task.primary.name,
            "seconds": round(time.monotonic() - started, 2),
        }
        history.append(record)
        if valid_loss < best:
            best = valid_loss
            if rank == 0:
                _save_best(work, classifier, config.rank)
        if rank == 0:
            _save_state(work, classifier, optimizer, history, best)
        report(valid_loss)

    # ---- the end
    if rank == 0:
        (work / "done").touch()
    if world > 1:
        dist.barrier()


# ---- batches -------------------------------------------------------------------------------------------------------


def _num_batches(rows: int, batch_size: int) -> int:
    return max(1, -(-rows // batch_size))


def _batches(rows: int, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """All rows in a random order, in batches whose sizes differ by one at most, so that no worker's share is empty."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    return np.array_split(order, _num_batches(rows, batch_size))


def _logits(model: nn.Module, part: Part, *, half: bool = True) -> Tensor:
    device = part.truth.device.type
    with torch.autocast(device, torch.bfloat16, enabled=half and device == "cuda"):
        logits: Tensor = model(*part.inputs)
    return logits.float()


def _validate(
    classifier: EncoderWithHead, task: Task, feed: Feed, valid: Rows, rank: int, world: int
) -> tuple[float, float]:
    """Mean loss, and the task's primary metric, over the validation rows of all workers."""
    classifier.eval()
    loss = torch.zeros((), dtype=torch.float64)
    outputs = torch.zeros(len(valid.truth), classifier.head.out_features, dtype=torch.float64)
    with torch.inference_mode():
        for part in feed.parts(valid, np.arange(rank, len(valid.tokens), world)):
            logits = _logits(classifier, part, half=classifier.encoder.whitening is None)  # as `Model.embed` does
            loss += float(task.loss(logits, part.truth))
            outputs[torch.from_numpy(part.units)] = logits.double().cpu()
    device = next(classifier.parameters()).device
    known = np.isfinite(valid.truth).reshape(len(valid.truth), -1).any(axis=1)
    score = task.primary.compute(valid.truth[known], task.answer(_sum_over_workers(outputs, device).numpy()[known]))
    return float(_sum_over_workers(loss, device)) / valid.known, score


def _sum_over_workers(values: Tensor, device: torch.device) -> Tensor:
    """Each number summed over the workers, on the CPU."""
    if not dist.is_initialized():
        return values
    values = values.to(device)
    dist.all_reduce(values)
    return values.cpu()


# ---- optimiser and state -------------------------------------------------------------------------------------------


def _optimizer(classifier: EncoderWithHead, config: FullConfig) -> torch.optim.Optimizer:
    encoder = [p for p in classifier.encoder.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in encoder if p.ndim > 1], "peak": config.peak_learning_rate},
        {"params": [p for p in encoder if p.ndim <= 1], "peak": config.peak_learning_rate, "weight_decay": 0.0},
        {"params": list(classifier.head.parameters()), "peak": config.head_learning_rate},
    ]
    return torch.optim.AdamW(groups, lr=config.peak_learning_rate, weight_decay=config.weight_decay)


def _schedule(step: int, steps: int, warmup_share: float) -> float:
    warm = max(1, round(warmup_share * steps))
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def _stale(history: list[dict[str, Any]], patience: int) -> bool:
    losses = [record["valid_loss"] for record in history]
    return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def _save_best(work: Path, classifier: EncoderWithHead, rank: int) -> None:
    size = classifier.head.in_features
    weight, bias = (p.detach().cpu().numpy() for p in (classifier.head.weight, classifier.head.bias))
    head = LinearHead(weight, bias, np.zeros(size, np.float32), np.ones(size, np.float32))
    with new_folder(work / "best") as part:
        if rank:
            save_tensors(adapters_of(classifier.encoder), part / ADAPTERS)
        else:
            save_checkpoint(classifier.encoder, part)
        head.save(part / "head.safetensors")


def _save_state(
    work: Path, classifier: EncoderWithHead, optimizer: torch.optim.Optimizer, history: list[dict[str, Any]], best: float
) -> None:
    state = {"model": classifier.state_dict(), "optimizer": optimizer.state_dict(), "history": history, "best": best}
    with new_file(work / "state.pt") as part:
        torch.save(state, part)
    write_json(work / "epochs.json", history)


def _restore(
    work: Path, classifier: EncoderWithHead, optimizer: torch.optim.Optimizer
) -> tuple[list[dict[str, Any]], float]:
    """Load the state of the last finished epoch; returns the epochs' records and the lowest validation loss so far."""
    if not (work / "state.pt").exists():
        return [], math.inf
    state = torch.load(work / "state.pt", map_location="cpu", weights_only=True)
    classifier.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    history: list[dict[str, Any]] = state["history"]
    return history, float(state["best"])


def read_epochs(work: Path) -> list[dict[str, Any]]:
    """The records of the finished epochs: epoch, loss, valid_loss, valid_score and what it is (score), seconds."""
    path = work / "epochs.json"
    records: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return records


def read_start(work: Path) -> dict[str, float]:
    """`valid_loss` and `valid_score` of the head that training began with; empty if it began with none."""
    path = work / "start.json"
    start: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return start


def read_best(work: Path) -> tuple[Encoder, LinearHead, dict[str, Tensor]]:
    """The best epoch's encoder and head, and its adapters, which stand in the encoder already; none where it has none."""
    head = LinearHead.load(work / "best" / "head.safetensors")
    if not (work / "best" / ADAPTERS).exists():
        return load_checkpoint(work / "best"), head, {}
    encoder, adapters = load_checkpoint(work / "base"), load_file(work / "best" / ADAPTERS)
    merge_adapters(encoder, adapters, whitened=(work / START).exists())
    return encoder, head, adapters
