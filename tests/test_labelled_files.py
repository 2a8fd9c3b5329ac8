"""Labelled tables as people have them: names, types, encodings and missing values of the columns that are learned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unirna.sequence import InputError
from unirna.tasks import DataConfig, TaskError, read_labelled
from unirna.tasks.table.summary import describe


def table(folder: Path, names: str, cells: Callable[[int], str], encoding: str = "utf-8") -> str:
    """A CSV of 60 distinct sequences; `cells` gives the other cells of a row."""
    lines = [f"sequence,{names}"]
    lines += ["".join("ACGU"[(i >> shift) & 3] for shift in (0, 2, 4)) + "ACGU" + f",{cells(i)}" for i in range(60)]
    path = folder / "t.csv"
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return str(path)


def labels(path: str, column: str, **options: Any) -> list[str]:
    return read_labelled(DataConfig((path,), column, **options)).labels


@pytest.mark.parametrize("name", ["number", "piece", "sha", "length", "gene.name", "label", "split", "column 1"])
def test_a_target_is_the_column_of_the_file(tmp_path: Path, name: str) -> None:
    path = table(tmp_path, name, lambda i: str((i * 7) % 60 + 0.5))
    assert labels(path, name, numeric=True) == [repr((i * 7) % 60 + 0.5) for i in range(60)]


def test_a_column_without_a_name_is_called_by_its_place(tmp_path: Path) -> None:
    path = table(tmp_path, "kind,", lambda i: f"{'ab'[i % 2]},{i}")
    assert labels(path, "kind") == ["a", "b"] * 30
    assert labels(path, "column_3", numeric=True) == [str(i) for i in range(60)]


def test_a_column_that_is_not_used_costs_nothing(tmp_path: Path) -> None:
    path = table(tmp_path, "kind,chrom,note", lambda i: f"{'ab'[i % 2]},{'X' if i == 59 else i},\xe4", "latin-1")
    assert labels(path, "kind") == ["a", "b"] * 30


def test_classes_are_those_of_the_whole_file(tmp_path: Path) -> None:
    path = table(tmp_path, "chrom", lambda i: "X" if i > 50 else str(1 + i % 3))
    assert set(labels(path, "chrom")) == {"1", "2", "3", "X"}
    assert set(labels(table(tmp_path, "code", lambda i: f"00{i % 2}"), "code")) == {"000", "001"}


def test_encodings(tmp_path: Path) -> None:
    path = table(tmp_path, "art", lambda i: ("käfer", "maus")[i % 2], "latin-1")
    with pytest.raises(InputError, match=r"t\.csv: column 'art': line 2 is not UTF-8.*--encoding latin-1"):
        labels(path, "art")
    assert set(labels(path, "art", encoding="latin-1")) == {"käfer", "maus"}
    assert set(labels(table(tmp_path, "art", lambda i: ("käfer", "maus")[i % 2], "utf-16"), "art")) == {"käfer", "maus"}


def test_missing_values_are_left_out_and_told(tmp_path: Path) -> None:
    path = table(tmp_path, "gene", lambda i: ("HA", "NA", "nan", "")[i % 4] if i < 40 else "PB1")
    found = read_labelled(DataConfig((path,), "gene"))
    assert found.counts["rejected_by_reason"] == {"no label": 30} and set(found.labels) == {"HA", "PB1"}
    assert "read as no value: gene NA (10), gene nan (10); --column-type COLUMN=text keeps them" in describe(found)
    kept = read_labelled(DataConfig((path,), "gene", column_type=("gene=text",)))
    assert set(kept.labels) == {"HA", "NA", "nan", "PB1"} and kept.counts["rejected_by_reason"] == {"no label": 10}


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    path = table(tmp_path, "kind", lambda i: "ab"[i % 2])
    with pytest.raises(InputError, match=r"t\.csv: has no column 'number'. It has: sequence, kind.*--label-column"):
        labels(path, "number")
    with pytest.raises(InputError, match=r"has no column 'chrom'.*--column-type"):
        labels(path, "kind", column_type=("chrom=text",))
    with pytest.raises(TaskError, match="it must be another column than the sequence"):
        labels(path, "kind", numeric=True, reference_column="sequence")
