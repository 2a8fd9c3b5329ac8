"""Search by vectors and by k-mers together, and alignments of what was found.

Vectors find relatives whose sequences have diverged, k-mers (8-mers) find those that share a stretch. The best of both are
ranked by the sum of the two cosines; aligned, by the score of the local alignment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Final

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unirna.vectorstore.align import Aligner, Alignment
from unirna.vectorstore.collection import Collection, kmer_indexes
from unirna.vectorstore.columns import VERIFIED
from unirna.vectorstore.errors import StoreError
from unirna.vectorstore.filters import check_filter, filter_errors
from unirna.vectorstore.kmer_index import rows_sharing, shares
from unirna.vectorstore.kmers import Kmers
from unirna.vectorstore.vector_cache import VECTOR_CACHE, Matrix, RowNumbers, cosines_of

DEPTH: Final = 200
"""Hits of each ranking that are joined."""
ALIGNED: Final = 50
"""Hits of each ranking that are aligned and re-ranked: aligning all of them finds no better nearest hit (docs/log.md)."""
CELLS: Final = 2_000_000_000
"""Query length times the summed length of the candidates that are aligned: a few seconds of one core."""
TAKEN: Final = 10_000
"""Hits whose columns are put together at a time."""
FOUND_BY: Final = ("vector", "kmers", "both")


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
    """The k rows of a collection nearest to each sequence by its vector and its k-mers.

    Args:
        collection: one whose vectors and k-mers fit the memory set aside for searches, or that has an index of its k-mers
            (`build_kmer_index`); then the vectors are searched as `Collection.search` does.
        sequences: normalised, of the queries.
        vectors: theirs, by the collection's model: float32 [Q, D].
        k: rows for each, at most the candidates: twice `depth`. where, columns: as for `Collection.search`.
        verify: align the best 50 of each ranking (`ALIGNED`) and rank them by the score of the alignment; the others follow
            as they stand, and are aligned too where they are among the k. Where query and candidates are so long that it
            would take seconds (`CELLS`), fewer are aligned, and the others have no alignment.
        depth: candidates of each ranking.

    Returns:
        Rows in the order (query, rank): `query` int32, `rank` int32, `similarity` float32 (cosine of the vectors),
        `found_by` ("vector", "kmers" or "both"), `_shared` float32 (cosine of the k-mers), with `verify` the columns of
        `VERIFIED` (null for those not aligned), then the collection's columns. Equals stand in the order of their ids.

    Raises:
        StoreError: the collection does not fit in memory, and has no index of its k-mers.
        FilterError, ValueError: as for `Collection.search`.
    """
    queries = collection.check_queries(vectors)
    if len(sequences) != len(queries):
        raise ValueError(f"{len(sequences)} sequences and {len(queries)} vectors: expected one vector for each sequence")
    if k < 1 or depth < 1:
        raise ValueError(f"k={k}, depth={depth}: expected 1 or more")
    wanted = collection.check_columns(columns)
    dataset = collection.dataset
    condition = check_filter(dataset, where)
    matrix = VECTOR_CACHE.matrix(dataset, collection.version)
    kmers = None if matrix is None else VECTOR_CACHE.kmers(matrix)
    if kmers is None and not kmer_indexes(dataset):
        raise StoreError(
            f"the vectors and k-mers of collection {collection.name!r} do not fit in the memory for searches "
            f"({VECTOR_CACHE.budget / (1 << 30):.1f} GB). Raise UNIRNA_SEARCH_MEMORY_GB, build an index of the k-mers on "
            f"disk (unirna collections index {collection.name} --store … --kind kmers), or search by vectors alone"
        )
    with filter_errors(where, dataset.schema.names):
        if matrix is not None and kmers is not None:
            candidates = _in_memory(matrix, kmers, sequences, queries, condition, depth)
        else:
            candidates = _on_disk(collection, dataset, sequences, queries, where, depth, wanted)
        found = [_Found.of(part, sequence, k, verify) for part, sequence in zip(candidates, sequences, strict=True)]
    if matrix is not None and kmers is not None:
        every = np.unique(np.concatenate([part.places for part in found]))
        held = matrix.dataset.take(every, columns=wanted)
        at = np.searchsorted(every, np.concatenate([part.places for part in found]))
        # Some at a time: one array of text holds no more than 2 GB.
        rows = pa.concat_tables(held.take(at[i : i + TAKEN]) for i in range(0, max(len(at), 1), TAKEN))
    else:
        rows = pa.concat_tables([part.rows.take(part.places) for part in found if part.rows is not None])
    return _table(found, rows, verify)


@dataclass(frozen=True)
class _Candidates:
    """Rows that one of the rankings or both found for a query.

    Attributes:
        places: where each stands, in the matrix or in `rows`. ids, cosines, shared: of each, by vector and by k-mers.
        by: 1 found by its vector, 2 by its k-mers, 3 by both. sequences: of some, by their ascending numbers.
        rows: the requested columns, if they have been read already.
    """

    places: RowNumbers
    ids: pa.ChunkedArray
    cosines: NDArray[np.float32]
    shared: NDArray[np.float32]
    by: NDArray[np.int64]
    sequences: Callable[[NDArray[np.int64]], list[str]]
    rows: pa.Table | None = None


def _in_memory(
    matrix: Matrix, kmers: Kmers, sequences: Sequence[str], queries: NDArray[np.float32], where: str | None, depth: int
) -> Iterator[_Candidates]:
    """The candidates of each query by products and by the k-mers that are held."""
    places = None if where is None else matrix.places(where)
    near = matrix.nearest(queries, depth, places)
    for text, query, (vector_places, similarities) in zip(sequences, queries, near, strict=True):
        best = np.argsort(-similarities, kind="stable")[:depth]
        vector_places, similarities = vector_places[best], similarities[best]
        shared = kmers.cosines(text)
        kmer_places = _largest(shared if places is None else shared[places], depth)
        kmer_places = kmer_places if places is None else places[kmer_places]
        found = np.union1d(vector_places, kmer_places)
        by, at = np.zeros(len(found), int), np.searchsorted(found, vector_places)
        by[at] += 1
        by[np.searchsorted(found, kmer_places)] += 2
        cosines = np.empty(len(found), np.float32)
        cosines[at] = similarities
        cosines[by == 2] = matrix.cosines(found[by == 2], query)
        yield _Candidates(found, kmers.ids(found), cosines, shared[found], by, partial(_letters, kmers, found))


def _letters(kmers: Kmers, places: RowNumbers, numbers: NDArray[np.int64]) -> list[str]:
    return kmers.sequences(places[numbers])


def _on_disk(
    collection: Collection,
    dataset: lance.LanceDataset,
    sequences: Sequence[str],
    queries: NDArray[np.float32],
    where: str | None,
    depth: int,
    wanted: Sequence[str],
) -> Iterator[_Candidates]:
    """The candidates of each query by the collection's indexes, of vectors and of k-mers."""
    columns = list(dict.fromkeys(["id", "sequence", "vector", *wanted]))
    condition = check_filter(dataset, where)
    for text, query in zip(sequences, queries, strict=True):
        sharing = rows_sharing(dataset, text, depth, condition, columns)
        near = collection.search(query, k=depth, where=where, columns=columns).select(columns).cast(sharing.schema)
        rows = pa.concat_tables([near, sharing.filter(pc.invert(pc.is_in(sharing["id"], near["id"])))])
        stored = rows["sequence"].to_pylist()
        in_kmers = pc.is_in(rows["id"], sharing["id"]).to_numpy()
        by = (np.arange(len(stored)) < near.num_rows) + 2 * in_kmers
        vectors = rows["vector"].combine_chunks().flatten().to_numpy().reshape(len(stored), len(query))
        cosines, shared = cosines_of(vectors, query), shares(text, stored)
        yield _Candidates(
            np.arange(len(stored)), rows["id"], cosines, shared, by, partial(_chosen, stored), rows.select(wanted)
        )


