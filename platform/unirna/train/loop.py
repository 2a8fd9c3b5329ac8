"""The training loop. It knows nothing of Ray: with torch.distributed it is one of several workers, without it runs alone.

Killed at any moment and called again with the same settings and folder, it goes on from the last checkpoint, and since
batches are a function of the step, with the same numbers as if it had never stopped.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from unirna.corpus import Corpus
from unirna.model import SIZES, Encoder, Model, Whitening, fit_whitening
from unirna.train.batches import BatchSource, MaskedBatch
from unirna.train.card import write_model
from unirna.train.checkpoints import restore_state, save_state
from unirna.train.config import TrainConfig, TrainError
from unirna.train.metrics import MetricsLog, matrix_rate
from unirna.train.objective import MaskedLanguageModel


def train(config: TrainConfig, corpus: str | Path, run: str | Path) -> dict[str, Any]:
    """Pre-train, or go on with, a model.

    Args:
        config: settings. corpus: a corpus folder. run: the run's folder; all workers must see the same one. It gets
            `metrics.jsonl`, `tensorboard/`, `checkpoints/`, and at the end `model/` with its card and `summary.json`.

    Returns:
        The run's summary.

    Raises:
        TrainError: another run's settings in the folder, workers that cannot share the batch, a loss that is no number.
        CorpusError: no corpus.
    """
    run = Path(run)
    alone = not (dist.is_available() and dist.is_initialized())
    rank, world = (0, 1) if alone else (dist.get_rank(), dist.get_world_size())
    if config.num_micro % world:
        raise TrainError(
            f"{config.num_micro} forward passes a step (batch_tokens / micro_tokens) cannot be shared by {world} workers"
        )
    if rank == 0:
        claim_run(run, config, corpus)
    if not alone:
        dist.barrier()
    if (run / "summary.json").exists():
        return _summary(run)

    # ---- model, data, optimiser
    torch.set_flush_denormal(True)  # attention's tiniest weights would cost the CPU half of its speed
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = Encoder(SIZES[config.size]).initialise(config.seed).to(device)
    optimizer = _optimizer(encoder, config)
    start = restore_state(run, encoder, optimizer)
    if not alone:
        dist.barrier()  # every worker has read the checkpoint before rank 0 may write the next
    objective = MaskedLanguageModel(encoder).to(device).train()
    model: torch.nn.Module = objective if alone else DistributedDataParallel(objective)
    context = encoder.config.context
    source = BatchSource(Corpus(corpus), seed=config.seed, budget=config.micro_tokens, context=context)
    held_out = BatchSource(Corpus(corpus, "valid"), seed=config.seed, budget=config.micro_tokens, context=context)
    validation = held_out.fixed(config.valid_tokens)[rank::world]
    log = MetricsLog(run, start) if rank == 0 else None

    # ---- the loop
    rate = _total(matrix_rate(device), device)
    micro = range(rank, config.num_micro, world)
    clock, work, tokens = time.perf_counter(), 0, 0
    for step in range(start, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step)
        loss_sum = torch.zeros((), device=device)
        for number in micro:
            batch = source.batch(step, number)
            last = number == micro[-1]
            with contextlib.nullcontext() if last or not isinstance(model, DistributedDataParallel) else model.no_sync():
                loss, _ = _forward(model, batch, device)
                (loss / len(micro)).backward()
            loss_sum += loss.detach()
            work += 3 * encoder.config.flops(batch.lengths)  # forward once, backward twice that
            tokens += len(batch.tokens)
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        done = step + 1
        ends = done == config.steps
        if done % config.log_every == 0 or ends:
            seconds = time.perf_counter() - clock
            mean = _total(float(loss_sum), device) / config.num_micro
            if not math.isfinite(mean):
                raise TrainError(
                    f"the loss is {mean} at step {done}. Lower learning_rate; the run can go on from its last checkpoint "
                    "in another folder"
                )
            record = {
                "step": done,
                "steps": config.steps,
                "loss": round(mean, 6),
                "learning_rate": config.learning_rate_at(step),
                "tokens_per_second": round(_total(tokens, device) / seconds, 1),
                "matrix_share": round(_total(work, device) / seconds / rate, 4),
                "seconds_left": round((config.steps - done) * seconds / min(config.log_every, done - start), 1),
            }
            if done % config.valid_every == 0 or ends:
                record |= _validate(model, validation, device)
            if log:
                log.write(record)
            clock, work, tokens = time.perf_counter(), 0, 0
        if rank == 0 and (done % config.checkpoint_every == 0 or ends):
            save_state(run, done, encoder, optimizer, config.keep)

    # ---- the end
    if log:
        log.close()
        encoder.whitening = _whitening(encoder, config, Corpus(corpus))
        write_model(run, encoder, config, Corpus(corpus).manifest)
    if not alone:
        dist.barrier()
    return _summary(run)


def _summary(run: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return summary


def claim_run(run: Path, config: TrainConfig, corpus: str | Path) -> None:
    """Write the run's settings into its folder, or check that the run there has the same.

    Raises:
        TrainError: it has others; they are named.
    """
    run.mkdir(parents=True, exist_ok=True)
    manifest = Corpus(corpus).manifest
    settings = {**asdict(config), "corpus": manifest["splits"]}
    path = run / "config.json"
    if not path.exists():
        path.write_text(json.dumps(settings, indent=1) + "\n")
        return
    have = json.loads(path.read_text())
    free = {"checkpoint_every", "log_every", "keep"}
    differ = [key for key in settings if key not in free and settings[key] != have.get(key)]
    if differ:
        what = "; ".join(f"{key} was {have.get(key)!r}, is now {settings[key]!r}" for key in differ)
        raise TrainError(f"{run} holds a run with other settings ({what}). Use those, or another folder")


def _whitening(encoder: Encoder, config: TrainConfig, corpus: Corpus) -> Whitening | None:
    """The whitening of mean vectors, fitted on training sequences drawn without replacement."""
    if not config.whitening_sequences:
        return None
    random = np.random.default_rng(config.seed)
    chosen = random.permutation(len(corpus))[: config.whitening_sequences]
    tokens = [corpus[int(i)][: encoder.config.context] for i in chosen]
    return fit_whitening(Model(encoder, config.size, next(encoder.parameters()).device).embed_tokens(tokens))


def _optimizer(encoder: Encoder, config: TrainConfig) -> torch.optim.Optimizer:
    matrices = [p for p in encoder.parameters() if p.ndim > 1]
    others = [p for p in encoder.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.peak_learning_rate, betas=(0.9, 0.98), fused=True)


def _forward(model: torch.nn.Module, batch: MaskedBatch, device: torch.device) -> tuple[Tensor, Tensor]:
    tensors = (torch.from_numpy(x).to(device) for x in (batch.tokens, batch.boundaries, batch.places, batch.targets))
    tokens, boundaries, places, targets = tensors
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        loss, right = model(tokens.int(), boundaries, places, targets)
    return loss, right


def _validate(model: torch.nn.Module, batches: list[MaskedBatch], device: torch.device) -> dict[str, float]:
    """Loss in nats and accuracy over the held-out positions of all workers."""
    module = model.module if isinstance(model, DistributedDataParallel) else model
    module.eval()
    loss = right = count = 0.0
    with torch.no_grad():
        for batch in batches:
            mean, hits = _forward(module, batch, device)
            loss += float(mean) * len(batch.places)
            right += float(hits)
            count += len(batch.places)
    module.train()
    count = _total(count, device)
    if not count:
        return {}
    return {
        "valid_loss": round(_total(loss, device) / count, 6),
        "valid_accuracy": round(_total(right, device) / count, 6),
    }


def _total(value: float, device: torch.device) -> float:
    """Sum over all workers."""
    if not (dist.is_available() and dist.is_initialized()):
        return float(value)
    tensor = torch.tensor(float(value), dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return float(tensor)
