"""`/v1/jobs`: real jobs on a real service, and over a stand-in for the cluster all that can be sent to it."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import json
import os
import random
import shutil
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
from types import SimpleNamespace
from typing import Any

import httpx2
import pyarrow as pa
import pytest
import tyro

from unirna import sdk, vectorstore
from unirna.base.job_settings import EmbedConfig, FinetuneSettings, ScreenConfig
from unirna.sdk import _cli
from unirna.serve.api.job_schemas import EmbedJob, FinetuneJob, ScreenJob
from unirna.serve.engine.engine import Engine
from unirna.serve.errors import RequestError
from unirna.serve.jobs.commands import JobEnvironment, command, find_file
from unirna.serve.jobs.jobs import Jobs
from unirna.serve.jobs.records import ClusterError
from unirna.serve.ray.cluster import _layer
from unirna.serve.ray.serving import lacking, serve_store
from unirna.serve.settings import Settings, SettingsError

ROOT = Path(__file__).resolve().parent.parent
FASTA = {"fasta": ">a\nGGGAAACCC\n"}
EMBED = {"kind": "embed", "parameters": {"collection": "mine"}, "input": FASTA}
ESCAPES = [
    "/etc/passwd", "../secret.fasta", "plate/../../secret.fasta", "..", ".", "", "plate/", "/", "link.fasta",
    "linked/secret.fasta",
    "file:///etc/passwd", "s3://bucket/x.fasta", "-x.fasta\n", "a\0.fasta", "*.fasta", "plate", "C:\\x",
    "%2e%2e/secret.fasta", "\ud800.fasta", "a" * 5000, "./good.fasta", "plate//inner.fasta",
]  # fmt: skip
NO_NAMES = [
    "",
    "..",
    "../x",
    "/x",
    "a/b",
    "-x",
    "--replace",
    "x\ny",
    "x\0",
    "s3://b/x",
    "a b",
    ".x",
    "x.lance",
    "x.rejects",
]


# ---- what a command is made of -----------------------------------------------------------------------------------------


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    (folder / "plate").mkdir(parents=True)
    (folder / "good.fasta").write_text(">a\nACGU\n")
    (folder / "plate" / "inner.fasta").write_text(">a\nACGU\n")
    (tmp_path / "secret.fasta").write_text(">secret\nACGU\n")
    (folder / "link.fasta").symlink_to(tmp_path / "secret.fasta")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "within.fasta").symlink_to(folder / "good.fasta")
    return folder


@pytest.mark.parametrize("name", ESCAPES, ids=ascii)
def test_no_name_leads_out_of_the_folder_of_inputs(inputs: Path, name: str) -> None:
    with pytest.raises(RequestError) as caught:
        find_file(name, str(inputs), "input.file")
    assert caught.value.status in (404, 422) and caught.value.errors[0].field == "input.file"
    assert str(inputs.parent) not in str(caught.value)


def test_names_within_the_folder_of_inputs_are_found(inputs: Path) -> None:
    assert find_file("good.fasta", str(inputs), "x") == find_file("within.fasta", str(inputs), "x") == inputs / "good.fasta"
    assert find_file("plate/inner.fasta", str(inputs), "x").read_text() == ">a\nACGU\n"
    with pytest.raises(RequestError, match="--inputs-folder"):
        find_file("good.fasta", "", "x")


def parsed(words: list[str]) -> Any:
    """A command's words as the script itself reads them."""
    classes = {"embed.py": EmbedConfig, "screen.py": ScreenConfig, "finetune.py": FinetuneSettings}
    return tyro.cli(classes[Path(words[1]).name], args=words[2:])


PLACE = JobEnvironment(sys.executable, ROOT / "jobs", "/a store", "/registry", "/model", layer=-2, workers=3)


def test_words_are_read_back_as_they_were_asked(tmp_path: Path) -> None:
    nasty = "--store=/elsewhere; $(touch x) `y` 'z'"
    asked: dict[str, Any] = {
        "collection": "c",
        "id_column": nasty,
        "drop_labels": ["a b", "c=d"],
        "index": "none",
        "map": True,
    }
    job = EmbedJob.model_validate({"kind": "embed", "parameters": asked, "input": FASTA})
    config = parsed(command(job, PLACE, [tmp_path / "in.fasta"], tmp_path))
    assert (config.collection, config.id_column, config.drop_labels) == ("c", nasty, ("a b", "c=d"))
    assert (config.store, config.model, config.layer, config.workers) == ("/a store", "/model", -2, 3)
    assert config.inputs == (str(tmp_path / "in.fasta"),) and not config.switch_model and config.index == "none"
    assert config.map

    asked = {"predict": ["rna_type=Gene;tRNA", "x=-y"], "top": 7, "sequence_column": "-s"}
    screen = ScreenJob.model_validate({"kind": "screen", "parameters": asked, "input": FASTA, "references": FASTA})
    config = parsed(command(screen, PLACE, [tmp_path / "in.fasta", tmp_path / "ref.fasta"], tmp_path))
    assert config.predict == ("rna_type=Gene;tRNA", "x=-y") and config.top == 7 and config.sequence_column == "-s"
    assert config.library == (str(tmp_path / "in.fasta"),) and config.similar_to == (str(tmp_path / "ref.fasta"),)
    assert config.out == str(tmp_path / "results") and config.registry == "/registry"

    asked = {"task": "t", "label_columns": ["a", "b c"], "about": "--replace", "mode": "lora", "epochs": 2, "cnn": False}
    tune = FinetuneJob.model_validate({"kind": "finetune", "parameters": asked, "input": FASTA})
    config = parsed(command(tune, PLACE, [tmp_path / "in.csv"], tmp_path))
    assert (config.task, config.label_columns, config.about) == ("t", ("a", "b c"), "--replace")
    assert (config.mode, config.epochs, config.cnn, config.replace) == ("lora", 2, False, False)
    assert config.data == (str(tmp_path / "in.csv"),) and config.registry == "/registry" and not config.dataset


