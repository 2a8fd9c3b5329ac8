"""Kinds of search against each other on one collection of real vectors: recall@10, milliseconds a query, time to build.

    python benchmarks/search.py --sequences ../shared/data/silva93_rrna/rrna_named.parquet --id-column accession
    python benchmarks/search.py --sequences rrna.fasta.gz --rows 1000000 --model runs/demo/model --kinds memory hnsw ivf_sq
    python benchmarks/search_page.py a.json b.json   # what --out wrote, as docs/indexes.md with its plot

Windows of the sequences, 60 to 200 nucleotides each, are embedded into a collection (once: the store is kept, and a run
that was stopped goes on) until there are enough rows; 1,000 more, which are not stored, are the queries. Each is asked
alone, one after the other. Recall is by similarity: of several equally near rows each is as good as the other. faiss
stands beside it, on the same vectors, where it is installed (`pip install faiss-cpu`), with as many threads; it holds
vectors alone and returns no rows. Indexes are built by a process of their own, whose memory at its peak is given; `curve`
is recall and time at other efforts of a search.
"""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import tyro
from numpy.typing import NDArray
from read import peak_megabytes
from rich.console import Console
from rich.table import Table

from unirna import model, vectorstore
from unirna.job import num_cpus
from unirna.sequence import SequenceError, normalise, read, sequence_sha
from unirna.vectorstore.schema import Index
from unirna.vectorstore.vector_cache import VECTOR_CACHE

Vectors = NDArray[np.float32]
K = 10
CHUNK = 10_000
"""Rows that are embedded and committed at once."""
RARE = "one_in_100"
"""A label that 1 % of the rows have."""
EFFORTS = (0.25, 0.5, 1, 2, 4, 8)
"""Of a search through an index, times the kind's first settings: points of its curve."""
CURVE_QUERIES = 200
MIN_RECALL = 0.98


@dataclass(frozen=True)
class Config:
    """Compare kinds of search."""

    sequences: str
    """A file of RNA sequences to cut into windows."""
    id_column: str = "id"
    """Of a table: any column of text."""
    rows: int = 200_000
    """Rows of the collection."""
    queries: int = 1_000
    """Queries that are asked."""
    model: str = "unirna-mini"
    """Shipped name or folder of the model."""
    store: str = "runs/search-store"
    """Where the collection is kept from one run to the next."""
    kinds: tuple[str, ...] = ("memory", "store", *vectorstore.KINDS, "faiss flat", "faiss hnsw")
    """Which ones: memory and store are exact."""
    out: str = ""
    """A JSON file for the results."""


def main(config: Config) -> None:
    """Embed if need be, measure each kind, print."""
    torch.set_num_threads(num_cpus())
    torch.set_flush_denormal(True)
    encoder = model.load(config.model)
    name = f"windows-{Path(config.sequences).name.partition('.')[0]}-{config.queries}-{config.rows}-{encoder.fingerprint}"
    asked = Path(config.store) / f"{name}.npy"
    if not asked.exists():  # written last
        _fill(config, encoder, name, asked)
    queries: Vectors = np.load(asked)[: config.queries]
    collection = vectorstore.open(config.store, name)
    VECTOR_CACHE.budget = 1 << 40
    truth = {where: _last(collection, queries, where) for where in (None, f"{RARE} = true")}
    results: dict[str, dict[str, Any]] = {}
    for kind in config.kinds:
        gc.collect()
        results[kind] = (
            _faiss(kind, collection, queries, truth[None]) if "faiss" in kind else _ours(kind, collection, queries, truth)
        )
        print(f"{kind}: {results[kind]}", flush=True)
    show(config, results, collection, encoder)
    if config.out:
        Path(config.out).write_text(
            json.dumps(
                {
                    "rows": config.rows,
                    "model": encoder.name,
                    "fingerprint": encoder.fingerprint,
                    "dimension": encoder.dimension,
                    "queries": config.queries,
                    "cores": num_cpus(),
                    "sequences": Path(config.sequences).name,
                    "results": results,
                },
                indent=1,
            )
            + "\n",
            encoding="utf-8",
        )


