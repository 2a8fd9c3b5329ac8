"""Opening, listing, searching and reading collections."""

from __future__ import annotations

import re
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

from unirna.vectorstore.errors import FilterError, ModelMismatchError, StoreError
from unirna.vectorstore.schema import Provenance

METRIC: Final = "cosine"
REJECTS: Final = ".rejects"
QUERIES_AT_ONCE: Final = 64
SPARE: Final = 16
"""Rows fetched beyond those asked for, so that ties at the end are seen without asking again."""
FILTER_LETTERS: Final = 2_000
FILTER_MARKS: Final = 100
"""Most letters, and most words and operators, of a filter. The parser and the planner recurse, and end the whole process
where the stack does: at some hundred operators."""
FUNCTIONS: Final = frozenset(
    """abs cast ceil character_length char_length coalesce contains date ends_with floor ifnull isnan length lower ltrim
    nullif regexp_like regexp_match round rtrim sqrt starts_with strpos substr substring trim try_cast upper
    array_contains array_has array_has_all array_has_any array_length""".split()  # noqa: SIM905
)
"""Functions that a filter may call: none whose answer is much longer than what it is given, as that of `repeat` is."""
_BEFORE_BRACKET: Final = frozenset(
    "and or not in when then else case like ilike between is any all decimal varchar char timestamp".split()  # noqa: SIM905
)
_TOKEN = re.compile(
    r"""(?P<apart>[\s,]+)|(?P<text>'(?:[^']|'')*'|"[^"]*"|`[^`]*`)|(?P<word>\w+)(?!['"`])|"""
    r"""(?P<sign>::|(?!--|/\*)[^\s\w'"`$\\\#?:])"""
)
"""A token of a filter. Comments, `$$` quotes, prefixed quotes (E'…') and placeholders are none:
within them the store sees other boundaries than we do, and on some it panics."""


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


def _filesystem(uri: str) -> tuple[pa.fs.FileSystem, str]:
    if "://" in uri:
        filesystem, path = pa.fs.FileSystem.from_uri(uri.rstrip("/"))
        return filesystem, path
    return pa.fs.LocalFileSystem(), uri


def table_uri(uri: str, name: str) -> str:
    """Where the Lance table of a collection lies."""
    return f"{uri.rstrip('/')}/{name}.lance"


def exists(uri: str, name: str) -> bool:
    """Whether a table has been committed under this name; files of a first job still running do not count."""
    filesystem, path = _filesystem(table_uri(uri, name) + "/_versions")
    return bool(filesystem.get_file_info(path).type == pa.fs.FileType.Directory)


def list_collections(uri: str) -> list[str]:
    """Names of the collections of a store, sorted; sidecar tables are left out, an absent store has none."""
    filesystem, path = _filesystem(uri)
    entries = filesystem.get_file_info(pa.fs.FileSelector(path, allow_not_found=True))
    names = sorted(e.base_name.removesuffix(".lance") for e in entries if e.base_name.endswith(".lance"))
    return [name for name in names if not name.endswith(REJECTS) and exists(uri, name)]


def open(uri: str, name: str) -> Collection:
    """Open a collection.

    Args:
        uri: the store: a folder, `s3://…` or `gs://…` (credentials from the environment).
        name: the collection.

    Raises:
        StoreError: no such collection, the message names those there are; or a table that is none of ours.
    """
    if not exists(uri, name):
        there = ", ".join(list_collections(uri)) or "none yet"
        raise StoreError(f"no collection {name!r} in {uri}. Collections there: {there}. Make one with jobs/embed.py")
    return Collection(uri, name)


