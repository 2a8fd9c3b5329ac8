"""A client gives its own answers in whatever process it is used, or says at once why it cannot."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from unirna import model, sdk, vectorstore
from unirna.vectorstore import FilterError, ForkedError, ModelMismatchError

PROGRAM = Path(__file__).with_name("forking.py")


def run(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def echo() -> Iterator[str]:
    """A service that answers, for each sequence, its length and the port that the request came from."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sequences = json.loads(self.rfile.read(int(self.headers["content-length"])))["sequences"]
            rows = [[len(text), self.client_address[1]] for text in sequences]
            body = json.dumps({"vectors": rows}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_client_of_a_service_connects_anew_in_each_process(echo: str) -> None:
    found = run("http", echo)
    assert "this client is closed" in found.pop("closed")
    lengths = {
        "parent": 10,
        "async parent": 11,
        "async again": 12,
        "function": 13,
        "fork": 20,
        "async fork": 21,
        "function fork": 22,
        "fork of a fork": 24,
        **{
            f"pool {method} {i}": 30 + 2 * n + i for n, method in enumerate(("fork", "spawn", "forkserver")) for i in (0, 1)
        },
        "executor": 40,
        "async pickled": 41,
        "parent again": 50,
    }
    assert {name: {row[0] for row in rows} for name, rows in found.items()} == {n: {v} for n, v in lengths.items()}
    ports = {name: {row[1] for row in rows} for name, rows in found.items()}
    for name in ("fork", "async fork", "function fork", "fork of a fork", "executor"):
        others = set().union(*(used for other, used in ports.items() if other != name))
        assert len(ports[name]) == 1 and not ports[name] & others, name


def test_a_client_of_a_store_works_spawned_and_says_what_to_do_forked(nano_model_path: Path, tmp_path: Path) -> None:
    encoder, store = model.load(nano_model_path), str(tmp_path / "store")
    letters = ["ACGU" * 5, "GGGAAACCC", "GCGCUUUUAUAU"]
    schema = vectorstore.collection_schema(
        encoder.dimension, pa.schema([]), vectorstore.Provenance(encoder.name, encoder.fingerprint)
    )
    columns = [["a", "b", "c"], letters, [len(text) for text in letters], ["x"] * 3]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=False)]
    rows = pa.Table.from_arrays([*arrays, vectorstore.vector_array(encoder.embed(letters))], schema=schema)
    vectorstore.append_rows(store, "c", rows, key="k")

    found = run("store", store, str(nano_model_path))
    assert found["parent"][0] == "a" and found["executor spawn"] == found["parent"]
    for name in ("fork", "async fork", "connect", "executor fork"):
        assert "ForkedProcessError" in found[name] and "'spawn'" in found[name] and "http://" in found[name], name
    for name in ("collection", "open"):
        assert "ForkedError" in found[name] and "'spawn'" in found[name]
    assert found["model"] is True


@pytest.mark.parametrize(
    "error",
    [
        sdk.ServiceError("failed", status=500, errors=[("where", "bad")], request_id="r"),
        sdk.InvalidRequestError.of("sequences[3]", "no nucleotide"),
        sdk.ForkedProcessError("forked"),
        FilterError("a = 1", "no column", ["id"]),
        ModelMismatchError("c", ("m", "1"), ("n", "2")),
        ForkedError("forked"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_whole_from_other_processes(error: Exception) -> None:
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copied) is type(error) and str(copied) == str(error) and vars(copied) == vars(error)
