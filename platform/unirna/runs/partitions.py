"""Rows spread over partitions by many units, and read again one partition at a time.

A unit writes an Arrow file for each schema that its rows have. A file holds one compressed batch for each partition in
turn, again and again, so a partition is read from all files without touching the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna.runs.storage import Folder

SPILL_BYTES: Final = 64 << 20
"""Rows that are held and spread over the partitions at once."""


class PartitionWriter:
    """Writes the rows of one unit; a context manager, whose files are there when it ends well.

    Attributes:
        rows: int64 [partitions], rows written for each partition.
    """

    def __init__(
        self, folder: Folder, stage: str, unit: int, partitions: int, partition_of: Callable[[pa.Table], NDArray[Any]]
    ) -> None:
        """Write into a stage's folder.

        Args:
            folder: of the run. stage: folder in it. unit: number of the unit.
            partitions: how many there are. partition_of: of a table, the partition of each of its rows, [rows].
        """
        self.folder, self.stem, self.partition_of = folder, f"{stage}/{unit:06d}", partition_of
        self.rows = np.zeros(partitions, np.int64)
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
        """Add rows. Those of a partition keep their order among all rows of one schema."""
        self._waiting.setdefault(table.schema, []).append(table)
        self._bytes += table.nbytes
        if self._bytes >= SPILL_BYTES:
            self._flush()

    def _flush(self) -> None:
        for schema, tables in self._waiting.items():
            table = pa.concat_tables(tables)
            partition = self.partition_of(table)
            counts = np.bincount(partition, minlength=len(self.rows))
            self.rows += counts
            ordered = table.take(np.argsort(partition, kind="stable")).combine_chunks()
            for end, count in zip(np.cumsum(counts).tolist(), counts.tolist(), strict=True):
                rows = ordered.slice(end - count, count).combine_chunks()
                batch = rows.to_batches()[0] if count else pa.RecordBatch.from_pylist([], schema)
                self._writer(schema).write_batch(batch)
        self._waiting.clear()
        self._bytes = 0

    def _writer(self, schema: pa.Schema) -> Any:
        if schema not in self._writers:
            sink = self._files.enter_context(self.folder.writing(f"{self.stem}-{len(self._writers):06d}.arrow"))
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            self._writers[schema] = self._files.enter_context(pa.ipc.new_file(sink, schema, options=options))
        return self._writers[schema]


def read_partition(folder: Folder, stage: str, partition: int, partitions: int) -> Iterator[tuple[int, pa.Table]]:
    """Stream the rows of one partition, unit by unit; within a unit schema by schema.

    Args:
        folder: of the run. stage: folder in it. partition: which. partitions: how many there are.

    Yields:
        The number of a unit and some of its rows, never none.
    """
    for name in folder.names(stage, "arrow"):
        filesystem, path = folder.at(f"{stage}/{name}.arrow")
        with filesystem.open_input_file(path) as source, pa.ipc.open_file(source) as reader:
            for i in range(partition, reader.num_record_batches, partitions):
                if (batch := reader.get_batch(i)).num_rows:
                    yield int(name.partition("-")[0]), pa.Table.from_batches([batch])
