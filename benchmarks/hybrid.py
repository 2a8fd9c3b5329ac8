"""Search by vectors, by both vectors and words, and verified by alignment: what each finds, and how fast.

    python benchmarks/hybrid.py --bench ../shared/bench/retrieval_dev --score ../shared/bench/score_retrieval.py

Embeds the benchmark's 22,078 sequences into a collection (once; some minutes), asks its 604 queries and has the hits
scored by the benchmark's own script. On disk: nothing is held in memory, vectors are scanned by LanceDB and words found
by its index. Milliseconds are of one query after the other, embedding it left out, and stated beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
import tyro
from rich.console import Console
from rich.table import Table

from unirna import model, vectorstore
from unirna.job import num_cpus
from unirna.sequence import normalise, sequence_sha
from unirna.vectorstore.memory import BUDGET, MEMORY

HITS = 1000


@dataclass(frozen=True)
class Config:
    """Score kinds of search on a retrieval benchmark."""

    bench: Path
    """Folder with corpus.parquet and queries.parquet."""
    score: Path
    """The benchmark's script, score_retrieval.py."""
    model: str = "unirna-mini"
    """Shipped name or folder of the model."""
    store: Path = Path("runs/hybrid-store")
    """Where the collection is kept from one run to the next."""
    out: str = ""
    """A JSON file for the results."""


def main(config: Config) -> None:
    """Embed if need be, search, score, print."""
    torch.set_num_threads(num_cpus())
    torch.set_flush_denormal(True)
    encoder = model.load(config.model)
    corpus, queries = (pd.read_parquet(config.bench / f"{name}.parquet") for name in ("corpus", "queries"))
    collection = _collection(config.store, encoder, corpus)
    if not collection.has_word_index:
        print(f"words indexed in {vectorstore.build_word_index(collection.uri, collection.name)} s")
    letters = [normalise(text) for text in queries.sequence]
    started = time.perf_counter()
    vectors = np.concatenate([encoder.embed([text]) for text in letters])
    embedding = 1e3 * (time.perf_counter() - started) / len(letters)

    def by_vector(i: int, k: int) -> pa.Table:
        return collection.search(vectors[i], k=k, columns=["id"])

    def both(verify: bool, memory: bool = True) -> Callable[[int, int], pa.Table]:
        def ask(i: int, k: int) -> pa.Table:
            MEMORY.budget = BUDGET if memory else 0
            return vectorstore.search_hybrid(collection, [letters[i]], vectors[i], k=k, columns=["id"], verify=verify)

        return ask

    kinds = {"vectors": by_vector, "vectors and words": both(False), "vectors and words, verified": both(True)}
    kinds |= {"vectors and words on disk": both(False, False), "the same, verified": both(True, False)}
    results = {name: _score(config, kind, list(queries.id)) for name, kind in kinds.items()}
    table = Table("search", "R@1", "below 80 %", "below 60 %", "MAP@100", "ms, 10 hits, p50", "p99")
    for name, row in results.items():
        figures = [f"{row[key]:.3f}" for key in ("R@1", "R@1 below 80 %", "R@1 below 60 %", "MAP@100")]
        table.add_row(name, *figures, f"{row['p50']:.1f}", f"{row['p99']:.1f}")
    Console().print(table)
    print(
        f"{encoder.name} {encoder.fingerprint}, {len(collection):,} sequences; embedding a query takes {embedding:.1f} ms"
    )
    if config.out:
        Path(config.out).write_text(json.dumps({"embedding_ms": embedding, "results": results}, indent=1) + "\n")


def _collection(store: Path, encoder: model.Model, corpus: pd.DataFrame) -> vectorstore.Collection:
    uri, name = str(store), f"retrieval-{encoder.fingerprint}"
    if not vectorstore.exists(uri, name):
        sequences = [normalise(text) for text in corpus.sequence]
        rows = pa.table(
            {
                "id": pa.array(corpus.id, pa.string()),
                "sequence": sequences,
                "length": pa.array([len(text) for text in sequences], pa.int32()),
                "sha": [sequence_sha(text) for text in sequences],
                "vector": vectorstore.vector_array(encoder.embed(sequences)),
            }
        )
        schema = vectorstore.collection_schema(
            encoder.dimension, pa.schema([]), vectorstore.Provenance(encoder.name, encoder.fingerprint)
        )
        vectorstore.append_rows(uri, name, rows.cast(schema), key="benchmark")
    return vectorstore.open(uri, name)


def _score(config: Config, kind: Callable[[int, int], pa.Table], queries: list[str]) -> dict[str, Any]:
    """Figures of one kind of search; the times are of searches for 10 hits."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        hits, out = Path(folder) / "hits.tsv", Path(folder) / "table.json"
        with hits.open("w") as file:
            for i, query in enumerate(
                queries
            ):  # of a hybrid search all of its candidates: it looks at no more for more hits
                found = [name for name in kind(i, HITS)["id"].to_pylist() if name != query]
                file.writelines(f"{query}\t{rank}\t{name}\n" for rank, name in enumerate(found, 1))
        command = [sys.executable, str(config.score), "--hits", str(hits), "--bench", str(config.bench), "--json", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        table = {row["set"]: row for row in json.loads(out.read_text())["table"]}
    for i in range(len(queries)):
        started = time.perf_counter()
        kind(i, 10)
        times.append(1e3 * (time.perf_counter() - started))
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    return {
        "R@1": table["all"]["R@1"],
        "R@1 below 80 %": table["only relevant <80 %"]["R@1"],
        "R@1 below 60 %": table["only relevant <60 %"]["R@1"],
        "MAP@100": table["all"]["MAP@100"],
        "p50": p50,
        "p99": p99,
    }


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
