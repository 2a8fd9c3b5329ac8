"""Opening, listing, searching and reading collections."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
from numpy.typing import NDArray

from unirna.base import counted
from unirna.vectorstore.conditions import id_in
from unirna.vectorstore.errors import ChangedError, ForkedError, ModelMismatchError, StoreError
from unirna.vectorstore.filters import check_filter, filter_errors
from unirna.vectorstore.nearest import (
    SPARE,
    PrefilteredRows,
    by_index,
    in_memory,
    matrix_of,
    ordered,
    read_near,
    with_distance,
)
from unirna.vectorstore.schema import INDEX_KEY, KMER_INDEX, OLD_KMER_INDEX, VECTOR_INDEX, Index, Provenance
from unirna.vectorstore.vector_cache import ROUNDING, VECTOR_CACHE, cosines_of

METRIC: Final = "cosine"
REJECTS: Final = ".rejects"
NUCLEOTIDES: Final = ".nucleotides"
MAP: Final = ".map"
SIDECARS: Final = (REJECTS, NUCLEOTIDES, MAP)
"""Endings of the tables that stand beside a collection."""
SESSION: Final = lance.Session()
"""Keeps what was read of indexes and files from one search to the next, however often a collection is opened."""
QUERIES_AT_ONCE: Final = 64
_process: int | None = None
"""Number of the process that first used a store; a forked process has its parent's."""
RARE: Final = 20_000
"""Rows that pass a filter up to which they are all compared, index or not."""


@dataclass(frozen=True)
class CollectionInfo:
    """What a collection is.

    Attributes:
        name: its name. num_rows: sequences in it. dimension: H, length of a vector.
        provenance: the model that made it. columns: name -> Arrow type, in order. version: grows with each commit.
    """

    name: str
    num_rows: int
    dimension: int
    provenance: Provenance
    columns: dict[str, str]
    version: int


def filesystem_of(uri: str) -> tuple[pa.fs.FileSystem, str]:
    """The file system of a folder or URI, and the path within it."""
    if "://" in uri:
        filesystem, path = pa.fs.FileSystem.from_uri(uri.rstrip("/"))
        return filesystem, path
    return pa.fs.LocalFileSystem(), uri


def table_uri(uri: str, name: str) -> str:
    """Path of the Lance table of a collection.

    Raises:
        ForkedError: this process was forked from one that had used a store; whoever reads a table asks here first.
    """
    global _process
    if _process is None:
        _process = os.getpid()
    elif _process != os.getpid():
        raise ForkedError(
            f"store {uri!r}: this process was forked from one that had used a store, and lacks its threads. "
            "Start processes with multiprocessing.get_context('spawn'), or use stores only after the fork"
        )
    return f"{uri.rstrip('/')}/{name}.lance"


def exists(uri: str, name: str) -> bool:
    """Whether a table has been committed under this name; files of a first job still running do not count."""
    filesystem, path = filesystem_of(table_uri(uri, name) + "/_versions")
    return bool(filesystem.get_file_info(path).type == pa.fs.FileType.Directory)


def list_collections(uri: str) -> list[str]:
    """Names of the collections of a store, sorted; sidecar tables are left out, an absent store has none."""
    filesystem, path = filesystem_of(uri)
    entries = filesystem.get_file_info(pa.fs.FileSelector(path, allow_not_found=True))
    names = sorted(e.base_name.removesuffix(".lance") for e in entries if e.base_name.endswith(".lance"))
    return [name for name in names if not name.endswith(SIDECARS) and exists(uri, name)]


def open(uri: str, name: str, *, version: int | str | None = None) -> Collection:
    """Open a collection.

    Args:
        uri: the store: a folder, `s3://…` or `gs://…` (credentials from the environment).
        name: the collection.
        version: the number or tag of an older version, which is then what every call sees; None for always the newest.

    Raises:
        StoreError: no such collection or version, the message names those there are; or a table that is none of ours.
    """
    if not exists(uri, name):
        there = ", ".join(list_collections(uri)) or "none yet"
        raise StoreError(f"no collection {name!r} in {uri}. Collections there: {there}. Make one with jobs/embed.py")
    return Collection(uri, name, version)


