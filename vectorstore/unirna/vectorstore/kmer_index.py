"""An index of 8-mers on disk, for collections whose k-mers do not fit in memory: LanceDB's full-text index.

It says which rows share rare k-mers with a sequence (BM25). Rows that came after it was built are compared one by one, so
they are found at once; `compact` takes them into the index.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import lance
import numpy as np
import pyarrow as pa
from lance.query import MatchQuery
from numpy.typing import NDArray

from unirna.vectorstore.collection import kmer_indexes, open
from unirna.vectorstore.errors import StoreError
from unirna.vectorstore.kmers import K, distinct_kmers
from unirna.vectorstore.schema import KMER_INDEX, OLD_KMER_INDEX

STRETCH: Final = 200
"""Nucleotides of a query that the index is asked for at once."""
STRETCHES: Final = 16
"""Most of them: of a sequence of more than 3,100 nucleotides parts are not looked for."""


def build_kmer_index(uri: str, name: str) -> float:
    """Index the 8-mers of a collection's sequences; one that was there is replaced.

    Args:
        uri: the store. name: the collection.

    Returns:
        Seconds that it took.

    Raises:
        StoreError: the collection is empty, or not there.
    """
    collection = open(uri, name)
    if not len(collection):
        raise StoreError(f"collection {name!r} is empty: there are no k-mers to index")
    started = time.monotonic()
    collection.dataset.create_scalar_index(
        "sequence",
        "INVERTED",
        name=KMER_INDEX,
        replace=True,
        with_position=False,
        base_tokenizer="ngram",
        min_ngram_length=K,
        max_ngram_length=K,
        prefix_only=False,
        lower_case=False,
        stem=False,
        remove_stop_words=False,
        ascii_folding=False,
    )
    if OLD_KMER_INDEX in kmer_indexes(collection.dataset):
        collection.dataset.drop_index(OLD_KMER_INDEX)
    return round(time.monotonic() - started, 1)


def drop_kmer_index(uri: str, name: str) -> None:
    """Remove it, if it is there."""
    dataset = open(uri, name).dataset
    for index in kmer_indexes(dataset):
        dataset.drop_index(index)


def rows_sharing(
    dataset: lance.LanceDataset, sequence: str, count: int, where: str | None, columns: Sequence[str]
) -> pa.Table:
    """The rows that share most k-mers with a normalised sequence, best first, at most `count` of what passes a filter.

    A long sequence is asked for in stretches (`STRETCH`), at most `STRETCHES` of them, evenly spread, and a row's scores
    are added up: the index takes a time that grows with the square of the number of k-mers.
    """
    found = [
        dataset.scanner(
            columns=list(dict.fromkeys(["id", *columns, "_score"])),
            full_text_query=MatchQuery(stretch, "sequence"),
            filter=where,
            prefilter=where is not None,
            limit=count,
        ).to_table()
        for stretch in _stretches(sequence)
    ]
    rows = pa.concat_tables(found)
    names, first, which = np.unique(rows["id"].to_numpy(zero_copy_only=False), return_index=True, return_inverse=True)
    scores = np.bincount(which, rows["_score"].to_numpy(), len(names)) if len(names) else np.zeros(0)
    best = np.argsort(-scores, kind="stable")[:count]  # names ascend: equals stand by id
    return rows.take(first[best]).select(columns)


def _stretches(sequence: str) -> list[str]:
    """Pieces of a sequence that share no k-mer."""
    starts = np.arange(0, max(len(sequence) - K + 1, 1), STRETCH - K + 1)
    if len(starts) > STRETCHES:
        starts = starts[np.linspace(0, len(starts) - 1, STRETCHES).round().astype(int)]
    return [sequence[start : start + STRETCH] for start in starts.tolist()]


def shares(sequence: str, others: Sequence[str]) -> NDArray[np.float32]:
    """Cosines of the sets of k-mers of a sequence and of others, float32 [N]: every k-mer counts alike."""
    own = distinct_kmers(sequence)
    found = np.zeros(len(others), np.float32)
    for i, other in enumerate(others):
        theirs = distinct_kmers(other)
        both = len(np.intersect1d(own, theirs, assume_unique=True))
        found[i] = both / np.sqrt(max(len(own), 1) * max(len(theirs), 1))
    return found
