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
from unirna.vectorstore.collection import Collection
from unirna.vectorstore.errors import StoreError
from unirna.vectorstore.filters import check_filter, filter_errors
from unirna.vectorstore.memory import MEMORY, Matrix, Places, cosines_of
from unirna.vectorstore.schema import VERIFIED
from unirna.vectorstore.words import Words

DEPTH: Final = 200
"""Hits of each ranking that are joined."""
CELLS: Final = 2_000_000_000
"""Letters of the query times those of all candidates that are aligned: some seconds of one core."""
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
    depth: int = DEPTH,
) -> pa.Table:
    """The k rows of a collection nearest to each sequence by its vector and its words.

    Args:
        collection: one whose vectors and words fit the memory set aside for searches.
        sequences: normalised, of the queries.
        vectors: theirs, by the collection's model: float32 [Q, D].
        k: rows for each, at most the candidates: twice `depth`. where, columns: as for `Collection.search`.
        verify: align the candidates and rank them by the score of the alignment. Takes some 5 ms for 200 candidates of 150
            nucleotides. Where query and candidates are so long that it would take seconds (`CELLS`), the best of both
            rankings are aligned, and the others follow as they stand.
        depth: candidates of each ranking.

    Returns:
        Rows in the order (query, rank): `query` int32, `rank` int32, `similarity` float32 (cosine of the vectors),
        `found_by` ("vector", "words" or "both"), with `verify` the columns of `VERIFIED` (null for those not aligned), then
        the collection's columns. Equals stand in the order of their ids.

    Raises:
        StoreError: the collection does not fit in memory. FilterError, ValueError: as for `Collection.search`.
    """
    queries = collection.check_queries(vectors)
    if len(sequences) != len(queries):
        raise ValueError(f"{len(sequences)} sequences and {len(queries)} vectors: wanted one vector for each sequence")
    if k < 1 or depth < 1:
        raise ValueError(f"k={k}, depth={depth}: wanted 1 or more")
    wanted = collection.check_columns(columns)
    dataset = collection.dataset
    check_filter(dataset, where)
    matrix = MEMORY.matrix(dataset, collection.version)
    words = None if matrix is None else MEMORY.words(matrix)
    if matrix is None or words is None:
        raise StoreError(
            f"the vectors and words of collection {collection.name!r} are larger than the memory for searches "
            f"({MEMORY.budget / (1 << 30):.1f} GB). Set UNIRNA_SEARCH_MEMORY_GB to more, or search by vectors alone"
        )
    with filter_errors(where, dataset.schema.names):
        places = None if where is None else matrix.places(where)
    near = matrix.nearest(queries, depth, places)
    found = [
        _Found.of(matrix, words, sequence, query, by_vector, places, k, depth, verify)
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
    alignments: list[Alignment | None]

    @classmethod
    def of(
        cls,
        matrix: Matrix,
        words: Words,
        sequence: str,
        query: NDArray[np.float32],
        by_vector: tuple[Places, NDArray[np.float32]],
        places: Places | None,
        k: int,
        depth: int,
        verify: bool,
    ) -> _Found:
        vector_places = by_vector[0][np.argsort(-by_vector[1], kind="stable")][:depth]
        shared = words.cosines(sequence)
        word_places = _largest(shared if places is None else shared[places], depth)
        word_places = word_places if places is None else places[word_places]
        candidates = np.union1d(vector_places, word_places)
        cosines = cosines_of(matrix.take(candidates), query)
        by = np.isin(candidates, vector_places) + 2 * np.isin(candidates, word_places)
        ids = [words.id(int(place)) for place in candidates]
        order = sorted(range(len(candidates)), key=lambda i: (-(cosines[i] + shared[candidates[i]]), ids[i]))
        aligner, count = Aligner(sequence), 0
        if verify:
            scores, cells = list[int](), 0
            for i in order:
                target = words.sequence(int(candidates[i]))
                cells += len(sequence) * len(target)
                if cells > CELLS and scores:
                    break
                scores.append(aligner.score(target))
            count = len(scores)
            best = sorted(range(count), key=lambda place: -scores[place])  # stable: equals as they stood
            order = [order[place] for place in best] + order[count:]
        order = order[:k]
        chosen = candidates[order]
        alignments = [aligner.align(words.sequence(int(place))) for place in chosen[:count]]
        none: list[Alignment | None] = [None] * (len(chosen) - len(alignments))
        return cls(chosen, cosines[order], [FOUND_BY[by[i] - 1] for i in order], [*alignments, *none])

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
            nothing = (None,) * len(VERIFIED)
            values = [nothing if alignment is None else astuple(alignment) for alignment in self.alignments]
            aligned = pa.Table.from_pylist([dict(zip(VERIFIED.names, row, strict=True)) for row in values], VERIFIED)
            result |= {name: aligned[name] for name in VERIFIED.names}
        return pa.table(result | {name: rows[name] for name in rows.column_names if name not in result})


def _largest(scores: NDArray[np.float32], count: int) -> Places:
    """Where the largest scores above 0 stand, at most so many."""
    found = np.flatnonzero(scores > 0)
    return found[np.argsort(-scores[found], kind="stable")][:count]
