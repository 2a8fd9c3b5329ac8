"""Fixtures that the whole session shares: one Ray, one small model, the shipped sample."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.browser import Browser, started_driver

# One thread: small matrices gain little from two, and lose much when another process wants the same cores.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """An embedded Ray with two cores for all tests that need one."""
    from unirna.job import connect_ray

    connect_ray(cpus=2)  # before Ray is imported: it reads its variables then
    import ray

    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def nano_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `nano` checkpoint with random weights."""
    from unirna import model

    return model.initialise("nano", seed=0).save(tmp_path_factory.mktemp("model") / "nano")


@pytest.fixture(scope="session")
def rfam_sample() -> Path:
    """The Rfam sample that the repository ships."""
    return ROOT / "jobs" / "demo" / "rfam_sample.parquet"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and golden outputs that stand beside a developer's checkout; tests that need them skip elsewhere."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the shared data beside the checkout, which is absent")
    return folder


@dataclass(frozen=True)
class Library:
    """What a service needs.

    Attributes:
        store: holds `rfam`, made with `model`, and `other`, made with another model.
        registry: predictors `rna_type` and `gc` (values), which read `model`, and `family`, which has its own encoder.
        rows: of `rfam`, with its columns. heldout: rows of the same families that are not in it.
    """

    store: str
    model: str
    registry: str
    rows: list[dict[str, Any]]
    heldout: list[dict[str, Any]]


@pytest.fixture(scope="session")
def library(nano_model_path: Path, rfam_sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """A small store and registry made from the Rfam sample with random weights."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from unirna import model, vectorstore
    from unirna.sequence import clean_table
    from unirna.tasks import DataConfig, FinetuneConfig, finetune

    folder = tmp_path_factory.mktemp("library")
    table = pq.read_table(rfam_sample)
    names = sorted(set(table["family"].to_pylist()))[:60:6]
    table = table.filter(
        pc.and_(pc.is_in(table["family"], pa.array(names)), pc.less(pc.utf8_length(table["sequence"]), 110))
    )
    table = table.replace_schema_metadata(None).append_column("number", pa.array(range(table.num_rows)))
    good, _ = clean_table(table, "sample")
    train = good.filter(pc.equal(good["split"], "train"))
    models = {"rfam": model.load(nano_model_path), "other": model.initialise("nano", seed=1)}
    models["other"] = model.load(models["other"].save(folder / "other"))
    labels = pa.schema([(name, pa.string()) for name in ("family", "family_name", "rna_type")])
    for name, encoder in models.items():
        rows = train if name == "rfam" else train.slice(0, 5)
        provenance = vectorstore.Provenance(encoder.name, encoder.fingerprint)
        schema = vectorstore.collection_schema(encoder.dimension, labels, provenance)
        vectors = vectorstore.vector_array(encoder.embed(rows["sequence"].to_pylist()))
        columns = [vectors if f.name == "vector" else rows[f.name].cast(f.type) for f in schema]
        vectorstore.append_rows(str(folder / "store"), name, pa.Table.from_arrays(columns, schema=schema), key="test")
    pq.write_table(good.drop_columns(["number"]), folder / "table.parquet")
    for task, encoder in (("rna_type", models["rfam"]), ("family", models["other"])):
        data = DataConfig((str(folder / "table.parquet"),), label_column=task, split_column="split")
        finetune(FinetuneConfig(task, encoder.name, data, str(folder / "registry"), cnn=False))
    letters = good["sequence"].to_pylist()
    shares = pa.array([100 * (text.count("G") + text.count("C")) / len(text) for text in letters])
    pq.write_table(good.drop_columns(["number"]).append_column("gc", shares), folder / "gc.parquet")
    data = DataConfig((str(folder / "gc.parquet"),), label_column="gc", split_column="split", numeric=True)
    finetune(FinetuneConfig("gc", models["rfam"].name, data, str(folder / "registry"), unit="%", cnn=False))
    heldout = good.filter(pc.equal(good["split"], "heldout")).to_pylist()
    return Library(str(folder / "store"), str(nano_model_path), str(folder / "registry"), train.to_pylist(), heldout)


def free_ports(count: int) -> list[int]:
    """Ports of 20000 to 32767, below the range from which the system hands out its own, drawn at random: tests that run
    beside these ones draw too."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(20000, 32767), 1000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")


def free_port() -> int:
    """One of `free_ports`."""
    return free_ports(1)[0]


@dataclass(frozen=True)
class Service:
    """A running `jobs/serve.py`: its address, its process, and the file that its stderr goes to."""

    url: str
    process: subprocess.Popen[str]
    log: Path


@pytest.fixture(scope="session")
def start_service(library: Library) -> Callable[..., Service]:
    """A function that starts `jobs/serve.py` over the library, with further flags, and waits until it is ready."""

    def start(folder: Path, *flags: str) -> Service:
        port, log = free_port(), folder / "stderr.txt"
        command = [sys.executable, str(ROOT / "jobs" / "serve.py"), "--store", library.store, "--model", library.model]
        command += ["--registry", library.registry, "--collection", "rfam", "--port", str(port)]
        command += ["--other-models", "0", *flags]
        env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "UNIRNA_"))}
        with log.open("w") as stderr:
            process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True)
        end = time.monotonic() + 120
        while "ready after" not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        return Service(f"http://127.0.0.1:{port}", process, log)

    return start


@pytest.fixture(scope="session")
def service(start_service: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service on Ray Serve, as `make serve` starts it; it must end cleanly when it is told to."""
    service = start_service(tmp_path_factory.mktemp("service"))
    yield service
    service.process.send_signal(signal.SIGTERM)
    output, _ = service.process.communicate(timeout=60)
    assert service.process.returncode == 0, service.log.read_text()
    assert '"served"' in output


@pytest.fixture(scope="session")
def driver() -> Iterator[str]:
    """A running chromedriver's address."""
    with started_driver() as address:
        yield address


@pytest.fixture(scope="module")
def browser(driver: str) -> Iterator[Browser]:
    """A headless chromium."""
    browser = Browser(driver)
    yield browser
    browser.close()