# ---- the application over a stand-in for the cluster -------------------------------------------------------------------


class Processes:
    """Runs commands as processes of this machine; `down` is a cluster that does not answer."""

    def __init__(self) -> None:
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.down = False

    def submit(self, id: str, words: list[str]) -> None:
        self._answer()
        assert id not in self.running
        self.running[id] = subprocess.Popen(words, start_new_session=True)

    def stop(self, id: str) -> None:
        self._answer()
        os.killpg(self.running[id].pid, signal.SIGTERM)

    def states(self) -> dict[str, tuple[str, str]]:
        self._answer()
        return {id: ("running" if process.poll() is None else "failed", "gone") for id, process in self.running.items()}

    def _answer(self) -> None:
        if self.down:
            raise ClusterError("Ray's job server does not answer")


SCRIPT = """
import json, sys, time
name = next(w for w in sys.argv if w.startswith("--collection=")).partition("=")[2]
print("reading", __file__, "\\x1b[31mred\\x07", file=sys.stderr)
if name == "bad":
    print("error: first trouble", file=sys.stderr)
    print("error: no record could be read in " + sys.argv[-1], file=sys.stderr)
    sys.exit(2)
for i in range(1, 200 if name == "slow" else 3):
    print(f"embedding  {i:3d}%  {i}/100 nt  5/s    left 9s", file=sys.stderr, flush=True); time.sleep(0.1)
store = next(w for w in sys.argv if w.startswith("--store=")).partition("=")[2]
print(json.dumps({"store": store, "new": 1}))
"""


@pytest.fixture
def jobs(tmp_path: Path, inputs: Path, library: Any) -> Iterator[Jobs]:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for kind in ("embed", "screen", "finetune"):
        (scripts / f"{kind}.py").write_text(SCRIPT)
    place = JobEnvironment(sys.executable, scripts, library.store, library.registry, library.model)
    cluster = Processes()
    yield Jobs(tmp_path / "jobs", str(inputs), place, cluster)
    for process in cluster.running.values():
        process.kill()
        process.wait()


@contextmanager
def serving(library: Any, jobs: Jobs | None, keys_file: str = "") -> Iterator[httpx2.Client]:
    """The application on uvicorn in a thread, over a real socket."""
    import uvicorn

    from unirna.serve.api.app import create_app
    from unirna.serve.engine.engine import Engine

    engine = Engine.open(library.store, library.model, library.registry, default_collection="rfam")
    settings = replace(Settings(library.store), keys_file=keys_file)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        app = create_app(engine, settings, None, jobs)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def http(library: Any, jobs: Jobs) -> Iterator[httpx2.Client]:
    with serving(library, jobs) as client:
        yield client


def until(client: httpx2.Client, id: str, *states: str, seconds: float = 60) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while (job := client.get(f"/v1/jobs/{id}").json())["state"] not in states:
        assert time.monotonic() < end, job
        time.sleep(0.05)
    return dict(job)


def embed(collection: str, **more: Any) -> dict[str, Any]:
    return {"kind": "embed", "parameters": {"collection": collection}, "input": FASTA, **more}


