"""What a running job has finished, beside the collection, so that a killed job goes on where it was.

The state of a job is a folder `<store>/_unirna/<collection>/<job key>/` of small files, each complete once it is there. The
key is a hash of the input files (path, size, time of change), the settings that matter and the model, so the same command
finds its own state and another never does. It goes when the job is done.

    job.json             what the key stands for
    scan/ keys/ rejects/ of each unit of input: counts; ids and shas; records rejected
    rows/                of each unit: its clean records, spread over parts by their sequence (`spool`)
    resolved-<version>/  of each bucket of ids: records not to embed, against that version of the collection
    kept-<run>/          of each part, where the collection has changed: records of earlier runs that still hold
    runs/                of each run: its number and the records of earlier runs that it builds on
    records/             of each written chunk: its files, and the rows they hold
    commit.json          the counts, just before the one commit
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

STATE = "_unirna"


@dataclass(frozen=True)
class State:
    """The folder of one job's state.

    Attributes:
        uri: where it is; local or in object storage.
    """

    uri: str

    @classmethod
    def of(cls, store: str, collection: str, key: str) -> State:
        """The state of the job with this key."""
        return cls(f"{store.rstrip('/')}/{STATE}/{collection}/{key}")

    def at(self, name: str) -> tuple[pa.fs.FileSystem, str]:
        """Filesystem and path of one of its files."""
        if "://" in self.uri:
            filesystem, path = pa.fs.FileSystem.from_uri(f"{self.uri}/{name}")
            return filesystem, path
        return pa.fs.LocalFileSystem(), f"{self.uri}/{name}"

    def has(self, name: str) -> bool:
        """Whether a file is there, which means that it is complete."""
        filesystem, path = self.at(name)
        return bool(filesystem.get_file_info(path).type == pa.fs.FileType.File)

    def names(self, folder: str) -> list[str]:
        """Complete files of a folder, sorted, without their ending."""
        filesystem, path = self.at(folder)
        found = filesystem.get_file_info(pa.fs.FileSelector(path, allow_not_found=True))
        return sorted(f.base_name.rpartition(".")[0] for f in found if not f.base_name.endswith(".part"))

    @contextmanager
    def writing(self, name: str) -> Iterator[pa.NativeFile]:
        """A file to write to, that appears under its name only once it is whole."""
        filesystem, path = self.at(name)
        filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        if not isinstance(filesystem, pa.fs.LocalFileSystem):
            with tempfile.TemporaryFile() as whole:  # a stream closed on an error would leave half an object
                yield pa.PythonFile(whole, "w")
                whole.seek(0)
                with filesystem.open_output_stream(path) as sink:  # an object appears when its upload ends
                    shutil.copyfileobj(whole, sink, 1 << 20)
            return
        part = f"{path}.{uuid.uuid4().hex}.part"
        with filesystem.open_output_stream(part) as sink:
            yield sink
        filesystem.move(part, path)

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a small JSON file."""
        with self.writing(name) as sink:
            sink.write(json.dumps(values).encode())

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a small JSON file."""
        filesystem, path = self.at(name)
        with filesystem.open_input_stream(path) as source:
            values: dict[str, Any] = json.loads(source.read())
        return values

    def write_table(self, name: str, table: pa.Table, row_group_size: int | None = None) -> None:
        """Write a Parquet file."""
        with self.writing(name) as sink:
            pq.write_table(table, sink, row_group_size=row_group_size)

    def read_table(self, name: str, columns: list[str] | None = None, filters: Any = None) -> pa.Table:
        """Read a Parquet file, or the part of it that `filters` selects."""
        filesystem, path = self.at(name)
        return pq.read_table(path, columns=columns, filters=filters, filesystem=filesystem)

    def clear(self) -> None:
        """Remove the state."""
        filesystem, path = self.at("")
        filesystem.delete_dir(path.rstrip("/"))

    # ---- runs ------------------------------------------------------------------------------------------------------

    def start_run(
        self, version: int, schema: str = "", still_good: Callable[[int, list[str]], list[str]] | None = None
    ) -> tuple[int, list[str]]:
        """Number a new run and settle which records of earlier runs count.

        They are those that the run before built on and those it wrote itself, as far as they are there now. A worker of a
        killed run that writes a moment longer comes too late to be counted, now and ever, so no row can count twice.

        Args:
            version: of the collection. schema: of the rows, as text; records of other rows are not used.
            still_good: of the number of the run and records made against another version of the collection, those that
                hold no row that is in it now; without it none.

        Returns:
            The run's number and the names of the records.
        """
        runs = self.names("runs")
        number, records = 1, list[str]()
        if runs:
            last = self.read_json(f"runs/{runs[-1]}.json")
            number = last["run"] + 1
            if last["schema"] == schema:
                records = [*last["records"], *self.records_of(last["run"])]
            if last["version"] != version:
                records = still_good(number, records) if still_good and records else []
        note = {"run": number, "version": version, "schema": schema, "records": records}
        self.write_json(f"runs/{number:06d}.json", note)
        return number, records

    def records_of(self, run: int) -> list[str]:
        """Names of the records that one run wrote."""
        return [name for name in self.names("records") if int(name.split("-")[1]) == run]


def record_name(part: int, run: int, chunk: int) -> str:
    """Name of the record of a chunk; the same when a worker dies and its chunk is done again."""
    return f"{part:06d}-{run:06d}-{chunk:06d}"


def by_part(records: list[str]) -> dict[int, list[str]]:
    """Names of records by the part of the input that they are of."""
    found: dict[int, list[str]] = {}
    for name in records:
        found.setdefault(int(name.split("-")[0]), []).append(name)
    return found


def manifest(paths: list[str]) -> list[tuple[str, int, int]]:
    """Path, size in bytes and time of change in nanoseconds of every input file."""
    result: list[tuple[str, int, int]] = []
    for path in paths:
        filesystem, inner = pa.fs.FileSystem.from_uri(path) if "://" in path else (pa.fs.LocalFileSystem(), path)
        info = filesystem.get_file_info(inner)
        result.append((path, int(info.size or 0), int(info.mtime_ns or 0)))
    return result


def job_key(values: Mapping[str, Any]) -> str:
    """16 hex digits that name a job by what it does."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
