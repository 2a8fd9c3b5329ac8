"""Files and folders that have their name only once they are whole, on a local disk or in object storage.

A killed writer leaves nothing under the name. What it leaves beside it begins with a dot and ends in `.part`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

CHECKSUMS: Final = "checksums.json"
"""File of a folder with the SHA-256 of its other files."""


def absolute(path: str, *, if_there: bool = False) -> str:
    """A path that every process on this machine reads alike.

    Args:
        path: local, a URI, or `-` for standard input. A URI and `-` stay as they are.
        if_there: also leave a path that does not exist, which may be a name.
    """
    if "://" in path or path == "-" or (if_there and not Path(path).exists()):
        return path
    return str(Path(path).absolute())


# ---- local files and folders ---------------------------------------------------------------------------------------


def beside(path: Path) -> Path:
    """A fresh path in the same folder to write to before `path` gets its name."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write to. The file takes the place of `path` when the block ends well, and is removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = beside(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with new_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, indented for people."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@contextmanager
def new_folder(folder: Path, *, checksums: bool = False) -> Iterator[Path]:
    """A folder to fill. It takes the place of `folder`, flushed to the disk, when the block ends well.

    Args:
        folder: where it is to be. It has one writer at a time: what a killed one left beside it is removed.
        checksums: add `CHECKSUMS`.

    Raises:
        OSError: it cannot be written; what stood at `folder` is as it was.
    """
    part, old = (folder.with_name(f".{folder.name}.{end}") for end in ("part", "old"))
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        if checksums:
            write_json(part / CHECKSUMS, {path.name: checksum(path) for path in sorted(part.iterdir())})
        for path in (*part.rglob("*"), part):
            flush(path)
        _replace(folder, part, old)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    flush(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _replace(folder: Path, part: Path, old: Path) -> None:
    """Put a folder in the place of another, which goes back if that fails."""
    if folder.exists():
        folder.rename(old)
    try:
        part.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Have the system write a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that cannot flush a folder
            raise
    finally:
        os.close(descriptor)


# ---- folders that may be in object storage -------------------------------------------------------------------------


@dataclass(frozen=True)
class Folder:
    """A folder of files, each of which is whole once it is there.

    Local files are written beside and renamed. Object stores cannot rename: a file is put once, as one object, when all
    of its content is known.

    Attributes:
        uri: a local path, or a URI such as `s3://bucket/folder`.
    """

    uri: str

    def at(self, name: str = "") -> tuple[pa.fs.FileSystem, str]:
        """Filesystem and path of one of its files, or of the folder itself."""
        place = f"{self.uri}/{name}" if name else self.uri
        if "://" in place:
            filesystem, path = pa.fs.FileSystem.from_uri(place)
            return filesystem, path
        return pa.fs.LocalFileSystem(), place

    def has(self, name: str) -> bool:
        """Whether a file is there, which means that it is whole."""
        filesystem, path = self.at(name)
        return bool(filesystem.get_file_info(path).type == pa.fs.FileType.File)

    def names(self, folder: str, ending: str) -> list[str]:
        """Names of a folder's files of one ending, sorted, without it."""
        filesystem, path = self.at(folder)
        found = (info.base_name for info in filesystem.get_file_info(pa.fs.FileSelector(path, allow_not_found=True)))
        return sorted(name.removesuffix(f".{ending}") for name in found if name.endswith(f".{ending}"))

    @contextmanager
    def writing(self, name: str) -> Iterator[pa.NativeFile]:
        """A file to write to, which has its name when the block ends well."""
        filesystem, path = self.at(name)
        filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        if isinstance(filesystem, pa.fs.LocalFileSystem):
            with new_file(Path(path)) as part, filesystem.open_output_stream(str(part)) as sink:
                yield sink
            return
        with tempfile.TemporaryFile() as whole:  # a stream closed on an error would leave half an object
            yield pa.PythonFile(whole, "w")
            whole.seek(0)
            with filesystem.open_output_stream(path) as sink:  # an object appears when its upload ends
                shutil.copyfileobj(whole, sink, 1 << 20)

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

    def remove(self, name: str = "") -> None:
        """Remove a file, a folder, or all of this folder; nothing where there is none."""
        filesystem, path = self.at(name)
        with suppress(FileNotFoundError):  # another process may be faster
            if filesystem.get_file_info(path).type == pa.fs.FileType.File:
                filesystem.delete_file(path)
            else:
                filesystem.delete_dir(path)
