"""Streaming readers of FASTA, FASTQ, Parquet, CSV and TSV: plain, gzip, bgzip or zstd, local or in object storage.

A job first plans its input into `Piece`s, each of which one worker can read alone; `read_tables` streams one piece as
small Arrow tables, and `read` streams everything as `Record`s for a person at a prompt. Memory is bounded by the
longest record, not by the input.

The FASTA reader is ours because a piece may be a byte range of a large file, and because the ones at hand stop a whole
file at the first letter outside ASCII, where here only that record is rejected.
"""

from __future__ import annotations

import glob
import io
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Final, cast

import dnaio
import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet as pq

FORMATS: Final[Mapping[str, str]] = {
    **dict.fromkeys((".fa", ".fasta", ".fna", ".ffn", ".frn", ".fas", ".mfa"), "fasta"),
    **dict.fromkeys((".fq", ".fastq"), "fastq"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    ".csv": "csv",
}
COMPRESSIONS: Final[Mapping[str, str]] = {".gz": "gzip", ".bgz": "gzip", ".bgzf": "gzip", ".zst": "zstd"}
PIECE_BYTES: Final = 64 << 20
TABLE_ROWS: Final = 4096
TABLE_BYTES: Final = 8 << 20
BOM: Final = b"\xef\xbb\xbf"
"""Byte-order mark that some editors put before UTF-8."""


class InputError(ValueError):
    """Input that cannot be read as a whole: a missing file, an unknown format, a table without the wanted column.

    Attributes:
        source: the file or pattern at fault.
    """

    def __init__(self, source: str, problem: str) -> None:
        self.source, self.problem = source, problem
        super().__init__(f"{source}: {problem}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str]]:
        return InputError, (self.source, self.problem)


@dataclass(frozen=True)
class Piece:
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

    @property
    def name(self) -> str:
        """The file's name, with the first byte of the range where the piece is not a whole file."""
        return f"{self.path}@{self.start}" if self.start or self.end is not None else self.path


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it stands in its file: letters not yet normalised.

    Attributes:
        id: the FASTA name up to the first white space, or the id column.
        sequence: the letters as read; None where a table has no value.
        labels: the rest of the FASTA header as `description`, or the table's other columns.
        source: the file. number: the record's 1-based place in it.
    """

    id: str
    sequence: str | None
    source: str
    number: int
    labels: dict[str, Any] = field(default_factory=dict)


# ---- planning ------------------------------------------------------------------------------------------------------


def plan_pieces(
    inputs: str | Sequence[str], *, piece_bytes: int = PIECE_BYTES, spool: str | Path | None = None
) -> list[Piece]:
    """Turn files, folders, globs, URIs and "-" into pieces, in a fixed order.

    Args:
        inputs: paths, folders (read recursively; files of unknown kinds in them are passed over), globs, `s3://` or
            `gs://` URIs of files or folders, or "-" for standard input.
        piece_bytes: plain FASTA files longer than this are cut into ranges of this many bytes.
        spool: a folder for standard input, which must become a file before several workers can read it.

    Raises:
        InputError: nothing there, an unknown format, or "-" without `spool`.
    """
    pieces: list[Piece] = []
    for item in [inputs] if isinstance(inputs, str) else list(inputs):
        for path, size in _files(_spooled(item, spool) if item == "-" else item):
            kind, compression = _kind(path)
            if kind == "fasta" and not compression and size > piece_bytes:
                cuts = [*range(0, size, piece_bytes), size]
                pieces += [Piece(path, kind, "", a, b, b - a) for a, b in pairwise(cuts)]
            else:
                pieces.append(Piece(path, kind, compression, bytes=size))
    if not inputs:
        raise InputError("no input", "name a sequence file, a folder, a glob, a URI, or - for standard input")
    if not pieces:
        raise InputError(str(inputs), "holds no sequence file. Known endings: " + " ".join([*FORMATS, *COMPRESSIONS]))
    return pieces


def _spooled(item: str, spool: str | Path | None) -> str:
    if spool is None:
        raise InputError(item, "standard input cannot be shared between workers: save it to a file first")
    target = Path(spool) / "stdin"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        shutil.copyfileobj(sys.stdin.buffer, out, 1 << 20)
    return str(target)


def _files(item: str) -> list[tuple[str, int]]:
    if "://" not in item and any(c in item for c in "*?[") and not Path(item).exists():
        matches = sorted(glob.glob(item, recursive=True))  # noqa: PTH207 (an absolute pattern has no Path to start from)
        if not matches:
            raise InputError(item, "the pattern matches no file")
        return [pair for match in matches for pair in _files(match)]
    filesystem, path = _filesystem(item)
    prefix = item[: len(item) - len(path)] if "://" in item and item.endswith(path) else ""
    info = filesystem.get_file_info(path)
    if info.type == pa.fs.FileType.File:
        return [(item, info.size)]
    if info.type == pa.fs.FileType.Directory:
        found = filesystem.get_file_info(pa.fs.FileSelector(path, recursive=True))
        files = sorted((f.path, f.size) for f in found if f.type == pa.fs.FileType.File and _known(f.path))
        if not files:
            raise InputError(item, "the folder holds no sequence file. Known endings: " + " ".join(FORMATS))
        return [(prefix + name, size) for name, size in files]
    raise InputError(item, "no such file or folder")


def _filesystem(path: str) -> tuple[pa.fs.FileSystem, str]:
    if "://" in path:
        filesystem, inner = pa.fs.FileSystem.from_uri(path)
        return filesystem, inner
    return pa.fs.LocalFileSystem(), path


def _suffixes(path: str) -> tuple[str, str]:
    suffixes = [s.lower() for s in PurePosixPath(path).suffixes]
    compression = COMPRESSIONS.get(suffixes[-1], "") if suffixes else ""
    rest = suffixes[:-1] if compression else suffixes
    return FORMATS.get(rest[-1], "") if rest else "", compression


def _known(path: str) -> bool:
    return bool(_suffixes(path)[0])


def _kind(path: str) -> tuple[str, str]:
    """Format and compression by the file's name, or by its first bytes where the name tells nothing."""
    kind, compression = _suffixes(path)
    if kind:
        return kind, compression
    with _open_raw(path) as raw:
        head = raw.read(4)
    compression = "gzip" if head[:2] == b"\x1f\x8b" else "zstd" if head == b"\x28\xb5\x2f\xfd" else ""
    if compression:
        with _decompressed(_open_raw(path), compression) as stream:
            head = stream.read(4)
    head = head.removeprefix(BOM)
    kind = {b">": "fasta", b"@": "fastq", b"P": "parquet"}.get(head[:1], "")
    if not kind or (kind == "parquet" and head != b"PAR1"):
        raise InputError(path, "neither its name nor its first byte tells the format. Known endings: " + " ".join(FORMATS))
    return kind, compression


# ---- streams -------------------------------------------------------------------------------------------------------


def _open_raw(path: str) -> IO[bytes]:
    filesystem, inner = _filesystem(path)
    try:
        if isinstance(filesystem, pa.fs.LocalFileSystem):
            return Path(inner).open("rb")
        return io.BufferedReader(filesystem.open_input_file(inner), 1 << 20)
    except OSError as error:
        if _outage(error):
            raise
        raise InputError(path, f"cannot be opened ({error.strerror or error})") from error


def _outage(error: OSError) -> bool:
    """Whether it is an object store that cannot be reached, rather than a file that is absent or damaged."""
    return any(word in str(error) for word in ("NETWORK_CONNECTION", "SLOW_DOWN", "SERVICE_UNAVAILABLE", "curlCode"))


def _decompressed(raw: IO[bytes], compression: str) -> IO[bytes]:
    """The plain bytes; unlike Python's own readers, Arrow's refuses a stream that is cut short."""
    if not compression:
        return raw
    return io.BufferedReader(pa.CompressedInputStream(raw, compression), 1 << 20)


# ---- reading -------------------------------------------------------------------------------------------------------


def read(inputs: str | Sequence[str], *, id_column: str = "id", sequence_column: str = "sequence") -> Iterator[Record]:
    """Stream records from any readable input, in file order; "-" reads FASTA or FASTQ from standard input.

    Raises:
        InputError: a file that is missing, cut short or not of its format; a table without the named columns.
    """
    for item in [inputs] if isinstance(inputs, str) else list(inputs):
        if item == "-":
            yield from _stdin_records()
            continue
        for piece in plan_pieces(item, piece_bytes=sys.maxsize):
            for table in read_tables(piece, id_column=id_column, sequence_column=sequence_column):
                for row in table.to_pylist():
                    number, name, letters = row.pop("number"), row.pop("id"), row.pop("sequence")
                    yield Record(name or "", letters, piece.path, number, row)


def _stdin_records() -> Iterator[Record]:
    stream = io.BufferedReader(sys.stdin.buffer, 1 << 20)  # type: ignore[type-var]
    head = stream.peek(4)[:4]
    compression = "gzip" if head[:2] == b"\x1f\x8b" else "zstd" if head == b"\x28\xb5\x2f\xfd" else ""
    text = _decompressed(stream, compression)
    fastq = (text if isinstance(text, io.BufferedReader) else io.BufferedReader(text)).peek(1)[:1] == b"@"  # type: ignore[type-var]
    rows = _fastq("standard input", text) if fastq else _fasta("standard input", text, 0, None)
    for number, (name, description, letters) in enumerate(rows, 1):
        yield Record(name, letters, "-", number, {"description": description})


def read_tables(
    piece: Piece, *, id_column: str = "id", sequence_column: str = "sequence", rows: int = TABLE_ROWS
) -> Iterator[pa.Table]:
    """Stream one piece as Arrow tables with columns `number`, `id`, `sequence` (as read) and the record's labels.

    Args:
        piece: what to read.
        id_column: the column of a table that names its rows.
        sequence_column: the column that holds the letters. Another column called `id`, `sequence` or `number` becomes the
            label `input_id`, `input_sequence` or `input_number`.
        rows: the most rows a table has; tables are also kept under about 8 MB.

    Raises:
        InputError: see `read`.
    """
    try:
        with _decompressed(_open_raw(piece.path), piece.compression) as stream:
            if piece.format in ("fasta", "fastq"):
                parsed = (
                    _fasta(piece.path, stream, piece.start, piece.end)
                    if piece.format == "fasta"
                    else _fastq(piece.path, stream)
                )
                yield from _tables_of_rows(parsed, rows)
            else:
                yield from _tables_of_columns(piece, stream, id_column, sequence_column, rows)
    except OSError as error:
        if _outage(error):
            raise
        raise InputError(piece.path, f"is damaged or cut short ({error}). Fetch or compress the file again") from error


def _fasta(path: str, stream: IO[bytes], start: int, end: int | None) -> Iterator[tuple[str, str, str]]:
    offset = start
    if start:
        stream.seek(start - 1)
        offset += len(stream.readline()) - 1  # to the first line that starts in the range
    header: bytes | None = None
    letters: list[bytes] = []
    for line in stream:
        if not offset and line.startswith(BOM):
            offset, line = len(BOM), line.removeprefix(BOM)
        if line.startswith(b">"):
            if header is not None:
                yield _fasta_record(header, letters)
            if end is not None and offset >= end:
                return
            header, letters = line, []
        elif header is not None:
            letters.append(line.strip())
        elif start == 0 and line.strip() and line[:1] not in b";#":  # comments before the first record
            shown = line[:40].decode("utf-8", "replace").strip()
            raise InputError(path, f"is not FASTA: wanted a line that starts with '>', got {shown!r}")
        elif end is not None and offset >= end:
            return
        offset += len(line)
    if header is not None:
        if not header.endswith(b"\n") and offset == len(header) and b"\r" in header.strip():  # one line: the file
            raise InputError(path, "has old Macintosh line ends (a bare carriage return). Convert them: tr '\\r' '\\n'")
        yield _fasta_record(header, letters)


def _fasta_record(header: bytes, letters: list[bytes]) -> tuple[str, str, str]:
    text = header[1:].decode("utf-8", "replace").strip()
    if "\r" in text:  # a line end that was lost: letters may stand in the header, so the record is rejected
        text, _, lost = text.partition("\r")
        letters = ["␍".encode(), lost.encode(), *letters]
    name, _, description = text.partition(" ") if "\t" not in text else text.replace("\t", " ").partition(" ")
    return name, description.strip(), b"".join(letters).decode("utf-8", "replace")


def _fastq(path: str, stream: IO[bytes]) -> Iterator[tuple[str, str, str]]:
    """Records of a FASTQ file. A byte outside ASCII stops the file, not the record: dnaio reads nothing else."""
    try:
        with dnaio.open(cast(BinaryIO, stream), fileformat="fastq") as reader:
            for record in reader:
                yield record.id, record.comment or "", record.sequence
    except dnaio.FileFormatError as error:
        raise InputError(path, f"is not sound FASTQ: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(path, f"is not sound FASTQ: byte {error.object[error.start]:#04x} is no ASCII") from error


def _tables_of_rows(rows: Iterator[tuple[str, str, str]], limit: int) -> Iterator[pa.Table]:
    batch: list[tuple[str, str, str]] = []
    size = first = 0
    for row in rows:
        batch.append(row)
        size += len(row[2])
        if len(batch) >= limit or size >= TABLE_BYTES:
            yield _table_of_rows(batch, first)
            first, batch, size = first + len(batch), [], 0
    if batch:
        yield _table_of_rows(batch, first)


def _table_of_rows(batch: list[tuple[str, str, str]], first: int) -> pa.Table:
    names, descriptions, letters = zip(*batch, strict=True)
    return pa.table(
        {
            "number": pa.array(range(first + 1, first + 1 + len(batch)), pa.int64()),
            "id": pa.array(names, pa.string()),
            "sequence": pa.array(letters, pa.string()),
            "description": pa.array(descriptions, pa.string()),
        }
    )


def _tables_of_columns(
    piece: Piece, stream: IO[bytes], id_column: str, sequence_column: str, limit: int
) -> Iterator[pa.Table]:
    number = 0
    # As bytes, so that one letter that is no UTF-8 costs its own record only.
    for batch in _batches(piece, stream, {id_column: pa.binary(), sequence_column: pa.binary()}, limit):
        table = pa.Table.from_batches([batch])
        twice = sorted(name for name, count in Counter(table.column_names).items() if count > 1)
        if twice:
            raise InputError(piece.path, f"has two columns called {', '.join(twice)}. Rename or remove one")
        for wanted, flag in ((id_column, "--id-column"), (sequence_column, "--sequence-column")):
            if wanted not in table.column_names:
                have = ", ".join(table.column_names)
                raise InputError(piece.path, f"has no column {wanted!r}. It has: {have}. Name the right one with {flag}")
        for rows in range(0, table.num_rows, limit):
            part = table.slice(rows, limit)
            ids, letters = (_text(piece, c, part[c]) for c in (id_column, sequence_column))
            labels = {
                f"input_{c}" if c in ("number", "id", "sequence") else c: part[c]
                for c in part.column_names
                if c not in (id_column, sequence_column)
            }
            numbers = pa.array(range(number + 1, number + 1 + part.num_rows), pa.int64())
            number += part.num_rows
            yield pa.table({"number": numbers, "id": ids, "sequence": letters, **labels})


def _text(piece: Piece, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as text; bytes that are no UTF-8 become U+FFFD, for which the record is rejected."""
    try:
        if not pa.types.is_binary(column.type) and not pa.types.is_large_binary(column.type):
            column = column.cast(pa.string())
            column.validate(full=True)
            return column
        return column.cast(pa.string())
    except pa.ArrowNotImplementedError as error:
        problem = f"column {name!r} holds {column.type}: wanted text. Name another with --sequence-column or --id-column"
        raise InputError(piece.path, problem) from error
    except pa.ArrowInvalid:
        values = column.cast(pa.binary()).to_pylist()
        return pa.chunked_array([pa.array([v if v is None else v.decode("utf-8", "replace") for v in values], pa.string())])


def _batches(piece: Piece, stream: IO[bytes], types: dict[str, pa.DataType], limit: int) -> Iterator[pa.RecordBatch]:
    try:
        if piece.format == "parquet":
            yield from pq.ParquetFile(stream).iter_batches(batch_size=limit)
        else:
            # Types of label columns come from the first block; a later value that does not fit is an error, not a guess.
            with pyarrow.csv.open_csv(
                stream,
                read_options=pyarrow.csv.ReadOptions(block_size=TABLE_BYTES),
                parse_options=pyarrow.csv.ParseOptions(delimiter="\t" if piece.format == "tsv" else ","),
                convert_options=pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=False),
            ) as reader:
                yield from reader
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            return
        raise InputError(piece.path, f"is not a sound {piece.format} table: {error}. It is read as UTF-8") from error
