"""The Ray cluster a job runs on: the one that submitted it, or an embedded one that listens on loopback alone."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import warnings

from unirna.base.failures import JobError
from unirna.job.console import say
from unirna.job.stderr import leave_out_false_alarms

ONE_MACHINE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps the nodes' addresses on 127.0.0.1
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Nothing collects them on one machine, and without an agent to take them each process reports an error.
    "RAY_enable_metrics_collection": "0",
}


JOB_RESOURCE = "unirna_job"
"""A resource of the cluster that each submitted job takes one of, where there is any: jobs beyond wait for their turn."""
FOR_JOBS = {
    "RAY_JOB_START_TIMEOUT_SECONDS": str(30 * 24 * 3600),  # a job may wait for the one before it
    "RAY_JOB_STOP_WAIT_TIME_S": "20",  # to save its work when it is stopped
}


ANSWER_SECONDS = 10.0
"""How long the cluster that RAY_ADDRESS names may take to answer."""
SOCKET = "/ray/session_2000-01-01_00-00-00_000000_0000000/sockets/plasma_store"
"""Ray's longest path of a socket, below its folder."""
LONGEST_SOCKET = 107
"""Bytes that Linux allows for one."""


def num_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def connect_ray(*, cpus: int | None = None, object_store_bytes: int = 512 << 20, job_server: bool = False) -> None:
    """Join the cluster that `RAY_ADDRESS` names (as `ray job submit` sets it), or start an embedded Ray; once.

    Args:
        cpus: cores of an embedded Ray; by default all that this process may use.
        object_store_bytes: its object store. Ray's own default is a third of the memory; streams need little.
        job_server: whether an embedded Ray takes jobs, one after the other: over HTTP, on loopback, with its own token.

    Raises:
        JobError: no cluster answers at `RAY_ADDRESS`, or it is no address.
    """
    joining = os.environ.get("RAY_ADDRESS", "") not in ("", "local")
    if not joining:
        if "ray" in sys.modules and any(name not in os.environ for name in ONE_MACHINE):
            say("ray was imported before it could be told to stay on this machine: its ports may be open to the network")
        for name, value in (ONE_MACHINE | (FOR_JOBS if job_server else {})).items():
            os.environ.setdefault(name, value)
        # A token of this process's own, written nowhere. Ray turns authentication on where it finds one, and says so.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Ray's own deprecations, and that Lance warns of the forks by which Ray starts its programs (they exec at once).
        warnings.simplefilter("ignore")
        _connect(joining, cpus, object_store_bytes, job_server)


def plan_workers(workers: int | None, cpus_per_worker: int = 1) -> tuple[int, int]:
    """How many processes hold the model, and the GPUs of each (0 or 1), on the cluster that this process has joined.

    Args:
        workers: as the user asked; None for one to each GPU, else as many as the cores carry.
        cpus_per_worker: cores of each, which must stand on one machine.

    Raises:
        JobError: more than the cluster carries: Ray would wait for them without end.
    """
    import ray

    if cpus_per_worker < 1 or (workers is not None and workers < 1):
        raise JobError(f"--workers {workers}, --cpus-per-worker {cpus_per_worker}: expected 1 or more of each")
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
    fit = sum(int(min(n.get("CPU", 0) // cpus_per_worker, n.get("GPU", 0) if gpus else cpus)) for n in nodes)
    if (workers or 1) > fit:
        flags = "" if workers is None else f"--workers {workers} with "
        each = f"each takes {cpus_per_worker} CPU{'s' * (cpus_per_worker > 1)}{' and a GPU' if gpus else ''} of one machine"
        raise JobError(
            f"{flags}--cpus-per-worker {cpus_per_worker}: {each}, and the cluster, {len(nodes)} machine(s) with {cpus} "
            f"CPUs and {gpus} GPUs, carries {fit} of them. Ask for fewer"
        )
    return workers or fit, min(gpus, 1)


def _connect(joining: bool, cpus: int | None, object_store_bytes: int, job_server: bool) -> None:
    import ray
    import ray.data

    if ray.is_initialized():
        return
    leave_out_false_alarms()
    if joining:
        _join(os.environ["RAY_ADDRESS"])
    else:
        if job_server:
            _any_agent_port()
        ray.init(
            address="local",
            num_cpus=cpus or num_cpus(),
            object_store_memory=object_store_bytes,
            include_dashboard=job_server,  # jobs are taken there
            dashboard_host="127.0.0.1",
            resources={JOB_RESOURCE: 1} if job_server else None,
            _temp_dir=_short_folder(),
            log_to_driver=False,  # errors come back with their traces; the rest stays in Ray's session folder
            logging_level=logging.WARNING,
        )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the job's own progress says more
    context.print_on_execution_start = False


def _join(address: str) -> None:
    """Join a cluster. Ray would look for one that is not there for a minute, and then end this process."""
    import ray

    way_out = "Start the cluster, correct the address, or unset RAY_ADDRESS to run on this machine"
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        ray.init(logging_level=logging.WARNING)
    except (OSError, OverflowError) as error:
        raise JobError(f"RAY_ADDRESS={address}: no Ray cluster answers there ({error}). {way_out}") from error
    except ValueError as error:
        raise JobError(f"RAY_ADDRESS={address}: no address of a Ray cluster ({_first_line(error)}). {way_out}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


def _short_folder() -> str | None:
    """Where an embedded Ray keeps its files; None for its own choice, which TMPDIR or RAY_TMPDIR name."""
    named = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "")
    if not named or len(f"{os.environ[named]}{SOCKET}") <= LONGEST_SOCKET:
        return None
    say(f"{named} is too long for Ray's sockets: Ray's files go to /tmp/ray")
    return "/tmp/ray"


def _any_agent_port() -> None:
    """Ray 2.60 hands jobs on at port 52365, and `ray.init` takes no other: two services on a machine would collide."""
    from functools import partialmethod

    from ray._private.parameter import RayParams

    RayParams.__init__ = partialmethod(RayParams.__init__, dashboard_agent_listen_port=0)
