"""Search by vectors, by both vectors and k-mers, and verified by alignment: what each finds, and how fast.

    python benchmarks/hybrid.py --bench ../shared/bench/retrieval_dev --score ../shared/bench/score_retrieval.py

Embeds the benchmark's 22,078 sequences into a collection (once; some minutes), asks its 604 queries and has the hits
scored by the benchmark's own script. On disk: nothing is held in memory, vectors are scanned by LanceDB and k-mers found
by its index. Milliseconds are of one query after the other, and of all of them in one call for each; embedding them is
left out, and stated beside it. `blastn` with words of 7 stands beside them where it is installed, with as many threads.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
from unirna.vectorstore.vector_cache import BUDGET, VECTOR_CACHE

HITS = 1000
Ask = Callable[[slice, int], pa.Table]
"""The k hits of some of the queries."""


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
    disk: bool = True
    """Also with nothing held in memory; that takes most of the time."""
    out: str = ""
    """A JSON file for the results."""


def main(config: Config) -> None:
    """Embed if need be, search, score, print."""
    torch.set_num_threads(num_cpus())
    torch.set_flush_denormal(True)
    encoder = model.load(config.model)
    corpus, queries = (pd.read_parquet(config.bench / f"{name}.parquet") for name in ("corpus", "queries"))
    collection = _collection(config.store, encoder, corpus)
    if not collection.has_kmer_index:
        print(f"k-mers indexed in {vectorstore.build_kmer_index(collection.uri, collection.name)} s")
    letters = [normalise(text) for text in queries.sequence]
    started = time.perf_counter()
    vectors = np.concatenate([encoder.embed([text]) for text in letters])
    embedding = 1e3 * (time.perf_counter() - started) / len(letters)

    def by_vector(part: slice, k: int) -> pa.Table:
        return collection.search(vectors[part], k=k, columns=["id"])

    def both(verify: bool, memory: bool = True) -> Ask:
        def ask(part: slice, k: int) -> pa.Table:
            VECTOR_CACHE.budget = BUDGET if memory else 0
            return vectorstore.search_hybrid(collection, letters[part], vectors[part], k=k, columns=["id"], verify=verify)

        return ask

    kinds = {"vectors": by_vector, "vectors and k-mers": both(False), "vectors and k-mers, verified": both(True)}
    if config.disk:
        kinds |= {"vectors and k-mers on disk": both(False, False), "the same, verified": both(True, False)}
    results = {name: _score(config, kind, list(queries.id)) for name, kind in kinds.items()}
    if shutil.which("blastn"):
        results["blastn, words of 7"] = _blastn(config, corpus, queries)
    table = Table("search", "R@1", "below 80 %", "below 60 %", "MAP@100", "ms, 10 hits, p50", "p99", "ms, all at once")
    for name, row in results.items():
        figures = [f"{row[key]:.3f}" for key in ("R@1", "R@1 below 80 %", "R@1 below 60 %", "MAP@100")]
        table.add_row(name, *figures, *(f"{row[key]:.1f}" if key in row else "" for key in ("p50", "p99", "at_once")))
    Console().print(table)
    print(
        f"{encoder.name} {encoder.fingerprint}, {len(collection):,} sequences; embedding a query takes {embedding:.1f} ms"
    )
    if config.out:
        Path(config.out).write_text(
            json.dumps({"embedding_ms": embedding, "results": results}, indent=1) + "\n", encoding="utf-8"
        )


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


def _score(config: Config, kind: Ask, queries: list[str]) -> dict[str, float]:
    """Figures of one kind of search; the times are of searches for 10 hits."""
    # of a hybrid search all of its candidates: it looks at no more for more hits
    found = {query: kind(slice(i, i + 1), HITS)["id"].to_pylist() for i, query in enumerate(queries)}
    times: list[float] = []
    for i in range(len(queries)):
        started = time.perf_counter()
        kind(slice(i, i + 1), 10)
        times.append(1e3 * (time.perf_counter() - started))
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    started = time.perf_counter()
    kind(slice(None), 10)
    at_once = 1e3 * (time.perf_counter() - started) / len(queries)
    return {**_figures(config, found), "p50": p50, "p99": p99, "at_once": at_once}


def _blastn(config: Config, corpus: pd.DataFrame, queries: pd.DataFrame) -> dict[str, float]:
    """The same of blastn with words of 7, which looks at one strand and reports all that it finds."""
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in (("corpus", corpus), ("queries", queries)):
            records = (
                f">{i}\n{normalise(text).replace('U', 'T')}\n" for i, text in zip(rows.id, rows.sequence, strict=True)
            )
            (Path(folder) / f"{name}.fa").write_text("".join(records), encoding="utf-8")
        make = ["makeblastdb", "-in", "corpus.fa", "-dbtype", "nucl", "-out", "db"]
        subprocess.run(make, check=True, cwd=folder, stdout=subprocess.DEVNULL)
        command = ["blastn", "-task", "blastn", "-word_size", "7", "-evalue", "1000", "-dust", "no", "-strand", "plus"]
        command += ["-query", "queries.fa", "-db", "db", "-max_target_seqs", str(HITS), "-outfmt", "6 qseqid sseqid"]
        started = time.perf_counter()
        run = subprocess.run(
            [*command, "-num_threads", str(num_cpus())],
            check=True,
            cwd=folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        seconds = time.perf_counter() - started
    found: dict[str, list[str]] = {query: [] for query in queries.id}
    for line in dict.fromkeys(run.stdout.splitlines()):  # one of several alignments of a pair
        query, target = line.split("\t")
        found[query].append(target)
    return {**_figures(config, found), "at_once": 1e3 * seconds / len(queries)}


def _figures(config: Config, found: dict[str, list[str]]) -> dict[str, float]:
    """What the benchmark's script says of the ids found for each query, best first."""
    with tempfile.TemporaryDirectory() as folder:
        hits, out = Path(folder) / "hits.tsv", Path(folder) / "table.json"
        with hits.open("w", encoding="utf-8") as file:
            for query, names in found.items():
                others = [name for name in names if name != query]
                file.writelines(f"{query}\t{rank}\t{name}\n" for rank, name in enumerate(others, 1))
        command = [sys.executable, str(config.score), "--hits", str(hits), "--bench", str(config.bench), "--json", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        table = {row["set"]: row for row in json.loads(out.read_text(encoding="utf-8"))["table"]}
    return {
        "R@1": table["all"]["R@1"],
        "R@1 below 80 %": table["only relevant <80 %"]["R@1"],
        "R@1 below 60 %": table["only relevant <60 %"]["R@1"],
        "MAP@100": table["all"]["MAP@100"],
    }


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
