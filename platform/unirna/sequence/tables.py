"""Records of Parquet, CSV and TSV, streamed: only the columns that are used are read."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Final, cast

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from unirna.base import counted
from unirna.sequence.columns import TYPES, column_of, convert, without_missing
from unirna.sequence.pieces import InputPiece
from unirna.sequence.streams import InputError, as_utf8, compression_of, decompressed, not_utf8, open_raw

TABLE_BYTES: Final = 8 << 20
DELIMITERS: Final = ("\t", ",", ";", "|")
"""What stands between the cells of tables, whatever the file is called."""
SEQUENCE: Final = re.compile(r"[ACGUTN]{15,}", re.IGNORECASE)
"""What is a sequence rather than the name of a column."""
LONGEST_SHOWN: Final = 60
"""Characters of a column's name that a message shows."""
Missing = Counter[tuple[str, str]]
"""Column of the file and word, such as NA: how often it was read as "no value"."""


def text_of(piece: InputPiece) -> IO[bytes]:
    """The text of a piece's file as UTF-8, from its start."""
    raw = open_raw(piece.path)
    if piece.end is not None:
        return raw  # a range of a FASTA file: plain, and in UTF-8
    compression = compression_of(cast(io.BufferedReader, raw).peek(4)[:4])  # whatever its name says
    return as_utf8(piece.path, decompressed(raw, compression), piece.encoding)


def table_columns(piece: InputPiece) -> list[str]:
    """Names of a table's columns in their order; those without one are called by their place, as column_1.

    Empty for a file of another format, and for an empty file.
    """
    return _named(_raw_columns(piece))


def unnamed_columns(piece: InputPiece) -> list[str]:
    """How the columns of a table that have no name are called."""
    raw = _raw_columns(piece)
    return [name for given, name in zip(raw, _named(raw), strict=True) if not given]


def _raw_columns(piece: InputPiece) -> list[str]:
    if piece.format == "parquet":
        with open_raw(piece.path) as raw, _problems_of(piece):
            return list(pq.ParquetFile(raw).schema_arrow.names)
    if not piece.is_text_table:
        return []
    with text_of(piece) as stream:
        return _header(piece, stream)[0]


def table_records(
    piece: InputPiece,
    *,
    id_column: str,
    sequence_column: str,
    columns: Sequence[str] | None,
    leave_out: Sequence[str],
    types: Mapping[str, str],
    limit: int,
    missing: Missing,
) -> Iterator[pa.Table]:
    """Stream a table as `unirna.sequence.read_tables` gives it; for the arguments see there."""
    roles = {id_column: "--id-column"} if id_column else {}
    if sequence_column:
        roles[sequence_column] = "--sequence-column"
    number = 0
    for table, used in _batches(piece, roles, columns, leave_out, limit):
        given = [n for n in used if (n not in roles and n not in leave_out) or (columns is not None and n in columns)]
        for first in range(0, table.num_rows, limit):
            part = table.slice(first, limit)
            found = {name: part.column(place) for place, name in enumerate(used)}
            numbers = range(number + 1, number + 1 + part.num_rows)
            ids = _text(piece, id_column, found[id_column], strict=True) if id_column else [f"row {n}" for n in numbers]
            yield pa.table(
                {
                    "number": pa.array(numbers, pa.int64()),
                    "id": ids if id_column else pa.array(ids, pa.string()),
                    "sequence": _text(piece, sequence_column, found[sequence_column], strict=False)
                    if sequence_column
                    else pa.nulls(part.num_rows, pa.string()),
                    **{column_of(n): _label(piece, n, found[n], types.get(n), number, missing) for n in given},
                }
            )
            number += part.num_rows


def missing_column(path: str, name: str, names: Sequence[str], flag: str) -> InputError:
    """The error for a column that is not among the names of a table's columns."""
    shown = ", ".join(one if len(one) <= LONGEST_SHOWN else f"{one[:LONGEST_SHOWN]}…" for one in names) or "none"
    if any(SEQUENCE.fullmatch(one) for one in names):
        return InputError(path, f"has no header: its first line is {shown}. Add a line with the names of its columns")
    more = ', or give --id-column "" to number the rows' if flag == "--id-column" else ""
    return InputError(path, f"has no column {name!r}. It has: {shown}. Name the right one with {flag}{more}")


# ---- batches -------------------------------------------------------------------------------------------------------


def _batches(
    piece: InputPiece, roles: Mapping[str, str], columns: Sequence[str] | None, leave_out: Sequence[str], limit: int
) -> Iterator[tuple[pa.Table, list[str]]]:
    """Batches of the columns that are used, and the columns' names."""

    def chosen(names: list[str]) -> list[int]:
        for role, flag in roles.items():
            if role not in names:
                raise missing_column(piece.path, role, names, flag)
        wanted = {*roles, *(columns if columns is not None else set(names) - set(leave_out))}
        places = [i for i, name in enumerate(names) if name in wanted]
        twice = sorted(name for name, count in Counter(names[i] for i in places).items() if count > 1)
        if twice:
            raise InputError(piece.path, f"has two columns called {', '.join(twice)}. Rename or remove one")
        return places

    if piece.format == "parquet":
        with open_raw(piece.path) as raw, _problems_of(piece):
            file = pq.ParquetFile(raw)
            every = file.schema_arrow.names
            names = _named(every)
            places = chosen(names)
            paths = None if len(set(every)) < len(every) else [every[i] for i in places]  # two of one name: all are read
            for batch in file.iter_batches(batch_size=limit, columns=paths):
                table = pa.Table.from_batches([batch])
                if paths is None:
                    table = table.select(places)
                else:
                    table = table.select([table.column_names.index(every[i]) for i in places])
                yield table, [names[i] for i in places]
        return
    with text_of(piece) as stream:
        given, delimiter, lines = _header(piece, stream)
        if not given:
            return
        names = _named(given)
        places = chosen(names)
        inner = [str(i) for i in range(len(names))]  # names of our own, so that none in the file can be a wrong one
        try:
            with pyarrow.csv.open_csv(
                stream,
                read_options=pyarrow.csv.ReadOptions(block_size=TABLE_BYTES, column_names=inner),
                parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(
                    # As bytes, so that a byte that is not UTF-8 costs only its own record, or is reported if it costs more.
                    column_types={inner[i]: pa.binary() for i in places},
                    include_columns=[inner[i] for i in places],
                    strings_can_be_null=False,
                ),
            ) as reader:
                for batch in reader:
                    yield pa.Table.from_batches([batch]), [names[i] for i in places]
        except pa.ArrowInvalid as error:
            if "Empty CSV" not in str(error):
                problem = _wrong_length(piece, len(names), delimiter) or _told(str(error), lines)
                raise InputError(piece.path, f"is not a valid {piece.format} table: {problem}") from error


