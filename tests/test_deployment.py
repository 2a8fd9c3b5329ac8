"""The application on Ray Serve: a model in processes of its own; another version in its place while people search."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.conftest import free_port
from unirna import sdk
from unirna.model import load
from unirna.serve import Settings

pytestmark = pytest.mark.slow


def processes(title: str) -> list[int]:
    """Ids of this machine's processes whose command line begins so."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and (folder / "cmdline").read_bytes().startswith(title.encode()):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@contextmanager
def searching(url: str, queries: list[str]) -> Iterator[list[str | Exception]]:
    """Four clients with the SDK's usual retries, until the body ends: of each answer the model, the query's number and its
    hits, or what went wrong."""
    seen: list[str | Exception] = []
    stop = threading.Event()

    def search() -> None:
        with sdk.connect(url, progress=False, timeout=180) as client:
            for number in itertools.count():
                if stop.is_set():
                    return
                try:
                    found = client.search(queries[number % len(queries)], collection="rfam", k=3)
                    seen.append(" ".join([found.model, str(number % len(queries)), *(hit.id for hit in found)]))
                except Exception as error:
                    seen.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def right(seen: list[str | Exception], queries: int, model: str) -> None:
    """See that nothing failed, and that each query had the same hits whenever it was asked."""
    different = {str(one) for one in seen}
    assert len(different) == queries and all(one.startswith(f"{model} ") for one in different), different


def test_encoders_answer_for_replicas_and_may_be_killed(
    start_service: Callable[..., Any], library: Any, tmp_path: Path
) -> None:
    started = start_service(tmp_path, "--encoders", "1", "--cpus", "1")
    assert "encoders: 1" in started.log.read_text()
    letters = [row["sequence"] for row in library.heldout[:5]]
    before = {*processes("ray::ServeReplica:unirna:encoder")}
    try:
        with httpx2.Client(base_url=started.url, timeout=60, trust_env=False) as http:
            vectors = http.post("/v1/embed", json={"sequences": letters}).json()["vectors"]
            assert np.abs(np.array(vectors) - load(library.model).embed(letters)).max() < 1e-5
        with searching(started.url, letters) as seen:
            while len(seen) < 20:
                assert started.process.poll() is None
                time.sleep(0.01)
            (encoder,) = before
            os.kill(encoder, signal.SIGKILL)
            many = len(seen) + 20
            while len(seen) < many:
                assert started.process.poll() is None
                time.sleep(0.01)
        right(seen, len(letters), library.model)
        assert not {*processes("ray::ServeReplica:unirna:encoder")} & before
    finally:
        started.process.send_signal(signal.SIGTERM)
        started.process.communicate(timeout=60)
    assert started.process.returncode == 0, started.log.read_text()


@pytest.mark.parametrize(("replicas", "encoders"), [(2, 0), (1, 1)])
def test_no_search_fails_while_the_application_is_updated(
    ray_cluster: None, library: Any, replicas: int, encoders: int
) -> None:
    from ray import serve

    from unirna.serve.ray.deployment import NAME, build

    url = f"http://127.0.0.1:{(port := free_port())}"
    other = str(Path(library.registry).parent / "other")
    settings = Settings(
        library.store, library.model, registry=library.registry, replicas=replicas, port=port, encoders=encoders
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        serve.run(build(settings, None, cpus=1, one_machine=True), name=NAME)
        with searching(url, [row["sequence"] for row in library.heldout[:5]]) as seen:
            for model in (other, library.model):
                serve.run(build(replace(settings, model=model), None, cpus=1, one_machine=True), name=NAME)
                named = httpx2.get(f"{url}/v1/models", timeout=60, trust_env=False).json()["encoder"]["name"]
                assert named == model
                many = len(seen) + 8
                while len(seen) < many:
                    time.sleep(0.01)
        right(seen, 5, library.model)
    finally:
        serve.shutdown()
