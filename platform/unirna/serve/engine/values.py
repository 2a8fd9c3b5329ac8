"""Stored values as plain JSON values, and vectors as Arrow."""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Iterable, Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna.vectorstore import vector_array

ARROW: Final = "application/vnd.apache.arrow.stream"


def plain_row(row: dict[str, Any], own: Collection[str]) -> dict[str, Any]:
    """A row of a collection as the service gives it: id, length, sequence, and all other columns under `labels`."""
    labels = {name: plain(value) for name, value in row.items() if name not in own}
    return {"id": row["id"], "length": row["length"], "sequence": row["sequence"], "labels": labels}


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table with Python values; where Python has none (a date beyond the year 9999) its text."""
    columns = [python_values(table[name]) for name in table.column_names]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def python_values(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column as `rows_of` gives them."""
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        return [_value(chunk, place) for chunk in column.chunks for place in range(len(chunk))]


def _value(column: pa.Array, place: int) -> Any:
    try:
        return column[place].as_py()
    except (OverflowError, ValueError):
        return column.slice(place, 1).to_string().strip("[] \n")


def plain(value: Any) -> Any:
    """A label's value as JSON has it: no NaN or infinity (they become null), times in ISO 8601, bytes in hexadecimal."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):  # an entry of an Arrow map, whose keys need not be texts
        return dict(zip(("key", "value"), map(plain, value), strict=True))
    if isinstance(value, (date, time)):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    return float(value) if isinstance(value, Decimal) else str(value)


def arrow_parts(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Batches as the parts of an Arrow IPC stream, each sent before the next is read."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch.cast(schema))
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()


def arrow_stream(vectors: NDArray[np.float32], metadata: dict[str, str]) -> bytes:
    """Vectors [N, H] as an Arrow IPC stream of one column, `vector`."""
    column = vector_array(vectors)
    schema = pa.schema([pa.field("vector", column.type)], metadata=metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))
    stream: bytes = sink.getvalue().to_pybytes()
    return stream
