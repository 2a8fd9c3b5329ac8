"""The service under load, beside a plain script: milliseconds of a search and searches a second at 1 to 128 clients.

    python benchmarks/serve.py --store runs/search-store --collection NAME --rows 50000

Queries are windows of the collection's own sequences, each different, k = 10, search by similarity; the model is the one
that made the collection. Both services run on this machine, one after the other, in turns; the clients are one process
beside them, whose time they share. Searches in the same seconds without a service (`direct`) say what the model and the
search alone take. The plain script is `benchmarks/plain_service.py`; it needs faiss-cpu.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import tyro
from rich.console import Console
from rich.table import Table

from unirna import vectorstore

HERE = Path(__file__).resolve().parent
PORTS = {"plain script": 20100, "service": 20101}


@dataclass(frozen=True)
class Config:
    """Measure the service."""

    store: str
    """A store."""
    collection: str
    """A collection in it, of which the first rows are copied for the measurement."""
    rows: int = 50_000
    """How many."""
    clients: tuple[int, ...] = (1, 8, 32, 128)
    """Clients at once."""
    seconds: float = 10.0
    """Of each measurement."""
    rounds: int = 3
    """Turns; the medians of their figures are given."""
    flags: str = ""
    """Further flags of jobs/serve.py, with spaces between them."""
    out: str = ""
    """A JSON file for the results."""


@dataclass(frozen=True)
class Result:
    """One measurement: milliseconds at the median and the 99th percentile, requests a second, and those that failed."""

    who: str
    clients: int
    p50: float
    p99: float
    rate: float
    failed: int


def main(config: Config) -> None:
    """Copy the rows, measure in turns, print."""
    small = f"{config.store}-serve"
    name = f"first-{config.rows}"
    source = vectorstore.open(config.store, config.collection)
    if not vectorstore.exists(small, name):
        batches = source.dataset.to_batches(columns=source.dataset.schema.names, limit=config.rows)
        schema = source.dataset.schema
        files = vectorstore.write_rows(small, name, iter(list(batches)), schema)
        vectorstore.commit(small, name, schema, files, key="rows", read_version=0)
    queries = _queries(source, config.rows)
    direct = _direct(small, name, queries[:300])
    found: list[Result] = []
    for _ in range(config.rounds):
        for who in PORTS:
            process = _start(who, small, name, config.flags)
            try:
                for clients in config.clients:
                    found.append(asyncio.run(_measure(who, clients, queries, config.seconds)))
                    print(found[-1], flush=True)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)
    results = [_median([r for r in found if (r.who, r.clients) == (who, n)]) for who in PORTS for n in config.clients]
    table = Table("", "clients", "p50, ms", "p99, ms", "searches/s", "failed")
    for r in results:
        table.add_row(r.who, str(r.clients), f"{r.p50:.1f}", f"{r.p99:.1f}", f"{r.rate:.0f}", str(r.failed))
    Console(width=100).print(table)
    print(f"direct, one after the other: embedding {direct[0]:.1f} ms, exact search {direct[1]:.1f} ms (medians)")
    if config.out:
        answer = {
            "rows": config.rows,
            "model": source.provenance.model,
            "direct": direct,
            "results": [asdict(r) for r in results],
        }
        Path(config.out).write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")


def _queries(source: vectorstore.Collection, rows: int) -> list[str]:
    table: pa.Table = source.dataset.to_table(columns=["sequence"], limit=rows)
    random = np.random.default_rng(0)
    letters = table["sequence"].to_pylist()
    return [text[int(random.integers(0, 10)) :] for text in random.permutation(np.array(letters, object))[:20_000]]


def _start(who: str, store: str, name: str, flags: str) -> subprocess.Popen[bytes]:
    port = str(PORTS[who])
    if who == "service":
        command = [
            str(HERE.parent / "jobs" / "serve.py"),
            "--store",
            store,
            "--collection",
            name,
            "--port",
            port,
            *flags.split(),
        ]
    else:
        command = [str(HERE / "plain_service.py"), "--store", store, "--collection", name, "--port", port]
    env = {key: value for key, value in os.environ.items() if not key.startswith("UNIRNA_")}
    process = subprocess.Popen([sys.executable, *command], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    path = "/readyz" if who == "service" else "/healthz"
    while time.monotonic() < end:
        try:
            if httpx2.get(f"http://127.0.0.1:{port}{path}", trust_env=False).status_code == 200:
                return process
        except httpx2.HTTPError:
            time.sleep(0.3)
        if process.poll() is not None:
            break
    raise SystemExit(f"{who} did not start: {' '.join(command)}")


async def _measure(who: str, clients: int, queries: list[str], seconds: float) -> Result:
    path = "/v1/search" if who == "service" else "/search"
    times: list[float] = []
    failed = 0
    number = iter(range(10**9))
    async with httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{PORTS[who]}",
        timeout=60,
        trust_env=False,
        limits=httpx2.Limits(max_connections=clients),
    ) as client:

        async def ask(until: float, counted: bool) -> None:
            nonlocal failed
            while (started := time.perf_counter()) < until:
                body = {"similar_to": queries[next(number) % len(queries)], "k": 10}
                answer = await client.post(path, json=body)
                if counted:
                    times.append(1e3 * (time.perf_counter() - started))
                    failed += answer.status_code != 200 or len(answer.json()["hits"]) != 10

        for counted, span in ((False, 2.0), (True, seconds)):
            started = time.perf_counter()
            await asyncio.gather(*(ask(started + span, counted) for _ in range(clients)))
        took = time.perf_counter() - started
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    return Result(who, clients, p50, p99, len(times) / took, failed)


def _median(rounds: list[Result]) -> Result:
    first = rounds[0]
    p50, p99, rate = (statistics.median(getattr(r, name) for r in rounds) for name in ("p50", "p99", "rate"))
    return Result(first.who, first.clients, p50, p99, rate, sum(r.failed for r in rounds))


def _direct(store: str, name: str, queries: list[str]) -> tuple[float, float]:
    """Median milliseconds of an embedding and of an exact search, in this process."""
    import torch

    from unirna import model
    from unirna.job import num_cpus

    torch.set_num_threads(num_cpus())
    rows = vectorstore.open(store, name)
    encoder = model.load(rows.provenance.model)
    times: list[Any] = []
    for text in queries:
        started = time.perf_counter()
        vector = encoder.embed([text])
        between = time.perf_counter()
        rows.search(vector[0], k=10)
        times.append((between - started, time.perf_counter() - between))
    embedding, search = (1e3 * float(x) for x in np.median(np.array(times[20:]), axis=0))
    return embedding, search


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
