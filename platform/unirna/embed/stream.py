"""The records that are still to be embedded, as chunks of sequences of similar length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna.embed.plan import Plan
from unirna.embed.resolve import exceptions_of
from unirna.embed.scan import Unit

BUFFER_CHUNKS = 16
"""Chunks' worth of records that are sorted by length together: enough for neighbours of one length, little memory."""
BUFFER_ROWS = 200_000


def chunks_of(plan: Plan, unit: Unit, records: list[str], good: int) -> Iterator[pa.Table]:
    """Stream the records of a unit that are neither exceptions nor embedded by an earlier run, in chunks.

    Args:
        plan: of the run.
        unit: what to read.
        records: names of the unit's records of earlier runs.
        good: how many good records the unit has; it is not read again if all are accounted for.

    Returns:
        Tables of about `chunk_nucleotides`: `piece`, `number` and the columns of the collection but `vector`. Chunks of a
        unit are the same each time in one run, so a chunk that is done again finds its own record.
    """
    last = unit.first + len(unit.pieces) - 1
    finished = [plan.state.read_table(f"records/{name}.parquet", ["piece", "number"]) for name in records]
    leave = pa.concat_tables([exceptions_of(plan.state, plan.version, unit.first, last), *finished])
    if leave.num_rows == good:
        return
    pieces, numbers = leave["piece"].to_numpy(), leave["number"].to_numpy()
    waiting: list[pa.Table] = []
    nucleotides = rows = 0
    for index, piece in enumerate(unit.pieces, unit.first):
        skip = numbers[pieces == index]
        for table, _, _ in plan.source.tables(piece):
            fresh = table.filter(pa.array(~np.isin(table["number"].to_numpy(), skip)))
            if not fresh.num_rows:
                continue
            waiting.append(conform(fresh, index, plan.schema))
            nucleotides += int(fresh["length"].to_numpy().sum())
            rows += fresh.num_rows
            if nucleotides >= BUFFER_CHUNKS * plan.chunk_nucleotides or rows >= BUFFER_ROWS:
                yield from _cut(pa.concat_tables(waiting), plan.chunk_nucleotides)
                waiting, nucleotides, rows = [], 0, 0
    if waiting:
        yield from _cut(pa.concat_tables(waiting), plan.chunk_nucleotides)


def conform(table: pa.Table, piece: int, schema: pa.Schema) -> pa.Table:
    """Bring clean records to the columns of a collection: labels it lacks become null, types are those of the schema."""
    columns: dict[str, pa.ChunkedArray | pa.Array] = {
        "piece": pa.array(np.full(table.num_rows, piece, np.int32)),
        "number": table["number"],
    }
    for field in schema:
        if field.name == "vector":
            continue
        if field.name in table.column_names:
            columns[field.name] = table[field.name].cast(field.type)
        else:
            columns[field.name] = pa.nulls(table.num_rows, field.type)
    return pa.table(columns)


def _cut(table: pa.Table, chunk_nucleotides: int) -> Iterator[pa.Table]:
    """Chunks of neighbours in length; within a chunk rows stand in the order of the input."""
    lengths: NDArray[np.int64] = table["length"].to_numpy().astype(np.int64)
    order = np.argsort(lengths, kind="stable")
    chunk = np.cumsum(lengths[order]) // max(chunk_nucleotides, 1)
    for part in np.split(order, np.flatnonzero(np.diff(chunk)) + 1):
        yield table.take(np.sort(part))


def pack_chunk(table: pa.Table) -> bytes:
    """A chunk as Arrow IPC bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def unpack_chunk(data: pa.Buffer | bytes) -> pa.Table:
    """The chunk that `pack_chunk` packed."""
    return pa.ipc.open_stream(data).read_all()
