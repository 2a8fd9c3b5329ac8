"""The workers' part of fine-tuning, and how it is followed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unirna.job import followed, say
from unirna.tasks.finetuning.encoder_training import FullConfig, read_epochs, train_full
from unirna.tasks.finetuning.search_space import Run
from unirna.tasks.kinds.by_name import TASKS


def train_on_worker(settings: dict[str, Any], report: Callable[[float], None] = lambda loss: None) -> None:
    """One worker's part of full fine-tuning; the settings are plain values, so that they travel between machines."""
    task, full = TASKS[settings["task"]], FullConfig(**settings["full"])
    train_full(full, Path(settings["work"]), task, settings["num_outputs"], settings["pooling"], report)


@contextmanager
def following(runs: list[Run]) -> Iterator[None]:
    """Say each epoch's record while the body runs: the workers write them, on any machine that shares the folders."""
    said = [len(read_epochs(run.work)) for run in runs]

    def follow() -> None:
        for number, run in enumerate(runs):
            fresh = read_epochs(run.work)[said[number] :]
            said[number] += len(fresh)
            for record in fresh:
                show(number, run.full.epochs, record)

    def show(number: int, epochs: int, record: dict[str, Any]) -> None:
        left = (epochs - record["epoch"]) * record["seconds"]
        say(
            (f"run {number + 1:>2}/{len(runs)}  " if len(runs) > 1 else "")
            + f"epoch {record['epoch']:>3}/{epochs}  loss {record['loss']:.4f}  validation: loss "
            f"{record['valid_loss']:.4f}, {record['score']} {record['valid_score']:.3f}  took "
            f"{record['seconds']:.1f} s, left at most {left:.0f} s"
        )

    with followed(follow):
        yield
