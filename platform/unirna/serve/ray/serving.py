"""The serving job: check what can be refused at once, start Ray, the proxy and the replicas, and stay until stopped."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from unirna import vectorstore
from unirna.job import connect_ray, num_cpus, say
from unirna.serve.ray.logs import Lines
from unirna.serve.settings import Settings, SettingsError, is_loopback


def serve_store(settings: Settings) -> dict[str, Any]:
    """Start the service and stay until told to stop."""
    # ---- what can be refused at once
    settings.check()
    key_digest = settings.key_digest()
    one_machine = not os.environ.get("RAY_ADDRESS")
    if one_machine:
        if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1" and is_loopback(settings.host):
            raise SettingsError(
                "RAY_SERVE_ENABLE_HA_PROXY=1: HAProxy shows its own pages (ports 8404 and 9101) on every address, and this "
                f"service should listen on {settings.host} only. Leave the variable out, or choose another --host"
            )
        check_port(settings.host, settings.port)
    for_jobs = settings.job_workers if settings.jobs_folder else 0  # or a job would wait for the replicas' cores for ever
    most = max(settings.replicas, settings.max_replicas)
    processes = most + settings.encoders
    cpus = settings.cpus or (max(1, (num_cpus() - for_jobs) // processes) if one_machine else 1)
    wanted = cpus * processes + for_jobs
    if one_machine and wanted > num_cpus():
        encoders = f" and --encoders {settings.encoders}" if settings.encoders else ""
        jobs = f" and jobs with --job-workers {for_jobs}" if for_jobs else ""
        raise SettingsError(
            f"--replicas {most}{encoders} of {cpus} cores{jobs} need {wanted}; there are {num_cpus()}. "
            "Ask for fewer, or set RAY_ADDRESS to a cluster"
        )
    names = vectorstore.list_collections(settings.store)
    if not names:
        raise SettingsError(f"--store: there is no collection in {settings.store!r}. Make one with jobs/embed.py")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until it is ready, both signals simply end it
    started = time.monotonic()

    # ---- Ray, the proxy, the replicas
    say(f"serving {', '.join(names)} of {settings.store}: reading the model")
    from unirna.serve.api.app import open_engine

    engine = open_engine(settings)  # a model that cannot be found or does not fit is said here, not by a replica
    settings = replace(
        settings,
        store=absolute(settings.store),
        model=absolute(settings.model or ("" if layered(settings) else engine.model.name)),
        registry=absolute(settings.registry),
        keys_file=full(settings.keys_file),
        jobs_folder=full(settings.jobs_folder),
        inputs_folder=full(settings.inputs_folder),
    )
    if settings.jobs_folder:
        Path(settings.jobs_folder).mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds what callers send
    del engine
    say("starting Ray" if one_machine else f"joining Ray at {os.environ['RAY_ADDRESS']}")
    if one_machine and not settings.jobs_folder:
        # Ray's workers stand behind all other programs (nice 15), which is right for jobs; replicas are waited for.
        os.environ.setdefault("RAY_worker_niceness", "0")
    # Ray reads its variables when it is imported, so nothing may import it before.
    if one_machine:
        atexit.register(Lines(sys.stderr).close)
    connect_ray(job_server=bool(settings.jobs_folder))
    with warnings.catch_warnings(action="ignore"):  # of Ray's own making
        from ray import serve

    from unirna.serve.ray.deployment import NAME, build

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if for_jobs:
        import ray

        lacks = lacking(ray.cluster_resources(), wanted, settings.gpus * (settings.encoders or most) + for_jobs)
        if lacks and one_machine:
            raise SettingsError(f"--jobs-folder: {lacks}. Ask for fewer --gpus, --cpus, --replicas or --job-workers")
        if lacks:  # it may still grow
            say(lacks)
    say("starting the HTTP proxy")
    proxies = "HeadOnly" if one_machine else "EveryNode"
    serve.start(proxy_location=proxies, http_options={"host": settings.host, "port": settings.port})
    encoders = f", encoders: {settings.encoders}" if settings.encoders else ""
    say(f"loading the model; replicas: {settings.replicas}{encoders}, cores of each: {cpus}")
    serve.run(build(settings, key_digest, cpus=cpus, one_machine=one_machine), name=NAME, route_prefix="/")
    seconds = time.monotonic() - started

    # ---- in the foreground
    stop = stop_on_signals()
    address = f"http://{'127.0.0.1' if settings.host in ('0.0.0.0', '::') else settings.host}:{settings.port}"
    say(f"ready after {seconds:.0f} s\n  page  {address}/\n  docs  {address}/docs\nCtrl-C ends it")
    stop.wait()
    say("stopping: running requests may finish")
    serve.delete(NAME)
    if not one_machine and not serve.status().applications:
        serve.shutdown()  # leave no proxy on the cluster; an embedded Ray ends with this process
    return {"served": settings.store, "address": address, "start_seconds": round(seconds, 1)}


def layered(settings: Settings) -> bool:
    """Whether the collection that says which model to use holds states of a layer: then the replicas read it there too."""
    first = settings.collection or vectorstore.default_collection(settings.store) or ""
    return bool(vectorstore.open(settings.store, first).provenance.layer != -1)


def absolute(path: str) -> str:
    """A folder by its full path, so that a replica finds it wherever it runs; a URI or a shipped name as it is."""
    return str(Path(path).absolute()) if path and Path(path).is_dir() else path


def full(path: str) -> str:
    """A path by its full name, the empty one as it is."""
    return str(Path(path).absolute()) if path else ""


def lacking(there: Mapping[str, float], cores: int, gpus: float) -> str:
    """What a cluster lacks for the replicas and one job beside them, empty for nothing."""
    lacks = [f"{cores} cores of {there.get('CPU', 0):g}"] if there.get("CPU", 0) < cores else []
    if there.get("GPU") and there["GPU"] < gpus:  # where there are GPUs, a job wants one to each worker
        lacks.append(f"{gpus:g} GPUs of {there['GPU']:g}")
    return f"the replicas with one job need {' and '.join(lacks)}: jobs would wait until there are more" if lacks else ""


def check_port(host: str, port: int) -> None:
    """See that the port is free before ten seconds go into starting Ray.

    Raises:
        SettingsError: it is in use, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {host}:{port} ({error.strerror}). Another service may run there: "
                "end it, or choose another with --port (UNIRNA_PORT)"
            ) from error


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set; a second one ends the process at once."""
    stop = threading.Event()

    def on_signal(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, signal.default_int_handler)
        stop.set()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    return stop
