"""Checkpoints of a run: written beside and renamed, the last few kept, found again after a crash.

`<run>/checkpoints/step-00000100/` holds the model in the released format and `state.pt` (the optimiser's tensors, read with
`weights_only=True`). A folder that cannot be read is passed over for the one before it.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import torch

from unirna.model import CheckpointError, Encoder, load_checkpoint, save_checkpoint

log = logging.getLogger(__name__)


def save_state(run: Path, step: int, encoder: Encoder, optimizer: torch.optim.Optimizer, keep: int) -> Path:
    """Write the checkpoint after `step` optimiser steps, then remove all but the last `keep`."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    beside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    save_checkpoint(encoder, beside)
    torch.save({"step": step, "optimizer": optimizer.state_dict()}, beside / "state.pt")
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    for old in sorted(folder.parent.glob("step-????????"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def latest_checkpoint(run: str | Path) -> Path | None:
    """The folder of the last checkpoint of a run, None where there is none."""
    folders = sorted((Path(run) / "checkpoints").glob("step-????????"))
    return folders[-1] if folders else None


def restore_state(run: Path, encoder: Encoder, optimizer: torch.optim.Optimizer) -> int:
    """Load the last checkpoint that can be read; returns its number of finished steps, 0 where there is none."""
    for folder in sorted((run / "checkpoints").glob("step-????????"), reverse=True):
        try:
            state: dict[str, Any] = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
            encoder.load_state_dict(load_checkpoint(folder).state_dict())
        except (CheckpointError, OSError, RuntimeError, EOFError, KeyError) as error:
            log.warning("checkpoint %s cannot be read (%s): going back to the one before", folder, error)
            continue
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
    return 0
