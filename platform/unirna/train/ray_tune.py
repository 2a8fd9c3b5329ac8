"""Several runs of one function with other settings, side by side on Ray Tune, the poor ones stopped early."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def run_trials(
    function: Callable[[dict[str, Any], Callable[[float], None]], None],
    settings: list[dict[str, Any]],
    *,
    longest: int,
    folder: str | Path,
    cpus_per_trial: int = 1,
) -> None:
    """Run `function(settings[i], report)` for each i, as many at once as the cluster holds, and wait.

    Of those that have reported 2, 4, 8, … times, only the better half goes on (asynchronous successive halving: Li et al.
    2020, arXiv:1810.05934). The function keeps what it makes in folders of its own, and goes on there when it is called
    again: after a lost worker, up to three times. A `ValueError` (a loss of NaN) ends that run alone.

    Args:
        function: importable by name; calls `report` with a loss, the lower the better, after each epoch.
        settings: its first argument in each run; plain values. longest: reports that a run makes at most.
        folder: where Ray Tune keeps its own records, seen by all nodes.
        cpus_per_trial: cores, and torch threads, of each; where there are GPUs each takes one too.

    Raises:
        ValueError: every run ended so. The error of a run that failed otherwise. KeyboardInterrupt: as it comes.
    """
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # which would take Ctrl-C for the end of the search
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints a banner whatever the verbosity

    def trial(config: dict[str, Any]) -> None:
        torch.set_num_threads(cpus_per_trial)
        try:
            function(settings[config["number"]], lambda loss: tune.report({"loss": loss}))
        except ValueError as error:
            tune.report({"loss": math.inf, "problem": str(error)})

    gpus = ray.cluster_resources().get("GPU", 0) >= 1
    resources = {"cpu": cpus_per_trial, "gpu": int(gpus)}
    scheduler = ASHAScheduler(max_t=max(longest, 2), grace_period=2, reduction_factor=2, stop_last_trials=False)
    tuner = tune.Tuner(
        tune.with_resources(trial, resources),
        param_space={"number": tune.grid_search(list(range(len(settings))))},
        tune_config=tune.TuneConfig(metric="loss", mode="min", scheduler=scheduler),
        run_config=tune.RunConfig(
            name="ray-tune",
            storage_path=str(Path(folder).absolute()),
            failure_config=tune.FailureConfig(max_failures=3),
            verbose=0,
        ),
    )
    results = tuner.fit()
    for failed in results.errors:
        raise getattr(failed, "cause", None) or failed
    problems = [(result.metrics or {}).get("problem") for result in results]
    if problems and all(problems):
        raise ValueError(f"none of the {len(problems)} settings could be trained with: {problems[0]}")
