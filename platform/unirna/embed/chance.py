"""Measures what random sequences find in a collection, so that a search can say how often chance does as well.

The random queries have the composition of the collection: pieces of a given length are cut from its sequences, put one
after the other at random, and shuffled with their dinucleotides kept (Altschul & Erickson 1985). They are searched for
as any query is, so what the model makes of random sequences, the number of rows, and the choice of what is aligned count.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from unirna import vectorstore
from unirna.job import say
from unirna.sequence import shuffle_dinucleotides

if TYPE_CHECKING:
    from unirna.model import Model  # tasks that only read import this module without torch

LENGTHS: Final = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
"""Of the random queries, in nucleotides."""
QUERIES: Final = (3, 60)
"""Fewest and most random queries of one length."""
NUCLEOTIDES: Final = (25_000, 200_000)
"""Fewest and most nucleotides of all random queries."""
SHARE: Final = 0.15
"""Nucleotides of all random queries, as a share of those of the collection."""
LEAST_ROWS: Final = 30
"""Rows below which an embedding job does not measure: a few sequences are read one by one."""
GROWTH: Final = 1.25
"""By how much a collection may grow or shrink before an embedding job measures again; up to that p is corrected."""
SAMPLED: Final = 1000


def calibrate(
    store: str, name: str, encoder: Model | None = None, *, seed: int = 0, job: bool = False
) -> vectorstore.Chance | None:
    """Measure what random sequences find in a collection, and keep it with the collection.

    Args:
        store: its URI.
        name: the collection.
        encoder: the model that made it; None to load the one that the collection names.
        seed: of the random sequences.
        job: whether an embedding job asks: then nothing is done where the collection is small, or was measured when it had
            about as many rows.

    Returns:
        What was measured, now or before; None for a small collection of a job.

    Raises:
        StoreError: no such collection, or an empty one.
        ModelMismatchError: `encoder` is another model.
        CheckpointError: the model that the collection names is not there.
    """
    collection = vectorstore.open(store, name)
    rows = len(collection)
    if job and (rows < LEAST_ROWS or measured(store, name)):
        return vectorstore.chance_of(collection)
    if not rows:
        raise vectorstore.StoreError(f"collection {name!r} is empty: there is nothing to search in")
    started = time.monotonic()
    made = collection.provenance
    if encoder is None:
        from unirna.model import load

        encoder = load(made.model, layer=made.layer)
    collection.check_model(encoder.fingerprint, encoder.name)
    queries = random_queries(collection, seed)
    say(f"searching {name} with {len(queries):,} random sequences, to measure how often chance matches a hit")
    found = vectorstore.measure_chance(collection, queries, encoder.embed(queries))
    found = replace(found, seconds=round(time.monotonic() - started, 2))
    vectorstore.keep_chance(store, name, found)
    return found


def measured(store: str, name: str) -> bool:
    """Whether this was measured when the collection had about as many rows as now, with its model."""
    collection = vectorstore.open(store, name)
    known, rows = vectorstore.chance_of(collection), len(collection)
    return known is not None and known.rows / GROWTH <= rows <= known.rows * GROWTH


def random_queries(collection: vectorstore.Collection, seed: int = 0) -> list[str]:
    """Random sequences of the lengths of `LENGTHS`, with the composition of a collection.

    Args:
        collection: whose composition they have.
        seed: of the choice.

    Returns:
        Sequences of A, C, G and U, by length; more of the short ones, which cost little.
    """
    random = np.random.default_rng(seed)
    members = collection.sample(SAMPLED, seed=seed, columns=["sequence", "length"])
    texts = ["".join(letter for letter in text if letter in "ACGU") for text in members["sequence"].to_pylist()]
    texts = [text for text in texts if text] or ["ACGU"]
    mean = float(np.mean(members["length"].to_numpy()))
    budget = np.clip(SHARE * mean * len(collection), *NUCLEOTIDES) / len(LENGTHS)
    return [
        shuffle_dinucleotides(_piece(texts, length, random), random)
        for length in LENGTHS
        for _ in range(int(np.clip(budget / length, *QUERIES)))
    ]


def _piece(texts: list[str], length: int, random: np.random.Generator) -> str:
    """A piece of sequences put one after the other, which begins anywhere in the first one."""
    text = texts[int(random.integers(len(texts)))]
    joined = text[int(random.integers(len(text))) :]
    while len(joined) < length:
        joined += texts[int(random.integers(len(texts)))]
    return joined[:length]


def told(found: vectorstore.Chance) -> dict[str, Any]:
    """What a summary says of it."""
    return {"queries": found.queries, "rows": found.rows, "seconds": found.seconds}
