"""A user's labelled table: reading it, saying what was understood, and dividing it into training, validation and test rows.

Nothing is guessed: columns are named by the user, split names are a fixed list or named by the user, and what is left out
is counted with its reason. The table is held in memory, as labelled data sets are small beside unlabelled ones.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna.base import percent
from unirna.sequence import (
    MISSING,
    InputPiece,
    Missing,
    TextTypes,
    clean_table,
    column_of,
    convert_table,
    missing_column,
    parse_types,
    plan_pieces,
    read_tables,
    table_columns,
)
from unirna.tasks.errors import TaskError
from unirna.tasks.table.censoring import parse
from unirna.tasks.table.data_config import DataConfig
from unirna.tasks.table.labelled import LabelledTable
from unirna.tasks.table.pairs import PAIR_MARK, paired
from unirna.tasks.table.splits import UNUSED, has_classes, named_splits, random_splits, sides, strata, with_validation
from unirna.tasks.table.summary import count_rows, quantiles_of, tally

FLAGS: Final = {
    **dict.fromkeys(("1", "true", "yes"), "1"),
    **dict.fromkeys(("0", "false", "no"), "0"),
    "": "nan",
}
"""What the columns of several labels may hold, in any case."""
NO_NUMBER: Final = "label is no number"


@dataclass(frozen=True)
class _Usable:
    """What was read.

    Attributes:
        rows: id, sequence, sha, label, split and held_out of each usable row, all text.
        read: number of rows before any was left out. left_out: how many were, by reason.
        example: the first label that is no number, in words; "" for none. missing: words read as no value.
    """

    rows: pa.Table
    read: int
    left_out: Counter[str]
    example: str
    missing: Missing


@dataclass(frozen=True)
class _Divided:
    """Rows and the split of each.

    Attributes:
        rows: as `_Usable.rows`. splits: "train", "valid" or "test" of each. text: how they were divided, in words.
        left_out: how many rows were left out on the way, by reason.
    """

    rows: pa.Table
    splits: NDArray[np.str_]
    text: str
    left_out: Counter[str] = field(default_factory=Counter)

    def column(self, name: str) -> list[str]:
        """The values of a column."""
        return list(self.rows[name].to_pylist())

    def only(self, keep: NDArray[np.bool_], reason: str) -> _Divided:
        """The rows to keep; the others are counted under the reason."""
        if keep.all():
            return self
        left_out = self.left_out + Counter({reason: int((~keep).sum())})
        return replace(self, rows=self.rows.filter(pa.array(keep)), splits=self.splits[keep], left_out=left_out)


def read_labelled(config: DataConfig, *, whole: bool = False) -> LabelledTable:
    """Read a labelled table and divide it.

    Args:
        config: the table and how it is divided.
        whole: do not divide it: every row is a test row.

    Raises:
        InputError: a file that cannot be read, or a column that is not there.
        TaskError: a label column of measured numbers, an unknown split name, no rows to train or to test on.
    """
    usable = _usable_rows(config)
    divided = _without_bounds(_divide(usable.rows, config, whole), config)
    ids, sequences, shas, labels = (divided.column(name) for name in ("id", "sequence", "sha", "label"))
    left_out = usable.left_out + divided.left_out
    counts: dict[str, Any] = {"read": usable.read, "kept": len(ids)}
    counts |= {"rejected": left_out.total(), "rejected_by_reason": dict(left_out)}
    if usable.example:
        counts["no_number"] = usable.example
    if usable.missing:
        words = sorted(usable.missing.items())
        counts["read_as_missing"] = {f"{column} {word}": count for (column, word), count in words}
    counts |= count_rows([text.rpartition(PAIR_MARK)[2] for text in sequences], shas, labels, divided.splits)
    held_out = divided.column("held_out") if config.held_out_column else []
    facts = (config.numeric, config.level, config.label_columns, bool(config.reference_column))
    table = LabelledTable(ids, sequences, shas, labels, divided.splits, divided.text, counts, *facts, held_out=held_out)
    counts |= _counts_of_kind(table)
    _check_splits(table, config, whole)
    return table


def _usable_rows(config: DataConfig) -> _Usable:
    """Read all files; leave out, and count by reason, rows without a usable sequence or label.

    Raises:
        TaskError: no row is left.
    """
    tables: list[pa.Table] = []
    reasons: Counter[str] = Counter()
    read = 0
    example = ""
    missing = Missing()
    given = [(piece, _tables(piece, config, missing)) for piece in plan_pieces(config.data, encoding=config.encoding)]
    types = _text_types(given, config)
    for piece, parts in given:
        for part in parts:
            table = _wanted_columns(convert_table(part, types) if piece.is_text_table else part, piece, config)
            read += table.num_rows
            good, rejects = clean_table(table, piece.name)
            reasons.update(rejects["reason"].to_pylist())
            references = [""] * good.num_rows
            if config.reference_column:
                good, references = paired(good)
            found = good["label"].to_pylist()
            problems = [
                (_problem(label, sequence, config) if label else "no label") or reference
                for label, sequence, reference in zip(found, good["sequence"].to_pylist(), references, strict=True)
            ]
            reasons.update(problem for problem in problems if problem)
            if not example and NO_NUMBER in problems:
                at = problems.index(NO_NUMBER)
                example = _example(piece.path, config.label_column, good["number"][at].as_py(), found[at])
            tables.append(good.filter(pa.array([not problem for problem in problems], pa.bool_())))
    rows = pa.concat_tables(tables) if tables else None
    if rows is None or not rows.num_rows:
        raise TaskError(
            f"{', '.join(config.data)}: no usable row of {read} read. Rejected: {_listed(reasons)}"
            + (f". {example}" if example else "")
        )
    return _Usable(rows, read, reasons, example, missing)


def _divide(rows: pa.Table, config: DataConfig, whole: bool) -> _Divided:
    """Divide the rows: all test rows, by the split column, or at random."""
    if whole:
        return _Divided(rows, np.full(rows.num_rows, "test", dtype="<U6"), "the whole table")
    if config.split_column:
        splits, text = named_splits(rows["split"].to_pylist(), config)
        divided = _Divided(rows, splits, text).only(splits != UNUSED, "split not used")
        splits, more = with_validation(divided.splits, *_sides_and_strata(divided.rows, config), config)
        return replace(divided, splits=splits, text=text + more)
    shares = {"test": config.test_share, "valid": config.valid_share}
    splits = random_splits(*_sides_and_strata(rows, config), shares, config.seed)
    by = "reference" if config.reference_column else config.split_by
    if config.split_by == "sequence":
        together = f"{'all of one reference' if config.reference_column else 'copies of a sequence'} on one side"
    else:
        together = "sequences that share a quarter of their 10-mers on one side"
    text = (
        f"random by {by}, seed {config.seed}: {percent(config.test_share)} test and {percent(config.valid_share)} "
        f"validation{' of each class' if has_classes(config) else ''}, {together}"
    )
    return _Divided(rows, splits, text)


def _sides_and_strata(rows: pa.Table, config: DataConfig) -> tuple[Any, Any]:
    """What a random split keeps together, and what it divides evenly, of each row (`unirna.tasks.table.splits`)."""
    sequences, shas, labels = (rows[name].to_pylist() for name in ("sequence", "sha", "label"))
    return sides(sequences, shas, config), strata(labels, config)


def _without_bounds(divided: _Divided, config: DataConfig) -> _Divided:
    """Leave out validation and test rows whose label is a bound, such as ">1000": nothing can be measured on them.

    Raises:
        TaskError: no row is left.
    """
    if not (config.numeric and config.level == "sequence"):
        return divided
    bound = np.array([parse(label)[1] != 0 for label in divided.column("label")], bool)
    found = divided.only(~bound | (divided.splits == "train"), "a bound, not a value, outside training")
    if not found.rows.num_rows:
        raise TaskError(f"{', '.join(config.data)}: all labels are bounds, so nothing can be measured on them")
    return found


def _counts_of_kind(table: LabelledTable) -> dict[str, Any]:
    """Counts that tables of pairs, of several labels and of values have beside those of all tables."""
    counts: dict[str, Any] = {}
    if table.pairs:
        first = np.array([pair.partition(PAIR_MARK)[0] for pair in table.sequences])
        both = np.isin(first[table.splits == "test"], first[table.splits != "test"])
        counts["test_rows_of_references_seen"] = int(both.sum())
    if table.label_names:
        counts["num_classes"] = len(table.label_names)
        splits = [split for split in ("train", "valid", "test") if len(table.rows(split))]
        counts["per_label"] = {split: tally(table, split) for split in splits}
    if table.numeric:
        bounded = table.level == "sequence"
        sides_of = table.sides if bounded else np.zeros(len(table.values), np.int8)
        counts["values"] = quantiles_of(table.values[sides_of == 0] if (sides_of == 0).any() else table.values)
        if sides_of.any():
            counts["bounds"] = {"at_least": int((sides_of > 0).sum()), "at_most": int((sides_of < 0).sum())}
    return counts


def _check_splits(table: LabelledTable, config: DataConfig, whole: bool) -> None:
    """See that there are rows to train and to test on.

    Raises:
        TaskError: there are none.
    """
    for split in ("test",) if whole else ("train", "test"):
        if not len(table.rows(split)):
            raise TaskError(
                f"no row to {split} on: the split ({table.split}) gives {dict(Counter(table.splits.tolist()))}. "
                + _why_too_few(table, config)
                + ("Leave out --split-column for a random split" if config.split_column else "Give more rows")
            )


def _tables(piece: InputPiece, config: DataConfig, missing: Missing) -> list[pa.Table]:
    """The columns of one piece that are used, as `read_tables` gives them."""
    if config.reference_column in (config.id_column, config.sequence_column):
        raise TaskError(f"--reference-column {config.reference_column}: it must be another column than the sequence")
    used = {
        **dict.fromkeys(config.label_columns, "--label-columns"),
        config.label_column: "--label-column",
        config.split_column: "--split-column",
        config.held_out_column: "held_out_column",
        config.reference_column: "--reference-column",
    }
    used.pop("", None)
    is_table = piece.format not in ("fasta", "fastq")
    names = table_columns(piece) if is_table else ["description"]
    types = parse_types(config.column_type)
    for column, flag in {**dict.fromkeys(types, "--column-type"), **used}.items() if names else ():
        if column not in names:
            raise missing_column(piece.path, column, names, flag)
    # Where no column of ids was asked for by name, rows are called by their number.
    named = not is_table or config.id_column != "id" or "id" in names
    return list(
        read_tables(
            piece,
            id_column=config.id_column if named else "",
            sequence_column=config.sequence_column,
            columns=list(used),
            types=types,
            missing=missing,
        )
    )


def _text_types(given: list[tuple[InputPiece, list[pa.Table]]], config: DataConfig) -> dict[str, pa.DataType]:
    """Types of the columns that are text in their files: what all of the text is."""
    found = TextTypes()
    for piece, tables in given:
        for table in tables if piece.is_text_table else ():
            found.look(table)
    as_read = (*parse_types(config.column_type), config.reference_column)
    return {name: kind for name, kind in found.types.items() if name not in as_read}


def _wanted_columns(table: pa.Table, piece: InputPiece, config: DataConfig) -> pa.Table:
    """A table of number, id, sequence, label and split, all text but the first."""
    if config.label_columns:
        flags = [[_flag(v, name, piece.path) for v in table[column_of(name)].to_pylist()] for name in config.label_columns]
        texts = [" ".join(row) for row in zip(*flags, strict=True)]
        label = pa.chunked_array([pa.array([None if set(text) <= set("nan ") else text for text in texts], pa.string())])
    else:
        label = _without_decimals(table[column_of(config.label_column)])
    is_list = any(kind(label.type) for kind in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))
    if config.level == "nucleotide" and not is_list and not _is_text(label.type):
        raise TaskError(
            f"{piece.path}: column {config.label_column!r} has type {label.type}: expected a list with one value for each "
            "nucleotide. For one value for each sequence leave out --level"
        )
    if config.level == "sequence" and config.numeric and is_list:
        raise TaskError(
            f"{piece.path}: column {config.label_column!r} holds lists. To predict a value for each nucleotide say --level "
            "nucleotide"
        )
    if (
        config.level == "sequence"
        and config.numeric
        and not (pa.types.is_integer(label.type) or pa.types.is_floating(label.type) or _is_text(label.type))
    ):
        raise TaskError(f"{piece.path}: column {config.label_column!r} has type {label.type}: expected numbers")
    if (
        not config.numeric
        and pa.types.is_floating(label.type)
        and any(v is not None and v == v and not float(v).is_integer() for v in label.to_pylist())
    ):
        raise TaskError(
            f"{piece.path}: column {config.label_column!r} holds measured numbers such as {label[0].as_py()}. "
            "Classification needs names of classes; to predict the numbers, name the column with --target-column"
        )
    reference = table[column_of(config.reference_column)] if config.reference_column else None
    split, held_out = (
        table[column_of(column)] if column else pa.nulls(table.num_rows, pa.string())
        for column in (config.split_column, config.held_out_column)
    )
    return pa.table(
        {
            "number": table["number"],
            "id": table["id"].cast(pa.string()),
            "sequence": table["sequence"].cast(pa.string()),
            "label": pa.array([_label(v, config) for v in label.to_pylist()], pa.string()),
            "split": pa.array([_text(v) for v in split.to_pylist()], pa.string()),
            "held_out": held_out.cast(pa.string()),
            **({"reference": reference.cast(pa.string())} if reference is not None else {}),
        }
    )


def _flag(value: object, column: str, path: str) -> str:
    """A label as "1" or "0", or "nan" where it is not known.

    Raises:
        TaskError: something else.
    """
    text = "" if value is None or value != value or str(value).strip() in MISSING else str(value).strip().lower()
    found = FLAGS.get(text.removesuffix(".0"))
    if found is None:
        raise TaskError(
            f"{path}: column {column!r} holds {value!r}: expected 1 or 0, true or false, yes or no, or nothing where it is "
            "not known"
        )
    return found


def _without_decimals(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of decimals, whole or not, as the floating-point numbers that they are."""
    if not pa.types.is_decimal(column.type):
        return column
    return pa.chunked_array([pa.array([None if v is None else float(v) for v in column.to_pylist()], pa.float64())])


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _problem(label: str, sequence: str, config: DataConfig) -> str:
    """Why a label cannot be used; empty if it can."""
    if config.level == "nucleotide":
        values = label.split(" ")
        if len(values) != len(sequence):
            return "label has not one value for each nucleotide"
        return "" if any(_is_number(value) for value in values) else "no nucleotide has a value"
    return NO_NUMBER if config.numeric and not _is_number(parse(label)[0]) else ""