def windows(path: str, id_column: str, random: np.random.Generator) -> Iterator[str]:
    """Windows of a file's sequences, 60 to 200 nucleotides at random places, round after round."""
    while True:
        for record in read(path, id_column=id_column):
            try:
                letters = normalise(record.sequence or "")
            except SequenceError:
                continue
            for _ in range(max(1, len(letters) // 1000)):
                size = min(len(letters), int(random.integers(60, 201)))
                start = int(random.integers(len(letters) - size + 1))
                yield letters[start : start + size]


def _fill(config: Config, encoder: model.Model, name: str, asked: Path) -> None:
    """Embed the windows, then the queries, which are drawn first; what an earlier run has committed is kept."""
    drawn = windows(config.sequences, config.id_column, np.random.default_rng(0))
    queries = list(islice(drawn, config.queries))
    labels = pa.schema([(RARE, pa.bool_())])
    provenance = vectorstore.Provenance(encoder.name, encoder.fingerprint)
    schema = vectorstore.collection_schema(encoder.dimension, labels, provenance)
    there = len(vectorstore.open(config.store, name)) if vectorstore.exists(config.store, name) else 0
    started = time.monotonic()
    for first in range(0, config.rows, CHUNK):
        sequences = list(islice(drawn, min(CHUNK, config.rows - first)))
        done = first + len(sequences)
        if done <= there:
            continue
        columns = [
            pa.array([f"w{first + i:08d}" for i in range(len(sequences))]),
            pa.array(sequences),
            pa.array([len(text) for text in sequences], pa.int32()),
            pa.array([sequence_sha(text) for text in sequences]),
            vectorstore.vector_array(encoder.embed(sequences)),
            pa.array(np.random.default_rng(done).random(len(sequences)) < 0.01),
        ]
        files = vectorstore.write_rows(config.store, name, iter([pa.record_batch(columns, schema=schema)]), schema)
        version = vectorstore.table_version(config.store, name) if first else 0
        vectorstore.commit(config.store, name, schema, files, key=f"rows-{first}", read_version=version)
        rate = (done - there) / (time.monotonic() - started)
        print(f"embedded {done:,} of {config.rows:,}, {rate:,.0f}/s", flush=True)
    vectorstore.compact(config.store, name)
    with tempfile.NamedTemporaryFile(dir=asked.parent, suffix=".npy", delete=False) as file:
        np.save(file, encoder.embed(queries))
    Path(file.name).rename(asked)


def _last(collection: vectorstore.Collection, queries: Vectors, where: str | None) -> Vectors:
    """Similarity of the 10th nearest row to each query, by exact search: float32 [Q]."""
    found = collection.search(queries, k=K, where=where, columns=["id"], exact=True)
    last: Vectors = found["similarity"].to_numpy().reshape(len(queries), K)[:, -1]
    return last


def _timed(ask: Callable[[int], Vectors], last: Vectors) -> dict[str, float]:
    """Recall and times of a search, asked for one query after the other."""
    times: list[float] = []
    hits = 0
    for i in range(min(20, len(last))):  # warm
        ask(i)
    for i in range(len(last)):
        started = time.perf_counter()
        similarities = ask(i)
        times.append(1e3 * (time.perf_counter() - started))
        hits += int((similarities >= last[i] - 1e-5).sum())
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    return {"recall": hits / (K * len(last)), "p50": p50, "p99": p99}


def _ours(
    kind: str, collection: vectorstore.Collection, queries: Vectors, truth: dict[str | None, Vectors]
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    exact = kind in ("memory", "store")
    VECTOR_CACHE.budget = 1 << 40 if kind == "memory" else 0
    if exact:
        started = time.monotonic()
        collection.search(queries[0], k=K)
        result["build"] = time.monotonic() - started
    else:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            index, megabytes = pool.apply(_build, (collection.uri, collection.name, kind))
        result |= {"build": index.seconds, "build_mb": megabytes}
        result["curve"] = _curve(collection, kind, queries[:CURVE_QUERIES], truth[None][:CURVE_QUERIES])
        if not index.measured:
            vectorstore.drop_index(collection.uri, collection.name)
            return result | {"refused": f"recall below {MIN_RECALL} with 16 times the effort"}
        result |= {"nprobes": index.nprobes, "ef": index.ef, "refine": index.refine}
    for name, (where, last) in zip(("all", "filtered"), truth.items(), strict=True):
        asked = queries if kind != "store" else queries[:50]

        def ask(i: int, where: str | None = where, asked: Vectors = asked) -> Vectors:
            found = collection.search(asked[i], k=K, where=where, exact=exact)
            similarities: Vectors = found["similarity"].to_numpy()
            return similarities

        result[name] = _timed(ask, last[: len(asked)])
    if not exact:
        vectorstore.drop_index(collection.uri, collection.name)
    return result


def _build(uri: str, name: str, kind: str) -> tuple[Index, int]:
    """Build an index, and the most megabytes that this process held; unmeasured where it was refused."""
    try:
        index = vectorstore.build_index(uri, name, kind=kind, min_recall=MIN_RECALL)
    except vectorstore.StoreError as error:
        if "finds" not in str(error):
            raise
        index = vectorstore.build_index(uri, name, kind=kind, min_recall=0)  # for its curve
        index = replace(index, measured=None)
    return index, round(peak_megabytes())


def _curve(collection: vectorstore.Collection, kind: str, queries: Vectors, last: Vectors) -> list[dict[str, float]]:
    """Recall and times at other efforts."""
    points = []
    first = vectorstore.KINDS[kind]
    for effort in EFFORTS:
        settings = replace(
            first,
            nprobes=max(1, round(first.nprobes * (effort if kind != "hnsw" else 1))),
            ef=round(first.ef * effort),
            refine=max(1, round(first.refine * effort)) if first.refine > 1 else 1,
        )

        def ask(i: int, settings: Index = settings) -> Vectors:
            found = collection.search_index(settings, queries[i], k=K, columns=["id", "sequence", "length"])
            similarities: Vectors = found["similarity"].to_numpy()
            return similarities

        points.append({"effort": effort, **_timed(ask, last)})
    return points


def _faiss(kind: str, collection: vectorstore.Collection, queries: Vectors, last: Vectors) -> dict[str, Any]:
    try:
        faiss: Any = importlib.import_module("faiss")
    except ImportError:
        return {"refused": "faiss is not installed"}
    faiss.omp_set_num_threads(num_cpus())
    batches = collection.scan(["vector"])
    rows: Vectors = np.concatenate([b["vector"].flatten().to_numpy().reshape(b.num_rows, -1) for b in batches])
    faiss.normalize_L2(rows)
    asked = np.array(queries)
    faiss.normalize_L2(asked)
    started = time.monotonic()
    if kind == "faiss flat":
        index = faiss.IndexFlatIP(rows.shape[1])
    else:
        index = faiss.IndexHNSWSQ(rows.shape[1], faiss.ScalarQuantizer.QT_8bit, 20, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = 300, 100
        index.train(rows)
    index.add(rows)
    built = time.monotonic() - started

    def ask(i: int) -> Vectors:
        _, places = index.search(asked[i : i + 1], K)
        similarities: Vectors = rows[places[0]] @ asked[i]
        return similarities

    curve = []
    if kind == "faiss hnsw":
        for effort in EFFORTS:
            index.hnsw.efSearch = round(100 * effort)
            curve.append({"effort": effort, **_timed(ask, last[:CURVE_QUERIES])})
        index.hnsw.efSearch = 100
    return {"build": built, "all": _timed(ask, last), "curve": curve}


def show(
    config: Config, results: dict[str, dict[str, Any]], collection: vectorstore.Collection, encoder: model.Model
) -> None:
    """The results as a table."""
    table = Table("kind", "build, s", "recall@10", "p50 / p99, ms", "recall, 1 % pass", "p50 / p99, ms")
    for kind, row in results.items():
        if "refused" in row:
            table.add_row(kind, row["refused"])
            continue
        cells = []
        for part in (row["all"], row.get("filtered")):
            cells += ["", ""] if part is None else [f"{part['recall']:.3f}", f"{part['p50']:.1f} / {part['p99']:.1f}"]
        table.add_row(kind, f"{row['build']:.1f}", *cells)
    Console(width=120).print(table)
    print(
        f"{len(collection):,} rows of {encoder.dimension} numbers by {encoder.name}, {config.queries:,} queries, "
        f"{num_cpus()} cores"
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