class Collection:
    """A collection opened for reading. Every call sees the newest commit. Safe to share between threads.

    A row is `id`, `sequence` (normalised, IUPAC codes kept), `length` (nucleotides), `sha` (of the sequence),
    `vector` (float32 [H]) and the user's label columns.

    Attributes:
        uri: the store. name: the collection. provenance: what made its vectors. version: that was asked for, or None.
    """

    def __init__(self, uri: str, name: str, version: int | str | None = None) -> None:
        self.uri, self.name = uri, name
        self.version = None if version is None else _version_number(uri, name, version)
        schema = lance.dataset(table_uri(uri, name), version=self.version).schema
        self.provenance = Provenance.from_schema(schema, name)
        own = schema.field("vector").type if "vector" in schema.names else schema.field("vectors").type.value_type
        self._dimension: int = own.list_size
        self._lancedb: Any = None

    def __repr__(self) -> str:
        return f"Collection({self.name!r}, {counted(len(self), 'row')}, {self.provenance.model})"

    def __len__(self) -> int:
        return int(self.dataset.count_rows())

    @property
    def dataset(self) -> lance.LanceDataset:
        """The Lance table: the newest version, or the one that was asked for.

        Raises:
            ChangedError: the collection was switched to another model since it was opened.
        """
        dataset = lance.dataset(table_uri(self.uri, self.name), version=self.version, session=SESSION)
        made, now = self.provenance, Provenance.from_schema(dataset.schema, self.name)
        if now.fingerprint != made.fingerprint:
            raise ChangedError(
                f"collection {self.name!r} was switched from model {made.model} ({made.fingerprint}) to {now.model} "
                f"({now.fingerprint}) while it was open: open it again, and embed what you look for with that model"
            )
        return dataset

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the table."""
        schema: pa.Schema = self.dataset.schema
        return schema

    @property
    def info(self) -> CollectionInfo:
        """Name, size, provenance, columns and version, as of now."""
        dataset = self.dataset
        columns = {field.name: str(field.type) for field in dataset.schema}
        rows, version = int(dataset.count_rows()), int(dataset.version)
        return CollectionInfo(self.name, rows, self._dimension, self.provenance, columns, version)

    def check_model(self, fingerprint: str, model: str) -> None:
        """See that a model is the one that made this collection.

        Raises:
            ModelMismatchError: it is another; both are named.
        """
        made = self.provenance
        if fingerprint != made.fingerprint:
            raise ModelMismatchError(self.name, (made.model, made.fingerprint), (model, fingerprint))

    def search(
        self,
        vectors: NDArray[np.float32],
        *,
        k: int = 10,
        offset: int = 0,
        where: str | None = None,
        columns: Sequence[str] | None = None,
        min_similarity: float | None = None,
        exact: bool | None = None,
    ) -> pa.Table:
        """The k nearest rows to each vector among those that pass the filter.

        Vectors that fit the memory set aside for searches are held there (`unirna.vectorstore.vector_cache`), and the
        search is exact. Larger collections are searched by their index (`build_index`), if they have one.

        Args:
            vectors: float32 [H] or [Q, H].
            k: rows for each vector.
            offset: rows to pass over first.
            where: SQL condition on the columns, such as "length < 200 AND rna_type = 'tRNA'".
            columns: columns of the result; by default all but `vector`.
            min_similarity: leave out hits below this cosine.
            exact: compare with every row, or take the index if there is one; None for the first if the vectors fit in
                memory, else the second.

        Returns:
            Rows in the order (query, rank): `query` int32 (from 0), `rank` int32 (from 1, `offset` included), `similarity`
            float32 (cosine; 1 = same direction), then the columns. Equal similarities stand in the order of their ids.

        Raises:
            FilterError: a filter that the store cannot read.
            ValueError: vectors of another length, with NaN or without direction; k below 1; an unknown column.
        """
        queries = self.check_queries(vectors)
        if k < 1 or offset < 0:
            raise ValueError(f"k={k}, offset={offset}: expected k of 1 or more and an offset of 0 or more")
        wanted = self.check_columns(columns)
        dataset = self.dataset
        condition = check_filter(dataset, where)
        index = None if exact else _index_of(dataset)
        matrix = VECTOR_CACHE.matrix(dataset, self.version) if exact is not False or index is None else None
        parts: list[pa.Table] = []
        with filter_errors(where, dataset.schema.names):
            places = matrix.places(condition) if matrix is not None and condition is not None else None
            few = None
            if matrix is None and condition is not None and dataset.count_rows(filter=condition) <= RARE:
                few = PrefilteredRows.of(dataset, condition, self._dimension)  # few: comparing with each is faster
            for first in range(0, len(queries), QUERIES_AT_ONCE):
                chunk = queries[first : first + QUERIES_AT_ONCE]
                if matrix is not None:
                    ranked = in_memory(matrix, chunk, places, k, offset, wanted)
                elif few is not None:
                    ranked = read_near(dataset, [few.nearest(query, offset + k) for query in chunk], k, offset, wanted)
                else:
                    ranked = self._in_store(dataset, index, chunk, k, offset, condition, wanted)
                parts += [_result(rows, first + i, offset, wanted) for i, rows in enumerate(ranked)]
        found = pa.concat_tables(parts)
        return found if min_similarity is None else found.filter(pc.field("similarity") >= min_similarity)

    @property
    def index(self) -> Index | None:
        """The index over the vectors, with what was measured when it was built."""
        return _index_of(self.dataset)

    @property
    def has_kmer_index(self) -> bool:
        """Whether there is an index of the k-mers on disk (`build_kmer_index`)."""
        return bool(kmer_indexes(self.dataset))

    @property
    def fits_in_memory(self) -> bool:
        """Whether the vectors fit the memory set aside for searches, which are then exact without an index."""
        return VECTOR_CACHE.fits(self.dataset)

    @property
    def kmers_fit_in_memory(self) -> bool:
        """Whether its k-mers fit too, as hybrid and verified searches need (otherwise: `build_kmer_index`)."""
        return VECTOR_CACHE.fits(self.dataset, kmers=True)

    def search_index(
        self, index: Index, vector: NDArray[np.float32], *, k: int, columns: Sequence[str], where: str | None = None
    ) -> pa.Table:
        """The k nearest rows to a vector as an index finds them, with settings other than the recorded ones."""
        dataset = self.dataset
        condition = check_filter(dataset, where)
        (rows,) = self._in_store(dataset, index, self.check_queries(vector), k, 0, condition, list(columns))
        return rows

    def all_similar(
        self,
        vector: NDArray[np.float32],
        min_similarity: float,
        *,
        where: str | None = None,
        columns: Sequence[str] | None = None,
        batch_rows: int = 8192,
    ) -> Iterator[pa.RecordBatch]:
        """Stream every row at least as similar to a vector as a cosine, however many there are, in the table's order.

        Args:
            vector: float32 [H]. min_similarity: the cosine. where, columns: as for `search`.
            batch_rows: rows that are compared at once.

        Yields:
            `similarity` float32 and the columns; empty batches are left out.

        Raises:
            FilterError, ValueError: as for `search`.
        """
        (query,) = self.check_queries(vector)
        wanted = self.check_columns(columns)
        dataset = self.dataset
        condition = check_filter(dataset, where)
        fetched = list(dict.fromkeys([*wanted, "vector"]))
        with filter_errors(where, dataset.schema.names):
            for batch in dataset.scanner(columns=fetched, filter=condition, batch_size=batch_rows).to_batches():
                cosine = cosines_of(matrix_of(batch["vector"], self._dimension), query)
                if len(rows := np.flatnonzero(cosine >= np.float32(min_similarity))):
                    kept = batch.select(wanted).take(pa.array(rows))
                    yield pa.record_batch([pa.array(cosine[rows]), *kept.columns], names=["similarity", *wanted])

    def get(self, ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Rows by id, in the order asked for; ids that are not there are left out.

        Args:
            ids: which rows.
            columns: by default all but `vector`.
        """
        wanted = self.check_columns(columns)
        names = list(dict.fromkeys(ids))
        fetched = list(dict.fromkeys(["id", *wanted]))
        found = self.dataset.scanner(columns=fetched, filter=id_in(names)).to_table() if names else None
        if found is None:
            return self.schema.empty_table().select(wanted)
        order = pc.index_in(pa.array(names, pa.string()), found["id"].combine_chunks()).drop_null()
        return found.take(order).select(wanted)

    def sample(self, count: int, *, seed: int = 0, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows chosen at random, each once, in the table's order; the same for the same seed and version.

        Args:
            count: how many; all if there are fewer.
            seed: of the choice.
            columns: by default all but `vector`.

        Raises:
            StoreError: no such column.
        """
        wanted, dataset = self.check_columns(columns), self.dataset
        rows = dataset.count_rows()
        places = np.random.default_rng(seed).choice(rows, min(count, rows), replace=False)
        return dataset.take(np.sort(places).tolist(), columns=wanted)

    def scan(
        self, columns: Sequence[str] | None = None, batch_rows: int = 8192, where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream rows as of now, in the table's order.

        Args:
            columns: by default all but `vector`.
            batch_rows: most rows of a batch.
            where: SQL condition.
        """
        wanted = self.check_columns(columns)
        dataset = self.dataset
        condition = check_filter(dataset, where)
        with filter_errors(where, dataset.schema.names):
            yield from dataset.scanner(columns=wanted, filter=condition, batch_size=batch_rows).to_batches()

    def count(self, where: str | None = None) -> int:
        """How many rows pass a filter, as of now.

        Args:
            where: SQL condition on the columns; None for all rows.

        Raises:
            FilterError: a filter that the store cannot read, or that fails on a row.
        """
        dataset = self.dataset
        condition = check_filter(dataset, where)
        with filter_errors(where, dataset.schema.names):
            return int(dataset.count_rows(filter=condition))

    def check_columns(self, columns: Sequence[str] | None) -> list[str]:
        """The requested columns, by default all but `vector`; StoreError if one does not exist."""
        names = self.schema.names
        if columns is None:
            return [name for name in names if name not in ("vector", "vectors")]
        unknown = [name for name in columns if name not in names]
        if unknown:
            raise StoreError(f"collection {self.name!r} has no column {', '.join(unknown)}. It has {', '.join(names)}")
        return list(dict.fromkeys(columns))

    def check_queries(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of queries as float32 [Q, H]; ValueError where they are none."""
        if self.name.endswith(NUCLEOTIDES):
            raise StoreError(f"{self.name!r} holds vectors of nucleotides: search in the collection of the sequences")
        queries = np.asarray(vectors, np.float32)
        if queries.ndim == 1:
            queries = queries[None]
        if queries.ndim != 2 or queries.shape[1] != self._dimension or not len(queries):
            raise ValueError(
                f"vectors of shape {np.shape(vectors)}: expected [{self._dimension}] or [Q, {self._dimension}]"
            )
        if not np.isfinite(queries).all() or not queries.any(axis=1).all():
            raise ValueError("a query vector has NaN or infinite values, or only zeros: such a vector has no direction")
        return queries

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _in_store(
        self,
        dataset: lance.LanceDataset,
        index: Index | None,
        queries: NDArray[np.float32],
        k: int,
        offset: int,
        where: str | None,
        columns: list[str],
    ) -> Iterator[pa.Table]:
        """Rows offset to offset + k of each query, with their `similarity`, by an index or LanceDB's own exact scan."""
        limit = offset + k + SPARE
        if index is None:
            found = self._scanned(queries, limit, where, columns)
        else:
            found = by_index(dataset, index, queries, limit, where, columns)
        for i, query in enumerate(queries):
            rows = found.filter(pc.equal(found["query_index"], i)) if "query_index" in found.column_names else found
            yield self._ranked(index, query, rows, k, offset, where, columns)

    def _table(self) -> Any:
        import lancedb  # here, since it takes a second, and few need it

        if self._lancedb is None:
            table = lancedb.connect(self.uri, read_consistency_interval=timedelta(0)).open_table(self.name)
            if self.version is not None:
                table.checkout(self.version)
            self._lancedb = table  # ready only now: another thread may be looking
        return self._lancedb

    def _scanned(self, queries: NDArray[np.float32], limit: int, where: str | None, columns: list[str]) -> pa.Table:
        query = self._table().search(queries, vector_column_name="vector").distance_type(METRIC).bypass_vector_index()
        query = query.select(with_distance(columns)).limit(limit)
        if where is not None:
            query = query.where(where, prefilter=True)
        found: pa.Table = query.to_arrow()
        return found

    def _ranked(
        self,
        index: Index | None,
        query: NDArray[np.float32],
        found: pa.Table,
        k: int,
        offset: int,
        where: str | None,
        columns: list[str],
    ) -> pa.Table:
        """Rows offset to offset + k of one query. Asks again for more while rows tied with the last one may be missing."""
        limit = offset + k + SPARE
        while index is None and found.num_rows >= limit:
            distances = np.sort(found["_distance"].to_numpy())
            if distances[-1] > distances[offset + k - 1] + ROUNDING:
                break
            limit *= 2
            found = self._scanned(query[None], limit, where, columns)
        return ordered(found, cosines_of(matrix_of(found["vector"], self._dimension), query)).slice(offset, k)


def has_index(dataset: lance.LanceDataset, name: str) -> bool:
    """Whether a version of a table has an index of this name."""
    return any(index.name == name for index in dataset.describe_indices())


def kmer_indexes(dataset: lance.LanceDataset) -> list[str]:
    """Names of the indexes of k-mers that a version of a table has."""
    return [index.name for index in dataset.describe_indices() if index.name in (KMER_INDEX, OLD_KMER_INDEX)]


def _index_of(dataset: lance.LanceDataset) -> Index | None:
    record = dataset.config().get(INDEX_KEY)
    if record is None or not has_index(dataset, VECTOR_INDEX):
        return None  # a restored or overwritten version may have the record alone
    return Index.from_json(record)


def _version_number(uri: str, name: str, version: int | str) -> int:
    dataset = lance.dataset(table_uri(uri, name))
    tags = {tag: int(values["version"]) for tag, values in dataset.tags.list().items()}
    there = [int(entry["version"]) for entry in dataset.versions()]
    number = tags.get(version) if isinstance(version, str) else version
    if number not in there:
        raise StoreError(
            f"collection {name!r} has no version {version!r}. Versions: {', '.join(map(str, there))}; "
            f"tags: {', '.join(sorted(tags)) or 'none'}"
        )
    return number


def _result(rows: pa.Table, query: int, offset: int, columns: list[str]) -> pa.Table:
    count = rows.num_rows
    result: dict[str, Any] = {
        "query": pa.array(np.full(count, query, np.int32)),
        "rank": pa.array(np.arange(offset + 1, offset + count + 1, dtype=np.int32)),
        "similarity": rows["similarity"],
        **{name: rows[name] for name in columns},
    }
    return pa.table(result)
