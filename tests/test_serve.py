"""The service: the real one on Ray Serve, and the same application on a plain server where a test needs other settings."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch

from unirna import vectorstore
from unirna.model import load
from unirna.serve.engine.batcher import Batcher, ConcurrencyLimiter, OverloadedError, SerialExecutor
from unirna.serve.engine.engine import Engine
from unirna.serve.engine.limits import Limits
from unirna.serve.errors import RequestError
from unirna.serve.jobs.jobs import Jobs
from unirna.serve.settings import Settings, SettingsError, is_loopback
from unirna.tasks import list_predictors, load_predictor

ROOT = Path(__file__).resolve().parent.parent
KEY = "0123456789abcdef-a-key"


@pytest.fixture(scope="module")
def http(service: Any) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def engine(library: Any) -> Engine:
    return Engine.open(library.store, library.model, library.registry, default_collection="rfam", limits=Limits(500, 50))


@contextmanager
def running(
    engine: Engine, settings: Settings, key: str | None = None, jobs: Jobs | None = None
) -> Iterator[httpx2.Client]:
    """The application on uvicorn in a thread, over a real socket."""
    import uvicorn

    from unirna.serve.api.app import create_app

    digest = settings.key_digest({"UNIRNA_API_KEY": key}) if key else None
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # a client that is there before the server waits
        server = uvicorn.Server(uvicorn.Config(create_app(engine, settings, digest, jobs), log_level="critical", ws="none"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def fields(response: httpx2.Response) -> list[str]:
    """The fields that a problem names, after seeing that it is one."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert {"type", "title", "detail", "instance"} <= set(problem)
    assert problem["instance"] == response.request.url.path
    assert all(entry["message"] for entry in problem["errors"])
    return [entry["field"] for entry in problem["errors"]]


# ---- the service on Ray Serve ------------------------------------------------------------------------------------------


def test_a_default_is_set_and_seen_at_once(library: Any, tmp_path: Path) -> None:
    store = str(tmp_path)
    for name in ("b", "a"):
        vectorstore.copy(library.store, "rfam", store, name)
    catalogue = Engine.open(store, library.model).catalogue
    assert catalogue.open(None).name == "b"
    catalogue.set_default("a")
    assert catalogue.open(None).name == "a"
    with pytest.raises(RequestError, match="no collection 'c'"):
        catalogue.set_default("c")
    with pytest.raises(RequestError, match="'a' is the default") as refused:
        catalogue.drop("a", "a")
    assert refused.value.status == 409
    vectorstore.rename(store, "a", "c")  # its record follows
    assert catalogue.open(None).name == "c"
    (tmp_path / "c.lance").rename(tmp_path / "gone")
    with pytest.raises(RequestError, match=r"'c', is no longer there. Name one of: b"):
        catalogue.open(None)


def test_search_by_sequence_id_and_vector_agree(http: httpx2.Client, library: Any) -> None:
    row = library.rows[7]
    vector = http.post("/v1/embed", json={"sequences": [row["sequence"]]}).json()["vectors"][0]
    answers = [
        http.post("/v1/search", json={**query, "k": 5, "where": "length < 100", "verify": False}).json()
        for query in ({"similar_to": row["sequence"].lower().replace("u", "t")}, {"id": row["id"]}, {"vector": vector})
    ]
    for answer in answers:
        assert answer["collection"] == "rfam"
        assert [h["rank"] for h in answer["hits"]] == [1, 2, 3, 4, 5]
        got = [h["similarity"] for h in answer["hits"]]
        np.testing.assert_allclose(got, [h["similarity"] for h in answers[0]["hits"]], atol=1e-6)
        assert all(h["length"] < 100 and set(h["labels"]) == {"family", "family_name", "rna_type"} for h in answer["hits"])
        assert answer["hits"][0]["similarity"] == pytest.approx(1, abs=1e-5)
        assert row["id"] in [h["id"] for h in answer["hits"]]


def test_both_encodings_of_vectors_are_the_models(http: httpx2.Client, library: Any) -> None:
    import base64

    from unirna import model

    sequences = [row["sequence"] for row in library.rows[:9]]
    wanted = model.load(library.model).embed(sequences)
    plain = http.post("/v1/embed", json={"sequences": sequences}).json()
    packed = http.post("/v1/embed", json={"sequences": sequences, "encoding": "base64"}).json()
    assert plain["dimension"] == packed["dimension"] == 128
    np.testing.assert_allclose(np.array(plain["vectors"], np.float32), wanted, atol=1e-5)
    raw = np.frombuffer(base64.b64decode(packed["vectors"]), "<f4").reshape(-1, 128)
    np.testing.assert_allclose(raw, wanted, atol=1e-5)


