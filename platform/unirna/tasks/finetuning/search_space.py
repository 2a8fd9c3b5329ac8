"""Several trainings of one predictor, with other seeds or other settings, of which the best on validation rows is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from unirna.tasks.errors import TaskError
from unirna.tasks.finetuning.encoder_training import START, FullConfig, read_epochs, read_start

RANKS: Final = (4, 8, 16)
BATCHES: Final = (16, 32, 64)
RATES: Final = (0.2, 2.0)
"""Of the mode's own learning rate: from a fifth of it to twice, evenly on a log scale."""
HEAD_RATES: Final = (1e-3, 1e-2)

Report = Callable[[float], None]
Search = Callable[[Callable[[dict[str, Any], Report], None], list[dict[str, Any]], Path], None]
"""Runs a function of plain settings for each of a list, on a cluster or here, and waits; the poor ones may be stopped."""


def candidates(full: FullConfig, seeds: int, num_trials: int) -> list[FullConfig]:
    """The settings of each training: as given with so many seeds, or so many random ones beside those that are given.

    Args:
        full: settings. seeds: trainings with seeds full.seed and up. num_trials: settings to try, drawn by full.seed.

    Raises:
        TaskError: both are asked for, less than one seed, or a negative number of trials.
    """
    if seeds > 1 and num_trials > 1:
        raise TaskError(f"{seeds} seeds and {num_trials} trials: search for settings first, then train with several seeds")
    if seeds < 1 or num_trials < 0:
        raise TaskError(f"{seeds} seeds, {num_trials} trials: expected at least one seed, and no negative number")
    random = np.random.default_rng([full.seed, 1])

    def drawn() -> FullConfig:
        rate, head_rate = np.exp(random.uniform(*np.log([RATES, HEAD_RATES]).T))
        return replace(
            full,
            learning_rate=round(full.peak_learning_rate * float(rate), 8),
            head_learning_rate=round(float(head_rate), 6),
            batch_size=int(random.choice(BATCHES)),
            rank=int(random.choice(RANKS)) if full.rank else 0,
        )

    if num_trials > 1:
        return [full, *(drawn() for _ in range(num_trials - 1))]
    return [replace(full, seed=full.seed + i) for i in range(seeds)]


@dataclass(frozen=True)
class Run:
    """One of several trainings: its settings and its folder."""

    full: FullConfig
    work: Path

    @property
    def loss(self) -> float:
        """The lowest validation loss, of the beginning too where there is a head to begin with."""
        losses = [record["valid_loss"] for record in read_epochs(self.work)]
        start = read_start(self.work)
        return min([*losses, *([start["valid_loss"]] if start else [])], default=float("inf"))

    def facts(self) -> dict[str, Any]:
        """What `predictor.json` says of it."""
        given = asdict(self.full)
        shown = {key: given[key] for key in ("seed", "learning_rate", "head_learning_rate", "batch_size", "rank")}
        shown["learning_rate"] = self.full.peak_learning_rate
        return shown | {
            "epochs": len(read_epochs(self.work)),
            "valid_loss": round(self.loss, 6) if math.isfinite(self.loss) else None,
        }


def lay_out(work: Path, candidates: list[FullConfig]) -> list[Run]:
    """A folder for each training, which reads rows, base and start of the common one; of a single one, that itself."""
    if len(candidates) == 1:
        return [Run(candidates[0], work)]
    runs = []
    for number, full in enumerate(candidates):
        run = work / f"run-{number:03d}"
        run.mkdir(exist_ok=True)
        for name in ("train.npz", "valid.npz", "base", START):
            if (work / name).exists() and not (run / name).exists():
                (run / name).symlink_to(Path("..") / name)
        runs.append(Run(full, run))
    return runs
