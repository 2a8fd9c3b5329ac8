"""Where a labelled table stands and how it is divided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unirna.tasks.errors import TaskError


@dataclass(frozen=True)
class DataConfig:
    """A labelled table and how it is divided.

    Attributes:
        data: files, folders, globs or URIs.
        label_column, sequence_column, id_column: its columns; rows of a table without the id column are named by number.
        label_columns: instead of a label column, one for each of several labels: 1 or 0 (true or false, yes or no), empty
            where it is not known.
        numeric: the labels are measured values, not names of classes; ">1000" and "<0.5" of sequences are bounds, which
            training alone uses.
        level: "nucleotide" where a label is a list with one value for each nucleotide, null or NaN if none was measured;
            in text a JSON list.
        split_column: says which rows train, validate and test; empty for a random split.
        split_names: further values of that column, as "test=test13". When any is given, rows of other values are left out.
        valid_share, test_share: shares of the distinct sequences, of each class if there are any, where no column says.
        seed: of the random split. split_by: what a random split keeps on one side: copies of a sequence, or all that are
            similar (`similar_groups`).
        reference_column: of values that are of a sequence as against another one, which stands here: a variant and what it
            is a variant of. A random split keeps all rows of one reference on one side.
        held_out_column: says of validation and test rows whether they are of "families" that training does not have, or new
            "members" of those that it has; both are measured apart.
        allow_copies: whether test rows whose sequence stands in training too may stay, to be measured with and without.
        encoding: of text, such as "latin-1"; by default UTF-8, or what a file's byte-order mark says.
        column_type: types of columns of text tables, as "NAME=TYPE"; by default what all of their text is.
    """

    data: tuple[str, ...]
    label_column: str
    sequence_column: str = "sequence"
    id_column: str = "id"
    split_column: str = ""
    split_names: tuple[str, ...] = ()
    valid_share: float = 0.1
    test_share: float = 0.2
    seed: int = 0
    numeric: bool = False
    level: Literal["sequence", "nucleotide"] = "sequence"
    split_by: Literal["sequence", "similarity"] = "sequence"
    allow_copies: bool = False
    held_out_column: str = ""
    label_columns: tuple[str, ...] = ()
    reference_column: str = ""
    encoding: str = ""
    column_type: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.reference_column and not (self.numeric and self.level == "sequence"):
            raise TaskError(
                f"reference column {self.reference_column}: expected values of sequences, named with --target-column"
            )
        if self.label_columns and (self.numeric or self.label_column or len(set(self.label_columns)) < 2):
            raise TaskError(
                f"label columns {', '.join(self.label_columns)}: expected two or more of true or false labels, and "
                "no other column of labels or values"
            )
        if self.level == "nucleotide" and not self.numeric:
            raise TaskError("level nucleotide predicts a value for each nucleotide: name their column with --target-column")
        if not (self.valid_share > 0 and self.test_share > 0 and self.valid_share + self.test_share < 1):
            raise TaskError(
                f"valid_share {self.valid_share} and test_share {self.test_share}: expected both above 0, their sum below 1"
            )