@contextmanager
def _problems_of(piece: InputPiece) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise InputError(piece.path, f"is not a valid {piece.format} table: {error}") from error


def _header(piece: InputPiece, stream: IO[bytes]) -> tuple[list[str], str, int]:
    """Column names of a text table, its delimiter and the lines they take up; the stream stands behind them then."""
    delimiter = "\t" if piece.format == "tsv" else ","
    text, lines = "", 0
    while raw := stream.readline():
        lines += 1
        try:
            text += raw.decode()
        except UnicodeDecodeError as error:
            raise InputError(piece.path, not_utf8(lines, raw[error.start])) from error
        if text.strip() and text.count('"') % 2 == 0:
            break
        text = text if text.strip() else ""
    if not text.strip():
        return [], delimiter, lines
    line = text.rstrip("\r\n")
    if delimiter not in line:  # as spreadsheets of many countries write it
        delimiter = next((mark for mark in DELIMITERS if mark in line), delimiter)
    (names,) = csv.reader([line], delimiter=delimiter)
    return [name.strip() for name in names], delimiter, lines


def _named(names: Sequence[str]) -> list[str]:
    """Names, with those of columns that have none: `column_1` for the first, as pandas' index is."""
    taken = set(names)
    result = []
    for place, name in enumerate(names, 1):
        if not name:
            name = f"column_{place}"
            while name in taken:
                name += "_"
        result.append(name)
    return result


def _wrong_length(piece: InputPiece, wanted: int, delimiter: str) -> str:
    """The first row of a text table with another number of cells than its header, in words; empty where there is none."""
    with io.TextIOWrapper(text_of(piece), encoding="utf-8", errors="replace", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter)
        first = 0
        try:
            for row in reader:
                line, first = first + 1, reader.line_num
                if row and len(row) != wanted:
                    shown = delimiter.join(row)
                    shown = shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}…"
                    return f"line {line} has {counted(len(row), 'cell')}, the header has {wanted}: {shown}"
        except csv.Error as error:
            return f"line {reader.line_num}: {error}"
    return ""


def _told(problem: str, lines: int) -> str:
    """Arrow's message with the line of the file instead of the row of the block."""
    return re.sub(r"Row #(\d+)", lambda found: f"line {int(found[1]) + lines}", " ".join(problem.split()))


# ---- columns -------------------------------------------------------------------------------------------------------


def _label(
    piece: InputPiece, name: str, column: pa.ChunkedArray, declared: str | None, before: int, missing: Missing
) -> pa.ChunkedArray:
    """A column of the file: text of a text table without the words for "no value", of the declared type if there is one."""
    kind = TYPES[declared] if declared else None
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        column = _text(piece, name, column, strict=True)
        if piece.is_text_table:
            column, words = without_missing(column, kind)
            missing.update({(name, word): count for word, count in words.items()})
    if kind is None or column.type == kind:
        return column
    try:
        return convert(column, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        row, value = _first_wrong(column, kind)
        problem = f"row {before + row + 1:,}: column {name!r} holds {value!r}, which is no {declared}. "
        way_out = f"Correct it, or declare --column-type {name}=text"
        raise InputError(piece.path, problem + way_out) from error


def _first_wrong(column: pa.ChunkedArray, kind: pa.DataType) -> tuple[int, object]:
    for row in range(len(column)):
        try:
            convert(column.slice(row, 1), kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return row, column[row].as_py()
    return 0, None


def _text(piece: InputPiece, name: str, column: pa.ChunkedArray, *, strict: bool) -> pa.ChunkedArray:
    """A column as text; bytes that are not UTF-8 are an error (`strict`), or U+FFFD, for which a record is rejected."""
    try:
        if not pa.types.is_binary(column.type) and not pa.types.is_large_binary(column.type):
            column = column.cast(pa.string())
            column.validate(full=True)
            return column
        return column.cast(pa.string())
    except pa.ArrowNotImplementedError as error:
        problem = f"column {name!r} holds {column.type}: expected text. Name another with --sequence-column or --id-column"
        raise InputError(piece.path, problem) from error
    except pa.ArrowInvalid as error:
        if strict:
            line = _wrong_line(piece)
            problem = not_utf8(*line) if line else "is not UTF-8 text"
            raise InputError(piece.path, f"column {name!r}: {problem}") from error
        values = column.cast(pa.binary()).to_pylist()
        return pa.chunked_array([pa.array([v if v is None else v.decode("utf-8", "replace") for v in values], pa.string())])


def _wrong_line(piece: InputPiece) -> tuple[int, int] | None:
    """The first line of a text table that is not UTF-8, and the byte; None for Parquet."""
    if not piece.is_text_table:
        return None
    with text_of(piece) as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return number, line[error.start]
    return None
