"""The training loop. It knows nothing of Ray: with torch.distributed it is one of several workers, without it runs alone.

Killed at any moment and called again with the same settings and folder, it goes on from the last checkpoint, and since
batches are a function of the step, with the same numbers as if it had never stopped. docs/training.md says what becomes of
a run at each kind of fault.
"""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unirna.corpus import Corpus
from unirna.job import JobStopped
from unirna.model import CheckpointError, Encoder, load_checkpoint
from unirna.train.card import write_model
from unirna.train.checkpoints import best_loss, prune, read_checkpoint, save_best, save_state, sound_checkpoint
from unirna.train.claim import claim_run, claimed
from unirna.train.config import TrainConfig, TrainError
from unirna.train.memory import keep_memory
from unirna.train.metrics import MetricsLog, matrix_rate
from unirna.train.objective import build_objective, to_device
from unirna.train.optimiser import Optimiser, restore
from unirna.train.parallel import Workers, clip, plain_encoder, shard, without_sync, wrap
from unirna.train.stopping import clear_stop, stop_on_sigterm, stop_requested
from unirna.train.validation import baselines, held_out_batches, validate
from unirna.train.whitening import corpus_whitening

log = logging.getLogger(__name__)

MAX_SKIPPED = 3
"""So many steps in a row may be skipped because their gradient is no finite number; then the run ends."""


def train(config: TrainConfig, corpus: str | Path, run: str | Path) -> dict[str, Any]:
    """Pre-train, or go on with, a model.

    Args:
        config: settings. corpus: a corpus folder. run: the run's folder; all workers must see the same one. It gets
            `metrics.jsonl`, `tensorboard/`, `checkpoints/`, `best/`, and at the end `model/` and `summary.json`.

    Returns:
        The run's summary.

    Raises:
        TrainError: another run's settings in the folder, workers that cannot share the batch, a loss that is no number,
            a checkpoint that cannot be written.
        CorpusError: no corpus.
        JobStopped: SIGTERM came; a checkpoint was written and the run can go on.
    """
    torch.set_flush_denormal(True)  # attention's tiniest weights would cost the CPU half of its speed
    try:
        return _train(config, corpus, Path(run), Workers())
    finally:
        torch.set_flush_denormal(False)  # it is a setting of the whole process


