"""Fingerprint of an input file's content, so that a job recognises the input of an earlier run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pyarrow.fs

from unirna.sequence.streams import InputError

READERS: Final = 4
"""Files that are read at once: a digest takes one core, and leaves the disk idle where that is fast."""


def contents_of(paths: Iterable[str]) -> list[dict[str, Any]]:
    """The contents of input files: equal where, and only where, a job has the same input.

    A file on this machine is known by its size and a digest of all it holds (BLAKE2b), so a corrected nucleotide is a new
    input and a file that was only copied or touched is the same one. An object in object storage is known by its size and
    time of change, which the storage sets at each upload: a digest would take a download.

    Args:
        paths: files and URIs of files, as `plan_pieces` gives them; each counts once.

    Returns:
        For each path, sorted, plain JSON values: `path`, `size` in bytes, and `digest` or `changed`.

    Raises:
        OSError: a file that cannot be read.
    """
    names = sorted(set(paths))
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(_content, names))


def stamps_of(paths: Iterable[str]) -> list[tuple[str, int, int]]:
    """Path, size in bytes and time of change in nanoseconds of input files, sorted: whether they changed during a run."""
    return [(path, *_stamp(path)) for path in sorted(set(paths))]


def check_unchanged(before: list[tuple[str, int, int]]) -> None:
    """See that input files are as they were when a job began (`stamps_of`).

    Raises:
        InputError: one was changed while it was read.
    """
    for old, new in zip(before, stamps_of(path for path, _, _ in before), strict=True):
        if old != new:
            raise InputError(old[0], "changed while it was read. Run the same command again: it starts with the new input")


def _content(path: str) -> dict[str, Any]:
    filesystem, inner = _place(path)
    info = filesystem.get_file_info(inner)
    size = int(info.size or 0)
    if not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        return {"path": path, "size": size, "changed": int(info.mtime_ns or 0)}
    with Path(inner).open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return {"path": path, "size": size, "digest": digest}


def _stamp(path: str) -> tuple[int, int]:
    filesystem, inner = _place(path)
    info = filesystem.get_file_info(inner)
    return int(info.size or 0), int(info.mtime_ns or 0)


def _place(path: str) -> tuple[pyarrow.fs.FileSystem, str]:
    if "://" in path:
        filesystem, inner = pyarrow.fs.FileSystem.from_uri(path)
        return filesystem, inner
    return pyarrow.fs.LocalFileSystem(), path
