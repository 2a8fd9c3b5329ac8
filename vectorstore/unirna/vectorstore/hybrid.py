"""Search by vectors and by words together, and alignments of what was found.

Vectors find relatives whose letters have drifted apart, words (8-mers) find what shares a stretch. The best of both are
ranked by the sum of the two cosines; aligned, by the score of the local alignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna.vectorstore.align import Aligner, Alignment
from unirna.vectorstore.collection import Collection, check_filter
from unirna.vectorstore.errors import StoreError
from unirna.vectorstore.memory import MEMORY, Matrix, Places, cosines_of
from unirna.vectorstore.schema import VERIFIED

DEPTH: Final = 200
"""Hits of each ranking that are joined, and candidates that are aligned."""
FOUND_BY: Final = ("vector", "words", "both")


def search_hybrid(
    collection: Collection,
    sequences: Sequence[str],
    vectors: NDArray[np.float32],
    *,
    k: int = 10,
    where: str | None = None,
    columns: Sequence[str] | None = None,
    verify: bool = False,
) -> pa.Table:
    """The k rows of a collection nearest to each sequence by its vector and its words.

    Args:
        collection: one whose vectors fit the memory set aside for searches.
        sequences: normalised, of the queries.
        vectors: theirs, by the collection's model: float32 [Q, D].
        k: rows for each. where, columns: as for `Collection.search`.
        verify: align the candidates of both rankings (up to 400 a query) and rank them by the score of the alignment. Takes
            some 5 ms for 200 candidates of 150 nucleotides.

    Returns:
        Rows in the order (query, rank): `query` int32, `rank` int32, `similarity` float32 (cosine of the vectors),
        `found_by` ("vector", "words" or "both"), with `verify` the columns of `VERIFIED`, then the collection's columns.

    Raises:
        StoreError: the collection does not fit in memory. FilterError, ValueError: as for `Collection.search`.
    """
    queries = collection.check_queries(vectors)
    if len(sequences) != len(queries):
        raise ValueError(f"{len(sequences)} sequences and {len(queries)} vectors: wanted one vector for each sequence")
    if k < 1:
        raise ValueError(f"k={k}: wanted 1 or more")
    wanted = collection.check_columns(columns)
    dataset = collection.dataset
    check_filter(dataset, where)
    matrix = MEMORY.matrix(dataset)
    if matrix is None:
        raise StoreError(
            f"collection {collection.name!r} is larger than the memory for searches ({MEMORY.budget / (1 << 30):.1f} GB), "
            "which a search by words needs. Set UNIRNA_SEARCH_MEMORY_GB to more, or search by vectors alone"
        )
    places = None if where is None else matrix.places(where)
    near = matrix.nearest(queries, max(DEPTH, k), places)
    found = [
        _Found.of(matrix, sequence, query, by_vector, places, k, verify)
        for sequence, query, by_vector in zip(sequences, queries, near, strict=True)
    ]
    every = np.unique(np.concatenate([part.places for part in found]))
    rows = matrix.dataset.take(every, columns=wanted)
    return pa.concat_tables(
        [part.table(number, rows.take(np.searchsorted(every, part.places)), verify) for number, part in enumerate(found)]
    )


@dataclass(frozen=True)
class _Found:
    """The hits of one query, best first."""

    places: Places
    similarity: NDArray[np.float32]
    found_by: list[str]
    alignments: list[Alignment]

    @classmethod
    def of(
        cls,
        matrix: Matrix,
        sequence: str,
        query: NDArray[np.float32],
        by_vector: tuple[Places, NDArray[np.float32]],
        places: Places | None,
        k: int,
        verify: bool,
    ) -> _Found:
        depth = max(DEPTH, k)
        vector_places = by_vector[0][np.argsort(-by_vector[1], kind="stable")][:depth]
        shared = matrix.words.cosines(sequence)
        word_places = _largest(shared if places is None else shared[places], depth)
        word_places = word_places if places is None else places[word_places]
        candidates = np.union1d(vector_places, word_places)
        cosines = cosines_of(matrix.take(candidates), query)
        fused = cosines + shared[candidates]
        by = np.isin(candidates, vector_places) + 2 * np.isin(candidates, word_places)
        order = np.argsort(-fused, kind="stable")
        aligner = Aligner(sequence) if verify else None
        if aligner is not None:
            scores = np.array([aligner.score(matrix.words.sequence(int(candidates[i]))) for i in order])
            order = order[np.argsort(-scores, kind="stable")]
        order = order[:k]
        chosen = candidates[order]
        alignments = [] if aligner is None else [aligner.align(matrix.words.sequence(int(i))) for i in chosen]
        return cls(chosen, cosines[order], [FOUND_BY[by[i] - 1] for i in order], alignments)

    def table(self, query: int, rows: pa.Table, verify: bool) -> pa.Table:
        """As rows of the result."""
        count = len(self.places)
        result: dict[str, Any] = {
            "query": pa.array(np.full(count, query, np.int32)),
            "rank": pa.array(np.arange(1, count + 1, dtype=np.int32)),
            "similarity": pa.array(self.similarity),
            "found_by": pa.array(self.found_by, pa.string()),
        }
        if verify:
            values = [dict(zip(VERIFIED.names, astuple(alignment), strict=True)) for alignment in self.alignments]
            aligned = pa.Table.from_pylist(values, VERIFIED)
            result |= {name: aligned[name] for name in VERIFIED.names}
        return pa.table(result | {name: rows[name] for name in rows.column_names})


def _largest(scores: NDArray[np.float32], count: int) -> Places:
    """Where the largest scores above 0 stand, at most so many."""
    found = np.flatnonzero(scores > 0)
    return found[np.argsort(-scores[found], kind="stable")][:count]
