"""The scratch folder of a build. A file is complete once it is there, and a part of a stage is done once its record is.

Sequences are spread over buckets by the first 32 bits of their SHA-256, in order, so the kept sequences of all buckets, one
after the other, are sorted by it. A kept sequence is known by its index in that order: bucket b has those from `starts[b]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna.runs import new_file, read_json, write_json


@dataclass(frozen=True)
class Work:
    """The scratch folder.

    Attributes:
        folder: where it is. Every worker sees it under this path.
    """

    folder: Path

    def at(self, stage: str, number: int, ending: str) -> Path:
        """Path of a stage's file for one bucket or unit."""
        return self.folder / stage / f"{number:05d}.{ending}"

    def done(self, stage: str, number: int) -> bool:
        """Whether a part of a stage is finished."""
        return self.at(stage, number, "json").exists()

    def finish(self, stage: str, number: int, record: Mapping[str, Any]) -> None:
        """Note that a part of a stage is finished, and what came of it."""
        write_json(self.at(stage, number, "json"), record)

    def record(self, stage: str, number: int) -> dict[str, Any]:
        """What came of a finished part of a stage."""
        return read_json(self.at(stage, number, "json"))

    def write_array(self, stage: str, number: int, array: NDArray[Any]) -> None:
        """Write a numpy array."""
        with new_file(self.at(stage, number, "npy")) as beside, beside.open("wb") as sink:
            np.save(sink, array)

    def array(self, stage: str, number: int) -> NDArray[Any]:
        """A numpy array, memory-mapped."""
        array: NDArray[Any] = np.load(self.at(stage, number, "npy"), mmap_mode="r")
        return array

    def write_table(self, stage: str, number: int, table: pa.Table) -> None:
        """Write an Arrow table as one uncompressed batch, to be memory-mapped."""
        with new_file(self.at(stage, number, "arrow")) as beside, pa.ipc.new_file(str(beside), table.schema) as writer:
            writer.write_table(table.combine_chunks(), max_chunksize=max(table.num_rows, 1))

    def table(self, stage: str, number: int) -> pa.Table:
        """An Arrow table, memory-mapped."""
        return pa.ipc.open_file(pa.memory_map(str(self.at(stage, number, "arrow")))).read_all()

    # ---- files in parts: what one worker writes and many read, each its part ---------------------------------------

    def write_parts(
        self, stage: str, number: int, schema: pa.Schema, chunks: Iterable[tuple[pa.Table, NDArray[Any]]], parts: int
    ) -> None:
        """Write tables whose rows belong to parts; each chunk becomes one compressed batch for each part.

        Args:
            stage, number: of the file. schema: of the tables.
            chunks: table and, for each of its rows, the number of its part. Rows of a part keep their order.
            parts: how many parts there are.
        """
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        path = self.at(stage, number, "arrow")
        with new_file(path) as beside, pa.ipc.new_file(str(beside), schema, options=options) as writer:
            for table, part in chunks:
                ordered = table.select(schema.names).cast(schema).take(np.argsort(part, kind="stable")).combine_chunks()
                ends = np.cumsum(np.bincount(part, minlength=parts)).tolist()
                for start, end in zip([0, *ends[:-1]], ends, strict=True):
                    rows = ordered.slice(start, end - start).combine_chunks()
                    writer.write_batch(rows.to_batches()[0] if rows.num_rows else _empty(schema))

    def read_part(
        self, stage: str, numbers: int, schema: pa.Schema, part: int, parts: int
    ) -> Iterator[tuple[int, pa.Table]]:
        """The rows of one part, file by file, in order: number of the file and its rows."""
        for number in range(numbers):
            with pa.memory_map(str(self.at(stage, number, "arrow"))) as source:
                reader = pa.ipc.open_file(source)
                batches = [reader.get_batch(i) for i in range(part, reader.num_record_batches, parts)]
                yield number, pa.Table.from_batches(batches, schema)


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


class Kept:
    """The kept sequences of all buckets by index, memory-mapped; opened bucket by bucket as they are asked for.

    Attributes:
        starts: int64 [buckets + 1], index of the first sequence of each bucket, and the number of all.
    """

    def __init__(self, work: Work, starts: NDArray[np.int64]) -> None:
        self.work, self.starts = work, starts
        self._tables: dict[int, pa.Table] = {}
        self._arrays: dict[tuple[str, int], NDArray[Any]] = {}

    def sequences(self, indices: NDArray[np.int64]) -> pa.Array:
        """Sequences, in any order."""
        return self._gather(indices, lambda bucket, rows: self._table(bucket)["sequence"].combine_chunks().take(rows))

    def shas(self, indices: NDArray[np.int64]) -> pa.Array:
        """SHA-256 of sequences, 16 bytes each."""
        return self._gather(indices, lambda bucket, rows: self._table(bucket)["sha"].combine_chunks().take(rows))

    def values(self, stage: str, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Values that a stage wrote for sequences, one array to a bucket."""
        return np.asarray(
            self._gather(indices, lambda bucket, rows: pa.array(self._array(stage, bucket)[rows])).to_numpy(False)
        )

    def _gather(self, indices: NDArray[np.int64], take: Any) -> pa.Array:
        order = np.argsort(indices, kind="stable")
        ordered = indices[order]
        cuts = np.searchsorted(ordered, self.starts)
        parts = [take(bucket, ordered[a:b] - self.starts[bucket]) for bucket, (a, b) in enumerate(pairwise(cuts)) if b > a]
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return pa.concat_arrays(parts).take(back) if parts else take(0, np.array([], np.int64))

    def _table(self, bucket: int) -> pa.Table:
        if bucket not in self._tables:
            self._tables[bucket] = self.work.table("kept", bucket)
        return self._tables[bucket]

    def _array(self, stage: str, bucket: int) -> NDArray[Any]:
        if (stage, bucket) not in self._arrays:
            self._arrays[stage, bucket] = self.work.array(stage, bucket)
        return self._arrays[stage, bucket]
