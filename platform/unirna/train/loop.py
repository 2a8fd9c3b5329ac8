"""The training loop. It does not depend on Ray: with torch.distributed it is one of several workers, without it runs alone.

Killed at any moment and called again with the same settings and folder, it goes on from the last checkpoint, and since
batches are a function of the step, with the same numbers as if it had never stopped. docs/training.md says what becomes of
a run at each kind of fault.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from unirna.corpus import Corpus
from unirna.job import JobStopped
from unirna.model import CheckpointError, Encoder
from unirna.model import load as load_model
from unirna.train.card import write_model
from unirna.train.checkpoints import best_loss, prune, read_checkpoint, save_best, save_state, sound_checkpoint
from unirna.train.config import TrainConfig, TrainError
from unirna.train.memory import keep_memory
from unirna.train.metrics import MetricsLog, matrix_rate
from unirna.train.objective import Metrics, to_device
from unirna.train.objectives import build_objective
from unirna.train.optimiser import Optimiser, restore
from unirna.train.parallel import Workers, clip, plain_encoder, shard, without_sync, wrap
from unirna.train.prefetch import BatchPositions, batches, default_processes
from unirna.train.run_dir import claim_run, claimed
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
        TrainError: another run's settings in the folder, workers that cannot share the batch, a loss that is not a number,
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
    _check_workers(config, workers)
    if workers.rank == 0:
        claim_run(run, config, corpus)
    workers.wait()
    config = claimed(run, config)
    if not (run / "summary.json").exists():
        keep_memory()
        training = _Training(config, Path(corpus), run, workers)
        with stop_on_sigterm(run):
            for step in range(training.start, config.steps):
                training.step(step)
        training.finish()
        workers.wait()
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return summary


@dataclass
class _Since:
    """What was done since the last record: tokens, operations, steps that were skipped."""

    step: int
    clock: float = field(default_factory=time.perf_counter)
    tokens: int = 0
    work: int = 0
    skipped: int = 0


class _Training:
    """One worker's training, from the run's last checkpoint, or random weights, on.

    Attributes:
        start: the step to go on with.
    """

    def __init__(self, config: TrainConfig, corpus: Path, run: Path, workers: Workers) -> None:
        self.config, self.run, self.workers = config, run, workers
        self.first = workers.rank == 0
        device = workers.device

        # ---- model, data, optimiser
        self.half = config.precision == "bf16" or (config.precision == "auto" and device.type == "cuda")
        self.encoder = _start(config).to(device)
        self.encoder.checkpoint_activations = config.activation_checkpointing
        self.corpus, self.valid = Corpus(corpus), Corpus(corpus, "valid")
        self.objective = build_objective(config, self.encoder, self.corpus).train()
        if config.compile and device.type == "cpu":
            log.warning("not compiling on the CPU: every batch's attention lengths would be compiled again")
        elif config.compile:
            for layer in self.encoder.layers:
                layer.compile(dynamic=True)
        if config.parallelism == "fsdp" and not workers.alone:
            shard(self.objective, half=self.half)
        self.optimiser = Optimiser(self.encoder, config)
        self.start = 0
        checkpoint = workers.broadcast(str(sound_checkpoint(run) or "") if self.first else None)
        if checkpoint:
            self.start, tensors, state = read_checkpoint(Path(checkpoint))
            restore(self.encoder, tensors)
            self.optimiser.load(state)
        self.model = wrap(self.objective, workers, config.parallelism)

        # ---- validation, logs
        self.held_out = held_out_batches(
            self.valid,
            seed=config.seed,
            tokens=config.valid_tokens,
            budget=config.micro_tokens,
            context=self.encoder.config.context,
        )
        self.baselines = baselines(run, self.corpus, self.held_out, config.seed) if self.first else {}
        self.best = workers.all_reduce_sum(best_loss(run) if self.first else 0.0)[0]
        self.records = MetricsLog(run, self.start) if self.first else None
        self.rate = workers.all_reduce_sum(matrix_rate(device))[0]
        self.since = _Since(self.start)
        processes = config.batch_processes if config.batch_processes >= 0 else default_processes(device)
        micro = range(workers.rank, config.num_micro, workers.world)
        self.micro = len(micro)
        assert self.objective.source is not None
        self.batches = batches(self.objective.source, BatchPositions(self.start, config.steps, micro), processes)
        self.skipped_in_a_row = 0

    def step(self, step: int) -> None:
        """One optimiser step, and what is due after it: a record, a validation, a checkpoint.

        Raises:
            TrainError: the last of too many steps that had to be skipped. JobStopped: asked to stop.
        """
        config, workers = self.config, self.workers
        loss, metrics = self._gradients()
        norm = clip(self.encoder.parameters(), config.clip)
        if math.isfinite(norm):
            self.optimiser.step(config.learning_rate_at(step))
            self.skipped_in_a_row = 0
        else:
            self.optimiser.clear()
            self.since.skipped += 1
            self.skipped_in_a_row += 1

        done = step + 1
        total, stop = workers.all_reduce_sum(loss, self.first and stop_requested(self.run))
        mean, ends = total / config.num_micro, done == config.steps
        if self.skipped_in_a_row == MAX_SKIPPED:
            raise TrainError(
                f"the loss is {mean} and the gradient's norm {norm} at step {done}, the {MAX_SKIPPED}rd "
                "step in a row that had to be skipped. Lower learning_rate; another run can "
                "start from this one's last checkpoint (init)"
            )
        validates = done % config.valid_every == 0 or ends
        if done % config.log_every == 0 or validates:
            self._record(done, mean, metrics, norm, validates=validates)
        if done % config.checkpoint_every == 0 or done == config.decay_start or ends or stop:
            self._save(done)
        if stop and not ends:
            if self.records:
                self.records.close()
                clear_stop(self.run)
            raise JobStopped(f"stopped on request after step {done} of {config.steps}; a checkpoint was written")

    def finish(self) -> None:
        """Fit the whitening, write the model and the summary."""
        whole = plain_encoder(self.encoder, self.workers.rank)
        if self.records and whole is not None:
            self.records.close()
            size, sequences = self.config.vector_size, self.config.whitening_sequences
            if sequences:
                whole.whitening = corpus_whitening(whole, self.corpus, size, sequences=sequences, seed=self.config.seed)
            write_model(self.run, whole, self.config, self.corpus.manifest, self.baselines)

    def _gradients(self) -> tuple[float, Metrics]:
        """This worker's forward and backward passes of the next step; the sums of its losses and of what they log."""
        config, device = self.config, self.workers.device
        loss_sum, metrics = torch.zeros((), device=device), Metrics()
        for number in range(1, self.micro + 1):
            batch = next(self.batches)
            with without_sync(self.model, last=number == self.micro):
                with torch.autocast(device.type, torch.bfloat16, enabled=self.half):
                    loss, values = self.model(*to_device(batch, device))
                (loss * self.workers.world / config.num_micro).backward()  # the workers' gradients are averaged
            loss_sum += loss.detach()
            metrics = {name: metrics.get(name, 0.0) + value.detach() for name, value in values.items()}
            self.since.work += 3 * self.encoder.config.flops(batch.lengths)  # forward once, backward twice that
            self.since.tokens += sum(batch.lengths)
        return float(loss_sum), metrics

    def _record(self, done: int, loss: float, metrics: Metrics, norm: float, *, validates: bool) -> None:
        """Log what was done since the last record; all workers must call it."""
        config, since = self.config, self.since
        seconds = time.perf_counter() - since.clock
        names = sorted(metrics)
        tokens, work, *sums = self.workers.all_reduce_sum(
            since.tokens, since.work, *(float(metrics[name]) for name in names)
        )
        record: dict[str, Any] = {
            "step": done,
            "steps": config.steps,
            "loss": round(loss, 6),
            **{name: round(value / config.num_micro, 6) for name, value in zip(names, sums, strict=True)},
            "learning_rate": config.learning_rate_at(done - 1),
            "gradient_norm": round(norm, 6) if math.isfinite(norm) else None,
            "skipped": since.skipped,
            "tokens_per_second": round(tokens / seconds, 1),
            "matrix_share": round(work / seconds / self.rate, 4),
            "seconds_left": round((config.steps - done) * seconds / (done - since.step), 1),
        }
        if validates:
            record |= validate(self.objective, self.held_out, self.valid.sources, self.workers, self.half)
            record |= {f"{name}_loss": found["loss"] for name, found in self.baselines.items()}
        if self.records:
            self.records.write(record)
        if record.get("valid_loss", math.inf) < self.best:
            self.best, whole = record["valid_loss"], plain_encoder(self.encoder, self.workers.rank)
            if self.first and whole is not None:
                save_best(self.run, done, self.best, whole)
        self.since = _Since(done)

    def _save(self, done: int) -> None:
        """Write a checkpoint, unless a weight is not a number; all workers must call it."""
        whole = plain_encoder(self.encoder, self.workers.rank)  # with shards a meeting of all workers, as is the state
        state = self.optimiser.state() if self.first or whole is not self.encoder else {}
        if self.first and whole is not None and all(bool(p.isfinite().all()) for p in whole.parameters()):
            save_state(self.run, done, whole, state)
            prune(self.run, self.config.keep, always=self.config.decay_start)


def _check_workers(config: TrainConfig, workers: Workers) -> None:
    """Every worker needs a forward pass of each step; with shards, each pass is a meeting of all, so all need as many."""
    uneven = config.num_micro % workers.world
    if workers.world > config.num_micro or (uneven and config.parallelism == "fsdp"):
        raise TrainError(
            f"{config.num_micro} forward passes a step (batch_tokens / micro_tokens) cannot be shared by "
            f"{workers.world} workers"
        )
    if uneven and workers.rank == 0:
        log.warning("%d forward passes a step cannot be shared equally by %d workers", config.num_micro, workers.world)


def _start(config: TrainConfig) -> Encoder:
    """Random weights, or those of `init`."""
    encoder = Encoder(config.encoder).initialise(config.seed)
    if config.init:
        given = load_model(config.init, device="cpu").encoder
        given.whitening = None  # the run fits its own
        try:
            encoder.load_state_dict(given.state_dict())
        except RuntimeError as error:
            raise CheckpointError(f"{config.init} cannot start {config.size}: {error}") from error
    return encoder