def test_predict_with_a_shared_and_with_an_own_encoder(http: httpx2.Client, library: Any) -> None:
    sequences = [row["sequence"] for row in library.heldout[:4]]
    for task in ("rna_type", "family"):
        wanted = load_predictor(Path(library.registry) / task).predict(sequences)
        answer = http.post(f"/v1/predict/{task}", json={"sequences": sequences, "top": 3}).json()
        assert [p["label"] for p in answer["predictions"]] == wanted.labels
        for prediction, row in zip(answer["predictions"], wanted.probabilities, strict=True):
            shares = list(prediction["probabilities"].values())
            assert len(shares) == 3 and shares == sorted(shares, reverse=True)
            assert shares[0] == prediction["probability"] == pytest.approx(float(row.max()), abs=1e-4)


def test_predicted_values(http: httpx2.Client, library: Any) -> None:
    sequences = [row["sequence"] for row in library.heldout[:4]]
    wanted = load_predictor(Path(library.registry) / "gc").predict(sequences)
    answers = http.post("/v1/predict/gc", json={"sequences": sequences}).json()["predictions"]
    for answer, value, letters in zip(answers, wanted.values, sequences, strict=True):
        assert answer["value"] == pytest.approx(value, abs=1e-3) and answer["unit"] == "%"
        assert answer["low"] < answer["value"] < answer["high"]
        assert answer["value"] == pytest.approx(100 * (letters.count("G") + letters.count("C")) / len(letters), abs=10)
        assert set(answer) == {"value", "low", "high", "unit", "applicable", "reason", "motifs", "in_training_length_range"}


def test_models_collections_and_records(http: httpx2.Client, library: Any) -> None:
    models = http.get("/v1/models").json()
    assert models["encoder"]["dimension"] == 128
    made = {p["name"]: (p["task"], p["unit"]) for p in models["predictors"] if p["name"] in ("family", "gc", "rna_type")}
    assert made == {
        "family": ("sequence-classification", ""),
        "gc": ("sequence-regression", "%"),
        "rna_type": ("sequence-classification", ""),
    }
    shipped = list_predictors(None)
    assert [p["name"] for p in models["predictors"]] == sorted({*made, *shipped})
    listed = http.get("/v1/collections").json()
    assert listed["default"] == "rfam"
    assert [(c["name"], c["searchable"]) for c in listed["collections"]] == [("other", False), ("rfam", True)]
    one = http.get("/v1/collections/rfam").json()
    assert one["num_rows"] == len(library.rows)
    assert {e["id"] for e in one["examples"]} <= {row["id"] for row in library.rows}
    row = library.rows[3]
    assert "/" in row["id"]
    record = http.get("/v1/collections/rfam/record", params={"id": row["id"]}).json()
    assert (record["id"], record["sequence"], record["labels"]["family"]) == (row["id"], row["sequence"], row["family"])


def test_health_and_pages(http: httpx2.Client) -> None:
    assert http.get("/healthz").json() == http.get("/readyz").json() == {"status": "ok"}
    for path in ("/", "/docs", "/record", "/map"):
        page = http.get(path)
        assert page.status_code == 200
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "http://" not in page.text.replace("http://www.w3.org/", "") and "https://" not in page.text
    assert http.get("/healthz").headers["x-request-id"]
    assert len(set(http.get("/openapi.json").json()["paths"])) == 29


