"""The Ray Train driver: runs a plain function on every worker of a torch.distributed group, and again after a failure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unirna.job import say


def run_workers(
    function: Callable[[dict[str, Any]], None],
    settings: dict[str, Any],
    *,
    workers: int,
    folder: str | Path,
    min_workers: int = 0,
    cpus_per_worker: float | None = None,
    max_failures: int = 3,
) -> None:
    """Run `function(settings)` on `workers` Ray Train workers and wait.

    The function keeps its own checkpoints in a folder that all workers see: when a worker or node is lost, the whole group
    is started again, up to `max_failures` times, and the function goes on from there. A `ValueError` (settings, a full
    disk, a loss of NaN) would come again, and ends the run at once.

    Args:
        function: importable by name; finds its rank through torch.distributed (gloo on the CPU, NCCL on GPUs).
        settings: its one argument; plain values.
        workers: processes; with GPUs one GPU each.
        folder: where Ray Train keeps its own records.
        min_workers: go on with as few when nodes are lost, and with more again when they come back; 0 waits for all.
        cpus_per_worker: cores, and torch threads, of each; by default an equal share of the cluster's.
        max_failures: restarts before giving up.

    Raises:
        The error of the function, as the worker raised it, when the restarts are used up.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    resources = ray.cluster_resources()
    gpus = resources.get("GPU", 0) >= workers
    if resources.get("CPU", 0) < (min_workers or workers):
        raise ValueError(f"{workers} workers on a cluster with {resources.get('CPU', 0):.0f} CPUs: each needs one")
    cpus = cpus_per_worker or max(1, int(resources["CPU"] // workers))
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"function": function, "settings": settings, "threads": int(cpus)},
        scaling_config=ScalingConfig(
            num_workers=(min_workers, workers) if min_workers else workers,
            use_gpu=gpus,
            resources_per_worker={"CPU": cpus},
        ),
        run_config=RunConfig(
            name="ray-train",
            storage_path=str(Path(folder).absolute()),
            failure_config=FailureConfig(max_failures=0),  # restarts are below: an error that would come again has none
        ),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
    )
    for left in reversed(range(max_failures + 1)):
        try:
            trainer.fit()
            return
        except Exception as error:
            cause = _worker_error(error)
            if isinstance(cause, ValueError) or not left:
                raise cause from error
            say(f"the workers failed ({type(cause).__name__}): restarting them")


def _worker(config: dict[str, Any]) -> None:
    torch.set_num_threads(config["threads"])
    if torch.cuda.is_available():
        from ray.train.torch import get_device

        torch.cuda.set_device(get_device())
    config["function"](config["settings"])


def _worker_error(error: Exception) -> BaseException:
    """The worker's own error inside Ray Train's; one that the user can fix comes before a lost connection."""
    failures = list((getattr(error, "worker_failures", None) or {}).values()) or [error]
    errors: list[BaseException] = [getattr(failure, "cause", None) or failure for failure in failures]
    return next((e for e in errors if isinstance(e, ValueError)), errors[0])
