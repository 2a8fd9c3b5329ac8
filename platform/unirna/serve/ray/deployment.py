"""The service on Ray Serve: one deployment, which holds the engine and the HTTP application, so a request makes one hop; on
request, a second one embeds for all replicas of the first."""

from __future__ import annotations

import logging
import os
import sys
import time
from dataclasses import fields, replace
from functools import partial
from typing import Any, Final

import torch
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from unirna.model import Model
from unirna.serve.api.app import create_app, open_engine
from unirna.serve.engine.batcher import Batcher, OverloadedError, Vectors
from unirna.serve.ray.cluster import open_jobs
from unirna.serve.ray.logs import ToCommand
from unirna.serve.settings import Settings, SettingsError

NAME = "unirna"
"""The application's name on the cluster."""
ONGOING = 8
"""Requests at once of one replica, above which there are to be more replicas (`Settings.max_replicas`)."""
ASKED: Final = 5
"""How often an encoder is asked, a second apart, before a request is told to come back."""
ANSWERED: Final = 60.0
"""Seconds that a batch may take, including the start of an encoder that replaces a lost one."""
STOPS: Final[dict[str, Any]] = {"graceful_shutdown_timeout_s": 30, "graceful_shutdown_wait_loop_s": 0.2}


class Encoder:
    """The service's model in a process of its own: what several replicas ask for goes through it together.

    Args:
        settings: of the service. threads: torch threads. one_machine: see `Service`.
    """

    def __init__(self, settings: Settings, threads: int, one_machine: bool) -> None:
        if one_machine:
            _keep_on_loopback()
        torch.set_num_threads(threads)
        model = open_engine(settings).model
        self._fingerprint = model.fingerprint
        self._batcher = Batcher(model.embed_each, budget=model.batch_tokens, max_waiting=sys.maxsize)  # replicas count

    async def embed(self, sequences: list[str], nucleotides: list[bool], fingerprint: str) -> list[Vectors] | None:
        """As `Batcher.embed_each`; None if this is another model."""
        return await self._batcher.embed_each(sequences, nucleotides) if fingerprint == self._fingerprint else None


def ask(encoder: DeploymentHandle, model: Model, sequences: list[str], nucleotides: list[bool]) -> list[Vectors]:
    """What an encoder says; where it goes amid its work, what another one says; and what the replica's own model says while
    an update puts encoders of another model beside it.

    Raises:
        OverloadedError: none answers.
    """
    for _ in range(ASKED):
        try:
            asked = encoder.embed.remote(sequences, nucleotides, model.fingerprint)
            vectors: list[Vectors] | None = asked.result(timeout_s=ANSWERED)
            return model.embed_each(sequences, nucleotides) if vectors is None else vectors
        except RayTaskError:
            raise  # of the model itself
        except TimeoutError:
            break
        except (RayError, DeploymentUnavailableError):
            time.sleep(1)
    raise OverloadedError("the model processes do not respond", retry_after=10)


@serve.ingress()
class Service:
    """One replica: loads the model, then answers.

    Args:
        settings: of the service.
        key_digest: SHA-256 of the key that callers must send, None for none.
        threads: torch threads.
        one_machine: keep Ray's own port of this replica on loopback.
        encoder: what embeds, None for this replica itself.
    """

    def __init__(
        self,
        settings: Settings,
        key_digest: str | None,
        threads: int,
        one_machine: bool,
        encoder: DeploymentHandle | None = None,
    ) -> None:
        logger = logging.getLogger("unirna")
        logger.setLevel(logging.INFO)
        if not logger.handlers:
            logger.addHandler(ToCommand())
        if one_machine:
            _keep_on_loopback()
        if encoder is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = (
                ""  # the GPU is the encoder's; Ray hides it no more from who asked for none
            )
        torch.set_num_threads(threads)
        self._settings, self._key_digest, self._encoder = settings, key_digest, encoder
        self._engine = open_engine(settings)
        self._jobs = open_jobs(settings, self._engine) if settings.jobs_folder else None

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application that Ray Serve runs."""
        embed = None if self._encoder is None else partial(ask, self._encoder, self._engine.model)
        return create_app(self._engine, self._settings, self._key_digest, self._jobs, embed, behind_serve=True)


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
    gpus = 0 if settings.encoders else settings.gpus
    deployment: Any = serve.deployment(
        Service,
        name=NAME,
        **scaling,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        # More than this waits in the proxy; the replica's own limit is by nucleotides, and says so with a 429.
        max_ongoing_requests=256,
        **STOPS,
    )
    encoder = None
    if settings.encoders:
        held: Any = serve.deployment(
            Encoder,
            name="encoder",
            num_replicas=settings.encoders,
            ray_actor_options={"num_cpus": cpus, "num_gpus": settings.gpus},
            max_ongoing_requests=256,  # each replica has one at once
            **STOPS,
        )
        encoder = held.bind(settings, cpus, one_machine)
    application: serve.Application = deployment.bind(settings, key_digest, cpus, one_machine, encoder)
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