def test_a_job_from_its_submission_to_its_end(http: httpx2.Client, jobs: Jobs, tmp_path: Path) -> None:
    answer = http.post("/v1/jobs", json=embed("slow", name="my <b>job</b>"))
    assert answer.status_code == 202
    id = answer.json()["id"]
    end = time.monotonic() + 30
    while (job := http.get(f"/v1/jobs/{id}").json())["progress"]["share"] is None:
        assert time.monotonic() < end, job
    assert (
        job["state"] == "running"
        and job["name"] == "my <b>job</b>"
        and job["input"] == {"input": {"kind": "fasta", "bytes": 13}}
    )
    assert job["progress"]["text"].startswith("embedding ") and 0 < job["progress"]["share"] < 1
    done = http.post("/v1/jobs", json=embed("quick")).json()["id"]
    job = until(http, done, "succeeded", "failed")
    assert job["summary"] == {"store": "store", "new": 1} and job["started"] <= job["ended"] and job["message"] == ""
    assert [j["id"] for j in http.get("/v1/jobs").json()["jobs"]] == sorted([id, done], key=lambda x: x[6:], reverse=True)
    assert len(http.get("/v1/jobs?limit=1").json()["jobs"]) == 1
    log = http.get(f"/v1/jobs/{done}/log").json()["lines"]
    assert log[0] == "reading embed.py  [31mred" and str(tmp_path) not in str(log)
    assert http.get(f"/v1/jobs/{done}/log?lines=1").json()["lines"] == log[-1:]
    assert http.get(f"/v1/jobs/{done}/log?lines=5000").status_code == 422
    # ---- stop, and go on
    assert http.post(f"/v1/jobs/{done}/cancel", json={}).json()["state"] == "succeeded"
    assert http.post(f"/v1/jobs/{done}/resume", json={}).json()["state"] == "succeeded"
    http.post(f"/v1/jobs/{id}/cancel", json={})
    assert until(http, id, "stopped", "failed", "succeeded")["state"] == "stopped"
    assert http.post(f"/v1/jobs/{id}/resume", json={}).json()["state"] in ("pending", "running")
    until(http, id, "running")
    assert set(jobs.cluster.states()) == {id, f"{id}.2", done}
    assert (jobs.folder / id / "input.fasta").read_text() == FASTA["fasta"] and jobs.folder.stat().st_mode & 0o77 == 0


def test_a_job_that_fails_says_why_in_its_own_words(http: httpx2.Client, jobs: Jobs) -> None:
    id = http.post("/v1/jobs", json=embed("bad")).json()["id"]
    job = until(http, id, "failed", "succeeded")
    assert job["message"] == f"no record could be read in {id}/input.fasta"
    assert job["summary"] is None
    killed = http.post("/v1/jobs", json=embed("slow")).json()["id"]
    until(http, killed, "running")
    jobs.cluster.running[killed].kill()
    assert until(http, killed, "failed")["message"] == "gone"  # what the cluster says of it


def test_a_job_whose_cluster_is_gone_is_lost_and_goes_on(http: httpx2.Client, jobs: Jobs) -> None:
    id = http.post("/v1/jobs", json=embed("slow")).json()["id"]
    until(http, id, "running")
    jobs.cluster.down = True
    assert http.get(f"/v1/jobs/{id}").json()["state"] == "running"  # as far as is known
    assert http.post(f"/v1/jobs/{id}/cancel", json={}).status_code == 503
    jobs.cluster.down = False
    assert http.get(f"/v1/jobs/{id}").json()["message"] == ""  # it is not being stopped
    process = jobs.cluster.running.pop(id)
    assert http.get(f"/v1/jobs/{id}").json()["state"] == "running"  # on another service's cluster, for all that is known
    os.killpg(process.pid, signal.SIGKILL)
    os.utime(jobs.folder / id / "alive-1", (0, 0))  # long ago
    job = http.get(f"/v1/jobs/{id}").json()
    assert job["state"] == "lost" and "Resume it" in job["message"]
    with ThreadPoolExecutor(8) as pool:  # by many at once, it goes on once
        for answer in pool.map(lambda _: http.post(f"/v1/jobs/{id}/resume", json={}), range(8)):
            assert answer.status_code == 200
    assert until(http, id, "running")["message"] == "" and set(jobs.cluster.running) == {f"{id}.2"}


def test_a_job_that_is_being_removed_hides_no_other(http: httpx2.Client, jobs: Jobs) -> None:
    first, second = (http.post("/v1/jobs", json=embed("quick")).json()["id"] for _ in range(2))
    for id in (first, second):
        until(http, id, "succeeded")
    (jobs.folder / first / "job.json").unlink()
    assert [job["id"] for job in http.get("/v1/jobs").json()["jobs"]] == [second]
    assert http.get(f"/v1/jobs/{first}").status_code == 404


def test_an_attempt_that_was_taken_for_lost_does_not_begin_again(tmp_path: Path) -> None:
    (tmp_path / "command.json").write_text(json.dumps([sys.executable, "-c", "open('made', 'w')"]))
    command = [sys.executable, "-m", "unirna.job.submitted", str(tmp_path), "1"]
    for marks, begins in (((), False), ((1, 2), False), ((1,), True)):
        for mark in (1, 2):
            (tmp_path / f"submitted-{mark}.json").unlink(missing_ok=True)
        for mark in marks:
            (tmp_path / f"submitted-{mark}.json").write_text("{}")
        assert subprocess.run(command, cwd=tmp_path).returncode == (0 if begins else 75)
        assert (tmp_path / "made").exists() == begins


