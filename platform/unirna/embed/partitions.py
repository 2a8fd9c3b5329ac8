"""The clean records of the input, spread over parts by their sequence, so that equal sequences stand together.

Each unit of input writes a file for each set of label columns it has: Arrow record batches, one for each part in turn,
again and again. A part is read from all files without touching the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna.embed.state import State
from unirna.vectorstore import storable_table

SPOOL_BYTES: Final = 64 << 20
"""Records that are spread over the parts in memory at once."""
FOLDER: Final = "rows"


def part_of(shas: pa.ChunkedArray | pa.Array, parts: int) -> NDArray[np.int32]:
    """The part of each sequence, by the first 8 hex digits of its sha: int32 [N]."""
    if parts == 1 or not len(shas):
        return np.zeros(len(shas), np.int32)
    digits = np.array(shas.to_pylist(), dtype="S8").view("<u8")
    return (((digits * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) % np.uint64(parts)).astype(np.int32)


class PartitionWriter:
    """Writes the records of one unit; a context manager, its files are there when it ends well.

    Attributes:
        rows: int64 [parts], records written for each part.
    """

    def __init__(self, state: State, unit: int, parts: int) -> None:
        self.state, self.unit, self.parts = state, unit, parts
        self.rows = np.zeros(parts, np.int64)
        self._waiting: dict[pa.Schema, list[pa.Table]] = {}
        self._bytes = 0
        self._writers: dict[pa.Schema, Any] = {}
        self._files = ExitStack()

    def __enter__(self) -> PartitionWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._flush()
        self._files.__exit__(kind, error, trace)

    def write(self, table: pa.Table) -> None:
        """Add clean records: `piece`, `number`, `id`, `sequence`, `length`, `sha` and any labels."""
        table = storable_table(table).replace_schema_metadata(None)
        self._waiting.setdefault(table.schema, []).append(table)
        self._bytes += table.nbytes
        if self._bytes >= SPOOL_BYTES:
            self._flush()

    def _flush(self) -> None:
        for schema, tables in self._waiting.items():
            table = pa.concat_tables(tables)
            part = part_of(table["sha"], self.parts)
            self.rows += np.bincount(part, minlength=self.parts)
            ordered = table.take(np.argsort(part, kind="stable")).combine_chunks()
            ends = np.cumsum(np.bincount(part, minlength=self.parts)).tolist()
            for start, end in zip([0, *ends[:-1]], ends, strict=True):
                rows = ordered.slice(start, end - start).combine_chunks()
                batch = rows.to_batches()[0] if end > start else pa.RecordBatch.from_pylist([], schema)
                self._writer(schema).write_batch(batch)
        self._waiting.clear()
        self._bytes = 0

    def _writer(self, schema: pa.Schema) -> Any:
        if schema not in self._writers:
            name = f"{FOLDER}/{self.unit:06d}-{len(self._writers):06d}.arrow"
            sink = self._files.enter_context(self.state.writing(name))
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            self._writers[schema] = self._files.enter_context(pa.ipc.new_file(sink, schema, options=options))
        return self._writers[schema]


def rows_of(state: State, part: int, parts: int) -> Iterator[pa.Table]:
    """Stream the records of one part, in the order of the input but for files with other labels in one unit."""
    for name in state.names(FOLDER, "arrow"):
        filesystem, path = state.at(f"{FOLDER}/{name}.arrow")
        with filesystem.open_input_file(path) as source, pa.ipc.open_file(source) as reader:
            for i in range(part, reader.num_record_batches, parts):
                if (batch := reader.get_batch(i)).num_rows:
                    yield pa.Table.from_batches([batch])
