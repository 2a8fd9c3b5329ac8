"""The pre-training job: build the corpus if need be, then train: on Ray Train workers, under torchrun, or right here."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from unirna.corpus import BuildConfig, build_corpus, is_corpus
from unirna.job import JobStopped, connect_ray, run_job, say
from unirna.model import SIZES
from unirna.train.checkpoints import latest_checkpoint
from unirna.train.config import TrainConfig
from unirna.train.loop import train
from unirna.train.metrics import following
from unirna.train.run_dir import claim_run
from unirna.train.stopping import clear_stop, stop_on_sigterm
from unirna.train.workers import run_workers


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainConfig):
    """Pre-train an RNA language model."""

    data: tuple[str, ...]
    """Sequence files (FASTA, FASTQ, Parquet, CSV, TSV; plain, gz, bz2, zst), folders, globs, or one corpus folder."""
    out: str = "runs/pretrain"
    """Folder of the run: checkpoints, metrics, and at the end the model."""
    workers: int = 1
    """Ray Train workers; with GPUs, one GPU each. 0 trains in this process, without Ray (also under torchrun)."""
    min_workers: int = 0
    """Go on with as few workers when nodes are lost; 0 waits for all of them."""
    valid_share: float = 0.02
    """Share of the sequences held out for validation, when --data are files."""
    id_column: str = "id"
    """Column of table input that names its rows."""
    sequence_column: str = "sequence"
    """Column of table input that holds the sequences."""

    def __post_init__(self) -> None:
        """Nothing is checked where flags are parsed: `training` does, so that a refusal is an error of the job."""

    def training(self) -> TrainConfig:
        """The settings of the training alone.

        Raises:
            TrainError: settings that do not fit each other.
        """
        return TrainConfig(**{field.name: getattr(self, field.name) for field in fields(TrainConfig)})


def pretrain(config: PretrainConfig) -> dict[str, Any]:
    """Build the corpus if need be, then train."""
    out = Path(config.out).absolute()
    settings = config.training()
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


def run_pretraining(arguments: PretrainConfig) -> NoReturn:
    """Run the job as one process of however many torchrun started, and end the process with the job's exit code."""
    if os.environ.get("RANK", "0") == "0":
        leave(run_job(lambda: pretrain(arguments)))
    try:
        pretrain(arguments)  # one summary for all
    except JobStopped:
        leave(75)
    leave(0)