def test_jobs_embed_with_the_layer_of_the_service_s_own_model(library: Any, tmp_path: Path) -> None:
    from unirna import model

    made = model.load(library.model, layer=1)
    schema = vectorstore.collection_schema(
        128, pa.schema([]), vectorstore.Provenance(library.model, made.fingerprint, layer=1)
    )
    rows = vectorstore.open(library.store, "rfam").dataset.to_table(limit=5)
    vectorstore.copy(library.store, "rfam", str(tmp_path / "store"))
    vectorstore.append_rows(
        str(tmp_path / "store"), "a", pa.Table.from_arrays([rows[n] for n in schema.names], schema=schema), key="k"
    )
    engine = Engine.open(str(tmp_path / "store"), library.model, default_collection="rfam", other_models=1)
    assert _layer(engine) == -1


def test_the_same_key_starts_one_job(http: httpx2.Client, jobs: Jobs) -> None:
    def send(collection: str, key: str) -> httpx2.Response:
        return http.post("/v1/jobs", json=embed(collection), headers={"Idempotency-Key": key})

    with ThreadPoolExecutor(8) as pool:
        ids = {answer.json()["id"] for answer in pool.map(lambda _: send("quick", "k1"), range(8))}
    assert len(ids) == 1 and set(jobs.cluster.states()) == ids
    other = send("another", "k1")
    assert other.status_code == 422 and other.json()["errors"][0]["field"] == "Idempotency-Key"
    assert send("quick", "k2").json()["id"] not in ids
    assert send("quick", "x" * 201).status_code == 422
    assert len([path for path in jobs.folder.iterdir() if not path.name.startswith(".")]) == 2
    # ---- a cluster that does not answer: nothing is left, and the same request starts again
    jobs.cluster.down = True
    failed = send("quick", "k3")
    assert failed.status_code == 503 and len(http.get("/v1/jobs").json()["jobs"]) == 2
    jobs.cluster.down = False
    assert until(http, send("quick", "k3").json()["id"], "succeeded")


def test_a_caller_has_only_so_many_jobs_at_once(library: Any, jobs: Jobs) -> None:
    with serving(library, replace(jobs, max_jobs=2)) as http:
        ids = [http.post("/v1/jobs", json=embed("slow")).json()["id"] for _ in range(2)]
        refused = http.post("/v1/jobs", json=embed("quick"))
        assert refused.status_code == 429 and "max_jobs" in refused.json()["detail"]
        assert any(id in refused.json()["detail"] for id in ids)
        assert len(list(jobs.folder.glob("embed-*"))) == 2
        http.post(f"/v1/jobs/{ids[0]}/cancel", json={})
        until(http, ids[0], "stopped")
        headers = {"Idempotency-Key": "k"}
        another = http.post("/v1/jobs", json=embed("slow"), headers=headers)
        assert another.status_code == 202 and int(refused.headers["retry-after"]) > 0
        assert http.post("/v1/jobs", json=embed("slow"), headers=headers).json()["id"] == another.json()["id"]
        assert http.post(f"/v1/jobs/{ids[0]}/resume", json={}).status_code == 429
        # ---- a key that came when there was no room is still free
        assert http.post("/v1/jobs", json=embed("quick"), headers={"Idempotency-Key": "x"}).status_code == 429
        http.post(f"/v1/jobs/{ids[1]}/cancel", json={})
        until(http, ids[1], "stopped")
        assert http.post("/v1/jobs", json=embed("slow"), headers={"Idempotency-Key": "x"}).status_code == 202


