"""Several runs of one function with other settings, side by side on Ray Tune, the poor ones stopped early."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def run_trials(
    function: Callable[[dict[str, Any], Callable[[float], None]], None],
    settings: list[dict[str, Any]],
    *,
    folder: str | Path,
    cpus_per_trial: int = 1,
) -> None:
    """Run `function(settings[i], report)` for each i, as many at once as the cluster holds, and wait.

    Of those that have reported equally often, only the better half goes on, from the second report on (asynchronous
    successive halving: Li et al. 2020, arXiv:1810.05934). The function keeps what it makes in folders of its own.

    Args:
        function: importable by name; calls `report` with a loss, the lower the better, after each epoch.
        settings: its first argument in each run; plain values.
        folder: where Ray Tune keeps its own records, seen by all nodes.
        cpus_per_trial: cores, and torch threads, of each; where there are GPUs each takes one too.

    Raises:
        The error of a run, when it failed.
    """
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints a banner whatever the verbosity

    def trial(config: dict[str, Any]) -> None:
        torch.set_num_threads(cpus_per_trial)
        function(settings[config["number"]], lambda loss: tune.report({"loss": loss}))

    gpus = ray.cluster_resources().get("GPU", 0) >= 1
    resources = {"cpu": cpus_per_trial, "gpu": int(gpus)}
    tuner = tune.Tuner(
        tune.with_resources(trial, resources),
        param_space={"number": tune.grid_search(list(range(len(settings))))},
        tune_config=tune.TuneConfig(metric="loss", mode="min", scheduler=ASHAScheduler(grace_period=2, reduction_factor=2)),
        run_config=tune.RunConfig(name="ray-tune", storage_path=str(Path(folder).absolute()), verbose=0),
    )
    for error in tuner.fit().errors:
        raise getattr(error, "cause", None) or error