BAD: list[tuple[str, dict[str, Any], int, list[str]]] = [
    ("search", {"similar_to": "ACGX"}, 422, ["similar_to"]),
    ("search", {"similar_to": "  "}, 422, ["similar_to"]),
    ("search", {"similar_to": "A" * 20_001}, 422, ["similar_to"]),
    ("search", {}, 422, ["similar_to"]),
    ("search", {"similar_to": "ACGU", "id": "x"}, 422, ["id"]),
    ("search", {"similar_to": "ACGU", "k": 0}, 422, ["k"]),
    ("search", {"similar_to": "ACGU", "k": 1001}, 422, ["k"]),
    ("search", {"similar_to": "ACGU", "k": "ten"}, 422, ["k"]),
    ("search", {"similar_to": "ACGU", "wher": "x", "k": 1.5}, 422, ["k", "wher"]),
    ("search", {"similar_to": "ACGU", "where": "colour = 'red'"}, 422, ["where"]),
    ("search", {"similar_to": "ACGU", "where": "length <"}, 422, ["where"]),
    ("search", {"similar_to": "ACGU", "where": "length / 0 > 1"}, 422, ["where"]),
    ("search", {"similar_to": "ACGU", "collection": "nope"}, 404, ["collection"]),
    ("search", {"similar_to": "ACGU", "collection": "../store/rfam"}, 404, ["collection"]),
    ("search", {"similar_to": "ACGU", "collection": "other"}, 409, ["collection"]),
    ("search", {"id": "nope"}, 404, ["id"]),
    ("search", {"id": "\ud800"}, 422, ["id"]),
    ("search", {"vector": [1.0, 2.0]}, 422, ["vector"]),
    ("search", {"vector": [0.0] * 128}, 422, ["vector"]),
    ("search", {"vector": ["a"] * 2}, 422, ["vector[0]", "vector[1]"]),
    ("embed", {"sequences": ["ACGU", "AC-GU", "1"]}, 422, ["sequences[1]", "sequences[2]"]),
    ("embed", {"sequences": []}, 422, ["sequences"]),
    ("embed", {"sequences": "ACGU"}, 422, ["sequences"]),
    ("embed", {"sequences": ["A"] * 257}, 422, ["sequences"]),
    ("predict/nope", {"sequences": ["ACGU"]}, 404, ["task"]),
    ("predict/..%2Frna_type", {"sequences": ["ACGU"]}, 404, ["task"]),
    ("predict/rna_type", {"sequences": ["ACGU"], "top": -1}, 422, ["top"]),
]


@pytest.mark.parametrize(("path", "body", "status", "wanted"), BAD, ids=lambda v: str(v)[:40].encode("ascii", "replace"))
def test_bad_requests_name_the_field(
    http: httpx2.Client, library: Any, path: str, body: dict[str, Any], status: int, wanted: list[str]
) -> None:
    text = json.dumps(body)
    response = http.post(f"/v1/{path}", content=text, headers={"content-type": "application/json"})
    assert response.status_code == status, response.text
    assert fields(response) == wanted
    assert library.store not in response.text and "Traceback" not in response.text


def test_requests_that_are_no_requests(http: httpx2.Client) -> None:
    as_json = {"content-type": "application/json"}
    assert http.post("/v1/search", content="{bad", headers=as_json).status_code == 400
    deep = http.post("/v1/search", content="[" * 100_000, headers=as_json)
    assert deep.status_code == 400 and not fields(deep)
    plain = http.post("/v1/search", content='{"similar_to": "ACGU"}', headers={"content-type": "text/plain"})
    assert plain.status_code == 415 and not fields(plain)
    assert fields(http.post("/v1/search", content="[]", headers=as_json)) == ["body"]
    for method, path, status in (
        ("GET", "/nope", 404),
        ("GET", "/static/../app.py", 404),
        ("GET", "/static/%2e%2e/app.py", 404),
        ("GET", "/v1/search", 405),
        ("GET", "/v1/collections/nope", 404),
        ("GET", "/v1/collections/..", 404),
    ):
        response = http.request(method, path)
        assert response.status_code == status, path
        fields(response)
    rebound = http.get("/v1/models", headers={"host": "evil.example:8000"})
    assert rebound.status_code == 403 and not fields(rebound)


def test_a_body_that_is_too_large(http: httpx2.Client) -> None:
    big = b'{"sequences": ["' + b"A" * (9 << 20) + b'"]}'

    def in_pieces() -> Iterator[bytes]:
        for start in range(0, len(big), 1 << 16):
            yield big[start : start + (1 << 16)]

    for content in (big, in_pieces()):
        response = http.post("/v1/embed", content=content, headers={"content-type": "application/json"})
        assert response.status_code == 413
        assert fields(response) == ["body"]
        assert "max_body_bytes" in response.json()["detail"]


