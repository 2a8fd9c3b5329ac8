"""The service against its own OpenAPI document: requests made from it, good and bad, by schemathesis."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from tests.test_serve import KEY, running
from unirna.serve.engine.engine import Engine
from unirna.serve.engine.limits import Limits
from unirna.serve.jobs.commands import JobEnvironment
from unirna.serve.jobs.jobs import Jobs
from unirna.serve.ray.cluster import find_scripts
from unirna.serve.settings import Settings

# What means nothing here: whether letters are RNA, or a name is that of a collection, is not in the document.
NOT_MEANT = ("positive_data_acceptance",)
OPERATIONS = [
    ("POST", "/v1/search"),
    ("POST", "/v1/parse"),
    ("POST", "/v1/embed"),
    ("POST", "/v1/predict/{task}"),
    ("POST", "/v1/fold"),
    ("POST", "/v1/score-variants"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}/card"),
    ("GET", "/v1/models/{name}/plot"),
    ("GET", "/v1/collections"),
    ("GET", "/v1/collections/{name}"),
    ("DELETE", "/v1/collections/{name}"),
    ("PUT", "/v1/collections/{name}/default"),
    ("GET", "/v1/collections/{name}/sample"),
    ("GET", "/v1/collections/{name}/export"),
    ("GET", "/v1/collections/{name}/record"),
    ("GET", "/v1/collections/{name}/map"),
    ("POST", "/v1/collections/{name}/map/records"),
    ("POST", "/v1/collections/{name}/map/place"),
    ("GET", "/v1/service"),
    ("GET", "/v1/jobs"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs/{id}"),
    ("GET", "/v1/jobs/{id}/log"),
    ("POST", "/v1/jobs/{id}/cancel"),
    ("POST", "/v1/jobs/{id}/resume"),
    ("GET", "/v1/jobs/{id}/results"),
    ("GET", "/v1/jobs/{id}/results/{name}"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
]


class Idle:
    """A cluster that takes every job and begins none: `tests/test_jobs_api.py` has one that works."""

    def submit(self, id: str, words: list[str]) -> None:
        pass

    def stop(self, id: str) -> None:
        pass

    def states(self) -> dict[str, tuple[str, str]]:
        return {}


REFUSED = ("/record", "/map", "/results/{name}")
"""Ends of paths for which nothing is there."""
ANSWERED = [operation for operation in OPERATIONS if operation[0] == "GET" and not operation[1].endswith(REFUSED)]
"""Operations of which schemathesis is to see what they answer when all is well."""


@pytest.fixture(scope="module")
def url(library: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("jobs")
    place = JobEnvironment(sys.executable, find_scripts(), library.store, library.registry, library.model)
    jobs = Jobs(folder, "", place, Idle())
    limits = Limits(300, 50, 200, 3_000)
    engine = Engine.open(library.store, library.model, library.registry, default_collection="rfam", limits=limits)
    with running(engine, Settings(store=library.store, max_body_bytes=1 << 20), KEY, jobs) as http:
        yield str(http.base_url).rstrip("/")


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # a proxy set for the outside does not reach this machine
        session.headers["authorization"] = f"Bearer {KEY}"
        yield session


@pytest.fixture(scope="module")
def there(url: str, session: requests.Session) -> dict[str, str]:
    """What stands in paths: a collection, a job, a predictor."""
    job = {"kind": "embed", "parameters": {"collection": "new"}, "input": {"fasta": ">a\nACGU\n"}}
    return {"name": "rfam", "task": "gc", "id": session.post(f"{url}/v1/jobs", json=job).json()["id"]}


@pytest.fixture(scope="module")
def document(url: str, session: requests.Session) -> Any:
    load_all_checks()
    return schemathesis.openapi.from_dict(session.get(f"{url}/openapi.json").json())


def test_every_operation_is_tried(document: Any) -> None:
    there = {(found.ok().method.upper(), found.ok().path) for found in document.get_all_operations()}
    assert there == set(OPERATIONS)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["good", "bad"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: part)
def test_answers_are_as_the_document_says(
    document: Any, url: str, session: requests.Session, there: dict[str, str], method: str, path: str, mode: GenerationMode
) -> None:
    operation = document[path][method]
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
        pytest.skip("takes nothing that could be wrong")
    checks = [check for check in CHECKS.get_all() if check.__name__ not in NOT_MEANT]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def ask(case: Any) -> None:
        nonlocal number
        number += 1
        if number % 2 and mode is GenerationMode.POSITIVE:  # half of them are about what is there
            for name in set(case.path_parameters or {}) & set(there):
                case.path_parameters[name] = there["task" if path.startswith("/v1/models/") else name]
        answer = case.call_and_validate(base_url=url, session=session, checks=checks, timeout=60)
        answered.add(answer.status_code)

    number, answered = 0, set[int]()
    ask()
    if mode is GenerationMode.POSITIVE and (method, path) in ANSWERED:
        assert answered & {200, 202}
