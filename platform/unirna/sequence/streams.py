"""Bytes of a file, local or in object storage: opened, decompressed, and as UTF-8 whatever their encoding."""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import IO, Any, Final, cast

import pyarrow as pa
import pyarrow.fs

from unirna.base import refusal_of

MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark starts with that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks, and the encodings they stand for."""
COMPRESSED: Final = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bz2"))
"""First bytes of compressed files, and what Arrow calls their compression."""
CHUNK: Final = 1 << 20


class InputError(ValueError):
    """Input that cannot be read as a whole: a missing file, an unknown format, a table without an expected column.

    Attributes:
        source: the file or pattern at fault.
    """

    def __init__(self, source: str, problem: str) -> None:
        self.source, self.problem = source, problem
        super().__init__(f"{source}: {problem}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str]]:
        return InputError, (self.source, self.problem)


def filesystem_of(path: str) -> tuple[pa.fs.FileSystem, str]:
    """The file system of a path or URI, and the path within it."""
    if "://" in path:
        filesystem, inner = pa.fs.FileSystem.from_uri(path)
        return filesystem, inner
    return pa.fs.LocalFileSystem(), path


def open_raw(path: str) -> IO[bytes]:
    """The bytes of a file as stored.

    Raises:
        InputError: a file that cannot be opened. OSError: an object store that cannot be reached.
    """
    filesystem, inner = filesystem_of(path)
    try:
        if isinstance(filesystem, pa.fs.LocalFileSystem):
            return Path(inner).open("rb")
        return io.BufferedReader(filesystem.open_input_file(inner), CHUNK)
    except OSError as error:
        if is_outage(error):
            raise
        raise InputError(path, f"cannot be opened ({error.strerror or error})") from error


def is_outage(error: OSError) -> bool:
    """Whether it is an object store that cannot be reached, rather than a file that is absent or damaged."""
    return any(word in str(error) for word in ("NETWORK_CONNECTION", "SLOW_DOWN", "SERVICE_UNAVAILABLE", "curlCode"))


def damaged(source: str, error: Exception) -> InputError:
    """The error for a compressed or binary file that cannot be read to its end."""
    return InputError(source, f"is damaged or cut short ({error}). Fetch or compress the file again")


def compression_of(head: bytes) -> str:
    """The compression that the first bytes of a file tell: "gzip", "zstd", "bz2" or ""."""
    return next((name for mark, name in COMPRESSED if head.startswith(mark)), "")


def decompressed(raw: IO[bytes], compression: str) -> IO[bytes]:
    """The plain bytes; unlike Python's own readers, Arrow's refuses a stream that is cut short."""
    if not compression:
        return raw
    return io.BufferedReader(pa.CompressedInputStream(raw, compression), CHUNK)


def check_encoding(encoding: str) -> str:
    """An encoding's name as Python spells it; empty for an empty one.

    Raises:
        InputError: no such encoding of text.
    """
    try:
        if encoding:
            "".encode(encoding)
            return codecs.lookup(encoding).name
    except (LookupError, UnicodeError, TypeError) as error:
        raise InputError(f"--encoding {encoding}", "no such encoding. Try utf-8, utf-16 or latin-1") from error
    return ""


def encoding_of(head: bytes) -> str:
    """The encoding that a byte-order mark tells; empty without one."""
    return next((name for mark, name in MARKS if head.startswith(mark)), "")


def as_utf8(source: str, stream: IO[bytes], encoding: str) -> IO[bytes]:
    """The same text in UTF-8, without a byte-order mark. UTF-8 itself is passed on as it is, sound or not.

    Args:
        source: the file's name, for messages.
        stream: at its start.
        encoding: its encoding; empty for what its byte-order mark says, else UTF-8.

    Raises:
        InputError: when read: bytes that are not of the encoding, or that look like UTF-16 of which nothing tells.
    """
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, stream), CHUNK)
    head = buffered.peek(CHUNK)[:1024]
    named = check_encoding(encoding) or encoding_of(head) or "utf-8"
    if named not in ("utf-8", "utf-8-sig"):
        return io.BufferedReader(_Transcoded(source, buffered, named), CHUNK)
    if head.startswith(codecs.BOM_UTF8):
        buffered.read(len(codecs.BOM_UTF8))
    if refusal := refusal_of(head):
        raise InputError(source, refusal)
    if b"\0" in head:
        raise InputError(source, "is not text in UTF-8. Is it a binary file, or UTF-16 (--encoding utf-16-le)?")
    return buffered


class _Transcoded(io.RawIOBase):
    """Text of any encoding as UTF-8."""

    def __init__(self, source: str, stream: IO[bytes], encoding: str) -> None:
        self._source, self._stream, self._encoding = source, stream, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._waiting = b""
        self._line = 1
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._waiting and not self._ended:
            raw = self._stream.read(CHUNK)
            self._ended = not raw
            try:
                self._waiting = self._decoder.decode(raw, self._ended).encode()
            except UnicodeDecodeError as error:
                line = self._line + error.object[: error.start].decode(self._encoding, "ignore").count("\n")
                problem = f"line {line} is not {self._encoding} text ({error.reason}). Name its encoding with --encoding"
                raise InputError(self._source, problem) from error
            self._line += self._waiting.count(b"\n")
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._waiting))
        view[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count


def not_utf8(line: int | str, byte: int) -> str:
    """What to say of a byte that is not UTF-8."""
    way_out = "Name its encoding, such as --encoding latin-1, or save it as UTF-8"
    return f"line {line} is not UTF-8 text (byte {byte:#04x}). {way_out}"
