"""Vectors, sequences and labels written to files: whole or not at all, the same from a store and from a service."""

from __future__ import annotations

import csv
import datetime as dt
import errno
import json
import os
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from tests.test_serve import KEY, running
from unirna import sdk, vectorstore
from unirna.sdk import _cli, _export
from unirna.sdk._export import exporting
from unirna.sdk._export_format import Content, Rows
from unirna.serve.engine import catalogue
from unirna.serve.engine.engine import Engine
from unirna.serve.settings import Settings

D, N = 8, 1_000
NEEDS_H5PY = pytest.mark.skipif(find_spec("h5py") is None, reason="needs h5py (unirna[h5ad])")
LABELS: dict[str, pa.Array] = {
    "family": pa.array([("tRNA", '5S, "odd"\nfamily', None, "")[i % 4] for i in range(N)]),
    "score": pa.array([(0.5, None, float("nan"))[i % 3] for i in range(N)], pa.float32()),
    "count": pa.array([None if i % 5 == 0 else i for i in range(N)], pa.int64()),
    "big": pa.array([2**63 + i for i in range(N)], pa.uint64()),
    "true": pa.array([(True, False, None)[i % 3] for i in range(N)]),
    "day": pa.array([dt.date(2020, 1, 1 + i % 28) for i in range(N)]),
    "tags": pa.array([["a", "b"][: i % 3] for i in range(N)], pa.list_(pa.string())),
    "a/b": pa.array(["x"] * N),
}
IDS = [f"r{i}|é" for i in range(N)]


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)


