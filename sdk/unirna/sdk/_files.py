"""Files without the platform: opening, decompressing and decoding them."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import stat
import sys
import zlib
from pathlib import Path
from typing import Final

from unirna.base import refusal_of
from unirna.base.containers import LONGEST
from unirna.sdk._exceptions import InvalidRequestError

MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark starts with that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks, and the encodings they stand for."""


def is_file(given: str) -> bool:
    """Whether a text is the path of something to read: a file, a named pipe, or a device such as /dev/stdin."""
    try:
        mode = Path(given).stat().st_mode
    except (OSError, ValueError):  # a sequence is longer than a file's name may be
        return False
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def is_folder(given: str) -> bool:
    """Whether a text is the path of a folder, and can be nothing else."""
    try:
        return ("/" in given or "." in given) and Path(given).is_dir()
    except (OSError, ValueError):
        return False


def read_bytes(path: str | Path) -> bytes:
    """Read a file, decompressed.

    Args:
        path: the file or named pipe, plain, gzip, bzip2 or zstd; "-" is standard input.

    Raises:
        OSError: a file that cannot be opened.
        InvalidRequestError: a compressed file that is damaged or cut short, or zstd without pyarrow.
    """
    raw = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
    try:
        if raw[:2] == b"\x1f\x8b":
            return gzip.decompress(raw)
        if raw[:3] == b"BZh":
            return bz2.decompress(raw)
        if raw[:4] == b"\x28\xb5\x2f\xfd":
            return _unzstd(raw)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        problem = f"is damaged or cut short ({error}). Fetch or compress it again"
        raise InvalidRequestError(f"{shown(path)} {problem}") from error
    return raw


def read_text(path: str | Path, encoding: str = "", *, lenient: bool = False) -> str:
    """Read a text file, decompressed and decoded.

    Args:
        path: as for `read_bytes`.
        encoding: such as "latin-1"; by default UTF-8, or what a byte-order mark says.
        lenient: keep bytes that are not valid as surrogates, for a reader that knows where they matter (`undecoded`).

    Raises:
        OSError, InvalidRequestError: as `read_bytes`; or text in another encoding: the line is named.
    """
    return decode(read_bytes(path), shown(path), encoding, lenient=lenient)


def decode(raw: bytes, name: str, encoding: str = "", *, lenient: bool = False) -> str:
    """Decode text.

    Args:
        raw: its bytes.
        name: the file's, for messages.
        encoding, lenient: as for `read_text`.

    Raises:
        InvalidRequestError: text in another encoding, or no such encoding.
    """
    if refusal := refusal_of(raw[:LONGEST]):
        raise InvalidRequestError(f"{name} {refusal}")
    used = encoding or next((known for mark, known in MARKS if raw.startswith(mark)), "utf-8")
    if not encoding and used == "utf-8" and b"\0" in raw[:1024]:
        raise InvalidRequestError(f"{name} is not text in UTF-8. Is it a binary file, or --encoding utf-16-le?")
    try:
        return raw.decode(used, "surrogateescape" if lenient and used.startswith("utf-8") else "strict")
    except LookupError as error:
        raise InvalidRequestError(f"--encoding {encoding}: no such encoding. Try utf-8, utf-16 or latin-1") from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidRequestError(f"{name}, line {line}: {wrong_encoding(used, raw[error.start])}") from error


def wrong_encoding(encoding: str, byte: int) -> str:
    """What to say of a byte that is not of the encoding."""
    used = "UTF-8" if encoding.startswith("utf-8") else encoding
    return f"not {used} text (byte {byte:#04x}). Name its encoding, such as --encoding latin-1, or save it as UTF-8"


def undecoded(text: str) -> int | None:
    """The first byte that a lenient `read_text` could not decode; None if all is sound."""
    return next((ord(one) - 0xDC00 for one in text if "\udc80" <= one <= "\udcff"), None)


def shown(path: str | Path) -> str:
    """What to call a file in a message."""
    return "standard input" if str(path) == "-" else str(path)


def _unzstd(raw: bytes) -> bytes:
    try:
        import pyarrow
    except ImportError as error:
        raise InvalidRequestError("zstd files need unirna[vectorstore]; or decompress it first: zstd -d") from error
    with pyarrow.CompressedInputStream(io.BytesIO(raw), "zstd") as stream:
        return bytes(stream.read())
