"""The embedding job, killed at random moments: its driver, a worker, a whole machine. No row is lost, none is doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirna import vectorstore
from unirna.embed import EmbedConfig, embed_collection, job

ROOT = Path(__file__).resolve().parent.parent
KILLS = int(os.environ.get("UNIRNA_KILLS", "20"))
"""Random moments in all."""
SMALL = {"cpu": (1e9, 4e9), "cuda": (1e9, 4e9)}
"""Work of a chunk, so small that there are many."""

DRIVER = f"""
import sys
from unirna.embed import EmbedConfig, embed_collection, job
from unirna.job import run_job
job.CHUNK_FLOPS = {SMALL}
sys.exit(run_job(lambda: embed_collection(EmbedConfig((sys.argv[1],), "c", sys.argv[2], sys.argv[3]))))
"""

MACHINES = f"""
import os, random, sys, threading, time
import ray
from ray.cluster_utils import Cluster
seed = int(sys.argv[4])
cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 0}})
ray.init(address=cluster.address, log_to_driver=False)
nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
from unirna.embed import EmbedConfig, embed_collection, job
job.CHUNK_FLOPS = {SMALL}
draw = random.Random(seed)
def lose():
    time.sleep(draw.uniform(1, 12))
    cluster.remove_node(draw.choice(nodes), allow_graceful=False)
    print("lost a machine", flush=True)
losing = threading.Thread(target=lose, daemon=True)
losing.start()
embed_collection(EmbedConfig((sys.argv[1],), "c", sys.argv[2], sys.argv[3], workers=2))
print("the job is done", flush=True)
losing.join()
ray.shutdown()
cluster.shutdown()
os._exit(0)  # the cluster's own handlers would exit with 1, for a node of theirs is gone
"""


@pytest.fixture(scope="module")
def source(rfam_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 records, a third of them with the sequence of another."""
    rows = pq.read_table(rfam_sample, columns=["id", "sequence"]).slice(0, 400)
    twice = pa.table({"id": [f"{i}-again" for i in rows["id"][:200].to_pylist()], "sequence": rows["sequence"][:200]})
    path = tmp_path_factory.mktemp("source") / "rows.parquet"
    pq.write_table(pa.concat_tables([rows, twice.cast(rows.schema)]), path)
    return path


def rows_of(store: Path) -> dict[str, tuple[str, bytes]]:
    rows = pa.Table.from_batches(vectorstore.open(str(store), "c").scan(["id", "sequence", "vector"])).to_pylist()
    assert len({row["id"] for row in rows}) == len(rows), "a row is there twice"
    return {row["id"]: (row["sequence"], np.float32(row["vector"]).tobytes()) for row in rows}


@pytest.fixture(scope="module")
def undisturbed(
    ray_cluster: None, source: Path, nano_model_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, bytes]]:
    """Rows of a run that nobody disturbed."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    embed_collection(EmbedConfig((str(source),), "c", str(store), str(nano_model_path)))
    return rows_of(store)


def check(store: Path, undisturbed: dict[str, tuple[str, bytes]]) -> None:
    rows = rows_of(store)
    assert rows.keys() == undisturbed.keys()
    assert all(rows[name][0] == undisturbed[name][0] for name in rows)
    vectors, wanted = (np.stack([np.frombuffer(of[n][1], np.float32) for n in rows]) for of in (rows, undisturbed))
    np.testing.assert_allclose(vectors, wanted, atol=1e-5)


def start(script: str, *arguments: object, log: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    with log.open("a") as sink:
        return subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(max(1, KILLS * 6 // 20)))
def test_the_driver_killed_at_a_random_moment(
    undisturbed: dict[str, tuple[str, bytes]], source: Path, nano_model_path: Path, tmp_path: Path, seed: int
) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    killed = start(DRIVER, source, store, nano_model_path, log=log)
    draw, limit = random.Random(seed), time.monotonic() + 120
    if seed % 2:  # amid the embedding, which takes a small part of the time
        chunks = draw.randint(1, 30)
        while len(list(store.glob("_unirna/c/*/records/*.parquet"))) < chunks and killed.poll() is None:
            assert time.monotonic() < limit, log.read_text()
            time.sleep(0.02)
    else:
        time.sleep(draw.uniform(2, 12))
    killed.kill()
    killed.wait(60)
    finished = start(DRIVER, source, store, nano_model_path, log=log)  # at once, while the killed one's workers still end
    assert finished.wait(240) == 0, log.read_text()
    check(store, undisturbed)


def workers() -> list[int]:
    """Processes of this session's actors that hold a model."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                title = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::") and b"MapBatches(Embedder)" in title:
                found.append(int(folder.name))
    return found


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(job, "CHUNK_FLOPS", SMALL)
    yield


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 6 + max(1, KILLS // 2)))
def test_a_worker_killed_at_a_random_moment(
    undisturbed: dict[str, tuple[str, bytes]],
    small_chunks: None,
    source: Path,
    nano_model_path: Path,
    tmp_path: Path,
    seed: int,
) -> None:
    store, killed = tmp_path / "store", list[int]()
    draw = random.Random(seed)

    def kill() -> None:
        limit = time.monotonic() + 60
        while not (there := workers()) and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 1.5))
        killed.append(draw.choice(workers() or there))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    summary = embed_collection(EmbedConfig((str(source),), "c", str(store), str(nano_model_path)))
    thread.join()
    assert killed and summary["stored"] == len(undisturbed)
    check(store, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(16, 16 + max(1, KILLS // 5)))
def test_a_machine_lost_at_a_random_moment(
    undisturbed: dict[str, tuple[str, bytes]], source: Path, nano_model_path: Path, tmp_path: Path, seed: int
) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    process = start(MACHINES, source, store, nano_model_path, seed, log=log)
    assert process.wait(240) == 0, log.read_text()
    assert "lost a machine" in log.read_text()
    check(store, undisturbed)
