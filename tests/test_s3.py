"""Jobs against a real S3 protocol server: input, model, store and state in one bucket, and connections that drop."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import free_port
from unirna import model

ROOT = Path(__file__).resolve().parent.parent
RECORDS = 400


class Line:
    """A TCP line to a server that can be cut: open connections are reset, new ones refused, until it is mended."""

    def __init__(self, server: int) -> None:
        self.server, self.cut_now, self.connections = server, False, 0
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.cut_now:
                client.close()
                continue
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self.server))
            self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            self._open.discard(end)
            end.close()

    def cut(self, seconds: float) -> None:
        """Cut it for some time."""
        self.cut_now = True
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        time.sleep(seconds)
        self.cut_now = False

    def close(self) -> None:
        self._listener.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """moto's S3 server; its port."""
    pytest.importorskip("moto")
    port = free_port()
    log = (tmp_path_factory.mktemp("moto") / "log").open("w")
    process = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=log, stderr=log)
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=2).close()
            break
        except OSError:
            time.sleep(0.2)
    yield port
    process.kill()
    process.wait(30)


@pytest.fixture(scope="module")
def bucket(server: int, nano_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A bucket with a model and an input of several files; id -> sequence of what is in it."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{server}",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="lab")
    for path in nano_model_path.iterdir():
        client.upload_file(str(path), "lab", f"models/nano/{path.name}")
    draw = random.Random(0)
    records = {f"r{i}": "".join(draw.choices("ACGU", k=draw.randint(30, 300))) for i in range(RECORDS)}
    names = list(records)
    for number in range(4):
        text = "".join(f">{name}\n{records[name]}\n" for name in names[number::4])
        client.put_object(Bucket="lab", Key=f"input/{number}.fasta", Body=text.encode())
    return records


def environment(port: int) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    return own | {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def embed(port: int, store: str) -> subprocess.Popen[str]:
    command = [sys.executable, "jobs/embed.py", "s3://lab/input", "--collection", "c", "--store", store]
    return subprocess.Popen(
        [*command, "--model", "s3://lab/models/nano"],
        cwd=ROOT,
        env=environment(port),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


READ = """
import json, sys
import pyarrow as pa
from unirna import vectorstore
collection = vectorstore.open(sys.argv[1], "c")
rows = pa.Table.from_batches(collection.scan(["id", "sequence", "vector"])).to_pylist()
found = collection.search(rows[0]["vector"], k=1, where="length > 0").to_pylist()[0]["id"]
print(json.dumps({"rows": rows, "nearest": [rows[0]["id"], found], "left": vectorstore.list_collections(sys.argv[1])}))
"""


def check(port: int, store: str, records: dict[str, str], nano: Path) -> None:
    """Every record is there once, with its vector."""
    answer = subprocess.run(
        [sys.executable, "-c", READ, store], cwd=ROOT, env=environment(port), capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    rows = told["rows"]
    assert len(rows) == len(records) and {row["id"]: row["sequence"] for row in rows} == records
    assert told["nearest"][0] == told["nearest"][1] and told["left"] == ["c"]
    encoder = model.load(nano, device="cpu")
    alone = np.concatenate([encoder.embed([row["sequence"]]) for row in rows[::10]])
    np.testing.assert_allclose(np.array([row["vector"] for row in rows[::10]], np.float32), alone, atol=1e-5)


@pytest.mark.slow
def test_the_whole_job_in_a_bucket(server: int, bucket: dict[str, str], nano_model_path: Path) -> None:
    first = embed(server, "s3://lab/store")
    out, err = first.communicate(timeout=300)
    assert first.returncode == 0, err
    summary = json.loads(out)
    assert (summary["read"], summary["stored"], summary["rejected"]) == (RECORDS, RECORDS, 0)
    check(server, "s3://lab/store", bucket, nano_model_path)


MAP = """
import json, sys
import numpy as np, pyarrow as pa
from unirna import vectorstore
from unirna.embed.projection import make_map
store = sys.argv[1]
schema = vectorstore.collection_schema(8, pa.schema([]), vectorstore.Provenance("m", "feed"))
empty = vectorstore.write_rows(store, "c", schema.empty_table(), schema)
vectorstore.commit(store, "c", schema, empty, key="k", read_version=0)
vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
rows = {"id": [f"r{i}" for i in range(20)], "sequence": ["ACGU"] * 20, "vector": vectorstore.vector_array(vectors)}
vectorstore.add(store, "c", pa.table(rows), fingerprint="feed")
told = [make_map(store, "c", method="pca")["made"], make_map(store, "c", method="pca")["made"]]
vectorstore.rename(store, "c", "d")
found, gone = vectorstore.read_map(store, "d"), vectorstore.map_info(store, "c")
told += [found.ids.to_pylist() == rows["id"], gone is None, vectorstore.list_collections(store)]
vectorstore.drop(store, "d", confirm="d")
print(json.dumps([*told, vectorstore.map_info(store, "d") is None]))
"""


@pytest.mark.slow
def test_a_map_in_a_bucket(server: int, bucket: dict[str, str]) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", MAP, "s3://lab/maps"], env=environment(server), capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == [True, False, True, True, ["d"], True]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1, 25])
def test_a_connection_that_drops_costs_no_record(
    server: int, bucket: dict[str, str], nano_model_path: Path, seconds: int
) -> None:
    """A short outage is waited out; a long one may end the job, with a clear error, and the same command goes on."""
    line, store = Line(server), f"s3://lab/dropped-{seconds}"
    job = embed(line.port, store)
    while line.connections < 40 and job.poll() is None:  # in the middle of it
        time.sleep(0.05)
    assert job.poll() is None
    line.cut(seconds)
    out, err = job.communicate(timeout=300)
    for _ in range(3):
        if job.returncode == 0:
            break
        assert seconds > 1 and job.returncode == 74 and "run the same command again" in err, err
        job = embed(line.port, store)
        out, err = job.communicate(timeout=300)
    assert job.returncode == 0, err
    assert json.loads(out)["stored"] == RECORDS
    check(server, store, bucket, nano_model_path)
    line.close()
