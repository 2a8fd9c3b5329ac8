"""A run's folder belongs to one set of settings; a run may go on with the same ones, or with more steps."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from unirna.corpus import Corpus
from unirna.runs import differing, read_json, told, write_json
from unirna.train.checkpoints import checkpoints, step_of
from unirna.train.config import FREE, TrainConfig, TrainError


def claim_run(run: Path, config: TrainConfig, corpus: str | Path) -> None:
    """Write the run's settings into its folder, or check that the run there has the same.

    More steps than before extend the run: it goes on from its last checkpoint before the decay (the one at the decay's
    start is always kept), with the numbers of a run that had that many steps from the first on.

    Raises:
        TrainError: it has others; they are named. Or it cannot be extended.
    """
    run.mkdir(parents=True, exist_ok=True)
    settings = {**asdict(config), "corpus": Corpus(corpus).manifest["splits"]}
    path = run / "config.json"
    if not path.exists():
        write_json(path, {**settings, "num_warmup": config.num_warmup})
        return
    have: dict[str, Any] = {**asdict(TrainConfig()), **read_json(path)}
    differ = differing(have, settings, FREE)
    if differ == ["steps"] and config.steps > have["steps"]:
        _extend(run, have, config.steps)
        differ = []
    if differ:
        what = told(have, settings, differ)
        raise TrainError(f"{run} holds a run with other settings ({what}). Use those, or another folder")


def claimed(run: Path, config: TrainConfig) -> TrainConfig:
    """The settings with the warm-up that the run began with: a share of the steps would grow with them."""
    have = read_json(run / "config.json")
    return replace(config, warmup_steps=have.get("num_warmup", config.num_warmup))


def _extend(run: Path, have: dict[str, Any], steps: int) -> None:
    """Go back to the last checkpoint from before the decay, and set the new number of steps."""
    stable = TrainConfig(**{key: have[key] for key in asdict(TrainConfig())}).decay_start
    late = [folder for folder in checkpoints(run) if step_of(folder) > stable]
    if late and len(late) == len(checkpoints(run)):
        raise TrainError(
            f"{run} began to decay at step {stable} of {have['steps']} and has no checkpoint from before: it cannot be "
            f"extended to {steps} steps. Start a new run from its weights (init)"
        )
    for folder in late:
        shutil.rmtree(folder)
    (run / "summary.json").unlink(missing_ok=True)
    write_json(run / "config.json", {**have, "steps": steps})