def _chosen(stored: list[str], numbers: NDArray[np.int64]) -> list[str]:
    return [stored[number] for number in numbers.tolist()]


@dataclass(frozen=True)
class _Found:
    """The hits of one query, best first."""

    places: RowNumbers
    rows: pa.Table | None
    similarity: NDArray[np.float32]
    shared: NDArray[np.float32]
    by: NDArray[np.int64]
    alignments: list[Alignment | None]

    @classmethod
    def of(cls, candidates: _Candidates, sequence: str, k: int, verify: bool) -> _Found:
        """The k best of the candidates, aligned if they are to be verified."""
        names, joined = pc.rank(candidates.ids, tiebreaker="first").to_numpy(), candidates.cosines + candidates.shared
        order = np.lexsort((names, -joined))
        alignments: list[Alignment | None] = []
        if verify:
            best = np.zeros(len(order), bool)
            for ranking, stands in ((candidates.cosines, candidates.by & 1), (candidates.shared, candidates.by & 2)):
                top = np.lexsort((names, -joined, -ranking))[:ALIGNED]
                best[top[stands[top] > 0]] = True
            first = best[order]
            order = np.concatenate([order[first], order[~first]])
            wanted = np.sort(order[: max(first.sum(), k)])
            aligner, targets = Aligner(sequence), dict(zip(wanted.tolist(), candidates.sequences(wanted), strict=True))
            cells = np.cumsum([len(sequence) * len(targets[i]) for i in order[: len(wanted)].tolist()])
            affordable = max(1, int(np.searchsorted(cells, CELLS, side="right")))
            aligned = order[: min(first.sum(), affordable)]
            scores = [aligner.score(targets[i]) for i in aligned.tolist()]
            order[: len(aligned)] = aligned[np.argsort(-np.array(scores, int), kind="stable")]
            alignments = [aligner.align(targets[i]) for i in order[: min(k, affordable)].tolist()]
        order = order[:k]
        none: list[Alignment | None] = [None] * (len(order) - len(alignments))
        at, by = candidates.places[order], candidates.by[order]
        cosines, shared = candidates.cosines[order], candidates.shared[order]
        return cls(at, candidates.rows, cosines, shared, by, [*alignments, *none])


