"""The records that are still to be embedded, as chunks of sequences of similar length, equal ones together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna.embed.plan import Plan
from unirna.embed.resolve import exceptions_of
from unirna.embed.scan import ROWS
from unirna.runs import read_partition
from unirna.sequence import column_of, convert
from unirna.vectorstore.columns import OWN

PIECE: Final = ".piece"
NUMBER: Final = ".number"
"""Columns of a chunk that say where a record stands; no column of a collection has a dot in its name."""

BUFFER_BYTES: Final = 256 << 20
"""Records of a part that are held and sorted at once. Parts are smaller, but for strongly compressed input, more than some
32 GB of it, or very many records that carry one sequence; then a sequence is embedded once for each buffer with it."""


def chunks_of(plan: Plan, part: int, records: list[str], rows: int) -> Iterator[pa.Table]:
    """Stream the records of a part that are neither exceptions nor embedded by an earlier run, in chunks.

    Args:
        plan: of the run.
        part: what to read.
        records: names of the part's records of earlier runs.
        rows: how many records the part has; it is not read again if all are accounted for.

    Returns:
        Tables of about `chunk_nucleotides` distinct nucleotides: `PIECE`, `NUMBER` and the columns of the collection but
        the vectors. Chunks of a part are the same each time in one run, so a chunk that is done again finds its own record.
    """
    finished = [plan.state.read_table(f"records/{name}.parquet", ["piece", "number"]) for name in records]
    leave = pa.concat_tables([exceptions_of(plan.state, plan.against, part), *finished])
    if leave.num_rows == rows:
        return
    skip = np.sort(places(leave))
    waiting: list[pa.Table] = []
    size = 0
    for _, table in read_partition(plan.state, ROWS, part, plan.parts):
        fresh = table.filter(pa.array(~among(places(table), skip)))
        if not fresh.num_rows:
            continue
        waiting.append(conform(fresh, plan.schema))
        size += fresh.nbytes
        if size >= BUFFER_BYTES:
            yield from _cut(pa.concat_tables(waiting), plan)
            waiting, size = [], 0
    if waiting:
        yield from _cut(pa.concat_tables(waiting), plan)


def places(table: pa.Table) -> NDArray[np.int64]:
    """Piece and number of each record as one number, int64 [N]."""
    packed: NDArray[np.int64] = (table["piece"].to_numpy().astype(np.int64) << 40) | table["number"].to_numpy()
    return packed


def among(values: NDArray[np.int64], ordered: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which values stand in a sorted array: bool [N]."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: NDArray[np.bool_] = ordered[at] == values
    return found


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Bring clean records to the columns of a collection: labels it lacks become null, types are those of the schema."""
    columns: dict[str, pa.ChunkedArray | pa.Array] = {PIECE: table["piece"], NUMBER: table["number"]}
    for field in schema:
        if field.name in ("vector", "vectors"):
            continue
        name = field.name if field.name in OWN else column_of(field.name)
        if name in table.column_names:
            columns[field.name] = convert(table[name], field.type)
        else:
            columns[field.name] = pa.nulls(table.num_rows, field.type)
    return pa.table(columns)


def _cut(table: pa.Table, plan: Plan) -> Iterator[pa.Table]:
    """Chunks of neighbours in length, all records of a sequence in one; within a chunk in the order of the input.

    Where each nucleotide gets a vector it is the rows that are many, so there the records of a sequence may be in several.
    """
    first, which = distinct(table["sha"])
    lengths: NDArray[np.int64] = table["length"].to_numpy().astype(np.int64)
    if "vectors" in plan.schema.names:
        order = np.lexsort((which, lengths))
        chunk_of_row = np.empty(len(lengths), np.int64)
        chunk_of_row[order] = np.cumsum(lengths[order]) // max(plan.chunk_nucleotides, 1)
    else:
        order = np.argsort(lengths[first], kind="stable")
        chunk = np.empty(len(first), np.int64)
        chunk[order] = np.cumsum(lengths[first][order]) // max(plan.chunk_nucleotides, 1)
        chunk_of_row = chunk[which]
    rows = np.argsort(chunk_of_row, kind="stable")
    for part in np.split(rows, np.flatnonzero(np.diff(chunk_of_row[rows])) + 1):
        yield table.take(part)


def distinct(shas: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row in which each distinct value comes first, int64 [U], and for each row which of them it has, int64 [N]."""
    which = shas.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    first = np.unique(which, return_index=True)[1].astype(np.int64)  # values are numbered as they come
    return first, which


def pack_chunk(table: pa.Table) -> bytes:
    """A chunk as Arrow IPC bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def chunk_row(part: int, chunk: int, table: bytes, failure: str) -> pa.Table:
    """What a reader sends to an actor: a packed chunk, or why there is none."""
    return pa.table({"part": [part], "chunk": [chunk], "table": pa.array([table], pa.large_binary()), "failure": [failure]})


def unpack_chunk(data: pa.Buffer | bytes) -> pa.Table:
    """The chunk that `pack_chunk` packed."""
    return pa.ipc.open_stream(data).read_all()
