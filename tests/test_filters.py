"""Filters mean what standard SQL says: names in double quotes are columns, a missing value passes no comparison."""

from __future__ import annotations

import re
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unirna import vectorstore
from unirna.sdk import _cli
from unirna.vectorstore import Collection, FilterError, StoreError
from unirna.vectorstore.vector_cache import VECTOR_CACHE

D = 8
FAMILIES = ["tRNA", "rRNA", None, "O'x", "tRNA"]
SCORES = [0.1, float("nan"), None, float("inf"), 5.5]
LABELS = {
    "Family": pa.array(FAMILIES),
    "my col": pa.array([1, 2, 3, 4, 5], pa.int32()),
    "q'x": pa.array([1, 2, 3, 4, 5], pa.int32()),
    "d": pa.array(SCORES, pa.float64()),
    "f": pa.array(SCORES, pa.float32()),
    "h": pa.array(SCORES, pa.float32()).cast(pa.float16()),
    "inside": pa.array([{"x": value} for value in SCORES], pa.struct([("x", pa.float64())])),
    "case": pa.array(list("abcde")),
    "Case": pa.array(list("vwxyz")),
}
IDS = ["r0", "r1", "r2", "r3", "r4"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("filters"))
    labels = [pa.field(name, column.type) for name, column in LABELS.items()]
    schema = vectorstore.collection_schema(D, pa.schema([]), vectorstore.Provenance("nano", "feed"))
    for label in labels:  # some names are refused now, but stand in stores of earlier versions
        schema = schema.append(label)
    own = [IDS, ["ACGU"] * 5, pa.array([4] * 5, pa.int32()), ["x"] * 5]
    vectors = vectorstore.vector_array(np.random.default_rng(0).standard_normal((5, D)).astype(np.float32))
    vectorstore.append_rows(uri, "c", pa.table([*own, vectors, *LABELS.values()], schema=schema), key="k")
    return uri


@pytest.fixture
def collection(store: str) -> Collection:
    return vectorstore.open(store, "c")


def passing(collection: Collection, where: str) -> str:
    """Numbers of the rows that pass, by every way to ask for them."""
    query = np.ones(D, np.float32)
    found = "".join(sorted(name[1:] for name in collection.search(query, where=where)["id"].to_pylist()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VECTOR_CACHE, "budget", 0)
        read = collection.search(query, where=where)["id"].to_pylist()
        assert "".join(sorted(name[1:] for name in read)) == found
    scanned = [name for batch in collection.scan(["id"], where=where) for name in batch["id"].to_pylist()]
    assert "".join(name[1:] for name in scanned) == found and collection.count(where) == len(found)
    similar = collection.all_similar(query, -2, where=where, columns=["id"])
    assert "".join(name[1:] for batch in similar for name in batch["id"].to_pylist()) == found
    return found


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("\"Family\" = 'tRNA'", "04"),
        ("\"Family\" <> 'tRNA'", "13"),
        ("NOT(\"Family\"='tRNA')", "13"),
        ("`Family` = 'tRNA'", "04"),
        ("Family = 'tRNA'", "04"),
        ("family = 'tRNA'", "04"),  # names without quotes are of either case
        ("\"Family\" = 'O''x'", "3"),
        ('"my col" BETWEEN 2 AND 3', "12"),
        ("`my col` in (2, 3)", "12"),
        ('"q\'x" = 2', "1"),
        ("`q'x` = 2", "1"),
        ('"Family" IS NULL', "2"),
        ('"Family" = "Family"', "0134"),
        ("'\"Family\"' = '\"Family\"'", "01234"),  # a text that looks like a name
        ("lower(\"Family\") = 'trna'", "04"),
        ("`case` = 'a' or \"Case\" = 'w'", "01"),
    ],
)
def test_names_in_double_quotes_are_columns(collection: Collection, where: str, rows: str) -> None:
    assert passing(collection, where) == rows


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("{} > 1", "34"),
        ("{} >= 0.1", "034"),
        ("NOT ({} > 1)", "0"),
        ("{} <> 0.1", "34"),
        ("{} = 0.1", "0"),
        ("0.1 = {}", "0"),
        ("0.1 < {}", "34"),
        ("{} > -.1e0", "034"),
        ("{} IN (-3, 0.1, 2)", "0"),
        ("{} NOT IN (0.1)", "34"),
        ("{} BETWEEN 0.1 AND 5.5", "04"),
        ("{} NOT BETWEEN -1 AND 5", "34"),
        ("{} IS NULL", "12"),
        ("{} IS NOT NULL", "034"),
        ("{0} = {0}", "034"),
        ("isnan({})", "1"),
        ("not isnan({})", "034"),
        ("{} > 1 OR Family = 'rRNA'", "134"),
    ],
)
def test_nan_is_a_missing_value(collection: Collection, where: str, rows: str) -> None:
    for name in ("d", "f", "h", '"f"', "`d`", "inside.x", '"inside"."x"', "`inside`.x"):
        assert passing(collection, where.format(name)) == rows, name


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("\"famly\" = 'tRNA'", "famly.*did you mean Family"),
        ("\"family\" = 'tRNA'", "family.*did you mean Family"),
        ('Family = "tRNA"', "single quotes: 'tRNA'"),
        ('"Family" = "O\'x"', "single quotes: 'O''x'"),
        ("\"Family = 'tRNA'", "an open quote"),
        ('"repeat"(Family, 1000000) = 1', r"calls repeat\(\)"),
        ("`inside`.`y` > 1", "inside has no field y"),
        ('"inside"."y" > 1', "inside has no field y"),
        ('"" = 1', "is no column"),
    ],
)
def test_names_that_are_no_column_are_refused(collection: Collection, where: str, says: str) -> None:
    with pytest.raises(FilterError, match=says):
        collection.count(where)


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from("\"'`ab\\ \0%\n;-"), max_size=6))
def test_every_text_can_be_asked_for(store: str, text: str) -> None:
    """Whatever stands between single quotes, doubled where it is one, is that text; what is in double quotes never is."""
    collection = vectorstore.open(store, "c")
    quoted = text.replace("'", "''")
    assert collection.count(f"'{quoted}' = '{quoted}' and \"id\" = 'r0'") == 1
    named = text.replace('"', '""')
    with pytest.raises(FilterError):
        collection.count(f"\"{named}!\" = '{quoted}'")


