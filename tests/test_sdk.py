"""The SDK: the same answers and errors over HTTP and in process, its time limits and retries, its command line."""

from __future__ import annotations

import asyncio
import gzip
import inspect
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from unirna import sdk
from unirna.sdk import _cli, _output
from unirna.sdk._answers import prediction_result, search_result
from unirna.sdk._models import Structure
from unirna.sequence import parse_bpseq, parse_ct, parse_dot_bracket

Bad = Callable[[sdk.Client], object]


@pytest.fixture(scope="module")
def clients(service: Any, library: Any) -> Iterator[dict[str, sdk.Client]]:
    with (
        sdk.connect(service.url) as http,
        sdk.connect(library.store, model=library.model, registry=library.registry, collection="rfam") as local,
    ):
        yield {"http": http, "local": local}


@pytest.fixture(params=["http", "local"])
def client(request: pytest.FixtureRequest, clients: dict[str, sdk.Client]) -> sdk.Client:
    return clients[request.param]


# ---- the same over HTTP and in process ---------------------------------------------------------------------------------


def test_search_finds_a_stored_sequence(client: sdk.Client, library: Any) -> None:
    row = library.rows[5]
    found = client.search(similar_to=row["sequence"], k=4, where="length < 200")
    assert len(found) == 4 and found.collection == "rfam"
    own = next(hit for hit in found if hit.id == row["id"])
    assert own.sequence == row["sequence"] and own.similarity == pytest.approx(1, abs=1e-5)
    assert own.labels["family"] == row["family"] and own.length == len(row["sequence"])
    assert [hit.rank for hit in found] == [1, 2, 3, 4]


def assert_same(one: sdk.SearchResult, other: sdk.SearchResult) -> None:
    """The same hits in the same order, save that neighbours as near as rounding (1e-6) may change places."""
    assert (len(one), one.collection, one.model) == (len(other), other.collection, other.model)
    np.testing.assert_allclose([h.similarity for h in one], [h.similarity for h in other], atol=1e-6)
    there = {h.id: h for h in other}
    for hit in one:
        twin = there.get(hit.id)
        if twin is None:
            assert abs(hit.similarity - one[-1].similarity) < 1e-6  # one of several equal ones at the end
        else:
            assert (hit.sequence, hit.length, hit.labels) == (twin.sequence, twin.length, twin.labels)
            assert hit.similarity == pytest.approx(twin.similarity, abs=1e-6)


QUERIES: list[dict[str, Any]] = [
    {"k": 10},
    {"k": 3, "where": "length < 80"},
    {"k": 1000, "collection": "rfam"},
    {"k": np.int64(2), "where": "family_name = 'no such family'"},
]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_both_clients_find_the_same(clients: dict[str, sdk.Client], library: Any, query: dict[str, Any]) -> None:
    for row in library.heldout[:5]:
        http, local = (c.search(row["sequence"], **query) for c in clients.values())
        assert_same(http, local)


@pytest.mark.parametrize("verify", [False, True])
def test_both_clients_search_by_words_and_verify(clients: dict[str, sdk.Client], library: Any, verify: bool) -> None:
    row = library.heldout[0]
    http, local = (c.search(row["sequence"], k=8, hybrid=True, verify=verify) for c in clients.values())
    assert [h.id for h in http] == [h.id for h in local] and len(http) == 8
    assert [(h.found_by, h.alignment) for h in http] == [(h.found_by, h.alignment) for h in local]
    assert "both" in {h.found_by for h in http}
    assert ("found by" in http.table()[0], "identity" in http.table()[0]) == (True, verify)
    by_id = clients["http"].search(id=library.rows[9]["id"], k=1, hybrid=True, verify=verify)[0]
    assert by_id.id == library.rows[9]["id"]
    if verify:
        alignment = by_id.alignment
        assert alignment is not None and alignment.identity == alignment.query_coverage == 1
        assert alignment.cigar == f"{by_id.length}=" and by_id.alignment.alignment_score == 5 * by_id.length
        assert http.to_dicts()[0]["cigar"] and http.to_arrow()["identity"][0].as_py() <= 1


def test_both_clients_search_by_id_and_vector(clients: dict[str, sdk.Client], library: Any) -> None:
    vector = clients["local"].embed([library.heldout[0]["sequence"]])[0]
    for query in ({"id": library.rows[9]["id"]}, {"vector": vector}, {"vector": vector.tolist()}):
        assert_same(*(c.search(**query, k=5) for c in clients.values()))


def test_both_clients_give_the_same_vectors(clients: dict[str, sdk.Client], library: Any) -> None:
    sequences = [row["sequence"] for row in library.rows[:70]]  # more than one request
    sequences[3] = sequences[3].lower().replace("u", "t")
    sequences.append("ACGUN" * 300)  # longer than the context
    http, local = (c.embed(sequences) for c in clients.values())
    assert http.dtype == local.dtype == np.float32 and http.shape == (71, 128)
    np.testing.assert_allclose(http, local, atol=1e-5)


@pytest.mark.parametrize("task", ["rna_type", "family"])
def test_both_clients_predict_the_same(clients: dict[str, sdk.Client], library: Any, task: str) -> None:
    sequences = [row["sequence"] for row in (library.rows * 2)[:70]]
    http, local = (c.predict(task, sequences, top=3) for c in clients.values())
    assert [p.label for p in http] == [p.label for p in local] and len(http) == 70
    for one, other in zip(http, local, strict=True):
        assert len(one.probabilities) == 3
        np.testing.assert_allclose(list(one.probabilities.values()), list(other.probabilities.values()), atol=1e-4)


