"""Pre-train an RNA language model.

    python jobs/pretrain.py --size nano --data sequences.fasta --workers 2 --out runs/nano
    python jobs/pretrain.py --size mini --data runs/corpus --workers 0 --optimizer muon --out runs/mini   # without Ray
    torchrun --nproc-per-node 8 jobs/pretrain.py --size L16 --data /data/corpus --workers 0 --out /data/runs/L16
    ray job submit --working-dir . --runtime-env jobs/runtime_env.yaml -- \\
        python jobs/pretrain.py --size L8 --data /data/corpus --workers 8 --out /data/runs/L8

Killed, and started again with the same command, it goes on from the last checkpoint; with more `--steps` it goes on from
the last one before the decay. SIGTERM makes it write a checkpoint and leave with exit code 75. `--data` takes sequence
files, folders, globs, or a finished corpus of `jobs/corpus.py`. On a cluster `--out` must be a folder that every node
sees. The model is `<out>/model`; `tensorboard --logdir <out>` shows the curves. docs/training.md says more.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
import tyro

from unirna.base import command
from unirna.corpus import BuildConfig, build_corpus, is_corpus
from unirna.job import JobStopped, connect_ray, run_job, say
from unirna.model import SIZES
from unirna.train import TrainConfig, claim_run, latest_checkpoint, run_workers, train
from unirna.train.metrics import following
from unirna.train.stopping import clear_stop, stop_on_sigterm


@dataclass(frozen=True)
class Config:
    """Pre-train an RNA language model."""

    data: tuple[str, ...]
    """Sequence files (FASTA, FASTQ, Parquet, CSV, TSV; plain, gz, zst), folders, globs, or one corpus folder."""
    out: str = "runs/pretrain"
    """Folder of the run: checkpoints, metrics, and at the end the model."""
    size: str = "nano"
    """Size of the model: nano, mini, L8, L12, L16 or L24."""
    workers: int = 1
    """Ray Train workers; with GPUs, one GPU each. 0 trains in this process, without Ray (also under torchrun)."""
    min_workers: int = 0
    """Go on with as few workers when nodes are lost; 0 waits for all of them."""
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
    checkpoint_every: int = 50
    """Steps between checkpoints."""
    keep: int = 2
    """Checkpoints that stay, beside the one before the decay and the best model."""
    log_every: int = 10
    """Steps between log lines."""
    valid_every: int = 100
    """Steps between validations."""
    valid_tokens: int = 65536
    """Tokens of the held-out sequences to validate on."""
    whitening_sequences: int = 16384
    """Training sequences on which the vectors' whitening is fitted at the end; 0 for none."""
    vector_size: int = 512
    """Length of the vectors that the whitening gives, at most the states of all layers side by side."""
    valid_share: float = 0.02
    """Share of the sequences held out for validation, when --data are files."""
    id_column: str = "id"
    """Column of table input that names its rows."""
    sequence_column: str = "sequence"
    """Column of table input that holds the letters."""


def main(config: Config) -> dict[str, Any]:
    """Build the corpus if need be, then train."""
    out = Path(config.out).absolute()
    settings = TrainConfig(**{field.name: getattr(config, field.name) for field in fields(TrainConfig)})
    first = int(os.environ.get("RANK", "0")) == 0  # torchrun starts this script several times

    # ---- the corpus
    if config.workers:
        connect_ray()
    elif "RANK" in os.environ:
        join_torchrun()
    if len(config.data) == 1 and is_corpus(config.data[0]):
        corpus = Path(config.data[0]).absolute()
    else:
        corpus = out / "corpus"
        if first:
            build_corpus(
                BuildConfig(config.data, str(corpus), config.valid_share, config.id_column, config.sequence_column)
            )

    # ---- training
    if first:
        claim_run(out, settings, corpus)
        if (out / "summary.json").exists():
            say(f"{out} holds this run, finished: nothing to do")
        else:
            clear_stop(out)
            if checkpoint := latest_checkpoint(out):
                say(f"going on from {checkpoint.name} of {out}")
            workers = f"{config.workers} workers" if config.workers else "without Ray"
            say(f"{config.size}: {SIZES[config.size].num_parameters:,} parameters, {workers}")
    if dist.is_initialized():
        dist.barrier()
    if not (out / "summary.json").exists():
        with following(out, say if first else lambda _: None), stop_on_sigterm(out):
            paths = {"config": asdict(settings), "corpus": str(corpus), "run": str(out)}
            if config.workers:
                run_workers(train_worker, paths, workers=config.workers, min_workers=config.min_workers, folder=out / "ray")
            else:
                train_worker(paths)
    if not (out / "summary.json").exists():
        raise JobStopped("stopped on request; the last step is in a checkpoint")
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return summary


def train_worker(settings: dict[str, Any]) -> None:
    """One worker's part: the plain loop. A run that was asked to stop is no failure."""
    try:
        train(TrainConfig(**settings["config"]), settings["corpus"], settings["run"])
    except JobStopped as stopped:
        say(str(stopped))


def join_torchrun() -> None:
    """Join the group that torchrun's variables describe: NCCL with a GPU each, else gloo."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def leave(code: int) -> NoReturn:
    """End this process; one of torchrun's at once: after sharded training a thread of gloo's sometimes aborts its end."""
    if dist.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def start() -> NoReturn:
    """Run the job as one process of however many there are."""
    arguments = tyro.cli(Config, description=__doc__)
    if os.environ.get("RANK", "0") == "0":
        leave(run_job(lambda: main(arguments)))
    try:
        main(arguments)  # one summary for all
    except JobStopped:
        leave(75)
    leave(0)


if __name__ == "__main__":
    sys.exit(command(start))
