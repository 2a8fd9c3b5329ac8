"""A real head node with token authentication on loopback, and jobs that are submitted to it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import free_ports

ROOT = Path(__file__).resolve().parent.parent
RAY = Path(sys.executable).with_name("ray")

pytestmark = pytest.mark.cluster


@dataclass
class Head:
    """A running head node: the address of its job server and the environment that its clients need."""

    address: str
    env: dict[str, str]
    folder: Path

    def submit(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        submit = [str(RAY), "job", "submit", "--address", self.address, "--working-dir", str(ROOT)]
        submit += ["--runtime-env", str(ROOT / "jobs" / "runtime_env.yaml"), "--", *command]
        return subprocess.run(submit, cwd=ROOT, env=self.env | env, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="rayhead"))  # short: sockets live below it
    (folder / "token").write_text("f" * 64)
    gcs, dashboard, agent, agent_grpc, client = free_ports(5)
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {
        "PATH": f"{RAY.parent}:{env['PATH']}",  # a job's `python` comes from PATH
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [str(RAY), "start", "--head", "--block", "--node-ip-address", "127.0.0.1", "--port", str(gcs)]
    command += ["--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)]
    command += ["--dashboard-agent-listen-port", str(agent), "--dashboard-agent-grpc-port", str(agent_grpc)]
    command += ["--ray-client-server-port", str(client), "--num-cpus", "2", "--object-store-memory", str(256 << 20)]
    command += ["--temp-dir", str(folder / "ray")]
    log = (folder / "head.log").open("w")
    process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", dashboard)):
                    break
            assert process.poll() is None, (folder / "head.log").read_text()
            time.sleep(0.3)
        else:
            pytest.fail((folder / "head.log").read_text())
        yield Head(f"http://127.0.0.1:{dashboard}", env, folder)
    finally:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
        for pid in _processes_of(str(folder)):  # drivers of jobs outlive their cluster for a while
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def last_json(text: str) -> dict:
    return json.loads(next(line for line in reversed(text.splitlines()) if line.startswith("{")))


@pytest.mark.slow
def test_pretrain_then_embed_through_job_submit(head: Head, rfam_sample: Path, tmp_path: Path) -> None:
    from unirna import model, vectorstore

    options = ["--steps", "4", "--batch-tokens", "2048", "--micro-tokens", "1024", "--log-every", "2"]
    run = tmp_path / "run"
    trained = head.submit(
        "python", "jobs/pretrain.py", "--data", str(rfam_sample), "--workers", "2", "--out", str(run), *options
    )
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert last_json(trained.stdout)["steps"] == 4
    assert "step      4/4" in trained.stdout + trained.stderr
    assert model.load(run / "model").config.hidden_size == 128

    library = tmp_path / "library.fasta"
    library.write_text(">a first\nGGGAAACCC\n>b\nAC-GU\n>c\nacgtacgt\n")
    store = tmp_path / "store"
    options = ["--collection", "library", "--store", str(store), "--model", str(run / "model")]
    embedded = head.submit("python", "jobs/embed.py", str(library), *options)
    assert embedded.returncode == 0, embedded.stdout + embedded.stderr
    summary = last_json(embedded.stdout)
    assert (summary["read"], summary["stored"], summary["rejected"]) == (3, 2, 1)
    collection = vectorstore.open(str(store), "library")
    assert collection.info.num_rows == 2
    assert collection.provenance.fingerprint == model.load(run / "model").fingerprint

    named = head.submit("python", "jobs/embed.py", str(library), "--collection", "named", "--store", str(store))
    assert named.returncode == 0, named.stdout + named.stderr  # the shipped weights travel with the job
    assert vectorstore.open(str(store), "named").provenance.fingerprint == model.load("unirna-mini").fingerprint


@pytest.mark.slow
def test_a_client_without_the_token_is_refused(head: Head) -> None:
    (head.folder / "wrong").write_text("0" * 64)
    answer = head.submit("python", "-c", "print('in')", RAY_AUTH_TOKEN_PATH=str(head.folder / "wrong"))
    assert answer.returncode != 0
    assert "in\n" not in answer.stdout


def test_everything_listens_on_loopback(head: Head) -> None:
    if not shutil.which("ss"):
        pytest.skip("needs ss")
    listing = subprocess.run(["ss", "-ltnp"], capture_output=True, text=True, check=True).stdout
    pids = {f"pid={pid}," for pid in _processes_of(str(head.folder))}
    ours = [line.split()[3] for line in listing.splitlines()[1:] if any(pid in line for pid in pids)]
    assert ours, "no listening socket of the head node was found"
    outside = [address for address in ours if not address.startswith(("127.0.0.1:", "[::1]:", "[::ffff:127.0.0.1]:"))]
    assert not outside


def _processes_of(folder: str) -> set[int]:
    """Processes whose command line or environment names a folder."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            text = b" ".join((process / name).read_bytes() for name in ("cmdline", "environ"))
            if folder.encode() in text and int(process.name) != os.getpid():
                found.add(int(process.name))
    return found