BAD: list[tuple[dict[str, Any], int, str]] = [
    *((embed(name), 422, "parameters.collection") for name in [*NO_NAMES, "x" * 101]),
    *(({**EMBED, "input": {"file": name}}, 0, "input.file") for name in ESCAPES),
    ({**EMBED, "kind": "shell"}, 422, "body"),
    ({**EMBED, "command": "rm"}, 422, "command"),
    ({**EMBED, "parameters": {"collection": "c", "store": "/x"}}, 422, "parameters.store"),
    ({**EMBED, "parameters": {"collection": "c", "drop_labels": ["--store=/x"]}}, 422, "parameters.drop_labels[0]"),
    ({**EMBED, "parameters": {"collection": "c", "id_column": "a\nb"}}, 422, "parameters.id_column"),
    ({**EMBED, "input": {}}, 422, "input"),
    ({**EMBED, "input": {**FASTA, "csv": "id\n"}}, 422, "input"),
    ({**EMBED, "input": {"fasta": " \n"}}, 422, "input.fasta"),
    ({**EMBED, "input": {"fasta": "\ud800"}}, 422, "input.fasta"),
    ({**EMBED, "input": {"fasta": "hello world"}}, 422, "input.fasta"),
    ({**EMBED, "input": {"fasta": ">a\nACGX\n>b\nAC-GU\n"}}, 422, "input.fasta"),
    ({**EMBED, "input": {"fastq": "@a\nACGU\n"}}, 422, "input.fastq"),
    ({**EMBED, "input": {"csv": "name,sequence\na,ACGU\n"}}, 422, "parameters.id_column"),
    ({**EMBED, "input": {"tsv": "id\tseq\na\tACGU\n"}}, 422, "parameters.sequence_column"),
    ({**EMBED, "input": {"csv": "id,sequence\n"}}, 422, "input.csv"),
    ({"kind": "screen", "parameters": {}, "input": FASTA, "references": {"fasta": "x"}}, 422, "references.fasta"),
    ({**EMBED, "name": "x" * 201}, 422, "name"),
    ({"kind": "screen", "parameters": {}, "input": FASTA}, 422, "references"),
    ({"kind": "screen", "parameters": {"predict": ["../x=y"]}, "input": FASTA}, 422, "parameters.predict[0]"),
    ({"kind": "screen", "parameters": {"predict": ["-x=y"]}, "input": FASTA}, 422, "parameters.predict[0]"),
    ({"kind": "screen", "parameters": {"top": 0}, "input": FASTA, "references": FASTA}, 422, "parameters.top"),
    *(
        ({"kind": "finetune", "parameters": {"task": t, "label_column": "y"}, "input": FASTA}, 422, "parameters.task")
        for t in NO_NAMES[:-2]
    ),
    ({"kind": "finetune", "parameters": {"task": "t"}, "input": FASTA}, 422, "parameters.label_column"),
    (
        {"kind": "finetune", "parameters": {"task": "t", "label_column": "y"}, "input": {"csv": "sequence,kind\nACGU,a\n"}},
        422,
        "parameters.label_column",
    ),
    (
        {"kind": "finetune", "parameters": {"task": "t", "label_column": "y", "replace": True}, "input": FASTA},
        422,
        "parameters.replace",
    ),
]


def test_what_cannot_be_a_job_is_refused_by_its_field(http: httpx2.Client, jobs: Jobs) -> None:
    for body, status, field in BAD:
        answer = http.post("/v1/jobs", content=json.dumps(body), headers={"content-type": "application/json"})
        assert answer.status_code in ({status} if status else {404, 422}), (body, answer.text)
        assert answer.json()["errors"][0]["field"] == field, (body, answer.text)
        assert str(jobs.folder.parent) not in answer.text
    assert jobs.cluster.states() == {} and not list(jobs.folder.glob("[!.]*"))
    for folder in (jobs.folder.parent, jobs.folder / ".keys"):  # what would be found if a name were taken as a path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "job.json").write_text("{}")
    for id in ("..", "%2e%2e", "embed-20261127-120000-00000000", ".keys", "x" * 999, "embed-20261127-120000-00000000%0a"):
        for method, path in (("GET", ""), ("GET", "/log"), ("GET", "/results"), ("POST", "/cancel"), ("POST", "/resume")):
            answer = http.request(method, f"/v1/jobs/{id}{path}", json={} if method == "POST" else None)
            assert answer.status_code in (404, 405), (id, path, answer.text)


def test_results_are_saved_and_nothing_else(http: httpx2.Client, jobs: Jobs, tmp_path: Path) -> None:
    id = http.post("/v1/jobs", json=embed("quick")).json()["id"]
    until(http, id, "succeeded")
    results = jobs.folder / id / "results"
    (results / ".work").mkdir(parents=True)
    (results / ".hidden").write_text("no")
    (results / "report.html").write_text(f"<script>alert(1)</script>{jobs.folder}/{id}/input.fasta")
    (results / "ranked é.csv").write_text("id\n1\n")
    (results / "link.csv").symlink_to(tmp_path / "secret.fasta")
    files = http.get(f"/v1/jobs/{id}/results").json()["files"]
    assert [file["name"] for file in files] == ["ranked é.csv", "report.html"] and files[0]["bytes"] == 5
    for name in ("report.html", "ranked é.csv"):
        answer = http.get(f"/v1/jobs/{id}/results/{name}")
        assert answer.status_code == 200 and answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-security-policy"].startswith("sandbox;")
        assert answer.headers["x-content-type-options"] == "nosniff" and str(tmp_path) not in answer.text
    for name in ("link.csv", ".hidden", ".work", "../job.json", "..%2fjob.json", "%2e%2e%2fjob.json", "/etc/passwd",
                 "%2fetc%2fpasswd", "report.html%00", "x\\..\\job.json", "report.html%0a"):  # fmt: skip
        answer = http.get(f"/v1/jobs/{id}/results/{name}")
        assert answer.status_code == 404, name