def _table(found: Sequence[_Found], rows: pa.Table, verify: bool) -> pa.Table:
    """The hits of all queries as rows of the result, with the requested columns."""
    counts = [len(part.places) for part in found]
    by = np.concatenate([part.by for part in found])
    result: dict[str, Any] = {
        "query": pa.array(np.repeat(np.arange(len(found), dtype=np.int32), counts)),
        "rank": pa.array(np.concatenate([np.arange(1, count + 1, dtype=np.int32) for count in counts])),
        "similarity": pa.array(np.concatenate([part.similarity for part in found])),
        "found_by": pa.array(FOUND_BY).take(pa.array(by - 1)),
        "_shared": pa.array(np.concatenate([part.shared for part in found])),
    }
    if verify:
        alignments = [alignment for part in found for alignment in part.alignments]
        for column, field in zip(VERIFIED, fields(Alignment), strict=True):
            values = [None if alignment is None else getattr(alignment, field.name) for alignment in alignments]
            result[column.name] = pa.array(values, column.type)
    return pa.table(result | {name: rows[name] for name in rows.column_names if name not in result})


def _largest(scores: NDArray[np.float32], count: int) -> RowNumbers:
    """Where the largest scores above 0 stand, at most so many."""
    found = np.flatnonzero(scores > 0)
    if len(found) > count:
        held = scores[found]
        found = found[held >= np.partition(held, len(held) - count)[len(held) - count]]
    return found[np.argsort(-scores[found], kind="stable")][:count]