def test_both_clients_predict_the_same_values(clients: dict[str, sdk.Client], library: Any) -> None:
    sequences = [row["sequence"] for row in (library.rows * 2)[:70]]
    http, local = (c.predict("gc", sequences) for c in clients.values())
    assert len(http) == 70 and all(isinstance(p, sdk.Estimate) and p.unit == "%" for p in http)
    np.testing.assert_allclose([p.value for p in http], [p.value for p in local], atol=1e-3)
    assert all(p.low < p.value < p.high for p in local)
    assert list(local.to_pandas().columns) == [
        "value",
        "low",
        "high",
        "unit",
        "applicable",
        "reason",
        "in_training_length_range",
    ]
    assert "gc (%)" in local._repr_html_() and "90 % interval" in str(local)


TRNA = "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAAGAUCUGGAGGUCCUGUGUUCGAUCCACAGAAUUCGCACCA"
CLOVERLEAF = "(((((((..((((........)))).(((((.......))))).....(((((.......))))))))))))...."


def test_both_clients_fold_the_same(clients: dict[str, sdk.Client]) -> None:
    sequences = [TRNA, "acgt", TRNA[10:60], *["GGGGAAAACCCC"] * 66]
    http, local = (c.fold(sequences) for c in clients.values())
    assert [s.structure for s in http] == [s.structure for s in local] and len(http) == 69
    assert http[0].structure == CLOVERLEAF and http[0].svg.startswith("<svg") and http[1].structure == "...."
    assert clients["http"].fold(TRNA).structure == CLOVERLEAF  # one text gives one structure
    for one, other in zip(http, local, strict=True):
        np.testing.assert_allclose(one.certainty, other.certainty, atol=2e-4)
        assert len(one.certainty) == len(one.sequence)
        assert all(i < j and 0.05 <= p <= 1.0001 for i, j, p in one.pairs)
    assert {(i, j) for i, j, p in http[0].pairs if p > 0.9} <= {(i, j) for i, j, _ in local[0].pairs}
    assert http.to_pandas()["structure"][0] == CLOVERLEAF and "certainty" in repr(http)
    assert not http[0].contacts
    close = [{(i, j) for i, j, p in c.fold(TRNA, contacts=True).contacts if p > 0.3} for c in clients.values()]
    assert close[0] == close[1] and {(0, 71), (1, 71), (26, 42)} <= close[0] and all(j - i >= 6 for i, j in close[0])


def test_both_clients_fold_as_asked(client: sdk.Client) -> None:
    free = client.fold(TRNA, plot=True)
    assert free.free_energy == pytest.approx(-22.4, abs=0.005) and free.plot.startswith("<svg")
    bound = client.fold(TRNA, constraint="x" * 7 + "." * 69, pseudoknots=False)
    assert bound.structure[:7] == "......." and "[" not in bound.structure and bound.plot == ""
    assert bound.free_energy is not None and free.free_energy is not None and bound.free_energy > free.free_energy
    two = client.fold([TRNA, "GGGGAAAACCCC"], constraint=[None, "(..........)"])
    assert two[0].structure == free.structure and two[1].structure[0] == "("
    assert two.to_dicts()[0]["free_energy"] == free.free_energy
    wrong: list[tuple[Any, str]] = [
        ("...", "constraints[0]: 3 characters for 76 nucleotides"),
        (["." * 76], "constraint: expected a text, as there is one sequence; got 1"),
        ("(" + "." * 75, "constraints[0]: position 1: '(' is never closed"),
    ]
    for constraint, says in wrong:
        with pytest.raises(sdk.InvalidRequestError, match=re.escape(says)):
            client.fold(TRNA, constraint=constraint)
    with pytest.raises(sdk.InvalidRequestError, match=r"constraints\[0\]: no structure pairs all"):
        client.fold("GAACAAAAACAAG", constraint="(..|.....)...")
    with pytest.raises(sdk.InvalidRequestError, match="expected a list of 2, one for each sequence; got a text"):
        client.fold([TRNA, "ACGU"], constraint="....")
    with pytest.raises(sdk.InvalidRequestError) as caught:
        client.fold(["A" * 900, "GGGAAACCC"], constraint=[None, "........?"])
    assert caught.value.errors[0][0] == "constraints[1]"  # of the caller's list, though the client asks twice


def test_structures_are_written_as_they_are_read() -> None:
    brackets = "((..[[..{{..))..]]..}}"
    one = Structure("ACGU" * 5 + "AC", brackets, (), (), "", free_energy=-1.5)
    pairs = parse_dot_bracket(brackets).tolist()
    for text, parse in ((one.to_ct("a\tb"), parse_ct), (one.to_bpseq("a\tb"), parse_bpseq)):
        read = parse(text)
        assert (read.sequence, read.pairs.tolist()) == (one.sequence, pairs)
        assert read.name in ("ENERGY = -1.50 a b", "a b")
    assert one.to_dot_bracket("a b").splitlines() == [">a b", one.sequence, brackets]


def test_both_clients_score_variants_the_same(clients: dict[str, sdk.Client]) -> None:
    http, local = (c.score_variants(TRNA[:30]) for c in clients.values())
    assert len(http) == 90 and http[0].variant == "G1A" and http.svg.startswith("<svg") and "G1A" in http.svg
    np.testing.assert_allclose([s.score for s in http], [s.score for s in local], atol=1e-4)
    some = [c.score_variants(TRNA[:30].lower(), ["G1A", "G1C+C2T"], method="masked") for c in clients.values()]
    assert some[0][0].score == pytest.approx(http[0].score, abs=1e-4) and some[0].svg == ""
    assert [s.variant for s in some[1]] == ["G1A", "G1C+C2T"]
    assert http.to_pandas().columns.tolist() == ["variant", "score"] and "G1A" in repr(http)


def test_a_request_folds_no_more_than_it_may(service: Any, clients: dict[str, sdk.Client]) -> None:
    answer = httpx2.post(f"{service.url}/v1/fold", json={"sequences": ["A" * 1400] * 2}, trust_env=False)
    assert answer.status_code == 413
    assert answer.json()["errors"][0]["field"] == "sequences"
    assert [len(s.structure) for s in clients["http"].fold(["A" * 900] * 2)] == [900, 900]  # the client asks twice