def test_many_at_once_get_each_their_own_answer(http: httpx2.Client, engine: Engine, library: Any) -> None:
    sequences = [row["sequence"] for row in library.rows[:40]]

    def embed(i: int) -> Any:
        return http.post("/v1/embed", json={"sequences": sequences[i : i + 1 + i % 3]}).json()["vectors"]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(embed, range(40)))
    wanted = engine.embed(sequences)
    assert len(np.unique(wanted.round(4), axis=0)) > 30  # so that a mix-up would show
    for i, vectors in enumerate(answers):
        np.testing.assert_allclose(np.array(vectors, np.float32), wanted[i : i + 1 + i % 3], atol=1e-5)


def test_it_listens_on_loopback_only(service: Any) -> None:
    listening = addresses_of(service.process.pid)
    assert any(port == httpx2.URL(service.url).port for _, port in listening)
    assert {host for host, _ in listening} == {"127.0.0.1"}


def addresses_of(pid: int) -> list[tuple[str, int]]:
    """Addresses and ports on which a process and its descendants listen (Linux)."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
    family = {pid}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    sockets = set()
    for member in family:
        for link in Path(f"/proc/{member}/fd").glob("*"):
            try:
                sockets.add(str(link.readlink()))
            except OSError:
                continue
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            part = line.split()
            if part[3] == "0A" and f"socket:[{part[9]}]" in sockets:
                host, port = part[1].split(":")
                found.append((_host(host), int(port, 16)))
    return found


def _host(raw: str) -> str:
    packed = b"".join(bytes.fromhex(raw[i : i + 8])[::-1] for i in range(0, len(raw), 8))
    if len(packed) == 16 and packed[:12] == b"\0" * 10 + b"\xff\xff":
        packed = packed[12:]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


@pytest.mark.slow
def test_sigterm_lets_running_requests_finish(start_service: Callable[..., Any], tmp_path: Path) -> None:
    service = start_service(tmp_path)
    body = {"sequences": ["ACGU" * 4000] * 8}
    with ThreadPoolExecutor(1) as pool, httpx2.Client(trust_env=False, timeout=120) as client:
        answer = pool.submit(client.post, f"{service.url}/v1/embed", json=body)
        time.sleep(1)
        assert not answer.done()
        service.process.send_signal(signal.SIGTERM)
        assert len(answer.result().json()["vectors"]) == 8
    service.process.communicate(timeout=60)
    assert service.process.returncode == 0


# ---- the application with other settings -------------------------------------------------------------------------------


def test_a_key_is_asked_for(engine: Engine) -> None:
    with running(engine, Settings(store="unused"), KEY) as http:
        for path in ("/healthz", "/readyz", "/", "/docs"):
            assert http.get(path).status_code == 200
        for authorization in ("", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", KEY):
            response = http.get("/v1/models", headers={"authorization": authorization})
            assert response.status_code == 401, authorization
            assert response.headers["www-authenticate"] == "Bearer"
            assert not fields(response) and KEY not in response.text
        assert http.get("/v1/models", headers={"authorization": f"Bearer {KEY}"}).status_code == 200
        # With a key the service may be called by any name.
        assert http.get("/healthz", headers={"host": "rna.example"}).status_code == 200


def test_limits_are_settings(engine: Engine) -> None:
    settings = Settings(store="unused", max_sequences=2, max_body_bytes=3000)
    with running(engine, settings) as http:
        many = http.post("/v1/embed", json={"sequences": ["A"] * 3})
        assert fields(many) == ["sequences"] and "max_sequences" in many.text
        long = http.post("/v1/embed", json={"sequences": ["A" * 501]})
        assert fields(long) == ["sequences[0]"] and "max_sequence_length" in long.text
        assert fields(http.post("/v1/search", json={"similar_to": "A", "k": 51})) == ["k"]
        assert http.post("/v1/embed", json={"sequences": ["A" * 3000]}).status_code == 413


def test_an_unexpected_error_shows_nothing_of_the_inside(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(engine, "describe_models", fail)
    with running(engine, Settings(store="unused")) as http:
        response = http.get("/v1/models")
        assert response.status_code == 500 and not fields(response)
        assert "secret" not in response.text
    assert "a secret" in caplog.text  # but the log has it


def test_too_much_waiting_is_refused_with_a_time_to_come_back(engine: Engine) -> None:
    with running(engine, replace(Settings(store="unused"), max_waiting_nucleotides=10_000)) as http:
        body = {"sequences": ["ACGU" * 100] * 20}
        with ThreadPoolExecutor(8) as pool:
            answers = {
                path: list(pool.map(lambda _, path=path: http.post(path, json=body), range(8)))  # type: ignore[misc]
                for path in ("/v1/embed", "/v1/predict/family")  # `family` has an encoder, and a queue, of its own
            }
        for path in answers:
            large = http.post(path, json={"sequences": ["ACGU" * 100] * 26})
            assert large.status_code == 413 and fields(large) == ["sequences"]
            assert "10,000 (max_waiting_nucleotides). Split it" in large.json()["detail"]
    for of_path in answers.values():
        refused = [a for a in of_path if a.status_code == 429]
        assert refused and len(refused) < 8
        assert all(int(a.headers["retry-after"]) >= 1 and not fields(a) for a in refused)


# ---- the batcher -------------------------------------------------------------------------------------------------------


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    batches: list[list[str]] = []

    def embed(sequences: list[str], nucleotides: list[bool]) -> Any:
        batches.append(sequences)
        return np.array([[len(s)] for s in sequences], np.float32)

    async def scenario() -> None:
        batcher = Batcher(embed, budget=10, max_waiting=1000)
        large, small, long = await asyncio.gather(
            batcher.embed(["AAA"] * 20), batcher.embed(["CC"]), batcher.embed(["G" * 30])
        )
        assert large.tolist() == [[3]] * 20 and small.tolist() == [[2]] and long.tolist() == [[30]]

    asyncio.run(scenario())
    assert "CC" in batches[0]
    assert ["G" * 30] in batches  # longer than the budget: alone
    assert all(sum(map(len, b)) <= 10 for b in batches if len(b) > 1)


def test_requests_for_vectors_and_for_rows_share_a_batch() -> None:
    batches: list[list[bool]] = []

    def embed(sequences: list[str], nucleotides: list[bool]) -> Any:
        batches.append(nucleotides)
        return [np.ones((len(s), 2) if rows else 2, np.float32) for s, rows in zip(sequences, nucleotides, strict=True)]

    async def scenario() -> None:
        batcher = Batcher(embed, budget=100, max_waiting=1000)
        vectors, rows = await asyncio.gather(batcher.embed(["AAA", "C"]), batcher.nucleotides(["GG", "UUUU"]))
        assert vectors.shape == (2, 2) and [len(each) for each in rows] == [2, 4]

    asyncio.run(scenario())
    assert [False, True] in [batch[:2] for batch in batches]


def test_an_encoder_gives_vectors_and_rows_of_its_own_model_alone(library: Any) -> None:
    from unirna.serve.ray.deployment import Encoder

    encoder, model = Encoder(Settings(library.store, library.model), torch.get_num_threads(), False), load(library.model)
    asked = ["ACGU", "GGGAAA"], [False, True]
    found = asyncio.run(encoder.embed(*asked, model.fingerprint))
    assert found is not None
    for values, wanted in zip(found, model.embed_each(*asked), strict=True):
        np.testing.assert_allclose(values, wanted, atol=1e-5)
    assert found[1].shape == (6, model.dimension) and asyncio.run(encoder.embed(*asked, "another")) is None


def test_few_are_at_work_at_once_and_few_wait() -> None:
    inside: list[int] = []

    async def one(few: ConcurrencyLimiter) -> None:
        async with few:
            inside.append(1)
            assert len(inside) <= 2
            await asyncio.sleep(0.01)
            inside.pop()

    async def scenario() -> None:
        few = ConcurrencyLimiter(2, 1)
        found = await asyncio.gather(*(one(few) for _ in range(4)), return_exceptions=True)
        assert [type(error) for error in found if error is not None] == [OverloadedError]
        await asyncio.gather(*(one(few) for _ in range(3)))  # nothing is left behind

    asyncio.run(scenario())


def test_one_failing_batch_fails_its_requests_only() -> None:
    def embed(sequences: list[str], nucleotides: list[bool]) -> Any:
        if "X" in sequences:
            raise ValueError("bad batch")
        return np.zeros((len(sequences), 1), np.float32)

    async def scenario() -> None:
        batcher = Batcher(embed, budget=1, max_waiting=4)
        good, bad, late = await asyncio.gather(
            batcher.embed(["A"]), batcher.embed(["X", "A"]), batcher.embed(["A"] * 2), return_exceptions=True
        )
        assert isinstance(good, np.ndarray)
        assert isinstance(bad, ValueError)
        assert isinstance(late, OverloadedError)
        assert (await batcher.embed(["A"] * 4)).shape == (4, 1)  # nothing is left behind

    asyncio.run(scenario())


def test_one_turn_at_a_time_and_few_wait() -> None:
    async def scenario() -> None:
        turn, order = SerialExecutor(waiting=1), list[int]()

        def work(number: int, seconds: float = 0.01) -> int:
            order.append(number)
            time.sleep(seconds)
            assert order[-1] == number  # nobody came between
            return number

        async def one(number: int, seconds: float = 0.01) -> int:
            return await turn.run(lambda: work(number, seconds))

        results = await asyncio.gather(*(one(i) for i in range(3)), return_exceptions=True)
        assert [type(r) for r in results] == [int, int, OverloadedError]
        assert await one(9) == 9
        assert order == [0, 1, 9]

        # ---- callers who go: what had begun is finished before the next, what had not is dropped, none is let in beside
        gone = [asyncio.create_task(one(number, 0.3)) for number in (20, 21)]
        await asyncio.sleep(0.05)
        for task in gone:
            task.cancel()
        await asyncio.sleep(0.05)
        assert await one(22) == 22
        assert order[3:] == [20, 22]
        with pytest.raises(ZeroDivisionError):
            await turn.run(lambda: 1 // 0)
        assert await one(23) == 23

    asyncio.run(scenario())


# ---- settings and the start --------------------------------------------------------------------------------------------


def test_settings_come_from_variables() -> None:
    settings = Settings.from_environment({"UNIRNA_PORT": "9000", "UNIRNA_STORE": "s", "UNIRNA_GPUS": "0.5", "OTHER": "x"})
    assert (settings.port, settings.store, settings.gpus) == (9000, "s", 0.5)
    with pytest.raises(SettingsError, match=r"UNIRNA_MAX_K is 'many': expected a whole number"):
        Settings.from_environment({"UNIRNA_MAX_K": "many"})
    with pytest.raises(SettingsError, match="UNIRNA_MAXK is not a setting: did you mean UNIRNA_MAX_K"):
        Settings.from_environment({"UNIRNA_MAXK": "5", "UNIRNA_API_KEY": "x", "UNIRNA_URL": "y"})
    for text, on in (("1", True), ("True", True), ("0", False), ("off", False)):
        assert Settings.from_environment({"UNIRNA_LOG_REQUESTS": text}).log_requests is on
    with pytest.raises(SettingsError, match=r"UNIRNA_LOG_REQUESTS is 'maybe': expected 1 or 0"):
        Settings.from_environment({"UNIRNA_LOG_REQUESTS": "maybe"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_fold_length": 4001}, "--max-fold-length"),
        ({"store": ""}, "--store"),
        ({"port": 70000}, "--port"),
        ({"replicas": 0}, "--replicas"),
        ({"max_sequence_length": 0}, "--max-sequence-length"),
        ({"max_waiting_nucleotides": 5}, "--max-waiting-nucleotides"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(Settings(store="s"), **change).check()


def test_a_key_is_needed_beyond_loopback(tmp_path: Path) -> None:
    open_to_all = Settings(store="s", host="0.0.0.0")
    with pytest.raises(SettingsError, match="needs a key"):
        open_to_all.key_digest({})
    with pytest.raises(SettingsError, match="at least 16"):
        open_to_all.key_digest({"UNIRNA_API_KEY": "short"})
    (tmp_path / "key").write_text(f"{KEY}\n")
    from_file = replace(open_to_all, api_key_file=str(tmp_path / "key")).key_digest({})
    assert from_file == open_to_all.key_digest({"UNIRNA_API_KEY": KEY}) and KEY not in str(from_file)
    with pytest.raises(SettingsError, match="cannot be read"):
        replace(open_to_all, api_key_file=str(tmp_path / "nope")).key_digest({"UNIRNA_API_KEY": KEY})
    assert Settings(store="s").key_digest({}) is None
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1", "name")] == [True] * 3 + [
        False
    ] * 3


def made_key(name: str, scope: str = "read") -> tuple[str, str]:
    """A key and its line, as `unirna key` makes them."""
    command = [sys.executable, "-m", "unirna.sdk._cli", "key", name, "--scope", scope]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=os.environ)
    return done.stderr.strip().splitlines()[-1], done.stdout.strip()


def test_keys_have_scopes_and_come_and_go(engine: Engine, library: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from unirna.serve import keys

    monkeypatch.setattr(keys, "LOOK_AGAIN", 0.0)
    (reader, reads), (boss, rules) = made_key("alice"), made_key("bob", "admin")
    assert reader not in reads and hashlib.sha256(reader.encode()).hexdigest() in reads
    file = tmp_path / "keys"
    file.write_text(f"# the lab\n{reads}  # until May\n{rules}\n")
    settings = replace(Settings(library.store), keys_file=str(file))
    assert settings.key_digest({}) is None and replace(settings, host="0.0.0.0").key_digest({}) is None
    vectorstore.copy(library.store, "other", library.store, "spare")
    with running(engine, settings) as client:

        def status(method: str, path: str, key: str) -> int:
            return client.request(method, path, headers={"authorization": f"Bearer {key}"}).status_code

        assert client.get("/v1/models").status_code == 401 and status("GET", "/v1/models", "wrong") == 401
        assert status("GET", "/v1/models", reader) == 200 and status("GET", "/v1/models", boss) == 200
        answer = client.delete("/v1/collections/spare?confirm=spare", headers={"authorization": f"Bearer {reader}"})
        assert answer.status_code == 403 and "'alice' has the scope read, and this needs admin" in answer.json()["detail"]
        assert status("DELETE", "/v1/collections/spare?confirm=spar", boss) == 422
        assert status("DELETE", "/v1/collections/..%2Fspare?confirm=..%2Fspare", boss) == 404
        assert "spare" in vectorstore.list_collections(library.store)
        assert status("PUT", "/v1/collections/spare/default", reader) == 403
        assert status("PUT", "/v1/collections/spare/default", boss) == 409  # the service was started with --collection
        assert status("DELETE", "/v1/collections/rfam?confirm=rfam", boss) == 409  # the default
        assert status("DELETE", "/v1/collections/spare?confirm=spare", boss) == 204
        assert "spare" not in vectorstore.list_collections(library.store)
        # ---- a new key for alice; the old one goes
        again, line = made_key("alice")
        file.write_text(f"{line}\n")
        assert [status("GET", "/v1/models", key) for key in (again, reader, boss)] == [200, 401, 401]
        file.write_text("alice read\n")  # damaged: what was read before goes on
        assert status("GET", "/v1/models", again) == 200
        file.write_text("# nobody\n")
        assert status("GET", "/v1/models", again) == 401
        file.write_text(f"{line}\n")
        assert status("GET", "/v1/models", again) == 200
        file.unlink()
        assert status("GET", "/v1/models", again) == 401
        file.write_text("alice read\n")
    with pytest.raises(SettingsError, match=r"--keys-file .*line 1: expected NAME SCOPE SHA256"):
        settings.key_digest({})


def test_one_key_for_all_and_none_at_all_remove_nothing(engine: Engine, library: Any) -> None:
    path = "/v1/collections/other?confirm=other"
    with running(engine, Settings(library.store), KEY) as client:
        answer = client.delete(path, headers={"authorization": f"Bearer {KEY}"})
        assert answer.status_code == 403 and "needs admin" in answer.json()["detail"]
    with running(engine, Settings(library.store)) as client:
        answer = client.delete(path)
        assert answer.status_code == 403 and "has no keys" in answer.json()["detail"]
        assert client.request("PROPFIND", "/v1/models").status_code in (403, 405)
        assert "PROPFIND" not in client.get("/metrics").text
    assert "other" in vectorstore.list_collections(library.store)


def test_a_key_may_ask_so_often(engine: Engine, library: Any, tmp_path: Path) -> None:
    (one, line), (two, other) = made_key("one"), made_key("two")
    (tmp_path / "keys").write_text(f"{line}\n{other}\n")
    settings = replace(Settings(library.store), keys_file=str(tmp_path / "keys"), max_requests_per_minute=5)
    with running(engine, settings) as client:
        answers = [client.get("/v1/models", headers={"authorization": f"Bearer {one}"}) for _ in range(7)]
        assert [a.status_code for a in answers] == [200] * 5 + [429] * 2
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 12 and "5 requests a minute" in answers[-1].json()["detail"]
        assert client.get("/v1/models", headers={"authorization": f"Bearer {two}"}).status_code == 200
        assert client.get("/healthz").status_code == 200  # which wants no key


def test_every_answer_has_a_name_and_is_counted(engine: Engine, library: Any, caplog: pytest.LogCaptureFixture) -> None:
    letters = "GGGAAACCCGGGAAACCC"
    with running(engine, replace(Settings(library.store), log_requests=True)) as client, caplog.at_level("INFO", "unirna"):
        named = client.post("/v1/embed", json={"sequences": [letters]}, headers={"x-request-id": "mine-1"})
        assert named.headers["x-request-id"] == "mine-1"
        bad = client.post("/v1/embed", json={"sequences": ["XYZ"]}, headers={"x-request-id": "no good\tone"})
        assert bad.json()["request_id"] == bad.headers["x-request-id"] and len(bad.json()["request_id"]) == 16
        assert client.get("/v1/nothing/here").status_code == 404
        text = client.get("/metrics").text
    lines = [json.loads(r.getMessage()) for r in caplog.records if r.name == "unirna.access"]
    assert {"time", "request", "key", "method", "path", "status", "ms"} == set(lines[0]) and lines[0]["request"] == "mine-1"
    assert [line["status"] for line in lines] == [200, 422, 404, 200] and letters not in caplog.text
    counted = {line.split(" ")[0]: float(line.split(" ")[1]) for line in text.splitlines() if not line.startswith("#")}

    def count(name: str, *labels: str) -> float:
        (found,) = [
            value for key, value in counted.items() if key.startswith(f"{name}{{") and all(x in key for x in labels)
        ]
        return found

    assert count("unirna_requests_total", 'route="/v1/embed"', 'status="200"', "replica=") == 1
    assert count("unirna_requests_total", 'route="other"', 'status="404"') == 1
    assert count("unirna_request_seconds_count", 'route="/v1/embed"') == 2
    assert count("unirna_embedded_nucleotides_total") == len(letters) and count("unirna_batch_fill_count") == 1
    assert count("unirna_model", f'fingerprint="{engine.model.fingerprint}"') == 1
    assert count("unirna_collection_rows", 'collection="rfam"') == len(library.rows)


def start_fails(*flags: str, **variables: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "UNIRNA_"))} | variables
    command = [sys.executable, str(ROOT / "jobs" / "serve.py"), *flags]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and not done.stdout, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_start_is_refused_with_the_reason(library: Any, service: Any, tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        store = ("--store", library.store)
        starts = [
            pool.submit(start_fails, *flags)
            for flags in (
                (*store, "--host", "0.0.0.0"),
                (*store, "--port", service.url.rpartition(":")[2]),
                (*store, "--model", str(tmp_path), "--port", "20999"),
                ("--store", str(tmp_path), "--port", "20999"),
                (*store, "--replicas", "4096"),
            )
        ]
        proxied = pool.submit(start_fails, *store, "--port", "20999", RAY_SERVE_ENABLE_HA_PROXY="1")
    assert "listen on 127.0.0.1 only" in proxied.result()
    assert "needs a key" in starts[0].result()
    assert "Another service may run there" in starts[1].result()
    assert "config.json" in starts[2].result()
    assert "no collection" in starts[3].result()
    assert "there are" in starts[4].result()


# ---- the engine --------------------------------------------------------------------------------------------------------


def test_the_model_is_found_from_the_collection(library: Any) -> None:
    engine = Engine.open(library.store, default_collection="rfam")
    assert engine.search(id=library.rows[0]["id"], k=1).hits[0]["similarity"] == pytest.approx(1, abs=1e-5)
    with pytest.raises(RequestError, match="was made with model"):
        engine.search(similar_to="ACGU", collection="other")
    # A stored vector is compared with its own collection's, whatever the model.
    assert engine.search(id=library.rows[0]["id"], k=1, collection="other").hits


def test_own_encoders_are_kept_within_bounds(library: Any, tmp_path: Path) -> None:
    import shutil

    for name in ("a", "b", "c"):
        shutil.copytree(Path(library.registry) / "family", tmp_path / name)
    engine = Engine.open(library.store, library.model, tmp_path, default_collection="rfam")
    for name in ("a", "b", "c", "a"):
        assert engine.predict(name, ["ACGUACGU"])
    assert [name for name, _ in engine.predictors._loaded] == ["c", "a"]
    (tmp_path / "b" / "head.safetensors").write_bytes(b"damaged")
    own = [p.folder.name for p in engine.predictors.all() if p.folder.parent == tmp_path]
    assert own == ["a", "c"]
    with pytest.raises(RequestError, match="the service's log says why"):
        engine.predict("b", ["ACGU"])