def test_writing_wants_the_scope_write(library: Any, jobs: Jobs, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import hashlib

    keys = {name: f"key-of-{name}-0123456789" for name in ("read", "write", "twin")}
    lines = [
        f"{n} {'read' if n == 'read' else 'write'} {hashlib.sha256(k.encode()).hexdigest()}\n" for n, k in keys.items()
    ]
    (tmp_path / "keys").write_text("".join(lines))
    with serving(library, jobs, str(tmp_path / "keys")) as client, caplog.at_level("INFO", "unirna.audit"):

        def send(name: str, path: str = "/v1/jobs", body: Any = EMBED) -> httpx2.Response:
            headers = {"authorization": f"Bearer {keys[name]}", "idempotency-key": "same"}
            return client.post(path, json=body, headers=headers)

        assert client.post("/v1/jobs", json=EMBED).status_code == 401 and client.get("/v1/jobs").status_code == 401
        assert send("read").status_code == 403 and "needs write" in send("read").json()["detail"]
        made = send("write").json()
        assert made["by"] == "write" and send("twin").json()["id"] != made["id"]  # each caller's keys are its own
        for action in ("cancel", "resume"):
            assert send("read", f"/v1/jobs/{made['id']}/{action}", {}).status_code == 403
            assert send("write", f"/v1/jobs/{made['id']}/{action}", {}).status_code == 200
        reading = {"authorization": f"Bearer {keys['read']}"}
        assert client.get("/v1/jobs", headers=reading).status_code == 200
        scopes = {
            n: client.get("/v1/service", headers={"authorization": f"Bearer {k}"}).json()["scope"] for n, k in keys.items()
        }
        assert scopes == {"read": "read", "write": "write", "twin": "write"} and client.get("/jobs").status_code == 200
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "unirna.audit"]
    done = [(line["key"], line["path"].rpartition("/")[2]) for line in lines if line.get("job") == made["id"]]
    assert done == [("write", "jobs"), ("write", "cancel"), ("write", "resume")]
    assert [line["status"] for line in lines if line["key"] == "read"] == [403] * 4


def test_jobs_are_off_unless_asked_for(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(library, None) as client:
        said = client.get("/v1/service").json()
        assert (said["jobs"], said["scope"]) == (False, "write")
        assert said["limits"]["max_k"] == 1000 and len(said["limits"]) == 6
        for method, path in (("GET", ""), ("POST", ""), ("GET", "/x"), ("GET", "/x/results/y"), ("POST", "/x/cancel")):
            answer = client.request(method, f"/v1/jobs{path}", json=EMBED if method == "POST" else None)
            assert answer.status_code == 501 and "--jobs-folder" in answer.json()["detail"]
        with sdk.connect(str(client.base_url)) as service, pytest.raises(sdk.ServiceError, match="--jobs-folder"):
            service.jobs.list()
    with pytest.raises(SettingsError, match="--inputs-folder"):
        replace(Settings(library.store), inputs_folder="/nowhere").check()
    with (
        sdk.connect(library.store, model=library.model) as local,
        pytest.raises(sdk.InvalidRequestError, match=r"jobs/embed\.py"),
    ):
        _ = local.jobs
    monkeypatch.setenv("UNIRNA_URL", library.store)
    monkeypatch.setenv("UNIRNA_MODEL", library.model)
    with pytest.raises(sdk.InvalidRequestError, match=r"jobs/embed\.py"):
        sdk.jobs.list()


def test_a_default_collection_stays_when_a_job_adds_another(library: Any, tmp_path: Path) -> None:
    from unirna.serve.api.app import open_engine

    vectorstore.copy(library.store, "rfam", str(tmp_path / "one"), "only")
    engine = open_engine(Settings(str(tmp_path / "one"), library.model, jobs_folder=str(tmp_path / "jobs")))
    vectorstore.copy(library.store, "rfam", str(tmp_path / "one"), "second")
    vectorstore.copy(library.store, "rfam", str(tmp_path / "one"), "a")
    assert engine.catalogue.open(None).name == engine.catalogue.default() == "only"


def test_a_cluster_too_small_for_a_job_is_told_so(library: Any, tmp_path: Path) -> None:
    assert lacking({"CPU": 4.0, "GPU": 2.0}, 4, 2.0) == lacking({"CPU": 4.0}, 4, 9.0) == ""
    assert "5 cores of 4 and 2 GPUs of 1" in lacking({"CPU": 4.0, "GPU": 1.0}, 5, 2.0)
    settings = Settings(library.store, jobs_folder=str(tmp_path), job_workers=4096)
    with pytest.raises(SettingsError, match="and jobs with --job-workers 4096 need 4097"):
        serve_store(settings)


def test_jobs_without_waiting(http: httpx2.Client, jobs: Jobs, tmp_path: Path) -> None:
    async def scenario(client: sdk.AsyncClient) -> None:
        slow = await client.jobs.embed({"a": "ACGU"}, collection="slow", name="by hand")
        assert isinstance(slow, sdk.AsyncJob) and slow.name == "by hand"
        with pytest.raises(sdk.ServiceTimeoutError, match="goes on"):
            await slow.wait(timeout=0.5)
        quick = await client.jobs.embed([("a", "ACGU")], collection="quick")
        ended, stopped = await asyncio.gather(  # beside one another
            quick.wait(timeout=60), (await slow.cancel()).wait(timeout=60), return_exceptions=True
        )
        assert isinstance(ended, sdk.AsyncJob) and ended.summary == {"store": "store", "new": 1}
        assert isinstance(stopped, sdk.JobFailedError) and stopped.job.state == "stopped"
        assert {job.id for job in await client.jobs.list()} == {slow.id, quick.id}
        assert len(await client.jobs.list(1)) == 1
        assert (await ended.log(1))[0].startswith("embedding ")
        (jobs.folder / quick.id / "results").mkdir(exist_ok=True)
        (jobs.folder / quick.id / "results" / "a b.txt").write_text("found")
        assert await ended.results() == [sdk.JobFile("a b.txt", 5)]
        assert (await ended.download("a b.txt", tmp_path)).read_text() == "found"
        with pytest.raises(sdk.NotFoundError):
            await ended.download("absent.txt", tmp_path)
        assert not list(tmp_path.glob("*absent*"))
        with pytest.raises(sdk.NotFoundError):
            await client.jobs.get("embed-20200101-000000-00000000")
        again = await slow.resume()
        assert again.state in ("pending", "running") and (await again.cancel()).id == slow.id

    async def connected() -> None:
        async with sdk.connect_async(str(http.base_url)) as client:
            await scenario(client)

    asyncio.run(connected())


def test_no_job_is_taken_on_a_disk_that_is_almost_full(
    http: httpx2.Client, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = http.post("/v1/jobs", json=embed("quick"), headers={"idempotency-key": "one"}).json()["id"]
    until(http, done, "succeeded")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=12_000_000))
    refused = http.post("/v1/jobs", json=embed("quick"), headers={"idempotency-key": "two"})
    assert refused.status_code == 507 and "12 MB left" in refused.json()["detail"]
    assert http.post("/v1/jobs", json=embed("quick"), headers={"idempotency-key": "one"}).json()["id"] == done
    monkeypatch.undo()
    kept = sorted((jobs.folder / ".keys").iterdir())
    with monkeypatch.context() as full:  # not a byte left
        full.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        refused = http.post("/v1/jobs", json=embed("quick"), headers={"idempotency-key": "three"})
    assert refused.status_code == 507 and "Make room" in refused.json()["detail"]
    assert sorted((jobs.folder / ".keys").iterdir()) == kept
    assert http.post("/v1/jobs", json=embed("quick"), headers={"idempotency-key": "two"}).status_code == 202