class Collection:
    """A collection opened for reading. Every call sees the newest commit. Safe to share between threads.

    A row is `id`, `sequence` (normalised letters, IUPAC codes verbatim), `length` (nucleotides), `sha` (of the sequence),
    `vector` (float32 [H]) and the user's label columns.

    Attributes:
        uri: the store. name: the collection. provenance: what made its vectors.
    """

    def __init__(self, uri: str, name: str) -> None:
        import lancedb  # here, since it takes a second, and the workers of a job that write rows do not need it

        self.uri, self.name = uri, name
        connection = lancedb.connect(uri, read_consistency_interval=timedelta(0))
        self._table: Any = connection.open_table(name)
        schema: pa.Schema = self._table.schema
        self.provenance = Provenance.from_schema(schema, name)
        self._dimension: int = schema.field("vector").type.list_size

    def __repr__(self) -> str:
        return f"Collection({self.name!r}, {len(self):,} rows, {self.provenance.model})"

    def __len__(self) -> int:
        return int(self._table.count_rows())

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the table."""
        schema: pa.Schema = self._table.schema
        return schema

    @property
    def info(self) -> CollectionInfo:
        """Name, size, provenance, columns and version, as of now."""
        columns = {field.name: str(field.type) for field in self.schema}
        return CollectionInfo(self.name, len(self), self._dimension, self.provenance, columns, int(self._table.version))

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
    ) -> pa.Table:
        """The k nearest rows to each vector, by exact comparison with every row that passes the filter.

        Args:
            vectors: float32 [H] or [Q, H].
            k: rows for each vector.
            offset: rows to pass over first.
            where: SQL condition on the columns, such as "length < 200 AND rna_type = 'tRNA'".
            columns: columns of the result; by default all but `vector`.

        Returns:
            Rows in the order (query, rank): `query` int32 (from 0), `rank` int32 (from 1, `offset` included), `similarity`
            float32 (cosine; 1 = same direction), then the columns. Equal similarities stand in the order of their ids.

        Raises:
            FilterError: a filter that the store cannot read.
            ValueError: vectors of another length, with NaN or without direction; k below 1; an unknown column.
        """
        queries = self._queries(vectors)
        if k < 1 or offset < 0:
            raise ValueError(f"k={k}, offset={offset}: wanted k of 1 or more and an offset of 0 or more")
        wanted = self._columns(columns)
        self._check_filter(where)
        parts: list[pa.Table] = []
        for first in range(0, len(queries), QUERIES_AT_ONCE):
            chunk = queries[first : first + QUERIES_AT_ONCE]
            found = self._nearest(chunk, offset + k + SPARE, where, wanted)
            for i, query in enumerate(chunk):
                rows = found.filter(pc.equal(found["query_index"], i)) if "query_index" in found.column_names else found
                ranked = self._ranked(query, rows, k, offset, where, wanted)
                parts.append(_result(ranked, first + i, offset, wanted))
        return pa.concat_tables(parts)

    def get(self, ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Rows by id, in the order asked for; ids that are not there are left out.

        Args:
            ids: which rows.
            columns: by default all but `vector`.
        """
        wanted = self._columns(columns)
        names = list(dict.fromkeys(ids))
        fetched = list(dict.fromkeys(["id", *wanted]))
        condition = pc.field("id").isin(pa.array(names, pa.string()))
        found = self._dataset().scanner(columns=fetched, filter=condition).to_table() if names else None
        if found is None:
            return self.schema.empty_table().select(wanted)
        order = pc.index_in(pa.array(names, pa.string()), found["id"].combine_chunks()).drop_null()
        return found.take(order).select(wanted)

    def scan(
        self, columns: Sequence[str] | None = None, batch_rows: int = 8192, where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream rows as of now, in the table's order.

        Args:
            columns: by default all but `vector`.
            batch_rows: most rows of a batch.
            where: SQL condition.
        """
        wanted = self._columns(columns)
        self._check_filter(where)
        yield from self._dataset().scanner(columns=wanted, filter=where, batch_size=batch_rows).to_batches()

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _dataset(self) -> lance.LanceDataset:
        return lance.dataset(table_uri(self.uri, self.name))

    def _columns(self, columns: Sequence[str] | None) -> list[str]:
        names = self.schema.names
        if columns is None:
            return [name for name in names if name != "vector"]
        unknown = [name for name in columns if name not in names]
        if unknown:
            raise StoreError(f"collection {self.name!r} has no column {', '.join(unknown)}. It has {', '.join(names)}")
        return list(dict.fromkeys(columns))

    def _queries(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        queries = np.asarray(vectors, np.float32)
        if queries.ndim == 1:
            queries = queries[None]
        if queries.ndim != 2 or queries.shape[1] != self._dimension or not len(queries):
            raise ValueError(f"vectors of shape {np.shape(vectors)}: wanted [{self._dimension}] or [Q, {self._dimension}]")
        if not np.isfinite(queries).all() or not queries.any(axis=1).all():
            raise ValueError("a query vector has NaN or infinite values, or only zeros: it has no direction to compare")
        return queries

    def _check_filter(self, where: str | None) -> None:
        if where is None:
            return
        if not where.strip():
            raise FilterError(where, "is empty; leave it out for no filter", self.schema.names)
        problem = _problem(where)
        if problem:
            raise FilterError(where, problem, self.schema.names)
        dataset = self._dataset()
        try:
            dataset.scanner(columns=["id"], filter=where).explain_plan()
        except (ValueError, OSError) as error:
            raise FilterError(where, _plain(error), self.schema.names) from error
        try:
            dataset.scanner(columns=["id"], filter=f"({where}\n)").explain_plan()
        except (ValueError, OSError) as error:
            raise FilterError(where, "goes on after the end of a condition", self.schema.names) from error

    def _nearest(self, queries: NDArray[np.float32], limit: int, where: str | None, columns: list[str]) -> pa.Table:
        fetched = list(dict.fromkeys([*columns, "id", "_distance"]))  # LanceDB warns unless _distance is asked for
        query = self._table.search(queries, vector_column_name="vector").distance_type(METRIC).bypass_vector_index()
        query = query.select(fetched).limit(limit)
        if where is not None:
            query = query.where(where, prefilter=True)
        found: pa.Table = query.to_arrow()
        return found

    def _ranked(
        self, query: NDArray[np.float32], found: pa.Table, k: int, offset: int, where: str | None, columns: list[str]
    ) -> pa.Table:
        """Rows offset to offset + k of one query. Asks again for more while rows tied with the last one may be missing."""
        limit = offset + k + SPARE
        while True:
            ordered = found.sort_by([("_distance", "ascending"), ("id", "ascending")])
            complete = ordered.num_rows < limit
            if complete or ordered["_distance"][-1].as_py() > ordered["_distance"][offset + k - 1].as_py():
                return ordered.slice(offset, k)
            limit *= 2
            found = self._nearest(query[None], limit, where, columns)


def _result(rows: pa.Table, query: int, offset: int, columns: list[str]) -> pa.Table:
    count = rows.num_rows
    similarity = pc.subtract(pa.scalar(1.0, pa.float32()), rows["_distance"].cast(pa.float32()))
    result: dict[str, Any] = {
        "query": pa.array(np.full(count, query, np.int32)),
        "rank": pa.array(np.arange(offset + 1, offset + count + 1, dtype=np.int32)),
        "similarity": similarity,
        **{name: rows[name] for name in columns},
    }
    return pa.table(result)


def _problem(where: str) -> str:
    """What keeps a filter from the store's parser, which it could bring down; empty if nothing does."""
    if len(where) > FILTER_LETTERS:
        return (
            f"has {len(where):,} letters, at most {FILTER_LETTERS:,} are read. Look ids up with get(), or filter the result"
        )
    place = marks = depth = 0
    before = ""
    while place < len(where):
        token = _TOKEN.match(where, place)
        if token is None:
            return f"is not clear at {where[place : place + 12]!r}: a comment, an escape, a placeholder or an open quote"
        place = token.end()
        if token["apart"]:
            continue
        marks += token["text"] is None
        if token["sign"] == "(" and before and before.lower() not in FUNCTIONS | _BEFORE_BRACKET:
            return f"calls {before}(). A filter may call {', '.join(sorted(FUNCTIONS))}"
        depth += {"(": 1, ")": -1}.get(token["sign"] or "", 0)
        if depth < 0:
            break
        before = token["word"] or (token["text"] or "").strip('`"')  # the store calls `repeat`(…) too
    # The parser stops without a word where a condition ends: "length < 9) OR (1 = 1" or "length < 9 LIMIT 3" would run
    # as "length < 9". Matching brackets and a parse in brackets rule that out; what runs is the filter as given.
    if depth:
        return "brackets do not match"
    if marks > FILTER_MARKS:
        return f"has {marks:,} words, numbers and operators, at most {FILTER_MARKS} are read. x IN (…) is shorter than OR"
    return ""


def _plain(error: Exception) -> str:
    """What the store says, less the wrapping around it and its Rust source positions."""
    text = re.sub(r",? /\S+\.rs:\d+:\d+", "", str(error)).strip()
    parser = re.search(r"sql parser error: ([^)]*)", text)
    if parser:
        return parser[1].strip()
    return re.sub(
        r"^((Invalid user input|Schema error|Error resolving filter expression .*?Invalid user input): )+", "", text
    ).rstrip(". ")
