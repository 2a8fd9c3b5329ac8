"""Pre-train an RNA language model.

    python jobs/pretrain.py --size nano --data sequences.fasta --workers 2 --out runs/nano
    ray job submit --working-dir . --runtime-env jobs/runtime_env.yaml -- \\
        python jobs/pretrain.py --size L8 --data /data/corpus --workers 8 --out /data/runs/L8

Killed, and started again with the same command, it goes on from the last checkpoint. `--data` takes sequence files,
folders, globs, or a finished corpus of `jobs/corpus.py`. On a cluster `--out` must be a folder that every node sees.
The model is `<out>/model`; `tensorboard --logdir <out>` shows the curves.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from unirna.corpus import BuildConfig, build_corpus, is_corpus
from unirna.job import connect_ray, run_job, say
from unirna.model import SIZES
from unirna.train import TrainConfig, claim_run, latest_checkpoint, run_workers, train
from unirna.train.metrics import following


@dataclass(frozen=True)
class Config:
    """Pre-train an RNA language model from scratch."""

    data: tuple[str, ...]
    """Sequence files (FASTA, FASTQ, Parquet, CSV, TSV; plain, gz, zst), folders, globs, or one corpus folder."""
    out: str = "runs/pretrain"
    """Folder of the run: checkpoints, metrics, and at the end the model."""
    size: str = "nano"
    """Size of the model: nano, mini, L8, L12, L16 or L24."""
    workers: int = 1
    """Ray Train workers; with GPUs, one GPU each."""
    steps: int = 300
    """Optimiser steps."""
    batch_tokens: int = 16384
    """Tokens of one step over all workers."""
    micro_tokens: int = 8192
    """Tokens of one forward pass of one worker."""
    learning_rate: float = 0.0
    """Peak learning rate; 0 takes the size's default."""
    seed: int = 0
    """Seed of weights, data order and masks."""
    checkpoint_every: int = 50
    """Steps between checkpoints."""
    log_every: int = 10
    """Steps between log lines."""
    valid_every: int = 100
    """Steps between validations."""
    valid_share: float = 0.02
    """Share of the sequences held out for validation, when --data are files."""
    id_column: str = "id"
    """Column of table input that names its rows."""
    sequence_column: str = "sequence"
    """Column of table input that holds the letters."""


def main(config: Config) -> dict[str, Any]:
    """Build the corpus if need be, then train."""
    out = Path(config.out).absolute()
    settings = TrainConfig(
        size=config.size,
        steps=config.steps,
        batch_tokens=config.batch_tokens,
        micro_tokens=config.micro_tokens,
        learning_rate=config.learning_rate,
        seed=config.seed,
        checkpoint_every=config.checkpoint_every,
        log_every=config.log_every,
        valid_every=config.valid_every,
    )

    # ---- the corpus
    connect_ray()
    if len(config.data) == 1 and is_corpus(config.data[0]):
        corpus = Path(config.data[0]).absolute()
    else:
        corpus = out / "corpus"
        build_corpus(BuildConfig(config.data, str(corpus), config.valid_share, config.id_column, config.sequence_column))

    # ---- training
    claim_run(out, settings, corpus)
    if (out / "summary.json").exists():
        say(f"{out} holds this run, finished: nothing to do")
        finished: dict[str, Any] = json.loads((out / "summary.json").read_text())
        return finished
    if checkpoint := latest_checkpoint(out):
        say(f"going on from {checkpoint.name} of {out}")
    say(f"{config.size}: {SIZES[config.size].num_parameters:,} parameters, {config.workers} workers")
    with following(out, say):
        run_workers(
            train_worker,
            {"config": asdict(settings), "corpus": str(corpus), "run": str(out)},
            workers=config.workers,
            folder=out / "ray",
        )
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


def train_worker(settings: dict[str, Any]) -> None:
    """One worker's part: the plain loop."""
    train(TrainConfig(**settings["config"]), settings["corpus"], settings["run"])


if __name__ == "__main__":
    arguments = tyro.cli(Config, description=__doc__)
    sys.exit(run_job(lambda: main(arguments)))