# ---- the service on Ray ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(start_service: Callable[..., Any], library: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("jobs_service")
    (folder / "inputs").mkdir()
    for name in ("store", "registry"):  # other tests count what is in the shared ones
        shutil.copytree(getattr(library, name), folder / name)
    flags = [word for name in ("store", "registry") for word in (f"--{name}", str(folder / name))]
    flags += ["--jobs-folder", str(folder / "jobs"), "--inputs-folder", str(folder / "inputs")]
    service = start_service(folder, *flags)
    yield SimpleNamespace(url=service.url, process=service.process, log=service.log, folder=folder)
    service.process.send_signal(signal.SIGTERM)
    service.process.communicate(timeout=90)
    assert service.process.returncode == 0, service.log.read_text()


def letters(length: int, seed: int) -> str:
    return "".join(random.Random(seed).choices("ACGU", k=length))


def test_a_real_collection_through_the_sdk(real: Any, capsys: pytest.CaptureFixture[str]) -> None:
    records = {f"r{i}": letters(60, i) for i in range(20)} | {"no_rna": "ACGX"}
    with sdk.connect(real.url) as client:
        with pytest.warns(sdk.RejectedRecordWarning, match="no_rna"):
            job = client.jobs.embed(records, collection="mine", name="by hand")
        assert job.state in ("pending", "running") and job.name == "by hand"
        done = job.wait(timeout=120)
        assert done.summary is not None and (done.summary["stored"], done.summary["rejected"]) == (20, 1)
        hit = client.search(records["r7"], k=1, collection="mine")[0]  # at once, in the same service
        assert (hit.id, hit.sequence) == ("r7", records["r7"]) and hit.similarity > 0.9999
        assert client.jobs.list(limit=1)[0].id == job.id == client.jobs.get(job.id).id
        log = job.log()
        assert any(line.startswith("embedding  100%") for line in log)
        # ---- what no job could read is refused before it is sent
        with pytest.raises(sdk.InvalidRequestError, match="protein letter 'o' at position 2"):
            client.jobs.embed([("a", "no RNA")], collection="bad")
        assert client.jobs.list(limit=1)[0].id == job.id

    async def again() -> list[str]:
        async with sdk.connect_async(real.url) as client:
            return await (await (await client.jobs.get(job.id)).wait()).log()

    assert asyncio.run(again()) == log
    said = capsys.readouterr().err
    assert f"{job.id}  " in said
    # ---- changes are logged where the service was started; an answer has one id; routes are counted by their whole names
    changes = [json.loads(line) for line in real.log.read_text().splitlines() if line.startswith("{")]
    assert [line["status"] for line in changes if line.get("job") == job.id] == [202]
    assert changes[0]["time"][:4].isdigit() and "GET" not in {line["method"] for line in changes}
    for given in ({}, {"x-request-id": "mine-1"}):
        answer = httpx2.get(f"{real.url}/metrics", trust_env=False, headers=given)
        assert len(answer.headers.get_list("x-request-id")) == 1
    assert 'route="/v1/jobs"' in answer.text and 'route="/jobs"' not in answer.text
    assert str(real.folder) not in json.dumps(httpx2.get(f"{real.url}/v1/jobs", trust_env=False).json())


