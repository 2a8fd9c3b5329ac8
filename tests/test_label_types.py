"""Labels of every Arrow type are stored, found, filtered, changed and shown; what cannot be stored is refused by name."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from unirna import model, sdk, vectorstore
from unirna.sdk import Record, SampleResult
from unirna.vectorstore import Collection, Provenance, StoreError
from unirna.vectorstore.vector_cache import VECTOR_CACHE

D = 8
TEXT, WHOLE = pa.string(), pa.int64()
TWO_DATES = [dt.date(2020, 1, 31), dt.date(1, 1, 1)]
TWO_TIMES = [dt.datetime(2020, 1, 31, 12, 30), dt.datetime(1969, 1, 1)]


def counts(kind: pa.DataType) -> pa.Array:
    """Two values of a type that is stored as a whole number, and a null."""
    return pa.array([5, 3_000_000_000 if kind.bit_width == 64 else 7, None], WHOLE).cast(f"int{kind.bit_width}").cast(kind)


def of(values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array([*values, None], kind)


INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32()]
UNITS = ("s", "ms", "us", "ns")
STORED: dict[str, pa.Array] = {
    "null": pa.nulls(3),
    "bool": of([True, False], pa.bool_()),
    **{str(kind): of([1, 100], kind) for kind in INTEGERS},
    "uint64": of([2**64 - 1, 2**63], pa.uint64()),
    "int64 lowest": of([-(2**63), 2**63 - 1], pa.int64()),
    **{str(kind): of([1.5, -0.25], kind) for kind in (pa.float16(), pa.float32(), pa.float64())},
    "infinite": of([float("inf"), float("nan")], pa.float64()),
    **{str(kind): of(["a'\"`\\\n", "é😀"], kind) for kind in (TEXT, pa.large_string())},
    **{str(kind): of([b"\0a", b""], kind) for kind in (pa.binary(), pa.large_binary())},
    "bytes of one size": of([b"ab", b"\xff\0"], pa.binary(2)),
    "date32": of(TWO_DATES, pa.date32()),
    "date64": of(TWO_DATES, pa.date64()),
    **{str(k): counts(k) for k in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))},
    **{f"timestamp {unit}": of(TWO_TIMES, pa.timestamp(unit)) for unit in UNITS},
    "timestamp zone": of(TWO_TIMES, pa.timestamp("us", "Europe/Berlin")),
    "timestamp far": of([2**62, -(2**62)], WHOLE).cast(pa.timestamp("s")),
    "date far": of([2**30, -(2**30)], pa.int32()).cast(pa.date32()),
    **{f"duration {unit}": of([1, 3_000_000_001], WHOLE).cast(pa.duration(unit)) for unit in UNITS},
    "decimal128": of([Decimal("1.50"), Decimal("-2.25")], pa.decimal128(20, 2)),
    "decimal256": of([Decimal("1.50"), Decimal("-2.25")], pa.decimal256(60, 2)),
    "list": of([["x", None], []], pa.list_(TEXT)),
    "large_list": of([["x", None], []], pa.large_list(TEXT)),
    "list of lists": of([[[1.5], None], []], pa.list_(pa.large_list(pa.float32()))),
    "numbers": of([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
    "structs": of([{"x": 1, "y": ["a"]}, {"x": None, "y": []}], pa.struct([("x", pa.int32()), ("y", pa.list_(TEXT))])),
    "list of structs": of([[{"x": 1}], []], pa.list_(pa.struct([("x", pa.duration("s"))]))),
    "map": of([[("k", 1)], []], pa.map_(TEXT, WHOLE)),
    "uuid": of([b"0" * 16, b"1" * 16], pa.uuid()),
    "json": of(['{"a":1}', "[]"], pa.json_()),
}
KEPT: dict[str, tuple[pa.Array, pa.DataType]] = {
    "string_view": (of(["a", "b"], pa.string_view()), TEXT),
    "binary_view": (of([b"a", b"b"], pa.binary_view()), pa.binary()),
    "category": (of(["a", "b"], TEXT).dictionary_encode(), TEXT),
    "category of dates": (of(TWO_DATES, pa.date32()).dictionary_encode(), pa.date32()),
    "runs": (pa.RunEndEncodedArray.from_arrays([1, 2, 3], of(["a", "b"], TEXT)), TEXT),
    "decimal32": (of([Decimal("1.5"), Decimal("2.5")], pa.decimal32(5, 2)), pa.decimal128(5, 2)),
    "decimal64": (of([Decimal("1.5"), Decimal("2.5")], pa.decimal64(10, 2)), pa.decimal128(10, 2)),
    "list_view": (of([["x"], []], pa.list_view(TEXT)), pa.list_(TEXT)),
    "large_list_view": (of([["x"], []], pa.large_list_view(TEXT)), pa.large_list(TEXT)),
    "texts of one number": (of([["a"], ["b"]], pa.list_(TEXT, 1)), pa.list_(TEXT)),
    "list of categories": (
        pa.ListArray.from_arrays(pa.array([0, 1, 2, 2], pa.int32()), pa.array(["a", "b"]).dictionary_encode()),
        pa.list_(TEXT),
    ),
    "no numbers": (of([[], []], pa.list_(WHOLE, 0)), pa.list_(WHOLE)),
}
REFUSED: dict[str, pa.DataType] = {
    "interval": pa.month_day_nano_interval(),
    "union": pa.dense_union([pa.field("0", WHOLE), pa.field("1", TEXT)]),
    "no fields": pa.struct([]),
    "inside": pa.list_(pa.struct([("x", pa.month_day_nano_interval())])),
    "category of lists": pa.dictionary(pa.int32(), pa.list_(TEXT)),
}


def vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, D)).astype(np.float32)


def rows(ids: list[str], labels: dict[str, pa.Array], seed: int = 0) -> pa.Table:
    own = {"id": ids, "sequence": ["ACGU"] * len(ids), "vector": vectorstore.vector_array(vectors(len(ids), seed))}
    return pa.table({**own, **labels})


def make(uri: str, labels: dict[str, pa.Array], name: str = "c") -> Collection:
    """Two fragments of three rows each: a0, a1, a2 and b0, b1, b2, with the same labels."""
    schema = vectorstore.collection_schema(
        D, pa.schema([(key, column.type) for key, column in labels.items()]), Provenance("nano", "feed")
    )
    vectorstore.append_rows(uri, name, schema.empty_table(), key="made")
    for seed, first in enumerate("ab"):
        vectorstore.add(uri, name, rows([f"{first}{i}" for i in range(3)], labels, seed), fingerprint="feed")
    return vectorstore.open(uri, name)


def values(table: pa.Table, label: str) -> list[str]:
    """Values as text."""
    return [text_of(chunk, i) for chunk in table[label].chunks for i in range(len(chunk))]


def text_of(column: pa.Array, place: int) -> str:
    """A value as text: not each has a Python value, and NaN is not equal to itself."""
    try:
        return repr(column[place].as_py())
    except (OverflowError, ValueError):
        return str(column.slice(place, 1).to_string())


def check(collection: Collection, label: str, wanted: dict[str, int], column: pa.Array) -> None:
    """Every way to read gives each row its label; `wanted` is id -> place in the column."""
    expected = {name: text_of(column, place) for name, place in wanted.items()}
    table = collection.get(sorted(expected, reverse=True), columns=["id", label])
    assert dict(zip(table["id"].to_pylist(), values(table, label), strict=True)) == expected
    assert table["id"].to_pylist() == sorted(expected, reverse=True)
    every = ["id", label]
    for found in (
        collection.search(vectors(1)[0], k=20, columns=every),
        pa.Table.from_batches(collection.scan(every), collection.sample(1, columns=every).schema),
        collection.sample(20, columns=every),
        pa.Table.from_batches(collection.all_similar(vectors(1)[0], -2, columns=every)),
    ):
        assert dict(zip(found["id"].to_pylist(), values(found, label), strict=True)) == expected
    lacking = {
        name
        for name, place in wanted.items()
        if column.is_null(nan_is_null=pa.types.is_floating(column.type))[place].as_py()
    }
    where = f'"{label}" IS NULL'
    assert {name for batch in collection.scan(["id"], where=where) for name in batch["id"].to_pylist()} == lacking
    assert vectorstore.statistics(collection.uri, collection.name).missing[label] == len(lacking)


@pytest.mark.parametrize("kind", STORED)
def test_a_label_of_each_type_is_read_changed_and_deleted(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, column, by = str(tmp_path), STORED[kind], {"fingerprint": "feed"}
    collection = make(uri, {"label": column})
    assert collection.schema.field("label").type == column.type
    held = {f"{first}{i}": i for first in "ab" for i in range(3)}
    check(collection, "label", held, column)

    turned = column.take(pa.array([2, 0, 1]))  # rows that fill a fragment are put in their own place
    done = vectorstore.upsert(
        uri, "c", rows(["b0", "b1", "b2", "c0"], {"label": pa.concat_arrays([turned, turned[:1]])}), **by
    )
    assert (done["added"], done["replaced"]) == (1, 3)
    held |= {"b0": 2, "b1": 0, "b2": 1, "c0": 2}
    check(collection, "label", held, column)

    assert vectorstore.delete(uri, "c", "id IN ('a0', 'a1', 'a2')") == 3
    held = {name: place for name, place in held.items() if name[0] != "a"}
    vectorstore.add_labels(uri, "c", pa.table({"id": ["b0", "b1", "c0"], "later": column}))
    vectorstore.compact(uri, "c")
    monkeypatch.setattr(VECTOR_CACHE, "budget", 0)
    check(collection, "label", held, column)
    check(collection, "later", {"b0": 0, "b1": 1, "c0": 2, "b2": 2}, column)


@pytest.mark.parametrize("kind", KEPT)
def test_what_has_no_place_in_a_store_is_kept_as_what_it_means(kind: str, tmp_path: Path) -> None:
    column, kept = KEPT[kind]
    uri, plain_column = str(tmp_path), vectorstore.storable_table(pa.table({"x": column}))["x"].combine_chunks()
    assert vectorstore.storable("x", column.type) == kept == plain_column.type
    collection = make(uri, {"label": plain_column})
    vectorstore.upsert(uri, "c", rows(["b0", "b1", "b2"], {"label": column}), fingerprint="feed")
    vectorstore.add_labels(uri, "c", pa.table({"id": ["a0", "a1", "a2"], "later": column}))
    check(collection, "label", {f"{first}{i}": i for first in "ab" for i in range(3)}, plain_column)
    assert collection.get(["a1"])["later"].to_pylist() == plain_column[1:2].to_pylist()


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_stored_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"'odd': a store cannot hold"):
        vectorstore.collection_schema(D, pa.schema([("odd", REFUSED[kind])]), Provenance("nano", "feed"))
    uri = str(tmp_path)
    make(uri, {"label": pa.nulls(3, TEXT)})
    if kind not in ("union", "no fields", "category of lists"):  # Arrow makes no nulls of these
        with pytest.raises(StoreError, match=r"'odd': a store cannot hold"):
            vectorstore.add_labels(uri, "c", pa.table({"id": ["a0"], "odd": pa.nulls(1, REFUSED[kind])}))
    assert vectorstore.open(uri, "c").info.version == vectorstore.versions(uri, "c")[-1].number


@pytest.mark.parametrize("indexed", [False, True])
def test_rows_that_fill_fragments_are_replaced_and_deleted(indexed: bool, tmp_path: Path) -> None:
    uri, by = str(tmp_path), {"fingerprint": "feed"}
    collection = make(uri, {"label": of(["x", "y"], TEXT)})
    if indexed:
        vectorstore.build_kmer_index(uri, "c")
    ids = [f"{first}{i}" for first in "ab" for i in range(3)]
    for count in (6, 5, 1, 3):
        done = vectorstore.upsert(uri, "c", rows(ids[:count], {"label": pa.array(["new"] * count)}, seed=count), **by)
        assert (done["added"], done["replaced"]) == (0, count) and len(collection) == 6
        found = collection.search(vectors(count, seed=count), k=1)
        assert found["id"].to_pylist() == ids[:count] and set(found["label"].to_pylist()) == {"new"}
    if indexed:
        found = vectorstore.search_hybrid(collection, ["ACGU" * 3], vectors(1, seed=3)[0], k=6)
        assert sorted(found["id"].to_pylist()) == ids
    assert vectorstore.delete(uri, "c", "true") == 6 and len(collection) == 0
    assert collection.search(vectors(1)[0]).num_rows == collection.sample(3).num_rows == collection.get(ids).num_rows == 0
    assert vectorstore.upsert(uri, "c", rows(ids, {"label": pa.array(["back"] * 6)}), **by)["added"] == 6
    vectorstore.compact(uri, "c")
    assert collection.search(vectors(6), k=1)["id"].to_pylist() == ids


def test_clients_show_labels_of_every_type(nano_model_path: Path, tmp_path: Path) -> None:
    encoder, uri = model.load(nano_model_path), str(tmp_path)
    schema = vectorstore.collection_schema(
        encoder.dimension,
        pa.schema([(name, column.type) for name, column in STORED.items()]),
        Provenance(encoder.name, encoder.fingerprint),
    )
    sequences = ["GGGAAACCC", "GCGCUUUUAUAU", "ACGUACGUACGU"]
    own = [["a", "b", "c"], sequences, pa.array([9, 12, 12], pa.int32()), ["x"] * 3]
    table = pa.table([*own, vectorstore.vector_array(encoder.embed(sequences)), *STORED.values()], schema=schema)
    vectorstore.append_rows(uri, "c", table, key="k")
    client = sdk.connect(uri, model=nano_model_path)
    for found in (client.search(id="a", k=3), client.search("GGGAAACCC", k=3, verify=True), client.sample(3)):
        frame = found.to_arrow()
        assert set(STORED) <= set(frame.column_names)
        assert sorted(frame["uint64"].drop_null().to_pylist()) == [2**63, 2**64 - 1]
        assert frame.schema.field("uint64").type == pa.uint64()
        assert frame["int64 lowest"].drop_null().to_pylist()[0] in (-(2**63), 2**63 - 1)
        assert sorted(found.to_pandas()["uint64"].dropna().map(int)) == [2**63, 2**64 - 1]
        assert sorted(found.to_polars()["uint64"].drop_nulls().to_list()) == [2**63, 2**64 - 1]
        json.loads(json.dumps(found.to_dicts(), allow_nan=False))


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([2**63, None, 0], pa.uint64()),
        ([2**64 - 1, 1], pa.uint64()),
        ([2**63 - 1, -(2**63)], pa.int64()),
        ([2**63, -1], pa.decimal128(38)),
        ([[2**63], None, []], pa.list_(pa.uint64())),
        ([{"x": 2**63}, None], pa.struct([("x", pa.uint64())])),
        ([[{"x": [2**64 - 1]}]], pa.list_(pa.struct([("x", pa.list_(pa.uint64()))]))),
        ([1.5, 2**63], pa.float64()),
        ([2**53 + 1, None], pa.int64()),
    ],
)
def test_large_numbers_have_a_type_that_holds_them(numbers: list[Any], kind: pa.DataType) -> None:
    records = [Record(str(i), 1, "A", {"n": number}) for i, number in enumerate(numbers)]
    found = SampleResult(records, "c").to_arrow()["n"]
    assert found.type == kind and found.to_pylist() == numbers
    assert SampleResult(records, "c").to_polars()["n"].to_list() == numbers
    frame = SampleResult(records, "c").to_pandas()["n"]
    assert [None if value is None or value is pd.NA else value for value in frame] == numbers