def test_both_clients_describe_the_same(clients: dict[str, sdk.Client], library: Any) -> None:
    http, local = clients.values()
    assert http.collections() == local.collections()
    assert http.models() == local.models()
    rfam = next(c for c in http.collections() if c.default)
    assert (rfam.name, rfam.num_rows, rfam.searchable) == ("rfam", len(library.rows), True)
    kinds = {m.name: (m.kind, m.unit) for m in http.models()}
    assert http.models()[0].kind == "encoder"
    assert kinds["rna_type"] == ("sequence-classification", "") and kinds["gc"] == ("sequence-regression", "%")
    assert next(m.lengths for m in http.models() if m.name == "sirna") == (21, 21)


ERRORS: dict[str, tuple[Bad, type[Exception], str | None]] = {
    "bad letter": (lambda c: c.search("ACGX"), sdk.InvalidRequestError, "similar_to"),
    "gap": (lambda c: c.embed(["ACGU", "AC-GU"]), sdk.InvalidRequestError, "sequences[1]"),
    "bad letter far on": (lambda c: c.embed(["ACGU"] * 99 + ["X"]), sdk.InvalidRequestError, "sequences[99]"),
    "empty": (lambda c: c.search(""), sdk.InvalidRequestError, "similar_to"),
    "no sequences": (lambda c: c.embed([]), sdk.InvalidRequestError, "sequences"),
    "too long": (lambda c: c.search("A" * 20_001), sdk.InvalidRequestError, "similar_to"),
    "a vector's words": (lambda c: c.search(vector=[1.0] * 128, hybrid=True), sdk.InvalidRequestError, "hybrid"),
    "a vector's alignment": (lambda c: c.search(vector=[1.0] * 128, verify=True), sdk.InvalidRequestError, "verify"),
    "no query": (lambda c: c.search(), sdk.InvalidRequestError, "similar_to"),
    "two queries": (lambda c: c.search("ACGU", id="x"), sdk.InvalidRequestError, "id"),
    "k of 0": (lambda c: c.search("ACGU", k=0), sdk.InvalidRequestError, "k"),
    "k too large": (lambda c: c.search("ACGU", k=1001), sdk.InvalidRequestError, "k"),
    "k as text": (lambda c: c.search("ACGU", k="10"), sdk.InvalidRequestError, "k"),  # type: ignore[arg-type]
    "k as truth": (lambda c: c.search("ACGU", k=True), sdk.InvalidRequestError, "k"),
    "sequence as number": (lambda c: c.search(3), sdk.InvalidRequestError, "similar_to"),  # type: ignore[arg-type]
    "unknown column": (lambda c: c.search("ACGU", where="colour = 'red'"), sdk.InvalidRequestError, "where"),
    "broken filter": (lambda c: c.search("ACGU", where="length <"), sdk.InvalidRequestError, "where"),
    "failing filter": (lambda c: c.search("ACGU", where="length / 0 > 1"), sdk.InvalidRequestError, "where"),
    "unknown collection": (lambda c: c.search("ACGU", collection="nope"), sdk.NotFoundError, "collection"),
    "other model": (lambda c: c.search("ACGU", collection="other"), sdk.ModelMismatchError, "collection"),
    "unknown id": (lambda c: c.search(id="nope"), sdk.NotFoundError, "id"),
    "short vector": (lambda c: c.search(vector=[1.0]), sdk.InvalidRequestError, "vector"),
    "nan vector": (lambda c: c.search(vector=[float("nan")] * 128), sdk.InvalidRequestError, "vector"),
    "text vector": (lambda c: c.search(vector=["a"]), sdk.InvalidRequestError, "vector"),  # type: ignore[list-item]
    "unknown task": (lambda c: c.predict("nope", ["ACGU"]), sdk.NotFoundError, "task"),
    "no task": (lambda c: c.predict("", ["ACGU"]), sdk.NotFoundError, "task"),
    "too long to fold": (lambda c: c.fold(["ACGU", "A" * 1501]), sdk.InvalidRequestError, "sequences[1]"),
    "nothing to fold": (lambda c: c.fold([]), sdk.InvalidRequestError, "sequences"),
    "no letters to fold": (lambda c: c.fold("ACGE"), sdk.InvalidRequestError, "sequences[0]"),
    "another letter there": (lambda c: c.score_variants("ACGU", ["C2G", "A2G"]), sdk.InvalidRequestError, "variants[1]"),
    "a place that is not": (lambda c: c.score_variants("ACGU", ["A9G"]), sdk.InvalidRequestError, "variants[0]"),
    "a place without end": (
        lambda c: c.score_variants("ACGU", [f"A{'9' * 5000}G"]),
        sdk.InvalidRequestError,
        "variants[0]",
    ),
    "no variant": (lambda c: c.score_variants("ACGU", ["x"]), sdk.InvalidRequestError, "variants[0]"),
    "no variants": (lambda c: c.score_variants("ACGU", []), sdk.InvalidRequestError, "variants"),
    "too many passes": (lambda c: c.score_variants("A" * 1200), sdk.InvalidRequestError, "sequence"),
    "negative offset": (lambda c: c.search("ACGU", offset=-1), sdk.InvalidRequestError, "offset"),
    "offset beyond": (lambda c: c.search("ACGU", k=1, offset=1000), sdk.InvalidRequestError, "offset"),
    "bad top": (lambda c: c.predict("rna_type", ["ACGU"], top=-1), sdk.InvalidRequestError, "top"),
    "one string": (lambda c: c.embed("ACGU"), TypeError, None),
}


@pytest.mark.parametrize("name", ERRORS)
def test_both_clients_raise_the_same(clients: dict[str, sdk.Client], name: str) -> None:
    call, kind, field = ERRORS[name]
    caught = []
    for client in clients.values():
        with pytest.raises(kind) as error:
            call(client)
        assert type(error.value) is kind
        assert getattr(error.value, "field", None) == field
        caught.append(error.value)
    if isinstance(caught[0], sdk.UniRNAError):
        http, local = caught
        assert http.status == local.status  # type: ignore[attr-defined]
        if name not in ("k as text", "k as truth", "sequence as number", "bad letter far on"):
            assert str(http) == str(local)