def _train(config: TrainConfig, corpus: str | Path, run: Path, workers: Workers) -> dict[str, Any]:
    rank, world, device = workers.rank, workers.world, workers.device
    _check_workers(config, workers)
    if rank == 0:
        claim_run(run, config, corpus)
    workers.wait()
    config = claimed(run, config)
    if (run / "summary.json").exists():
        return _summary(run)

    # ---- model, data, optimiser
    keep_memory()
    half = config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")
    encoder = _start(config).to(device)
    encoder.checkpoint_activations = config.activation_checkpointing
    data = Corpus(corpus)
    objective = build_objective(config, encoder, data).train()
    if config.compile and device.type == "cpu":
        log.warning("compile is left out on the CPU: each batch's lengths of attention would be compiled anew")
    elif config.compile:
        for layer in encoder.layers:
            layer.compile(dynamic=True)
    if config.parallelism == "fsdp" and not workers.alone:
        shard(objective, half=half)
    optimiser = Optimiser(encoder, config)
    start = 0
    checkpoint = workers.told_by_first(str(sound_checkpoint(run) or "") if rank == 0 else None)
    if checkpoint:
        start, tensors, state = read_checkpoint(Path(checkpoint))
        restore(encoder, tensors)
        optimiser.load(state)
    model = wrap(objective, workers, config.parallelism)

    # ---- validation, logs
    valid = Corpus(corpus, "valid")
    held_out = held_out_batches(
        valid,
        seed=config.seed,
        tokens=config.valid_tokens,
        budget=config.micro_tokens,
        context=encoder.config.context,
    )
    counted = baselines(run, data, held_out, config.seed) if rank == 0 else {}
    best = workers.sums(best_loss(run) if rank == 0 else 0.0)[0]
    records = MetricsLog(run, start) if rank == 0 else None
    rate = workers.sums(matrix_rate(device))[0]

    def save(done: int) -> None:
        whole = plain_encoder(encoder, rank)  # with shards a meeting of all workers, as is the optimiser's state
        state = optimiser.state() if rank == 0 or whole is None or whole is not encoder else {}
        if rank == 0 and whole is not None and all(bool(p.isfinite().all()) for p in whole.parameters()):
            save_state(run, done, whole, state)
            prune(run, config.keep, always=config.decay_start)

    # ---- the loop
    micro = range(rank, config.num_micro, world)
    clock, logged, work, tokens, skipped, in_a_row = time.perf_counter(), start, 0, 0, 0, 0
    with stop_on_sigterm(run):
        for step in range(start, config.steps):
            loss_sum, metrics = torch.zeros((), device=device), dict[str, Tensor]()
            for number in micro:
                batch = objective.batch(step, number)
                with without_sync(model, last=number == micro[-1]):
                    with torch.autocast(device.type, torch.bfloat16, enabled=half):
                        loss, values = model(*to_device(batch, device))
                    (loss * world / config.num_micro).backward()  # the workers' gradients are averaged
                loss_sum += loss.detach()
                metrics = {name: metrics.get(name, 0.0) + value.detach() for name, value in values.items()}
                work += 3 * encoder.config.flops(batch.lengths)  # forward once, backward twice that
                tokens += sum(batch.lengths)
            norm = clip(encoder.parameters(), config.clip)
            if math.isfinite(norm):
                optimiser.step(config.learning_rate_at(step))
                in_a_row = 0
            else:
                optimiser.clear()
                skipped, in_a_row = skipped + 1, in_a_row + 1

            done = step + 1
            total, stop = workers.sums(float(loss_sum), rank == 0 and stop_requested(run))
            mean, ends = total / config.num_micro, done == config.steps
            if in_a_row == MAX_SKIPPED:
                raise TrainError(
                    f"the loss is {mean} and the gradient's norm {norm} at step {done}, the {MAX_SKIPPED}rd "
                    "step in a row that had to be skipped. Lower learning_rate; another run can "
                    "start from this one's last checkpoint (init)"
                )
            validates = done % config.valid_every == 0 or ends
            if done % config.log_every == 0 or validates:
                seconds = time.perf_counter() - clock
                all_tokens, all_work, *sums = workers.sums(
                    tokens, work, *(float(metrics[name]) for name in sorted(metrics))
                )
                record: dict[str, Any] = {
                    "step": done,
                    "steps": config.steps,
                    "loss": round(mean, 6),
                    **{name: round(value / config.num_micro, 6) for name, value in zip(sorted(metrics), sums, strict=True)},
                    "learning_rate": config.learning_rate_at(step),
                    "gradient_norm": round(norm, 6) if math.isfinite(norm) else None,
                    "skipped": skipped,
                    "tokens_per_second": round(all_tokens / seconds, 1),
                    "matrix_share": round(all_work / seconds / rate, 4),
                    "seconds_left": round((config.steps - done) * seconds / (done - logged), 1),
                }
                if validates:
                    record |= validate(objective, held_out, valid.sources, workers, half)
                    record |= {f"{name}_loss": found["loss"] for name, found in counted.items()}
                if records:
                    records.write(record)
                if record.get("valid_loss", math.inf) < best:
                    best, whole = record["valid_loss"], plain_encoder(encoder, rank)
                    if rank == 0 and whole is not None:
                        save_best(run, done, best, whole)
                clock, logged, work, tokens, skipped = time.perf_counter(), done, 0, 0, 0
            if done % config.checkpoint_every == 0 or done == config.decay_start or ends or stop:
                save(done)
            if stop and not ends:
                if records:
                    records.close()
                    clear_stop(run)
                raise JobStopped(f"stopped on request after step {done} of {config.steps}; a checkpoint was written")

    # ---- the end
    whole = plain_encoder(encoder, rank)
    if records and whole is not None:
        records.close()
        if config.whitening_sequences:
            whole.whitening = corpus_whitening(
                whole, data, config.vector_size, sequences=config.whitening_sequences, seed=config.seed
            )
        write_model(run, whole, config, data.manifest, counted)
    workers.wait()
    return _summary(run)


def _check_workers(config: TrainConfig, workers: Workers) -> None:
    """Every worker needs a forward pass of each step; with shards, each pass is a meeting of all, so all need as many."""
    uneven = config.num_micro % workers.world
    if workers.world > config.num_micro or (uneven and config.parallelism == "fsdp"):
        raise TrainError(
            f"{config.num_micro} forward passes a step (batch_tokens / micro_tokens) cannot be shared by "
            f"{workers.world} workers"
        )
    if uneven and workers.rank == 0:
        log.warning("%d forward passes a step are no equal work for %d workers", config.num_micro, workers.world)


def _start(config: TrainConfig) -> Encoder:
    """Random weights, or those of `init`."""
    encoder = Encoder(config.encoder).initialise(config.seed)
    if config.init:
        given = load_checkpoint(config.init)
        try:
            encoder.load_state_dict(given.state_dict())
        except RuntimeError as error:
            raise CheckpointError(f"{config.init} is no start for {config.size}: {error}") from error
    return encoder


def _summary(run: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return summary
