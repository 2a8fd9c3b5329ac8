"""The scratch folder of a build. A file is whole once it is there.

Sequences are spread over buckets by the first 32 bits of their SHA-256, in order, so the kept sequences of all buckets, one
after the other, are sorted by it. A kept sequence is known by its index in that order: bucket b has those from `starts[b]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna.runs import Folder, new_file


@dataclass(frozen=True)
class Work:
    """The scratch folder.

    Attributes:
        folder: where it is. Every worker sees it under this path.
    """

    folder: Path

    @property
    def files(self) -> Folder:
        """The same folder, for stages and partitioned rows."""
        return Folder(str(self.folder))

    def at(self, stage: str, number: int, ending: str) -> Path:
        """Path of a stage's file for one bucket or unit."""
        return self.folder / stage / f"{number:05d}.{ending}"

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
