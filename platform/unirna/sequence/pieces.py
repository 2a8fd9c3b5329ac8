"""Which files an input means, and how they are divided among workers."""

from __future__ import annotations

import atexit
import glob
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Final

import pyarrow as pa
import pyarrow.fs

from unirna.base import refusal_of
from unirna.sequence.streams import (
    InputError,
    as_utf8,
    check_encoding,
    compression_of,
    damaged,
    decompressed,
    encoding_of,
    filesystem_of,
    is_outage,
    open_raw,
)

FORMATS: Final[Mapping[str, str]] = {
    **dict.fromkeys((".fa", ".fasta", ".fna", ".ffn", ".frn", ".fas", ".mfa"), "fasta"),
    **dict.fromkeys((".fq", ".fastq"), "fastq"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    ".csv": "csv",
}
COMPRESSIONS: Final[Mapping[str, str]] = {".gz": "gzip", ".bgz": "gzip", ".bgzf": "gzip", ".zst": "zstd", ".bz2": "bz2"}
PIECE_BYTES: Final = 64 << 20
HEAD: Final = 16
"""First bytes of a file by which its kind is told."""


@dataclass(frozen=True)
class InputPiece:
    """A part of the input that one worker reads alone: a file, or a byte range [start, end) of a plain FASTA file.

    A FASTA record belongs to the piece in which its ">" stands. `end` is None for "to the end of the file".
    """

    path: str
    format: str
    compression: str = ""
    start: int = 0
    end: int | None = None
    bytes: int = 0
    """Size of the piece as stored: the measure of progress."""
    encoding: str = ""
    """Of its text; empty for what a byte-order mark says, else UTF-8."""

    @property
    def name(self) -> str:
        """The file's name, with the first byte of the range where the piece is not a whole file."""
        return f"{self.path}@{self.start}" if self.start or self.end is not None else self.path

    @property
    def is_text_table(self) -> bool:
        """Whether it is a table whose cells are text, so that their types are found by reading."""
        return self.format in ("csv", "tsv")


def plan_pieces(
    inputs: str | Sequence[str],
    *,
    piece_bytes: int = PIECE_BYTES,
    spool: str | Path | None = None,
    encoding: str = "",
) -> list[InputPiece]:
    """Turn files, folders, globs, URIs, named pipes and "-" into pieces, in a fixed order.

    Args:
        inputs: paths, folders (read recursively; hidden files, and those of unknown kinds, are passed over), globs, `s3://`
            or `gs://` URIs of files or folders, or "-" for standard input.
        piece_bytes: plain FASTA files longer than this are cut into ranges of this many bytes.
        spool: a folder that all workers see, for copies of standard input and named pipes; by default a temporary one, for
            readers in this process.
        encoding: of all text, such as "latin-1"; by default UTF-8, or what a file's byte-order mark says.

    Raises:
        InputError: nothing there, an unknown format or encoding.
    """
    encoding = check_encoding(encoding)
    pieces: list[InputPiece] = []
    for item in [inputs] if isinstance(inputs, str) else list(inputs):
        for path, size in _files(_spooled(item, spool) if _is_stream(item) else item):
            kind, compression = _kind(path, encoding)
            if kind == "fasta" and not compression and size > piece_bytes and _may_be_cut(path, encoding):
                cuts = [*range(0, size, piece_bytes), size]
                pieces += [InputPiece(path, kind, "", a, b, b - a) for a, b in pairwise(cuts)]
            else:
                pieces.append(
                    InputPiece(path, kind, compression, bytes=size, encoding="" if kind == "parquet" else encoding)
                )
    if not inputs:
        raise InputError("no input", "name a sequence file, a folder, a glob, a URI, or - for standard input")
    if not pieces:
        raise InputError(str(inputs), "holds no sequence file. Known endings: " + " ".join([*FORMATS, *COMPRESSIONS]))
    return pieces


def _may_be_cut(path: str, encoding: str) -> bool:
    """Whether a FASTA file can be read from any byte on: plain and in UTF-8."""
    with open_raw(path) as raw:
        head = raw.read(4)
    return not compression_of(head) and (encoding or encoding_of(head) or "utf-8") in ("utf-8", "utf-8-sig")


# ---- standard input and pipes --------------------------------------------------------------------------------------


def _is_stream(item: str) -> bool:
    """Whether an input can be read but once: standard input, a named pipe, `<(…)` of a shell."""
    if item == "-":
        return True
    try:
        mode = Path(item).stat().st_mode if "://" not in item else 0
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def _spooled(item: str, spool: str | Path | None) -> str:
    return _copied(item, str(Path(spool).absolute()) if spool is not None else _temporary())


@cache
def _copied(item: str, folder: str) -> str:
    """A file with the content of a stream, once in a process. Its name tells the content, so a job finds its work again."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    beside = target / f".stdin-{os.getpid()}"
    with nullcontext(sys.stdin.buffer) if item == "-" else Path(item).open("rb") as source, beside.open("wb") as out:
        while block := source.read(1 << 20):
            digest.update(block)
            out.write(block)
    path = target / f"stdin-{digest.hexdigest()[:16]}"
    os.utime(beside, (0, 0))  # the same content is the same input
    beside.replace(path)
    _copies.append(path)
    return str(path)


_copies: list[Path] = []


def remove_copies() -> None:
    """Remove the copies of standard input and pipes that this process has made."""
    while _copies:
        _copies.pop().unlink(missing_ok=True)
    _copied.cache_clear()


@cache
def _temporary() -> str:
    folder = tempfile.mkdtemp(prefix="unirna-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


# ---- files ---------------------------------------------------------------------------------------------------------


def _files(item: str) -> list[tuple[str, int]]:
    if "://" not in item and any(c in item for c in "*?[") and not Path(item).exists():
        matches = sorted(glob.glob(item, recursive=True))  # noqa: PTH207 (an absolute pattern has no Path to start from)
        if not matches:
            raise InputError(item, "the pattern matches no file")
        return [pair for match in matches for pair in _files(match)]
    filesystem, path = filesystem_of(item)
    prefix = item[: len(item) - len(path)] if "://" in item and item.endswith(path) else ""
    info = filesystem.get_file_info(path)
    if info.type == pa.fs.FileType.File:
        return [(item, info.size)]
    if info.type == pa.fs.FileType.Directory:
        found = filesystem.get_file_info(pa.fs.FileSelector(path, recursive=True))
        visible = [f for f in found if f.type == pa.fs.FileType.File and not _hidden(f.path.removeprefix(path))]
        files = sorted((f.path, f.size) for f in visible if _known(f.path))
        if not files:
            raise InputError(item, "the folder holds no sequence file. Known endings: " + " ".join(FORMATS))
        return [(prefix + name, size) for name, size in files]
    raise InputError(item, "no such file or folder")


def _hidden(path: str) -> bool:
    """Whether a file in a folder is hidden, such as what macOS (`._a.fa`, `__MACOSX`) and editors put beside others."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def _suffixes(path: str) -> tuple[str, str]:
    suffixes = [s.lower() for s in PurePosixPath(path).suffixes]
    compression = COMPRESSIONS.get(suffixes[-1], "") if suffixes else ""
    rest = suffixes[:-1] if compression else suffixes
    return FORMATS.get(rest[-1], "") if rest else "", compression


def _known(path: str) -> bool:
    return bool(_suffixes(path)[0])


def _kind(path: str, encoding: str) -> tuple[str, str]:
    """Format and compression by the file's name, or by its first bytes where the name tells nothing."""
    kind, compression = _suffixes(path)
    if kind:
        return kind, compression
    with open_raw(path) as raw:
        head = raw.read(HEAD)
    compression = compression_of(head)
    try:
        if compression:
            with decompressed(open_raw(path), compression) as stream:
                head = stream.read(HEAD)
        kind = "parquet" if head.startswith(b"PAR1") else _text_kind(path, compression, encoding)
    except OSError as error:
        if is_outage(error):
            raise
        raise damaged(path, error) from error
    if refusal := refusal_of(head):
        raise InputError(path, refusal)
    if not kind:
        raise InputError(path, "its format is not clear from its name or first line. Known endings: " + " ".join(FORMATS))
    return kind, compression


def _text_kind(path: str, compression: str, encoding: str) -> str:
    with decompressed(open_raw(path), compression) as stream:
        try:
            line = as_utf8(path, stream, encoding).readline(1 << 16).strip().decode()
        except (InputError, UnicodeDecodeError):
            return ""
    if line[:1] in (">", "@"):
        return "fasta" if line[:1] == ">" else "fastq"
    return "tsv" if "\t" in line else "csv" if "," in line and line.isprintable() else ""
