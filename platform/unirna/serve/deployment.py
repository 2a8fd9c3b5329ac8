"""The service on Ray Serve: one deployment, which holds the engine and the HTTP application, so a request makes one hop."""

from __future__ import annotations

import logging
from dataclasses import fields, replace
from typing import Any

import torch
from fastapi import FastAPI
from ray import serve

from unirna.serve.app import create_app, open_engine
from unirna.serve.cluster import open_jobs
from unirna.serve.settings import Settings, SettingsError

NAME = "unirna"
"""The application's name on the cluster."""
ONGOING = 8
"""Requests at once of one replica, above which there are to be more replicas (`Settings.max_replicas`)."""


@serve.ingress()
class Service:
    """One replica: loads the model, then answers.

    Args:
        settings: of the service.
        key_digest: SHA-256 of the key that callers must send, None for none.
        threads: torch threads.
        one_machine: keep Ray's own port of this replica on loopback.
    """

    def __init__(self, settings: Settings, key_digest: str | None, threads: int, one_machine: bool) -> None:
        logger = logging.getLogger("unirna")
        logger.setLevel(logging.INFO)
        if not logger.handlers:  # what Ray passes on
            logger.addHandler(logging.StreamHandler())
        if one_machine:
            _keep_on_loopback()
        torch.set_num_threads(threads)
        self._settings, self._key_digest = settings, key_digest
        self._engine = open_engine(settings)
        self._jobs = open_jobs(settings, self._engine) if settings.jobs_folder else None

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application that Ray Serve runs."""
        return create_app(self._engine, self._settings, self._key_digest, self._jobs)


def build(settings: Settings, key_digest: str | None, *, cpus: int, one_machine: bool) -> serve.Application:
    """The application for `serve.run`.

    Args:
        settings: of the service. key_digest: see `Service`.
        cpus: cores of one replica.
        one_machine: whether the cluster is an embedded one.
    """
    scaling: dict[str, Any] = {"num_replicas": settings.replicas}
    if settings.max_replicas > settings.replicas:
        limits = {"min_replicas": settings.replicas, "max_replicas": settings.max_replicas}
        scaling = {"autoscaling_config": {**limits, "target_ongoing_requests": ONGOING, "upscale_delay_s": 5}}
    deployment: Any = serve.deployment(
        Service,
        name=NAME,
        **scaling,
        ray_actor_options={"num_cpus": cpus, "num_gpus": settings.gpus},
        # More than this waits in the proxy; the replica's own limit is by nucleotides, and says so with a 429.
        max_ongoing_requests=256,
        graceful_shutdown_timeout_s=30,
        graceful_shutdown_wait_loop_s=0.2,
    )
    application: serve.Application = deployment.bind(settings, key_digest, cpus, one_machine)
    return application


def from_config(arguments: dict[str, Any]) -> serve.Application:
    """The application for a Serve configuration file (`deploy/kuberay/rayservice.yaml`).

    Args:
        arguments: fields of `Settings`; `UNIRNA_*` variables, such as the key, apply where they are silent.

    Raises:
        SettingsError: an unknown or bad setting, or no key for an address beyond loopback.
    """
    unknown = sorted(set(arguments) - {field.name for field in fields(Settings)})
    if unknown:
        raise SettingsError(f"args: no setting {', '.join(unknown)}. See jobs/serve.py --help")
    settings = replace(Settings.from_environment(), **arguments)
    settings.check()
    return build(settings, settings.key_digest(), cpus=settings.cpus or 1, one_machine=False)


def _keep_on_loopback() -> None:
    """Ray 2.60 opens a port on every address for calls between deployments, with no setting for it; we make none.

    Read from `ray/serve/_private/replica.py`; a test looks at the ports that are really open.
    """
    from ray.serve._private import replica

    add_port = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: add_port(server, address.replace("[::]", "127.0.0.1"))