def test_a_deletion_says_how_much_it_takes_and_asks(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = str(tmp_path)
    vectorstore.copy(store, "c", uri)

    def run(where: str, *flags: str, code: int = 0) -> str:
        assert _cli.main(["collections", "delete", "c", "--store", uri, "--where", where, *flags]) == code
        return capsys.readouterr().err

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", StringIO("y\n"))  # a pipe is not asked
    assert "5 of 5 rows" in run("length = 4", code=2) and len(vectorstore.open(uri, "c")) == 5
    assert "--yes" in run("length = 4", code=2)
    assert "1 of 5 rows match" in run("\"Family\" = 'rRNA'", "--dry-run") and len(vectorstore.open(uri, "c")) == 5
    assert "1 row deleted" in run("\"Family\" = 'rRNA'")
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert "nothing was deleted" in run("d > 0", code=2) and len(vectorstore.open(uri, "c")) == 4
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert "Delete 3 of 4 rows?" in run("d > 0")
    assert "1 row deleted" in run("d IS NULL", "--yes")
    with pytest.raises(StoreError):
        vectorstore.delete(uri, "c", '"nothing" <> 1')


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("Family = tRNA", r"tRNA is no column \(a text stands in single quotes: 'tRNA'\)"),
        ("famly = 'x'", "famly is no column; did you mean Family"),
        ("Family = 5", "compares text with 5.*single quotes: '5'"),
        ("length > 'abc'", 'compares a column of whole numbers with the text "abc"'),
        ("length = 73.5", "compares a column of whole numbers with 73.5"),
    ],
)
def test_errors_of_the_store_are_put_in_words(collection: Collection, where: str, says: str) -> None:
    with pytest.raises(FilterError, match=says):
        collection.count(where)


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("Family <> 'TRNA'", "no row of .* has Family = 'TRNA'; did you mean 'tRNA'"),
        ("\"Family\" != 'TRNA' AND length > 1", "did you mean 'tRNA'"),
        ("Family NOT IN ('TRNA', 'tRNA')", "'TRNA'; did you mean 'tRNA'"),
        ("Family <> 'tRNA'", ""),
        ("Family = 'TRNA'", ""),  # `explain_empty` tells of it
    ],
)
def test_a_value_that_takes_out_no_row_is_told(collection: Collection, where: str, says: str) -> None:
    told = vectorstore.explain_passing(collection, where)
    assert re.search(says, told[0]) if says else not told


def test_why_a_filter_passes_nothing(collection: Collection) -> None:
    assert "ILIKE" in vectorstore.explain_empty(collection, "Family LIKE 'TRN%'")[0]
    assert "IS NULL" in vectorstore.explain_empty(collection, "Family = NULL")[0]
