"""The Ray cluster a job runs on: the one that submitted it, or an embedded one that listens on loopback alone."""

from __future__ import annotations

import logging
import os

ONE_MACHINE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps the nodes' addresses on 127.0.0.1
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_DEDUP_LOGS": "1",
}


def num_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def connect_ray(*, cpus: int | None = None, object_store_bytes: int = 512 << 20) -> None:
    """Join the cluster that `RAY_ADDRESS` names (as `ray job submit` sets it), or start an embedded Ray; once.

    Args:
        cpus: cores of an embedded Ray; by default all that this process may use.
        object_store_bytes: its object store. Ray's own default is a third of the memory; streams need little.
    """
    for name, value in ONE_MACHINE.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=True, logging_level=logging.WARNING)
    else:
        ray.init(
            address="local",
            num_cpus=cpus or num_cpus(),
            object_store_memory=object_store_bytes,
            include_dashboard=False,
            log_to_driver=True,
            logging_level=logging.WARNING,
        )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the job's own progress says more
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
