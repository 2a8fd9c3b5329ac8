"""Does a search fail while the service is disturbed? Clients of the SDK with its usual retries; every failure is counted.

    python benchmarks/steady.py --store demo-output/store --collection rfam --out steady.json

Three times over one service (`--replicas 1 --max-replicas 2 --cpus 1`): a replica is killed (SIGKILL) every ten seconds;
the collection is added to, taken from, compacted and indexed all the time; clients come and go, 1 to 128 and back, and
the replicas with them. The collection is copied first. Switching to another model is in `tests/test_switch.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import tyro

from unirna import sdk, vectorstore

HERE = Path(__file__).resolve().parent
URL = "http://127.0.0.1:20102"


@dataclass(frozen=True)
class Config:
    """Disturb the service."""

    store: str
    """A store."""
    collection: str
    """A collection in it."""
    seconds: float = 120.0
    """Of each disturbance."""
    every: float = 10.0
    """Seconds between two kills."""
    clients: int = 8
    """At once, while replicas are killed and rows change."""
    most: int = 128
    """Clients at the top of the ramp."""
    out: str = ""
    """A JSON file for the results."""


@dataclass
class Result:
    """What came of one disturbance: searches answered and failed, seconds of the slowest, and what was done meanwhile."""

    what: str
    answered: int = 0
    failed: int = 0
    slowest: float = 0.0
    done: int = 0
    replicas: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def main(config: Config) -> None:
    """Disturb it in three ways, print."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        rows = vectorstore.copy(config.store, config.collection, store, "c")
        queries = [row["sequence"] for row in next(vectorstore.open(store, "c").scan(batch_rows=500)).to_pylist()]
        print(f"{rows:,} rows", flush=True)
        results = []
        with service(store, Path(folder) / "log.txt"):
            for disturb in (killed, changed, ramp):
                results.append(disturb(config, store, queries))
                print(results[-1], flush=True)
    if config.out:
        Path(config.out).write_text(
            json.dumps({"rows": rows, "results": [asdict(r) for r in results]}, indent=1) + "\n", encoding="utf-8"
        )


def killed(config: Config, store: str, queries: list[str]) -> Result:
    """A replica at a time is killed."""
    result = Result("a replica killed")

    def kill() -> None:
        for pid in replicas()[:1]:
            os.kill(pid, signal.SIGKILL)
            result.done += 1

    with repeated(kill, config.every):
        asyncio.run(load(queries, [(config.clients, config.seconds)], result))
    return result


def changed(config: Config, store: str, queries: list[str]) -> Result:
    """Rows come and go, and the index is rebuilt."""
    result = Result("rows added and removed, compacted, indexed")
    collection = vectorstore.open(store, "c")
    first = next(collection.scan(columns=["sequence", "vector"], batch_rows=200))
    names = pa.array([f"new {i}" for i in range(len(first))])
    rows = pa.table({"id": names, "sequence": first["sequence"], "vector": first["vector"]})
    fingerprint = collection.provenance.fingerprint

    def change() -> None:
        vectorstore.upsert(store, "c", rows, fingerprint=fingerprint)
        vectorstore.build_index(store, "c", kind="ivf_flat", min_recall=0.0)
        vectorstore.delete(store, "c", "id LIKE 'new %'")
        vectorstore.compact(store, "c")
        result.done += 1

    with repeated(change, 0.5):
        asyncio.run(load(queries, [(config.clients, config.seconds)], result))
    return result


def ramp(config: Config, store: str, queries: list[str]) -> Result:
    """Clients come and go; the replicas follow."""
    result = Result("load up and down")
    steps = [1, max(1, config.most // 8), config.most, max(1, config.most // 8), 1]
    with repeated(lambda: result.replicas.append(len(replicas())), 1.0):
        asyncio.run(load(queries, [(clients, config.seconds / len(steps)) for clients in steps], result))
    result.replicas = [n for i, n in enumerate(result.replicas) if not i or n != result.replicas[i - 1]]
    return result


async def load(queries: list[str], steps: list[tuple[int, float]], result: Result) -> None:
    """So many clients for so many seconds, step by step."""
    number = iter(range(10**9))
    async with sdk.connect_async(URL, progress=False) as client:

        async def ask(until: float) -> None:
            while (started := time.monotonic()) < until:
                try:
                    found = await client.search(similar_to=queries[next(number) % len(queries)], k=5)
                    result.answered += len(found) == 5
                    result.failed += len(found) != 5
                except sdk.UniRNAError as error:
                    result.failed += 1
                    result.errors = [*result.errors[:4], str(error)]
                result.slowest = max(result.slowest, time.monotonic() - started)

        for clients, seconds in steps:
            end = time.monotonic() + seconds
            await asyncio.gather(*(ask(end) for _ in range(clients)))


@contextmanager
def repeated(what: Callable[[], Any], pause: float) -> Iterator[None]:
    """Do something over and over, with pauses, in a thread."""
    stop = threading.Event()
    failed: list[Exception] = []

    def run() -> None:
        try:
            while not stop.wait(pause):
                what()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]


def replicas() -> list[int]:
    """Process ids of this service's replicas: those that this process, or one that it started, started."""
    parents, found = {}, []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit():
                parents[int(folder.name)] = int((folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
                if (folder / "cmdline").read_bytes().startswith(b"ray::ServeReplica:unirna"):
                    found.append(int(folder.name))
        except OSError:
            continue

    def ours(pid: int) -> bool:
        return pid == os.getpid() or (pid > 1 and ours(parents.get(pid, 0)))

    return [pid for pid in found if ours(pid)]


@contextmanager
def service(store: str, log: Path) -> Iterator[None]:
    """The service, until the body ends."""
    flags = ["--replicas", "1", "--max-replicas", "2", "--cpus", "1", "--port", URL.rpartition(":")[2]]
    command = [sys.executable, str(HERE.parent / "jobs" / "serve.py"), "--store", store, *flags]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("UNIRNA_", "RAY_"))}
    with log.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                if httpx2.get(f"{URL}/readyz", trust_env=False).status_code == 200:
                    break
            except httpx2.HTTPError:
                pass
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(log.read_text(encoding="utf-8"))
            time.sleep(0.3)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
