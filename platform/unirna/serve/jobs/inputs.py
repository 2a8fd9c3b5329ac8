"""A look at the input of a job before it is taken: its format, its columns, and its first records, read as the job will."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from unirna.sequence import InputError, clean_table, file_columns, parse_types, plan_pieces, read_tables
from unirna.serve.api.job_schemas import EmbedJob, FinetuneJob, ScreenJob
from unirna.serve.errors import RequestError, bad_field, raise_if_full

LOOKED_AT: Final = 1_000
"""Records at the start of an input that are looked at."""
FLAG: Final = re.compile(r"--([a-z]+(?:-[a-z]+)*)")


def look_at(request: EmbedJob | ScreenJob | FinetuneJob, field: str, kind: str, value: str | Path) -> None:
    """See that a job can read an input.

    Args:
        request: what was asked.
        field: of the request, "input" or "references".
        kind: "fasta", "fastq", "csv", "tsv" or "file".
        value: the text, or the path of a file.

    Raises:
        RequestError: a format or an encoding that is not what it says, columns that are not there, or an input of whose
            first records none can be used; the first one is named.
    """
    if isinstance(value, Path):
        _look_at_file(request, f"{field}.file", value, value.name)
        return
    if request.parameters.encoding:
        raise bad_field("parameters.encoding", "the text of a request is UTF-8: leave it out, or send input.file")
    with tempfile.TemporaryDirectory(prefix="unirna-input-") as folder:
        path = Path(folder) / f"{field}.{kind}"
        try:
            path.write_text(value, encoding="utf-8")
        except OSError as error:
            raise_if_full(error)
            raise
        _look_at_file(request, f"{field}.{kind}", path, f"the {kind.upper()} text")


def neutral(text: str) -> str:
    """A message that names the flags of a script by the fields that every surface has: id_column for --id-column."""
    return FLAG.sub(lambda flag: flag[1].replace("-", "_"), text)


def _look_at_file(request: EmbedJob | ScreenJob | FinetuneJob, field: str, path: Path, called: str) -> None:
    chosen = request.parameters
    try:
        parse_types(chosen.column_type)
    except ValueError as error:
        raise bad_field("parameters.column_type", neutral(str(error))) from error
    names = (
        chosen.sequence_column if isinstance(request, FinetuneJob) else chosen.id_column
    )  # rows need no identifier there
    try:
        pieces = plan_pieces(str(path), encoding=chosen.encoding)
        table = next(iter(read_tables(pieces[0], id_column=names, sequence_column=chosen.sequence_column)), None)
    except InputError as error:
        problem = neutral(error.problem)
        for name in ("sequence_column", "id_column"):
            if f"column {getattr(chosen, name)!r}" in problem:
                raise bad_field(f"parameters.{name}", f"{called} {problem}") from error
        raise bad_field(field, f"{called} {problem}") from error
    if table is None or not table.num_rows:
        raise bad_field(field, f"{called} holds no record")
    if isinstance(request, FinetuneJob):
        _check_columns(request, table, called)
        return  # what it takes as a sequence depends on the task: pairs too
    first = table.slice(0, LOOKED_AT)
    good, rejects = clean_table(first, called)
    if not good.num_rows:
        raise _unusable(field, called, first.num_rows, rejects.slice(0, 1).to_pylist()[0])


def _check_columns(request: FinetuneJob, table: pa.Table, called: str) -> None:
    chosen = request.parameters
    others = file_columns(table.column_names)
    there = [*others, chosen.sequence_column, chosen.id_column]
    wanted = {
        "label_column": [chosen.label_column],
        "label_columns": chosen.label_columns,
        "target_column": [chosen.target_column],
        "split_column": [chosen.split_column],
        "reference_column": [chosen.reference_column],
    }
    for name, columns in wanted.items():
        for column in columns:
            if column and column not in there:
                have = ", ".join(dict.fromkeys([chosen.sequence_column, *others]))
                raise bad_field(f"parameters.{name}", f"{called} has no column {column!r} ({name}). It has: {have}")


def _unusable(field: str, called: str, count: int, first: dict[str, Any]) -> RequestError:
    name = first["id"] or f"record {first['number']}"
    place = f" at position {first['position']}: {first['letter']!r}" if first["position"] else ""
    which = "its record cannot be used" if count == 1 else f"none of its first {count:,} records can be used"
    return bad_field(field, f"{called}: {which}. {name}: {first['reason']}{place}. Expected RNA or DNA sequences")
