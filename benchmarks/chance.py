"""The p of hits: what random sequences, real unrelated ones and relatives get.

    python benchmarks/chance.py --data ../shared/data/yeast_cds_halflife/data.parquet \\
        --genome ../shared/bench/genomes/ecoli_k12_700kb.fa.gz

Embeds the demo's sample into a collection in a temporary store (about a minute), measures what random sequences find
there, and searches with other random sequences, pieces of coding sequences and of a genome, held-out members of the
sample's families, and these with 30 random nucleotides on either side. Printed is the share of queries that have a hit
with a p of at most 0.05, 0.01 and 0.001, by the vector, hybrid, and aligned.
"""

from __future__ import annotations

import gzip
import tempfile
import time
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
from unirna.embed import calibrate
from unirna.embed.chance import random_queries
from unirna.job import num_cpus
from unirna.sequence import normalise, sequence_sha
from unirna.serve.engine.engine import Engine
from unirna.serve.engine.search import SearchesAnswer

SAMPLE = Path(__file__).resolve().parent.parent / "jobs" / "demo" / "rfam_sample.parquet"
KINDS: dict[str, dict[str, bool]] = {"vector": {"verify": False}, "hybrid": {"hybrid": True}, "aligned": {"verify": True}}
LEVELS = (0.05, 0.01, 0.001)


@dataclass(frozen=True)
class Config:
    """Measure how often hits of several kinds of queries are called better than chance."""

    data: Path
    """Parquet table of coding sequences, column `sequence`."""
    genome: Path
    """FASTA of a genome, gzip."""
    model: str = "unirna-mini"
    """Shipped name or folder of the model."""


def main(config: Config) -> None:
    """Embed, measure, search, print."""
    torch.set_num_threads(num_cpus())
    encoder = model.load(config.model)
    sample = pd.read_parquet(SAMPLE)
    with tempfile.TemporaryDirectory() as store:
        _collection(store, encoder, sample[sample.split == "train"])
        started = time.perf_counter()
        found = calibrate(store, "rfam", encoder)
        assert found is not None
        print(f"{found.queries} random sequences in {time.perf_counter() - started:.0f} s")
        engine = Engine(encoder, store)
        table = Table("queries", "", *(f"{kind} <= {level:g}" for kind in KINDS for level in LEVELS))
        for name, queries in _queries(config, vectorstore.open(store, "rfam"), sample).items():
            shares: list[str] = []
            for asked in KINDS.values():
                answer = engine.search(queries=queries, k=10, **asked)
                assert isinstance(answer, SearchesAnswer)
                least = np.array([min(hit["p"] for hit in result.hits) for result in answer.results])
                shares += [f"{np.mean(least <= level):.3f}" for level in LEVELS]
            table.add_row(name, str(len(queries)), *shares)
        Console(width=200).print(table)


def _collection(store: str, encoder: model.Model, rows: pd.DataFrame) -> None:
    texts = [normalise(text) for text in rows.sequence]
    columns = {
        "id": pa.array(rows.id, pa.string()),
        "sequence": texts,
        "length": pa.array([len(text) for text in texts], pa.int32()),
        "sha": [sequence_sha(text) for text in texts],
        "vector": vectorstore.vector_array(encoder.embed(texts)),
    }
    made = vectorstore.Provenance(encoder.name, encoder.fingerprint)
    schema = vectorstore.collection_schema(encoder.dimension, pa.schema([]), made)
    vectorstore.append_rows(store, "rfam", pa.table(columns).cast(schema), key="benchmark")


def _queries(config: Config, collection: vectorstore.Collection, sample: pd.DataFrame) -> dict[str, list[str]]:
    """Queries of several kinds, none of which is in the collection."""
    random = np.random.default_rng(0)
    strange = random_queries(collection, seed=99)
    coding = [_plain(text) for text in pd.read_parquet(config.data).sequence]
    with gzip.open(config.genome, "rt") as file:
        genome = _plain("".join(line.strip() for line in file if not line.startswith(">")))
    queries = {f"random, {size} nt": [text for text in strange if len(text) == size] for size in (16, 48, 96, 192, 384)}
    for length, count in ((80, 100), (320, 60), (1280, 30)):
        long = [text for text in coding if len(text) >= length]
        queries[f"coding, {length} nt"] = [long[i][:length] for i in random.choice(len(long), count, replace=False)]
        starts = random.integers(0, len(genome) - length, count)
        queries[f"genome, {length} nt"] = [genome[start : start + length] for start in starts]
    held = [normalise(text) for text in sample[sample.split == "heldout"].sequence]
    queries["held-out members"] = held
    queries["with 30 nt on either side"] = [_noise(random) + text + _noise(random) for text in held]
    return queries


def _plain(text: str) -> str:
    return "".join(letter for letter in normalise(text) if letter in "ACGU")


def _noise(random: np.random.Generator, length: int = 30) -> str:
    return "".join(random.choice(list("ACGU"), length))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
