"""Streaming readers of FASTA, FASTQ, Parquet, CSV and TSV: plain, gzip, bgzip, bzip2 or zstd, local or in object storage.

A job first plans its input into `InputPiece`s, each of which one worker can read alone; `read_tables` streams one piece as
small Arrow tables, and `read` streams everything as `Record`s for a person at a prompt. Memory is bounded by the
longest record, not by the input.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from unirna.sequence.columns import TextTypes, column_of, convert_table
from unirna.sequence.fasta import Rows, fasta_records, fastq_records
from unirna.sequence.pieces import InputPiece, plan_pieces
from unirna.sequence.streams import InputError, damaged, is_outage
from unirna.sequence.tables import TABLE_BYTES, Missing, missing_column, table_columns, table_records, text_of

TABLE_ROWS: Final = 4096


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it stands in its file, not yet normalised.

    Attributes:
        id: the FASTA name up to the first white space, or the id column.
        sequence: as read; None if the table has no value.
        labels: the rest of the FASTA header as `description`, or the table's other columns.
        source: the file. number: the record's 1-based place in it.
    """

    id: str
    sequence: str | None
    source: str
    number: int
    labels: dict[str, Any] = field(default_factory=dict)


def read(
    inputs: str | Sequence[str], *, id_column: str = "id", sequence_column: str = "sequence", encoding: str = ""
) -> Iterator[Record]:
    """Stream records from any readable input, in file order; "-" reads standard input.

    Args:
        inputs: as for `plan_pieces`.
        id_column: the column of a table that names its rows; empty to call them by their number.
        sequence_column: the column that holds the sequences.
        encoding: of text, such as "latin-1"; by default UTF-8, or what a file's byte-order mark says.

    Raises:
        InputError: a file that is missing, cut short or not of its format; a table without the named columns.
    """
    own = ("number", "id", "sequence")
    for piece in plan_pieces(inputs, piece_bytes=sys.maxsize, encoding=encoding):
        types = types_of(piece, id_column=id_column, sequence_column=sequence_column)
        for table in read_tables(piece, id_column=id_column, sequence_column=sequence_column):
            for row in convert_table(table, types).to_pylist():
                number, name, letters = (row.pop(column) for column in own)
                labels = {column.removeprefix(column_of("")): value for column, value in row.items()}
                yield Record(name or "", letters, piece.path, number, labels)


def types_of(piece: InputPiece, *, id_column: str, sequence_column: str) -> dict[str, pa.DataType]:
    """Types of the columns of a text table, by reading all of it; nothing for other files."""
    found = TextTypes()
    if piece.is_text_table:
        for table in read_tables(piece, id_column=id_column, sequence_column=sequence_column):
            found.look(table)
    return found.types


def read_labels(
    path: str, *, id_column: str = "id", encoding: str = "", types: Mapping[str, str] | None = None
) -> tuple[pa.Table, Missing]:
    """Read a table of labels into memory: CSV, TSV or Parquet.

    Args:
        path: the file.
        id_column: names its rows; it is `id` in the result.
        encoding: of text, such as "latin-1"; by default UTF-8, or what a byte-order mark says.
        types: column -> a declared type (`TYPES`); the others are what all of their text is.

    Returns:
        `id` and the file's other columns under their names; and what was read as "no value".

    Raises:
        InputError: see `read`; or a file that is not a table.
    """
    types = types or {}
    missing = Missing()
    found = TextTypes()
    tables: list[pa.Table] = []
    for piece in plan_pieces(path, encoding=encoding):
        if piece.format not in ("csv", "tsv", "parquet"):
            raise InputError(piece.path, "is not a table: expected CSV, TSV or Parquet")
        names = table_columns(piece)
        for column in types:
            if column not in names:
                raise missing_column(piece.path, column, names, "--column-type")
        for table in read_tables(piece, id_column=id_column, sequence_column="", types=types, missing=missing):
            if piece.is_text_table:
                found.look(table)
            tables.append(table)
    if not tables:
        raise InputError(path, "holds no row")
    whole = pa.concat_tables(tables, promote_options="default")
    whole = convert_table(whole, {name: kind for name, kind in found.types.items() if name not in types})
    whole = whole.drop_columns(["number", "sequence"])
    names = [name.removeprefix(column_of("")) for name in whole.column_names]
    if "id" in names[1:]:
        raise InputError(path, f"has a column 'id' beside the column of ids {id_column!r}. Rename or remove it")
    return whole.rename_columns(names), missing


def read_tables(
    piece: InputPiece,
    *,
    id_column: str = "id",
    sequence_column: str = "sequence",
    columns: Sequence[str] | None = None,
    leave_out: Sequence[str] = (),
    types: Mapping[str, str] | None = None,
    rows: int = TABLE_ROWS,
    missing: Missing | None = None,
) -> Iterator[pa.Table]:
    """Stream one piece as Arrow tables of records: `number`, `id`, `sequence` (as read), and the file's own columns.

    The file's columns stand under their names with a mark before them (`unirna.sequence.column_of`). In a text table (CSV,
    TSV) they are text, null if there is no value (`unirna.sequence.MISSING`): a reader finds types with `TextTypes`.
    FASTA and FASTQ have one, `description`.

    Args:
        piece: what to read.
        id_column: the column of a table that names its rows; empty to call them by their number, as "row 1".
        sequence_column: the column that holds the sequences.
        columns: those of the file's columns to give, if it has them; by default all that are not one of those two.
        leave_out: columns not to give. What is not given is not parsed.
        types: column -> a declared type (`unirna.sequence.TYPES`).
        rows: the most rows a table has; tables are also kept under about 8 MB.
        missing: counts what was read as "no value", if given.

    Raises:
        InputError: see `read`; or a value that is not of a declared type.
    """
    try:
        if piece.format in ("fasta", "fastq"):
            with text_of(piece) as stream:
                if piece.format == "fasta":
                    parsed = fasta_records(piece.path, stream, piece.start, piece.end)
                else:
                    parsed = fastq_records(piece.path, stream)
                described = "description" not in leave_out and (columns is None or "description" in columns)
                yield from _tables_of_rows(parsed, rows, described)
        else:
            yield from table_records(
                piece,
                id_column=id_column,
                sequence_column=sequence_column,
                columns=columns,
                leave_out=leave_out,
                types=types or {},
                limit=rows,
                missing=Missing() if missing is None else missing,
            )
    except OSError as error:
        if is_outage(error):
            raise
        raise damaged(piece.path, error) from error


def _tables_of_rows(rows: Rows, limit: int, described: bool) -> Iterator[pa.Table]:
    batch: list[tuple[str, str, str]] = []
    size = first = 0
    for row in rows:
        batch.append(row)
        size += len(row[2])
        if len(batch) >= limit or size >= TABLE_BYTES:
            yield _table_of_rows(batch, first, described)
            first, batch, size = first + len(batch), [], 0
    if batch:
        yield _table_of_rows(batch, first, described)


def _table_of_rows(batch: list[tuple[str, str, str]], first: int, described: bool) -> pa.Table:
    names, descriptions, letters = zip(*batch, strict=True)
    return pa.table(
        {
            "number": pa.array(range(first + 1, first + 1 + len(batch)), pa.int64()),
            "id": pa.array(names, pa.string()),
            "sequence": pa.array(letters, pa.string()),
            **({column_of("description"): pa.array(descriptions, pa.string())} if described else {}),
        }
    )


__all__ = ["InputError", "InputPiece", "Record", "plan_pieces", "read", "read_labels", "read_tables", "types_of"]
