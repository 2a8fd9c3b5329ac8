"""The rows nearest to a query: by an index, from memory, or among the few that pass a filter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unirna.vectorstore.schema import Index
from unirna.vectorstore.vector_cache import Matrix, RowNumbers, cosines_of, nearly_nearest

SPARE: Final = 16
"""Rows fetched beyond those asked for, so that ties at the end are seen without asking again."""
Near = tuple[RowNumbers, NDArray[np.float32]]
"""Positions of rows in a table, ascending, and their cosines."""


def by_index(
    dataset: lance.LanceDataset,
    index: Index,
    queries: NDArray[np.float32],
    limit: int,
    where: str | None,
    columns: list[str],
) -> pa.Table:
    """The nearest rows as an index finds them; with several queries `query_index` says whose. (LanceDB's own query builder
    takes some 4 ms longer.)"""
    nearest: dict[str, Any] = {
        "column": "vector",
        "q": queries if len(queries) > 1 else queries[0],
        "k": limit,
        "minimum_nprobes": index.nprobes,
    }
    if where is None:  # with a filter more partitions are looked into, until enough rows are found
        nearest["maximum_nprobes"] = index.nprobes
    if index.ef:
        nearest["ef"] = max(index.ef, (index.refine + 1) * limit)  # it must not be less than what is compared again
    if index.refine > 1:
        nearest["refine_factor"] = index.refine
    return dataset.scanner(
        columns=with_distance(columns), nearest=nearest, filter=where, prefilter=where is not None
    ).to_table()


def with_distance(columns: list[str]) -> list[str]:
    """The columns to read of near rows; LanceDB warns unless _distance is among them."""
    return list(dict.fromkeys([*columns, "id", "vector", "_distance"]))


def in_memory(
    matrix: Matrix, queries: NDArray[np.float32], places: RowNumbers | None, k: int, offset: int, columns: list[str]
) -> Iterator[pa.Table]:
    """Rows offset to offset + k of each query, with their `similarity`, from the matrix of a collection."""
    near = [_cut(at, cosines, offset + k) for at, cosines in matrix.nearest(queries, offset + k, places)]
    return read_near(matrix.dataset, near, k, offset, columns)


def read_near(dataset: lance.LanceDataset, near: list[Near], k: int, offset: int, columns: list[str]) -> Iterator[pa.Table]:
    """Rows offset to offset + k of each query, with their `similarity`, of those near it and the last one's equals."""
    wanted = np.unique(np.concatenate([np.zeros(0, np.int64), *(at for at, _ in near)]))
    if len(wanted) > len(near) * (offset + k + SPARE):  # many equals: which ones, their ids say
        ids = dataset.take(wanted, columns=["id"])["id"].to_numpy(zero_copy_only=False)
        cut = [(at, c, np.lexsort((ids[np.searchsorted(wanted, at)], -c))[: offset + k]) for at, c in near]
        near = [(at[np.sort(best)], c[np.sort(best)]) for at, c, best in cut]
        wanted = np.unique(np.concatenate([at for at, _ in near]))
    rows = dataset.take(wanted, columns=list(dict.fromkeys(["id", *columns])))
    for at, cosines in near:
        yield ordered(rows.take(np.searchsorted(wanted, at)), cosines).slice(offset, k)


@dataclass(frozen=True)
class PrefilteredRows:
    """The rows that pass a filter: places in the table, ascending, and vectors [n, D], which are read of these alone, with
    their lengths [n]."""

    places: RowNumbers
    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]

    @classmethod
    def of(cls, dataset: lance.LanceDataset, where: str, dimension: int) -> PrefilteredRows:
        """Read them."""
        read = dataset.scanner(columns=["vector", "_rowoffset"], filter=where, late_materialization=True).to_table()
        places = read["_rowoffset"].to_numpy().astype(np.int64)
        vectors = matrix_of(read["vector"], dimension)
        if (np.diff(places) < 0).any():
            order = np.argsort(places)
            places, vectors = places[order], vectors[order]
        return cls(places, vectors, np.maximum(np.linalg.norm(vectors, axis=1), np.finfo(np.float32).tiny))

    def nearest(self, query: NDArray[np.float32], limit: int) -> Near:
        """The nearest rows to a query, and what is as near as the last of them: cosines float32 [n]."""
        # einsum, not a product by OpenBLAS: its threads would slow the next embedding down (`vector_cache._products`)
        rough = np.einsum("nd,d->n", self.vectors, query / np.linalg.norm(query)) / self.norms
        near = nearly_nearest(rough, limit)
        return _cut(self.places[near], cosines_of(self.vectors[near], query), limit)


def _cut(places: RowNumbers, cosines: NDArray[np.float32], limit: int) -> Near:
    """The nearest of some rows, the last one's equals, and no more."""
    if (surplus := len(cosines) - limit) > 0:
        keep = cosines >= np.partition(cosines, surplus)[surplus]
        places, cosines = places[keep], cosines[keep]
    return places, cosines


def ordered(rows: pa.Table, cosines: NDArray[np.float32]) -> pa.Table:
    """Rows with their `similarity`, the most similar first, equals by id."""
    return rows.append_column("similarity", pa.array(cosines)).sort_by([("similarity", "descending"), ("id", "ascending")])


def matrix_of(column: pa.Array | pa.ChunkedArray, dimension: int) -> NDArray[np.float32]:
    """Vectors of a column: float32 [n, D]."""
    flat: NDArray[np.float32] = pc.list_flatten(column).to_numpy()
    return flat.reshape(-1, dimension)