def test_all_clients_have_one_interface() -> None:
    for name in ("search", "embed", "predict", "fold", "score_variants", "models", "collections", "sample"):
        wanted = inspect.signature(getattr(sdk.Client, name))
        assert inspect.signature(getattr(sdk.AsyncClient, name)) == wanted
        module = list(inspect.signature(getattr(sdk, name)).parameters.values())
        assert module == list(wanted.parameters.values())[1:]


def test_a_client_for_await_answers_alike(clients: dict[str, sdk.Client], service: Any, library: Any) -> None:
    letters = [row["sequence"] for row in (library.rows * 4)[:130]]  # three requests, beside one another

    async def ask(target: str, **where: Any) -> tuple[Any, ...]:
        async with sdk.connect_async(target, **where) as client:
            return await asyncio.gather(
                client.search(letters[3], k=4, offset=1),
                client.embed(letters),
                client.predict("rna_type", letters[:3]),
                client.fold(TRNA),
                client.score_variants(TRNA, ["G1C"]),
                client.models(),
                client.collections(),
            )

    here = {"model": library.model, "registry": library.registry, "collection": "rfam"}
    for target, where, name in ((service.url, {}, "http"), (library.store, here, "local")):
        client = clients[name]
        found, vectors, predicted, folded, scores, models, collections = asyncio.run(ask(target, **where))
        assert found == client.search(letters[3], k=4, offset=1) and [h.rank for h in found] == [2, 3, 4, 5]
        np.testing.assert_allclose(vectors, client.embed(letters), atol=1e-5)
        assert [p.label for p in predicted] == [p.label for p in client.predict("rna_type", letters[:3])]
        assert folded.structure == client.fold(TRNA).structure
        assert scores[0].score == pytest.approx(client.score_variants(TRNA, ["G1C"])[0].score, abs=1e-4)
        assert (models, collections) == (client.models(), client.collections())


def test_an_error_of_one_request_ends_the_call(service: Any, library: Any) -> None:
    letters = [row["sequence"] for row in (library.rows * 4)[:130]]
    letters[100] = "ACGX"

    async def ask() -> None:
        async with sdk.connect_async(service.url) as client:
            await client.embed(letters)

    with pytest.raises(sdk.InvalidRequestError, match=r"sequences\[100\]"):
        asyncio.run(ask())


def test_pages_of_hits_make_one_list(client: sdk.Client, library: Any) -> None:
    query = library.rows[7]["sequence"]
    for way in ({}, {"hybrid": True}):
        whole = client.search(query, k=9, **way)
        pages = [client.search(query, k=3, offset=at, **way) for at in (0, 3, 6)]
        assert [hit for page in pages for hit in page] == list(whole) and whole[3:6] == pages[1]
        assert [hit.rank for hit in pages[2]] == [7, 8, 9]


# ---- the default client, and what answers badly ------------------------------------------------------------------------


