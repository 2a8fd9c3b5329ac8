"""The workers' part of fine-tuning, and how it is followed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unirna.job import say
from unirna.tasks.full import FullConfig, read_epochs, train_full
from unirna.tasks.tasks import TASKS


def train_on_worker(settings: dict[str, Any]) -> None:
    """One worker's part of full fine-tuning; the settings are plain values, so that they travel between machines."""
    task = TASKS[settings["task"]]
    train_full(FullConfig(**settings["full"]), Path(settings["work"]), task, settings["num_outputs"], settings["pooling"])


@contextmanager
def following(work: Path, epochs: int) -> Iterator[None]:
    """Say each epoch's record while the body runs: the workers write them, on any machine that shares the folder."""
    stop = threading.Event()
    said = len(read_epochs(work))

    def follow() -> None:
        nonlocal said
        last = False
        while not last:
            last = stop.wait(0.5)
            for record in read_epochs(work)[said:]:
                said += 1
                left = (epochs - record["epoch"]) * record["seconds"]
                say(
                    f"epoch {record['epoch']:>3}/{epochs}  loss {record['loss']:.4f}  validation: loss "
                    f"{record['valid_loss']:.4f}, {record['score']} {record['valid_score']:.3f}  took "
                    f"{record['seconds']:.1f} s, left at most {left:.0f} s"
                )

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
