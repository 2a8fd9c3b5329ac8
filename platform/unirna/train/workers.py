"""The Ray Train driver: runs a plain function on every worker of a torch.distributed group, and again after a failure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def run_workers(
    function: Callable[[dict[str, Any]], None],
    settings: dict[str, Any],
    *,
    workers: int,
    folder: str | Path,
    cpus_per_worker: float | None = None,
    max_failures: int = 3,
) -> None:
    """Run `function(settings)` on `workers` Ray Train workers and wait.

    The function keeps its own checkpoints in a folder that all workers see: when a worker or node is lost, Ray Train starts
    the whole group again, up to `max_failures` times, and the function goes on from there.

    Args:
        function: importable by name; finds its rank through torch.distributed (gloo on the CPU, NCCL on GPUs).
        settings: its one argument; plain values.
        workers: processes; with GPUs one GPU each.
        folder: where Ray Train keeps its own records.
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
    if resources.get("CPU", 0) < workers:
        raise ValueError(f"{workers} workers on a cluster with {resources.get('CPU', 0):.0f} CPUs: each needs one")
    cpus = cpus_per_worker or max(1, int(resources["CPU"] // workers))
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"function": function, "settings": settings, "threads": int(cpus)},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus, resources_per_worker={"CPU": cpus}),
        run_config=RunConfig(
            name="ray-train",
            storage_path=str(Path(folder).absolute()),
            failure_config=FailureConfig(max_failures=max_failures),
        ),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
    )
    try:
        trainer.fit()
    except Exception as error:
        raise _worker_error(error) from error


def _worker(config: dict[str, Any]) -> None:
    torch.set_num_threads(config["threads"])
    config["function"](config["settings"])


def _worker_error(error: Exception) -> BaseException:
    """The first worker's own error inside Ray Train's."""
    failures = getattr(error, "worker_failures", None)
    inner: BaseException = next(iter(failures.values())) if failures else error
    return getattr(inner, "cause", None) or inner