@pytest.mark.slow
def test_a_real_screen_and_a_real_predictor_on_the_command_line(
    real: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIRNA_URL", real.url)
    rows = [(f"s{i}", letters(40, i), "CA"[i % 2]) for i in range(80)]
    table = "id,sequence,kind\n" + "".join(f"{i},{kind * 20}{s},{kind}\n" for i, s, kind in rows)
    (real.folder / "inputs" / "table.csv").write_text(table)
    (tmp_path / "references.fasta").write_text(f">a\n{'C' * 20}{rows[0][1]}\n")
    command = ["jobs", "submit-screen", "--file", "table.csv", "--similar-to", str(tmp_path / "references.fasta"), "--wait"]
    assert _cli.main(command) == 0
    job = json.loads(capsys.readouterr().out)
    assert job["state"] == "succeeded" and job["summary"]["best"]["id"] == "s0"
    assert _cli.main(["jobs", "download", job["id"], "--to", str(tmp_path / "saved")]) == 0
    saved = {path.name for path in (tmp_path / "saved").iterdir()}
    assert saved == {"ranked.csv", "ranked.parquet", "report.html"}
    assert str(real.folder) not in (tmp_path / "saved" / "report.html").read_text()
    capsys.readouterr()
    tune = ["jobs", "submit-finetune", "--file", "table.csv", "--task", "kind", "--label-column", "kind", "--wait"]
    assert _cli.main(tune) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert sdk.predict("kind", ["C" * 20 + letters(40, 999)])[0].label in ("A", "C")  # at once, in the same service
    assert _cli.main(["jobs", "--format", "tsv"]) == 0
    listed = [line.split("\t")[0].partition("-")[0] for line in capsys.readouterr().out.splitlines()]
    assert listed[1:3] == ["finetune", "screen"]


@pytest.mark.slow
def test_a_real_job_is_stopped_and_the_next_waits_its_turn(real: Any) -> None:
    with sdk.connect(real.url) as client:
        first = client.jobs.embed([(f"x{i}", letters(900, i)) for i in range(3000)], collection="large")
        end = time.monotonic() + 90
        while "embedding" not in (now := first.refresh()).progress:
            assert now.state in ("pending", "running") and time.monotonic() < end, now
            time.sleep(0.3)
        second = client.jobs.embed([("a", "ACGUACGU")], collection="small")
        time.sleep(2)
        assert second.refresh().state == "pending"
        assert second.cancel().state == "stopped"
        first.cancel()
        while (now := first.refresh()).state == "running":
            assert time.monotonic() < end + 60
            time.sleep(0.3)
        assert now.state == "stopped" and "large" not in {c.name for c in client.collections()}
        again = client.jobs.embed([("a", "ACGUACGU")], collection="small")  # the way is free
        assert again.wait(timeout=120, progress=False).summary["new"] == 1  # type: ignore[index]


def test_with_jobs_it_listens_on_loopback_only_and_ray_wants_its_token(real: Any) -> None:
    spec = importlib.util.spec_from_file_location("of_test_serve", Path(__file__).with_name("test_serve.py"))
    assert spec is not None and spec.loader is not None
    of_serve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(of_serve)
    listening = of_serve.addresses_of(real.process.pid)
    assert len(listening) > 5 and {host for host, _ in listening} == {"127.0.0.1"}
    taken = set()
    for _, port in listening:
        try:
            answer = httpx2.get(f"http://127.0.0.1:{port}/api/jobs/", timeout=2, trust_env=False)
        except httpx2.HTTPError:
            continue  # it speaks no HTTP
        taken.add(answer.status_code)
        submitted = httpx2.post(
            f"http://127.0.0.1:{port}/api/jobs/", json={"entrypoint": "true"}, timeout=2, trust_env=False
        )
        assert submitted.status_code in (401, 403, 404, 405), (port, submitted.text)
    assert 401 in taken  # the job server is among them
