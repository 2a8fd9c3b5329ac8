"""The Ray cluster that a replica stands on, as what runs submitted jobs."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unirna import serve, vectorstore
from unirna.job import JOB_RESOURCE
from unirna.serve.engine.engine import Engine
from unirna.serve.jobs.commands import JobEnvironment
from unirna.serve.jobs.jobs import Jobs
from unirna.serve.jobs.records import ClusterError
from unirna.serve.settings import Settings, SettingsError


class RayCluster:
    """Runs commands through the job server of this process's own cluster. Safe to use from several threads."""

    def __init__(self) -> None:
        self._client: Any = None
        self._lock = threading.Lock()

    def submit(self, id: str, words: list[str]) -> None:
        """See `Cluster.submit`."""
        import ray

        here = ray.get_runtime_context()
        code = {k: v for k, v in here.runtime_env.items() if k in ("working_dir", "py_modules")}  # that this replica runs
        client = self._connected()
        try:
            turn = {JOB_RESOURCE: 1.0} if ray.cluster_resources().get(JOB_RESOURCE) else None
            client.submit_job(
                entrypoint=shlex.join([*words, here.gcs_address]),
                submission_id=id,
                runtime_env=code,
                entrypoint_resources=turn,
            )
        except (RuntimeError, OSError, ray.exceptions.RayError) as error:
            if "already exists" not in str(error):
                raise self._failed(error) from error

    def stop(self, id: str) -> None:
        """See `Cluster.stop`."""
        client = self._connected()
        try:
            if id in self.states():
                client.stop_job(id)
        except (RuntimeError, OSError) as error:
            raise self._failed(error) from error

    def states(self) -> Mapping[str, tuple[str, str]]:
        """See `Cluster.states`."""
        client = self._connected()
        try:
            jobs = client.list_jobs()
        except (RuntimeError, OSError) as error:
            raise self._failed(error) from error
        return {j.submission_id: (str(j.status).lower(), _first_line(j.message or "")) for j in jobs if j.submission_id}

    def _connected(self) -> Any:
        import ray
        from ray.job_submission import JobSubmissionClient

        with self._lock:
            client = self._client
            if client is None:
                try:
                    client = self._client = JobSubmissionClient(ray.get_runtime_context().gcs_address)
                except (RuntimeError, OSError) as error:
                    raise self._failed(error) from error
            return client

    def _failed(self, error: Exception) -> ClusterError:
        self._client = None  # the head may come back at another address
        return ClusterError(f"Ray's job server does not answer ({type(error).__name__})")


def open_jobs(settings: Settings, engine: Engine) -> Jobs:
    """The jobs that these settings describe.

    Raises:
        SettingsError: the scripts of jobs were not found.
    """
    place = JobEnvironment(
        python=sys.executable,
        scripts=find_scripts(),
        store=settings.store,
        registry=settings.registry,
        model=settings.model or engine.model.name,
        layer=_layer(engine),
        workers=settings.job_workers,
    )
    return Jobs(Path(settings.jobs_folder), settings.inputs_folder, place, RayCluster(), settings.max_jobs)


def _layer(engine: Engine) -> int:
    """The layer whose states the engine's vectors are, as the collections say that it made."""
    for found in engine.catalogue.describe_all():
        if found["fingerprint"] == engine.model.fingerprint:
            return vectorstore.open(engine.store, found["name"]).provenance.layer
    return -1


def find_scripts() -> Path:
    """The folder of jobs/*.py: of the installed package, the checkout that this code stands in, or the working directory.

    Raises:
        SettingsError: it is not there.
    """
    here = Path(serve.__file__).resolve()
    for folder in (here.parents[1] / "jobs", here.parents[3] / "jobs", Path.cwd() / "jobs"):
        if (folder / "embed.py").is_file():
            return folder
    raise SettingsError("--jobs-folder: jobs/embed.py was not found. Start the service in the project's folder")


def _first_line(text: str) -> str:
    lines = text.splitlines()
    return lines[0] if lines else ""