@pytest.fixture(scope="module")
def store(vectors: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("export"))
    labels = pa.schema([(name, column.type) for name, column in LABELS.items()])
    schema = vectorstore.collection_schema(D, labels, vectorstore.Provenance("nano", "feed"))
    own = [
        IDS,
        ["ACGU" * (1 + i % 9) for i in range(N)],
        pa.array([4 * (1 + i % 9) for i in range(N)], pa.int32()),
        ["x"] * N,
    ]
    table = pa.table([*own, vectorstore.vector_array(vectors), *LABELS.values()], schema=schema)
    vectorstore.append_rows(uri, "c", table, key="k")
    return uri


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written in several parts, the last one short."""
    monkeypatch.setattr("unirna.sdk._collections.ROWS_AT_ONCE", 300)
    monkeypatch.setattr(_export, "IDS_AT_ONCE", 70)


def export(store: str, out: Path, *flags: str, code: int = 0) -> None:
    assert _cli.main(["collections", "export", "c", "--store", store, "--out", str(out), *flags]) == code


def test_arrays(store: str, vectors: NDArray[np.float32], tmp_path: Path) -> None:
    export(store, tmp_path / "x.npy")
    found = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert found.dtype == np.float32 and np.array_equal(found, vectors)
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == IDS
    export(store, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as archive:
        assert archive["ids"].tolist() == IDS and np.array_equal(archive["vectors"], vectors)
    export(store, tmp_path / "none.npz", "--where", "length < 0")
    with np.load(tmp_path / "none.npz") as archive:
        assert archive["ids"].shape == (0,) and archive["vectors"].shape == (0, D)


def test_parquet_keeps_all_types(store: str, vectors: NDArray[np.float32], tmp_path: Path) -> None:
    export(store, tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    assert table["id"].to_pylist() == IDS
    for name, column in LABELS.items():
        assert table[name].type == column.type and str(table[name].to_pylist()) == str(column.to_pylist())
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    assert np.array_equal(flat.reshape(N, D), vectors)
    assert table.schema.metadata[b"unirna.model"] == b"nano" and table.schema.metadata[b"unirna.fingerprint"] == b"feed"


def test_text(store: str, tmp_path: Path) -> None:
    export(store, tmp_path / "x.csv", "--where", '"count" IN (1, 2, 3)')
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == IDS[1:4]
    assert rows[0] == {
        "id": IDS[1],
        "sequence": "ACGUACGU",
        "length": "8",
        "family": '5S, "odd"\nfamily',
        "score": "",
        "count": "1",
        "big": str(2**63 + 1),
        "true": "false",
        "day": "2020-01-02",
        "tags": '["a"]',
        "a/b": "x",
    }
    export(store, tmp_path / "x.fasta", "--where", "count <= 2")
    assert (tmp_path / "x.fasta").read_text() == (
        f'>{IDS[1]} [family=5S, "odd" family] [count=1] [big={2**63 + 1}] [true=false] [day=2020-01-02] '
        f'[tags=["a"]] [a/b=x]\n'
        f"ACGUACGU\n"
        f'>{IDS[2]} [count=2] [big={2**63 + 2}] [day=2020-01-03] [tags=["a", "b"]] [a/b=x]\n'
        f"ACGUACGUACGU\n"
    )
    assert [name for name, _ in sdk.read_fasta(tmp_path / "x.fasta")] == IDS[1:3]


@NEEDS_H5PY
def test_h5ad(store: str, vectors: NDArray[np.float32], tmp_path: Path) -> None:
    import h5py

    export(store, tmp_path / "x.h5ad")
    with h5py.File(tmp_path / "x.h5ad") as file:
        assert file.attrs["encoding-type"] == "anndata" and np.array_equal(file["X"][:], vectors)
        obs = file["obs"]
        assert [name.decode() for name in obs["_index"][:]] == IDS
        assert obs["big"][:].tolist() == LABELS["big"].to_pylist()
        count = obs["count"]
        assert count.attrs["encoding-type"] == "nullable-integer"
        assert [None if m else v for v, m in zip(count["values"][:].tolist(), count["mask"][:], strict=True)] == LABELS[
            "count"
        ].to_pylist()
        codes, names = obs["family"]["codes"][:], [name.decode() for name in obs["family"]["categories"][:]]
        wanted = [value or None for value in LABELS["family"].to_pylist()]
        assert [None if code < 0 else names[code] for code in codes] == wanted
        assert file["uns/unirna/model"][()] == b"nano"
    warnings.simplefilter("ignore")  # of anndata about the newest pandas
    anndata = pytest.importorskip("anndata")
    read = anndata.read_h5ad(tmp_path / "x.h5ad")
    assert read.shape == (N, D) and list(read.obs_names) == IDS and np.array_equal(read.X, vectors)
    assert list(read.obs.columns) == ["sequence", "length", *("a_b" if name == "a/b" else name for name in LABELS)]
    assert read.obs["count"].isna().sum() == LABELS["count"].null_count and read.uns["unirna"]["fingerprint"] == "feed"


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.parquet", "x.csv", "x.fa", pytest.param("x.h5ad", marks=NEEDS_H5PY)])
def test_a_file_is_whole_or_absent_and_never_replaced_unasked(
    store: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = pa.schema([("label", pa.int64())])
    content = Content(D, labels, sequences=True)
    rows = Rows(["a"], np.ones((1, D), np.float32), ["ACGU"], {"label": pa.array([1])})
    with pytest.raises(RuntimeError), exporting(tmp_path / name, content, _export.OF_ROWS) as writer:
        writer.write(rows)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with exporting(tmp_path / name, content, _export.OF_ROWS) as writer:
        writer.write(rows)
    before = (tmp_path / name).read_bytes()
    export(store, tmp_path / name, code=2)
    assert "--force" in capsys.readouterr().err and (tmp_path / name).read_bytes() == before
    export(store, tmp_path / name, "--force")
    assert (tmp_path / name).read_bytes() != before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_full_disk_is_told_with_the_file_and_leaves_nothing(tmp_path: Path) -> None:
    rows = Rows(["a"], np.ones((1, D), np.float32), ["ACGU"], {})
    with (
        pytest.raises(OSError, match=r"No space left.*Make room.*x\.npy"),
        exporting(tmp_path / "x.npy", Content(D, pa.schema([])), _export.OF_ROWS) as writer,
    ):
        writer.write(rows)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_said_before_any_work(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, says in (("x.txt", "ends in .npy"), ("nowhere/x.npy", "no folder"), ("x", "ends in .npy")):
        export(store, tmp_path / name, code=2)
        assert says in capsys.readouterr().err
    (tmp_path / "x.csv").write_text("mine")
    export(store, tmp_path / "x.npy", code=2)  # the rows would stand there
    assert "x.csv is there already" in capsys.readouterr().err and (tmp_path / "x.csv").read_text() == "mine"
    export(store, tmp_path / "y.csv", "--where", "famly = 1", code=2)
    export(store, tmp_path / "y.csv", "--version", "77", code=2)
    assert not (tmp_path / "y.csv").exists()
    schema = vectorstore.collection_schema(D, pa.schema([]), vectorstore.Provenance("nano", "feed"))
    row = [["a b"], ["ACGU"], pa.array([4], pa.int32()), ["x"], vectorstore.vector_array(np.ones((1, D), np.float32))]
    vectorstore.append_rows(str(tmp_path), "c", pa.table(row, schema=schema), key="k")
    export(str(tmp_path), tmp_path / "z.fasta", code=2)
    assert "'a b'" in capsys.readouterr().err and not (tmp_path / "z.fasta").exists()


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    import tracemalloc

    content, most = Content(256), []
    for parts in (4, 40):
        tracemalloc.start()
        with exporting(tmp_path / f"{parts}.npz", content, _export.OF_VECTORS) as writer:
            for part in range(parts):
                writer.write(Rows([f"{part}-{i}" for i in range(500)], np.ones((500, 256), np.float32)))
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert most[1] < 1.5 * most[0]


def test_embed_writes_each_format(library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cli, "EMBEDDED", 3)
    fasta = tmp_path / "in.fa"
    records = [(row["id"], row["sequence"]) for row in library.rows[:7]]
    fasta.write_text("".join(f">{name}\n{letters}\n" for name, letters in records))
    source = ["--store", library.store, "--model", library.model]
    wanted = sdk.connect(library.store, model=library.model).embed([letters for _, letters in records])
    for ending in ("npy", "npz", "parquet"):
        assert _cli.main(["embed", str(fasta), "--out", str(tmp_path / f"v.{ending}"), *source]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), wanted, atol=1e-5)
    assert (tmp_path / "v.csv").read_text().splitlines() == ["id", *(name for name, _ in records)]
    with np.load(tmp_path / "v.npz") as archive:
        np.testing.assert_allclose(archive["vectors"], wanted, atol=1e-5)
        assert archive["ids"].tolist() == [name for name, _ in records]
    table = pq.read_table(tmp_path / "v.parquet")
    assert table.column_names == ["id", "vector"] and table["id"].to_pylist() == [name for name, _ in records]


def test_a_service_gives_what_the_store_gives(
    library: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine.open(library.store, library.model, library.registry)
    monkeypatch.setattr(catalogue, "EXPORTED_AT_ONCE", 7)
    monkeypatch.setenv("UNIRNA_API_KEY", KEY)
    with running(engine, Settings(store=library.store), KEY) as http:
        _compare(library, tmp_path, capsys, str(http.base_url).rstrip("/"))


def _compare(library: Any, tmp_path: Path, capsys: Any, url: str) -> None:
    where = ["--where", '"length" < 90']
    for name, source in (("near", ["--store", library.store]), ("far", ["--url", url])):
        command = ["collections", "export", "rfam", "--out", str(tmp_path / f"{name}.parquet"), *where, *source]
        assert _cli.main(command) == 0
    near, far = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("near", "far"))
    assert near.equals(far, check_metadata=True) and 0 < near.num_rows < len(library.rows)
    for command, says in (
        (["rfam", "--where", "famly = 1"], "famly"),
        (["nothing"], "nothing"),
        (["rfam", "--version", "1"], "--store"),
    ):
        out = tmp_path / "bad.csv"
        assert _cli.main(["collections", "export", *command, "--out", str(out), "--url", url]) == 2
        assert says in capsys.readouterr().err and not out.exists()
    assert json.loads(near.schema.metadata[b"unirna.layer"]) == -1