def _label(value: object, config: DataConfig) -> str:
    """A label as text; the values of nucleotides with spaces between them."""
    if config.level == "sequence":
        declared = f"{config.label_column}=text" in config.column_type  # where NA is a name
        return _text(value, config.numeric, ("",) if declared else MISSING)
    if isinstance(value, str):
        try:
            value = json.loads("null" if value.strip() in MISSING else value)
        except ValueError:
            return "no list"  # which is said
    if not isinstance(value, list):
        return "" if value is None else str(value)
    try:
        return " ".join("nan" if v is None else repr(float(v)) for v in value)
    except (TypeError, ValueError):
        return "no list of numbers"  # which is said


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason}: {count:,}" for reason, count in (+reasons).items()) or "none"


def _example(path: str, column: str, number: int, label: str) -> str:
    """The first label that is no number, and what to do with such."""
    text = f"{path}: row {number}, column {column!r} holds {label!r}: expected a number"
    if re.fullmatch(r"[+-]?\d*,\d+", label):
        return f"{text}. Write it with a decimal point: {label.replace(',', '.')}"
    if re.fullmatch(r"[+-]?[\d.,]+\s*\D{1,4}", label):
        return f"{text} alone. Remove what stands behind the number, and name its unit with --unit"
    return f"{text}. Classes are predicted with --label-column"


def _why_too_few(table: LabelledTable, config: DataConfig) -> str:
    """What a table without rows for a split may have wrong, as a sentence; empty for nothing known."""
    if len(set(table.shas)) == 1 and len(table.shas) > 1:
        return f"All rows have the same sequence: see that --sequence-column {config.sequence_column} is right. "
    if has_classes(config) and len(table.labels) > 1 and len(set(table.labels)) == len(table.labels):
        return (
            f"Each of the {len(table.labels):,} classes of column {config.label_column!r} has one row: see that "
            "--label-column is right (measured values are named with --target-column). "
        )
    return ""


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _text(value: object, numeric: bool = False, missing: Sequence[str] = MISSING) -> str:
    """A label as text, "" if there is none: without white space at its ends, whole floating-point numbers of a class
    without the dot."""
    if value is None or value != value:  # NaN is no label
        return ""
    if isinstance(value, float):
        return repr(value) if numeric or not value.is_integer() else str(int(value))
    text = str(value).strip()
    return "" if text in missing else text
