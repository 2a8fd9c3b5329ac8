"""Checkpoints of a run: written beside, flushed to the disk and renamed; found again, and checked, after a crash.

`<run>/checkpoints/step-00000100/` holds the model in the released format, `state.pt` (the optimiser's tensors by
parameter name, read with `weights_only=True`) and `checksums.json`. A damaged folder, even one that still
reads, is passed over for the one before it. `<run>/best/` is the model with the lowest validation loss so far.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from unirna.model import CheckpointError, Encoder, load_checkpoint, save_checkpoint
from unirna.runs import new_folder
from unirna.runs.storage import CHECKSUMS, checksum
from unirna.train.config import TrainError
from unirna.train.optimiser import State

log = logging.getLogger(__name__)


def save_state(run: Path, step: int, encoder: Encoder, state: State) -> Path:
    """Write the checkpoint after `step` optimiser steps.

    Raises:
        TrainError: it cannot be written (a full disk); the checkpoints before it are as they were.
    """

    def write(folder: Path) -> None:
        save_checkpoint(encoder, folder)
        torch.save({"step": step, "optimizer": state}, folder / "state.pt")

    folder = run / "checkpoints" / f"step-{step:08d}"
    write_folder(folder, write)
    return folder


def save_best(run: Path, step: int, valid_loss: float, encoder: Encoder) -> None:
    """Write `<run>/best/` if no validation loss before was as low.

    Raises:
        TrainError: it cannot be written.
    """
    if valid_loss >= best_loss(run):
        return

    def write(folder: Path) -> None:
        save_checkpoint(encoder, folder)
        (folder / "best.json").write_text(json.dumps({"step": step, "valid_loss": valid_loss}) + "\n", encoding="utf-8")

    write_folder(run / "best", write)


def best_loss(run: Path) -> float:
    """The lowest validation loss so far, infinite where there is none."""
    try:
        return float(json.loads((run / "best" / "best.json").read_text(encoding="utf-8"))["valid_loss"])
    except (OSError, ValueError, KeyError):
        return float("inf")


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder that takes the place of `folder`, with checksums, flushed to the disk.

    Raises:
        TrainError: it cannot be written; what stood at `folder` is as it was.
    """
    try:
        with new_folder(folder, checksums=True) as part:
            write(part)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap the system's error
        raise TrainError(
            f"{folder} cannot be written ({error}). What was saved before it is whole: make room, then run the same "
            "command again to go on"
        ) from error


def checkpoints(run: str | Path) -> list[Path]:
    """Folders of a run's checkpoints, oldest first."""
    return sorted((Path(run) / "checkpoints").glob("step-????????"))


def step_of(folder: Path) -> int:
    """The number of finished steps of a checkpoint."""
    return int(folder.name.removeprefix("step-"))


def latest_checkpoint(run: str | Path) -> Path | None:
    """The folder of the last checkpoint of a run, None if there is none."""
    return next(reversed(checkpoints(run)), None)


def prune(run: Path, keep: int, always: int) -> None:
    """Remove all checkpoints but the last `keep` and that of step `always`."""
    for old in checkpoints(run)[:-keep]:
        if step_of(old) != always:
            shutil.rmtree(old, ignore_errors=True)


def sound_checkpoint(run: Path) -> Path | None:
    """The last checkpoint whose files are all there and have their checksums; damaged ones are named in a warning."""
    for folder in reversed(checkpoints(run)):
        try:
            sums: dict[str, str] = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
            wrong = [name for name, total in sums.items() if checksum(folder / name) != total]
        except (OSError, ValueError) as error:
            log.warning("checkpoint %s cannot be read (%s): going back to the one before", folder, error)
            continue
        if not wrong:
            return folder
        log.warning("checkpoint %s: damaged %s: going back to the one before", folder, ", ".join(wrong))
    return None


def read_checkpoint(folder: Path) -> tuple[int, dict[str, torch.Tensor], State]:
    """Finished steps, the encoder's tensors and the optimiser's state of a checkpoint.

    Raises:
        TrainError: it cannot be read although its checksums are right: another version of this program wrote it.
    """
    try:
        state: dict[str, Any] = torch.load(folder / "state.pt", map_location="cpu", weights_only=True, mmap=True)
        return int(state["step"]), load_checkpoint(folder).state_dict(), state["optimizer"]
    except (CheckpointError, OSError, RuntimeError, KeyError) as error:
        raise TrainError(f"checkpoint {folder} cannot be read ({error}). Remove it to go on from the one before") from error