def test_functions_read_the_address_when_they_are_called(
    service: Any, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = library.rows[0]
    monkeypatch.setenv("UNIRNA_URL", service.url)
    assert row["sequence"] in [hit.sequence for hit in sdk.search(similar_to=row["sequence"], k=4)]
    assert sdk.embed([row["sequence"]]).shape == (1, 128)
    assert len(sdk.predict("rna_type", [row["sequence"]])) == 1
    assert sdk.models()[0].kind == "encoder" and sdk.collections()
    monkeypatch.setenv("UNIRNA_URL", library.store)
    assert [c.name for c in sdk.collections()] == ["other", "rfam"]
    monkeypatch.setenv("UNIRNA_URL", "http://127.0.0.1:9")
    with pytest.raises(sdk.ServiceUnavailableError, match=r"make serve.*UNIRNA_URL"):
        sdk.models()


@pytest.fixture
def answering() -> Iterator[Callable[..., tuple[str, list[dict[str, Any]]]]]:
    """A server that gives prepared answers in turn, the last one again and again, and remembers the requests."""
    servers: list[ThreadingHTTPServer] = []

    def start(*answers: tuple[int, dict[str, str], bytes], wait: float = 0) -> tuple[str, list[dict[str, Any]]]:
        requests: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(dict(self.headers))
                time.sleep(wait)
                status, headers, body = answers[min(len(requests), len(answers)) - 1]
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", requests

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


COLLECTIONS = b'{"default": null, "collections": []}'


def test_busy_services_are_asked_again(answering: Any) -> None:
    url, requests = answering((503, {}, b"starting"), (429, {"retry-after": "1"}, b"{}"), (200, {}, COLLECTIONS))
    started = time.monotonic()
    with sdk.connect(url) as client:
        assert client.collections() == []
    assert len(requests) == 3
    assert time.monotonic() - started > 1  # what Retry-After asked for


def test_retries_end(answering: Any) -> None:
    url, requests = answering((503, {"retry-after": "0"}, b"no"))
    with sdk.connect(url) as client, pytest.raises(sdk.ServiceUnavailableError) as error:
        client.collections()
    assert error.value.status == 503 and len(requests) == 4


def test_other_errors_are_not_retried(answering: Any) -> None:
    problem = {"content-type": "application/problem+json"}
    url, requests = answering((500, problem, json.dumps({"status": 500, "detail": "it broke"}).encode()))
    with sdk.connect(url) as client, pytest.raises(sdk.ServiceError, match="it broke"):
        client.collections()
    assert len(requests) == 1


def test_a_replica_that_went_amid_a_request_is_asked_again(answering: Any) -> None:
    url, requests = answering((500, {}, b"Internal Server Error"), (200, {}, COLLECTIONS))  # as Ray's proxy says it
    with sdk.connect(url) as client:
        assert client.collections() == []
    assert len(requests) == 2


def test_slow_services_run_into_the_time_limit(answering: Any) -> None:
    url, requests = answering((200, {}, COLLECTIONS), wait=1)
    with sdk.connect(url, timeout=0.2) as client, pytest.raises(sdk.ServiceTimeoutError, match=r"within 0.2 s"):
        client.collections()
    assert len(requests) == 1


def test_the_key_is_sent_and_its_absence_explained(answering: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, requests = answering((401, {}, json.dumps({"status": 401, "detail": "no key"}).encode()))
    monkeypatch.setenv("UNIRNA_API_KEY", "from the environment")
    for given, sent in ((None, "from the environment"), ("given", "given")):
        with sdk.connect(url, api_key=given) as client, pytest.raises(sdk.AuthenticationError, match="UNIRNA_API_KEY"):
            client.collections()
        assert requests[-1]["authorization"] == f"Bearer {sent}"


def test_what_is_no_service_is_said_to_be_none(answering: Any) -> None:
    url, _ = answering((200, {}, b"<html>hello</html>"))
    with sdk.connect(url) as client, pytest.raises(sdk.ServiceError, match="Is it a UniRNA service"):
        client.collections()


def test_errors_are_the_built_in_ones_too() -> None:
    pairs = {
        sdk.InvalidRequestError: ValueError,
        sdk.NotFoundError: LookupError,
        sdk.ModelMismatchError: ValueError,
        sdk.AuthenticationError: PermissionError,
        sdk.ServiceUnavailableError: ConnectionError,
        sdk.ServiceTimeoutError: TimeoutError,
        sdk.ServiceError: RuntimeError,
    }
    for error, builtin in pairs.items():
        assert issubclass(error, builtin) and issubclass(error, sdk.UniRNAError)
        assert str(error("what and why")) == "what and why"


def test_stores_that_are_none(tmp_path: Path, library: Any) -> None:
    with pytest.raises(sdk.NotFoundError, match="http://"):
        sdk.connect("localhost:8000")
    with pytest.raises(sdk.InvalidRequestError, match=r"jobs/embed\.py"):
        sdk.connect(tmp_path)
    with pytest.raises(sdk.InvalidRequestError, match="'nope'"):
        sdk.connect(library.store, collection="nope")
    with pytest.raises(ValueError, match="belong to a store"):
        sdk.connect("http://127.0.0.1:1", model="mini")


# ---- results -----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_sent_is_an_error_of_ours(service: Any) -> None:
    client = sdk.connect(service.url)
    for wrong in (
        lambda: client.embed([b"ACGU"]),
        lambda: client.search(np.zeros(3)),
        lambda: client.search("A", where=b"x"),
    ):  # type: ignore[list-item, arg-type]
        with pytest.raises(sdk.InvalidRequestError, match=r"wanted|are text"):
            wrong()
    client.close()
    with pytest.raises(sdk.InvalidRequestError, match="this client is closed"):
        client.models()
    with pytest.raises(ValueError, match="beyond ASCII"):
        sdk.connect(service.url, api_key="schlüssel")
    with pytest.raises(ValueError, match="names no host"):
        sdk.connect("http://")


def test_results_turn_into_tables_and_print(client: sdk.Client, library: Any) -> None:
    found = client.search(library.rows[1]["sequence"], k=3, verify=False)
    columns = ["rank", "id", "similarity", "p", "length", "sequence", "family", "family_name", "rna_type"]
    assert found.to_arrow().column_names == list(found.to_pandas().columns) == columns
    assert found.to_arrow()["id"].to_pylist() == [hit.id for hit in found]
    assert "SearchResult: 3" in repr(found) and found[0].id in repr(found)
    predictions = client.predict("rna_type", [library.rows[1]["sequence"]])
    assert predictions.to_pandas()["label"].tolist() == [predictions[0].label]
    assert predictions.to_arrow().num_rows == 1 and "rna_type" in repr(predictions)


def test_html_is_escaped() -> None:
    hit = sdk.Hit("<script>", 0.5, "ACGU", 4, {"note": "a & b"}, 1)
    html = sdk.SearchResult([hit], "c", "m")._repr_html_()
    assert "&lt;script&gt;" in html and "a &amp; b" in html and "<script>" not in html
    assert repr(sdk.SearchResult([], "c", "m")) == "SearchResult: 0\nrank  id  similarity  p  length"
    columns = ["rank", "id", "similarity", "p", "length", "sequence"]
    assert list(sdk.SearchResult([], "c", "m").to_pandas().columns) == columns


# ---- FASTA and the command line ----------------------------------------------------------------------------------------


def test_fasta_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.fasta"
    path.write_bytes(b"\xef\xbb\xbf; by hand\r\n# twice\r\n>a one\xc2\x85two\r\nAC\xe2\x80\xa8GU\r\n>b\r\nGG")
    assert sdk.read_fasta(path) == [("a", "AC\u2028GU"), ("b", "GG")]


def test_fasta(tmp_path: Path) -> None:
    path = tmp_path / "two.fasta"
    path.write_text("\n>one first\r\nACG\nU\n\n>two\nGG\n")
    assert sdk.read_fasta(path) == [("one", "ACGU"), ("two", "GG")]
    (tmp_path / "two.fa.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    assert sdk.read_fasta(tmp_path / "two.fa.gz") == sdk.read_fasta(path)
    (tmp_path / "cut.fa.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0)[:-9])
    (tmp_path / "plain.txt").write_text("ACGU\nGG\n")
    assert sdk.read_fasta(tmp_path / "plain.txt") == [("sequence_1", "ACGU"), ("sequence_2", "GG")]
    (tmp_path / "empty.fa").write_text("\n")
    (tmp_path / "mixed.fa").write_text("ACGU\n>one\nACGU\n")
    for name, why in (("cut.fa.gz", "cut short"), ("empty.fa", "no sequence"), ("mixed.fa", "not FASTA")):
        with pytest.raises(sdk.InvalidRequestError, match=why):
            sdk.read_fasta(tmp_path / name)


def test_command_search(service: Any, library: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = library.rows[2]
    assert _cli.main(["search", row["sequence"], "-k", "2", "--url", service.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = lines[0].split("\t")
    assert heads[:3] == ["rank", "id", "similarity"] and {"length", "identity", "cigar"} < set(heads) and len(lines) == 3
    fasta = tmp_path / "queries.fasta"
    fasta.write_text(f">a\n{row['sequence']}\n>b\nACGUACGU\n")
    command = ["search", str(fasta), "-k", "2", "--where", "length < 90", "--format", "jsonl", "--url", service.url]
    assert _cli.main(command) == 0
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [hit["query"] for hit in hits] == ["a", "a", "b", "b"] and all(hit["length"] < 90 for hit in hits)
    assert _cli.main(["search", row["sequence"], "--format", "table", "--url", service.url]) == 0
    assert "ident" in capsys.readouterr().out


def test_command_embed_predict_collections(
    service: Any, library: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta, out = tmp_path / "queries.fasta", tmp_path / "vectors.npz"
    fasta.write_text(f">a\n{library.rows[2]['sequence']}\n>b\nACGUACGU\n")
    assert _cli.main(["embed", str(fasta), "--out", str(out), "--url", service.url]) == 0
    assert capsys.readouterr().out == ""  # data went to the file, the message to stderr
    with np.load(out) as saved:
        assert saved["ids"].tolist() == ["a", "b"] and saved["vectors"].shape == (2, 128)
    assert _cli.main(["predict", "rna_type", str(fasta), "--format", "jsonl", "--url", service.url]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["a", "b"]
    assert _cli.main(["predict", "gc", str(fasta), "--format", "tsv", "--url", service.url]) == 0
    heads, first, second = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert heads == ["id", "value", "low", "high", "unit", "applicable", "reason"] and [first[0], second[0]] == ["a", "b"]
    assert _cli.main(["collections", "--store", library.store, "--model", library.model]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["name", "other", "rfam"]
    # ---- of a service as of a store; how rows are printed; what is beyond a predictor's lengths
    assert _cli.main(["collections", "show", "rfam", "--json", "--url", service.url]) == 0
    assert json.loads(capsys.readouterr().out)["num_rows"] == len(library.rows)
    assert _cli.main(["collections", "show", "none", "--url", service.url]) == 2
    assert "There are: other, rfam" in capsys.readouterr().err
    printed = []
    for source in (["--url", service.url], ["--store", library.store, "--model", library.model]):
        assert _cli.main(["collections", "sample", "rfam", "--count", "3", "--seed", "7", "--json", *source]) == 0
        printed.append(capsys.readouterr().out)
    assert (
        printed[0] == printed[1]
        and [json.loads(line)["id"] in {row["id"] for row in library.rows} for line in printed[0].splitlines()]
        == [True] * 3
    )
    assert _cli.main(["predict", "sirna", str(fasta), "--tsv", "--url", service.url]) == 0
    assert "sirna does not apply to 2 of 2:\n  a: expected exactly 21 nt" in capsys.readouterr().err


def test_a_search_goes_on_past_a_bad_record(service: Any, library: Any, tmp_path: Path, capsys: Any) -> None:
    fasta = tmp_path / "queries.fasta"
    fasta.write_text(f">good\n{library.rows[2]['sequence']}\n>bad\nACGX\n>short\nACGU\n")
    assert _cli.main(["search", str(fasta), "-k", "1", "--json", "--url", service.url]) == 2
    said = capsys.readouterr()
    assert [json.loads(line)["query"] for line in said.out.splitlines()] == ["good", "short"]
    assert said.err.startswith("left out: bad: protein letter 'X' at line 4, column 4")
    for command in (["fold"], ["predict", "rna_type"]):
        assert _cli.main([*command, str(fasta), "--json", "--url", service.url]) == 2
        said = capsys.readouterr()
        assert [json.loads(line)["id"] for line in said.out.splitlines()] == ["good", "short"]
        assert "left out: bad: protein letter" in said.err
    long = tmp_path / "long.fasta"  # what the service alone refuses
    long.write_text(f">one\nGGGGAAAACCCC\n>giant\n{'ACGU' * 400}\n>two\nGGGGAAAACCCC\n")
    assert _cli.main(["fold", str(long), "--url", service.url]) == 2
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if line[0] == ">"] == [">one", ">two"]
    assert "left out: giant: 1,600 nucleotides; structures are predicted up to 1,500" in said.err
    nothing = ["search", "ACGU", "--where", "length > 100000", "--tsv", "--url", service.url]
    assert _cli.main(nothing) == 0 and capsys.readouterr().out == "rank\tid\tsimilarity\tp\tlength\tsequence\n"


def test_samples_are_alike_everywhere(clients: dict[str, sdk.Client], library: Any) -> None:
    found = {name: client.sample(5, seed=3, collection="rfam") for name, client in clients.items()}
    http, local = found.values()
    assert http == local and len({record.id for record in http}) == 5 and http.collection == "rfam"
    row = next(row for row in library.rows if row["id"] == http[0].id)
    assert http[0].sequence == row["sequence"] and http[0].labels["family"] == row["family"]
    assert [r.id for r in http] != [r.id for r in clients["http"].sample(5, seed=4, collection="rfam")]
    assert len(clients["http"].sample(1000, collection="rfam")) == len(library.rows)
    assert list(http[:0].to_pandas().columns) == ["id", "length", "sequence"]
    for client in clients.values():
        with pytest.raises(sdk.InvalidRequestError, match="count: expected a whole number from 0 to 1,000, got 1001"):
            client.sample(1001, collection="rfam")
        with pytest.raises(sdk.NotFoundError):
            client.sample(collection="none")


def test_command_models_and_doctor(service: Any, library: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    assert _cli.main(["models", "--url", service.url, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0]["kind"] == "encoder" and {"rna_type", "gc", "family"} <= {row["name"] for row in rows}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert _cli.main(["doctor", "--url", service.url]) == 0
    said = capsys.readouterr().out
    assert "✓ unirna[platform]: complete" in said and "✓ its collection rfam" in said and "nothing to fix" in said
    assert "· its collection other" in said  # of another model
    assert _cli.main(["doctor", "--store", library.store]) == 0
    assert "✓ collection rfam" in capsys.readouterr().out
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert _cli.main(["doctor", "--store", library.store]) == 0 and "· Ray: RAY_ADDRESS is auto" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    assert _cli.main(["doctor", "--store", str(tmp_path / "empty")]) == 1
    said = capsys.readouterr().out
    assert "has no collection\n    make one with" in said and "does not answer" in said and "2 to fix" in said
    assert _cli.main(["doctor", "--store", library.store, "--url", service.url]) == 1  # both, and Ray as before
    said = capsys.readouterr().out
    assert "✓ collection rfam" in said and "✓ its collection rfam" in said and "1 to fix" in said
    assert _cli.main(["doctor", "--url", "http://127.0.0.1:9", "--timeout", "5"]) == 1
    assert "✗ service: no service responds" in capsys.readouterr().out


def test_an_error_names_the_request(service: Any) -> None:
    with sdk.connect(service.url) as client, pytest.raises(sdk.InvalidRequestError) as found:
        client.embed(["XYZ"])
    assert len(found.value.request_id) >= 16


def test_command_score_variants(service: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _cli.main(["score-variants", TRNA, "G1A", "G1C+C72G", "--url", service.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "variant\tscore" and [line.split("\t")[0] for line in lines[1:]] == ["G1A", "G1C+C72G"]
    assert _cli.main(["score-variants", TRNA[:20], "--svg", str(tmp_path / "map.svg"), "--url", service.url]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 61 and (tmp_path / "map.svg").read_text().startswith("<svg")


def test_command_fold(service: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _cli.main(["fold", TRNA, "--url", service.url]) == 0
    assert capsys.readouterr().out == f">sequence_1\n{TRNA}\n{CLOVERLEAF} (-22.40)\n"
    assert _cli.main(["fold", TRNA, "--format", "dbn", "--no-pseudoknots", "--url", service.url]) == 0
    assert capsys.readouterr().out == f">sequence_1\n{TRNA}\n{CLOVERLEAF}\n"
    for format, parse in (("ct", parse_ct), ("bpseq", parse_bpseq)):
        assert _cli.main(["fold", TRNA, "--format", format, "--url", service.url]) == 0
        written = parse(capsys.readouterr().out)
        assert written.sequence == TRNA and written.pairs.tolist() == parse_dot_bracket(CLOVERLEAF).tolist()
        assert written.name.endswith("sequence_1")
    hairpin = ["fold", "GGGGAAAACCCC", "--format", "dbn", "--url", service.url]
    assert _cli.main([*hairpin, "--constraint", "x...........", "--plot", str(tmp_path / "plots")]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith(".")
    assert (tmp_path / "plots" / "0001_sequence_1.svg").read_text().startswith("<svg")
    assert _cli.main([*hairpin, "--constraint", "x."]) == 2
    assert "constraints[0]: 2 characters for 12 nucleotides" in capsys.readouterr().err
    fasta = tmp_path / "two.fasta"
    fasta.write_text(f">a/1\n{TRNA}\n>b\nACGUACGU\n")
    assert _cli.main(["fold", str(fasta), "--constraint", "....", "--url", service.url]) == 2
    assert "--constraint is for one sequence, got 2" in capsys.readouterr().err
    contacts = tmp_path / "contacts.tsv"
    command = ["fold", str(fasta), "--svg", str(tmp_path / "svg"), "--format", "jsonl", "--url", service.url]
    command += ["--contacts", str(contacts)]
    assert _cli.main(command) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in rows] == ["a/1", "b"] and rows[0]["structure"] == CLOVERLEAF
    assert sorted(path.name for path in (tmp_path / "svg").iterdir()) == ["0001_a_1.svg", "0002_b.svg"]
    assert (tmp_path / "svg" / "0001_a_1.svg").read_text().startswith("<svg")
    lines = [line.split("\t") for line in contacts.read_text().splitlines()]
    assert lines[0] == ["id", "i", "j", "probability"] and lines[1][0] == "a/1"
    assert float(next(p for _, i, j, p in lines if (i, j) == ("1", "72"))) > 0.8


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (["search", "ACGX"], 2, "protein letter at position 4"),
        (["search", "no/such/file.fasta"], 2, "no file"),
        (["search", "ACGU", "--where", "colour = 1"], 2, "colour"),
        (["predict", "nope", "ACGU"], 2, "no predictor 'nope'"),
        (["embed", "ACGU", "--out", "vectors.txt"], 2, ".npz"),
        (["search", "ACGU", "--store", "/nowhere"], 2, "--url or --store"),
    ],
)
def test_command_errors(
    service: Any, command: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _cli.main([*command, "--url", service.url]) == code
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and message in printed.err


def test_jobs_are_commands(library: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.argv
    assert _cli.main(["serve", "--store", str(tmp_path)]) == 2
    assert "there is no collection" in capsys.readouterr().err and sys.argv is before
    assert _cli.main(["screen", "--help"]) == 0
    assert "usage: unirna screen" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        _cli.main(["--help"])
    listed = capsys.readouterr().out
    assert "Serve a store over HTTP" in listed and "Rank a library" in listed


def test_command_without_a_service(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        assert _cli.main(["collections", "--url", f"http://127.0.0.1:{probe.getsockname()[1]}"]) == 1
    assert "make serve" in capsys.readouterr().err


# ---- light -------------------------------------------------------------------------------------------------------------

HEAVY = ("numpy", "torch", "ray", "lance", "lancedb", "pyarrow", "pandas", "sklearn", "fastapi", "pydantic")


def test_importing_is_light_and_reads_no_environment() -> None:
    script = f"""
import os, sys
read = os.environ.__class__.__getitem__
def watched(self, key):
    assert not key.startswith("UNIRNA"), key
    return read(self, key)
os.environ.__class__.__getitem__ = watched
import unirna.sdk, unirna.sdk._cli, unirna.sdk._http
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    env = os.environ | {"UNIRNA_URL": "http://nowhere", "UNIRNA_API_KEY": "k"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_without_the_platform_a_store_is_refused_with_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "unirna.serve.engine.engine", None)
    with pytest.raises(ImportError, match=r"unirna\[platform\]"):
        sdk.connect(tmp_path)


def test_all_is_sorted_and_there() -> None:
    assert sdk.__all__ == sorted(sdk.__all__)
    assert all(hasattr(sdk, name) for name in sdk.__all__)


def test_sequences_that_are_too_many_to_fold_at_once_go_in_halves(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from unirna.sdk._http import HTTPTransport

    client = sdk.connect(service.url)
    sizes: list[int] = []
    send = HTTPTransport.answers

    def small(self: HTTPTransport, requests: Any, done: Any) -> Any:
        sizes.append(requests[0].count)
        if requests[0].count > 2:
            raise sdk.InvalidRequestError("send fewer at once", status=413)
        return send(self, requests, done)

    sequences = [f"GGGG{'A' * n}CCCC" for n in range(4, 9)]
    wanted = [found.structure for found in client.fold(sequences)]
    monkeypatch.setattr(HTTPTransport, "answers", small)
    assert [found.structure for found in client.fold(sequences)] == wanted
    assert sizes == [5, 2, 3, 1, 2]
    with pytest.raises(sdk.InvalidRequestError, match="nucleotides"):
        client.fold(["A" * 5000])


def test_progress_is_shown_where_it_takes_long(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from unirna.sdk import _progress

    monkeypatch.setattr(_progress, "PAUSE", 0)
    for patience, shown, seen in ((0, True, True), (9, True, False), (0, False, False), (0, None, False)):
        monkeypatch.setattr(_progress, "PATIENCE", patience)
        with _progress.Progress(20, shown) as progress:
            progress.add(10)
        written = capsys.readouterr().err
        assert ("10 of 20 sequences" in written) == bool(written) == seen
        assert not written.split("\r")[-1]  # the line is wiped


def test_results_are_equal_and_have_parts(client: sdk.Client, library: Any) -> None:
    one, other = (client.search(library.rows[1]["sequence"], k=3) for _ in range(2))
    assert one == other and one != list(one) and one[1:] != one
    assert isinstance(one[1:], sdk.SearchResult) and one[1:].collection == one.collection and list(one[1:]) == list(one)[1:]
    assert one.to_polars()["id"].to_list() == [hit.id for hit in one]


def test_a_notebook_shows_structures(client: sdk.Client) -> None:
    shown = client.fold([TRNA, "GGGAAACCC"])._repr_html_()
    assert shown.count("<img") == 2 and CLOVERLEAF in shown and "data:image/svg+xml;base64," in shown


def test_what_the_documentation_shows(
    service: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "sdk.md").read_text()
    monkeypatch.setenv("UNIRNA_URL", service.url)
    shown: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(snippet, shown)
    assert len(shown["hits"]) == 5 and [hit.rank for hit in shown["page"]] == list(range(11, 21))
    assert shown["vectors"].shape == (10, 128) and [len(found) for found in shown["found"]] == [10, 10]
    assert "sequences[1] - " in capsys.readouterr().out


def test_a_table_has_the_columns_of_all_rows() -> None:
    def structure(*contacts: tuple[int, int, float]) -> sdk.Structure:
        return sdk.Structure("GGGAAACCC", "(((...)))", (), (1.0,) * 9, "", contacts)

    found = sdk.FoldResult([structure(), structure((0, 8, 0.5))])
    assert found.to_arrow()["contacts"].to_pylist() == [None, [{"i": 0, "j": 8, "probability": 0.5}]]


def test_a_printed_table_fits_the_terminal_and_cannot_steer_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    _output.show([{"id": "a\x1b[2Jb", "sequence": "ACGU" * 40, "n": 7}, {"id": "c", "similarity": 0.98765}], "table")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60 and lines[1].startswith("a\\x1b[2Jb  ACGU") and "0.9877" in lines[-1]
    assert "".join(line.split()[-2 if number == 0 else -1] for number, line in enumerate(lines[1:-1])) == "ACGU" * 40
    _output.show([{"a\x1b[31mb": "False", "empty": None}, {"a\x1b[31mb": "  x"}], "table")
    assert capsys.readouterr().out.splitlines() == ["a\\x1b[31mb  empty", "False", "  x"]
    _output.show([{"only": ""}], "table")
    _output.show([], "table", hidden=["sequence"], columns=["id", "sequence"])
    assert capsys.readouterr().out.splitlines() == ["only", "", "id"]


def test_what_later_services_say_besides_is_passed_over() -> None:
    answers = [
        {"label": "a", "probability": 1.0, "probabilities": {"a": 1.0}, "later": 1},
        {"labels": ["a"], "probabilities": {"a": 1.0}, "later": 1},
        {"value": 1.0, "low": None, "high": None, "unit": "", "later": 1},
        {"values": [1.0], "half_width": None, "unit": "", "in_training_length_range": False, "later": 1},
    ]
    assert [one.in_training_length_range for one in prediction_result(answers, "t")] == [True, True, True, False]
    hit = {"id": "a", "similarity": 1.0, "sequence": "A", "length": 1, "labels": {}, "rank": 1, "later": 1}
    assert search_result({"hits": [hit], "collection": "c", "model": "m"})[0].id == "a"
