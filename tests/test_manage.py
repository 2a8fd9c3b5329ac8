"""Rows, labels, versions and names of collections are changed whole or not at all; compaction hurts no running writer."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from unirna import vectorstore
from unirna.sdk import _cli
from unirna.sequence import sequence_sha
from unirna.vectorstore import FilterError, ModelMismatchError, Provenance, StoreError

D = 8
MADE = Provenance("nano", "0123456789abcdef")
SCHEMA = vectorstore.collection_schema(D, pa.schema([("family", pa.string())]), MADE)
BY = {"fingerprint": MADE.fingerprint}


def vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, D)).astype(np.float32)


def rows(first: int, end: int, seed: int = 0, letters: str = "ACGU") -> pa.Table:
    ids = [f"r{i:03d}" for i in range(first, end)]
    sequences = [letters * (i % 100 + 1) for i in range(first, end)]
    return pa.table({"id": ids, "sequence": sequences, "vector": vectorstore.vector_array(vectors(end - first, seed))})


def make(uri: str, name: str = "c", end: int = 20) -> None:
    vectorstore.commit(
        uri, name, SCHEMA, vectorstore.write_rows(uri, name, SCHEMA.empty_table(), SCHEMA), key="k", read_version=0
    )
    vectorstore.add(uri, name, rows(0, end), **BY)


@pytest.fixture
def store(tmp_path: Path) -> str:
    make(str(tmp_path))
    return str(tmp_path)


def held(uri: str, name: str = "c", version: int | str | None = None) -> list[dict[str, object]]:
    opened = vectorstore.open(uri, name, version=version)
    return sorted(pa.Table.from_batches(opened.scan(), opened.schema.remove(4)).to_pylist(), key=lambda row: str(row["id"]))


def test_add_works_out_length_and_sha_and_refuses_ids_that_are_there(store: str) -> None:
    row = held(store)[2]
    assert row == {"id": "r002", "sequence": "ACGU" * 3, "length": 12, "sha": sequence_sha("ACGU" * 3), "family": None}
    before = held(store)
    with pytest.raises(StoreError, match=r"'r018', 'r019'.*upsert"):
        vectorstore.add(store, "c", rows(18, 25), **BY)
    assert held(store) == before


def test_upsert_replaces_by_id_and_a_search_sees_it(store: str) -> None:
    done = vectorstore.upsert(
        store, "c", rows(18, 25, seed=1, letters="GGCC").append_column("family", pa.array(["f"] * 7)), **BY
    )
    assert (done["added"], done["replaced"]) == (5, 2)
    assert [row["id"] for row in held(store)] == [f"r{i:03d}" for i in range(25)]
    assert held(store)[18]["sequence"] == "GGCC" * 19 and held(store)[17]["sequence"] == "ACGU" * 18
    hit = vectorstore.open(store, "c").search(vectors(7, seed=1)[0], k=1).to_pylist()[0]
    assert (hit["id"], hit["family"]) == ("r018", "f") and hit["similarity"] == pytest.approx(1)


def test_rows_that_do_not_fit_are_named_and_nothing_is_added(store: str) -> None:
    good, before = rows(30, 33), vectorstore.open(store, "c").info.version
    bad = {
        "no column sequence, vector": good.select(["id"]),
        "no column colour": good.append_column("colour", pa.array(["red"] * 3)),
        "duplicate ids: 'r030'": pa.concat_tables([good, good.slice(0, 1)]),
        "1 rows have no id": good.set_column(0, "id", pa.array(["a", None, "b"])),
        "rows 'r031': expected a sequence": good.set_column(1, "sequence", pa.array(["ACGU", "", "A"])),
        "rows 'r032': expected a sequence": good.set_column(1, "sequence", pa.array(["ACGU", "N", "ACGT"])),
        "expected 8 finite numbers": good.set_column(
            2, "vector", vectorstore.vector_array(np.full((3, D), np.nan, np.float32))
        ),
        "column vector": good.set_column(2, "vector", vectorstore.vector_array(np.ones((3, D + 1), np.float32))),
        "column family: expected string": good.append_column("family", pa.array([[1], [2], [3]])),
    }
    for says, table in bad.items():
        for change in (vectorstore.add, vectorstore.upsert):
            with pytest.raises(StoreError, match=says):
                change(store, "c", table, **BY)
    with pytest.raises(ModelMismatchError):
        vectorstore.add(store, "c", good, fingerprint="feed")
    assert vectorstore.open(store, "c").info.version == before


def test_delete_by_filter_and_time_travel(store: str) -> None:
    vectorstore.tag(store, "c", "full")
    assert vectorstore.delete(store, "c", "length <= 40") == 10
    assert vectorstore.delete(store, "c", "length <= 40") == 0
    assert len(held(store)) == 10 and len(held(store, version="full")) == 20 and len(held(store, version=2)) == 20
    query = vectors(20)[3]
    assert vectorstore.open(store, "c", version="full").search(query, k=1)["id"].to_pylist() == ["r003"]
    assert vectorstore.open(store, "c").search(query, k=1)["id"].to_pylist() != ["r003"]
    assert [(v.number, v.change, v.tags) for v in vectorstore.versions(store, "c")] == [
        (1, "create", ()),
        (2, "rows", ("full",)),
        (3, "delete", ()),
    ]
    assert vectorstore.restore(store, "c", "full") == 4 and len(held(store)) == 20
    for where in ("lenth < 3", "length < 9; DROP TABLE c", "1 / (length - length) = 1"):
        with pytest.raises(FilterError):
            vectorstore.delete(store, "c", where)
    with pytest.raises(StoreError, match=r"no version 'old'.*1, 2, 3, 4.*full"):
        vectorstore.open(store, "c", version="old")
    with pytest.raises(StoreError, match="no version 9"):
        vectorstore.tag(store, "c", "x", 9)
    with pytest.raises(StoreError, match="already"):
        vectorstore.tag(store, "c", "full")
    with pytest.raises(StoreError, match="a tag cannot be '2'"):
        vectorstore.tag(store, "c", "2")
    vectorstore.untag(store, "c", "full")
    with pytest.raises(StoreError, match=r"no tag 'full'. Tags: none"):
        vectorstore.untag(store, "c", "full")


def test_labels_come_later_by_id(store: str) -> None:
    labels = pa.table({"id": ["r001", "r003", "absent"], "organism": ["E. coli", "H. sapiens", "none"]})
    assert vectorstore.add_labels(store, "c", labels)["labelled"] == 2
    got = {row["id"]: row["organism"] for row in held(store)}
    assert got["r001"] == "E. coli" and got["r003"] == "H. sapiens" and got["r002"] is None and len(got) == 20
    opened = vectorstore.open(store, "c")
    assert opened.provenance == MADE
    assert opened.search(vectors(20)[0], where="organism = 'E. coli'")["id"].to_pylist() == ["r001"]
    for table, says in (
        (labels, "organism already"),
        (labels.rename_columns(["name", "x"]), "expected id"),
        (pa.concat_tables([labels, labels]).rename_columns(["id", "x"]), "duplicate ids"),
    ):
        with pytest.raises(StoreError, match=says):
            vectorstore.add_labels(store, "c", table)


def test_labels_get_names_that_a_collection_can_hold(store: str) -> None:
    """Each of these once made a collection on which no search works, or was refused after the work."""
    names = ["rank", "label_rank", "gene.name", "", "_rowid", "a`b", 'a"b', "tab\there", "nul\0", "x" * 5000, "*", "number"]
    table = pa.table([["r001"], *([i] for i in range(len(names)))], names=["id", *names])
    done = vectorstore.add_labels(store, "c", table)
    safe = vectorstore.safe_names(names)
    assert done["renamed"] == {old: new for old, new in safe.items() if old != new}
    opened = vectorstore.open(store, "c")
    (row,) = opened.search(vectors(20)[0], where="id = 'r001'").to_pylist()
    assert [row[safe[name]] for name in names] == list(range(len(names)))
    for number, name in enumerate(names):
        assert opened.count(f"`{safe[name]}` = {number}") == 1


def whole(table: pa.Table) -> pa.Table:
    """Rows as a job writes them."""
    count = len(table)
    table = table.append_column("length", pa.array([len(t) for t in table["sequence"].to_pylist()], pa.int32()))
    table = table.append_column("sha", pa.array(["x"] * count)).append_column("family", pa.nulls(count, pa.string()))
    return table.select(SCHEMA.names).cast(SCHEMA)


def test_compaction_joins_files_and_lets_a_running_writer_commit(store: str) -> None:
    for i in range(3):
        vectorstore.add(store, "c", rows(20 + i, 21 + i), **BY)
    vectorstore.delete(store, "c", "length = 4")
    opened, before = vectorstore.open(store, "c"), held(store)
    opened.search(vectors(20)[0], k=30)
    version = vectorstore.table_version(store, "c")
    written = vectorstore.write_rows(store, "c", whole(rows(50, 52)), SCHEMA)  # a job that has not committed yet
    done = vectorstore.compact(store, "c")
    assert done["files_before"] > done["files_after"] == 1 and done["version"] > version
    assert held(store) == before and opened.search(vectors(20)[0], k=30).num_rows == 22
    vectorstore.commit(store, "c", SCHEMA, written, key="job", read_version=version)
    assert [row["id"] for row in held(store)][-2:] == ["r050", "r051"] and len(held(store)) == 24
    again = vectorstore.write_rows(store, "c", whole(rows(60, 62)), SCHEMA)
    with pytest.raises(StoreError, match="changed by somebody else"):
        vectorstore.commit(store, "c", SCHEMA, again, key="other", read_version=version)


def test_compaction_removes_versions_that_have_long_been_replaced_and_no_others(store: str) -> None:
    vectorstore.add(store, "c", rows(20, 21), **BY)
    vectorstore.tag(store, "c", "kept", 1)
    time.sleep(1.5)
    vectorstore.delete(store, "c", "length = 4")  # version 3 has been the newest until now, though it is old
    assert vectorstore.compact(store, "c", keep=timedelta(seconds=1))["versions_removed"] == 1
    assert [v.number for v in vectorstore.versions(store, "c")][:3] == [1, 3, 4]
    assert vectorstore.restore(store, "c", 3) and len(held(store)) == 21


def test_a_commit_notices_what_it_can_no_longer_see(store: str) -> None:
    """A change in between whose record was cleaned away, and files that are gone, stop a commit."""
    version = vectorstore.table_version(store, "c")
    vectorstore.tag(store, "c", "read", version)
    written = vectorstore.write_rows(store, "c", whole(rows(50, 52)), SCHEMA)
    vectorstore.add(store, "c", rows(50, 51), **BY)
    vectorstore.compact(store, "c", keep=timedelta(0))
    with pytest.raises(StoreError, match="changed by somebody else"):
        vectorstore.commit(store, "c", SCHEMA, written, key="job", read_version=version)
    lost = vectorstore.write_rows(store, "c", whole(rows(60, 62)), SCHEMA)
    for text in lost:
        (Path(store) / "c.lance" / "data" / json.loads(text)["files"][0]["path"]).unlink()
    with pytest.raises(StoreError, match="files written for 'c' are gone"):
        vectorstore.commit(store, "c", SCHEMA, lost, key="job", read_version=vectorstore.table_version(store, "c"))
    assert len(held(store)) == 21
    vectorstore.drop(store, "c", confirm="c")
    with pytest.raises(StoreError, match=r"gone|no longer there"):
        vectorstore.commit(store, "c", SCHEMA, written, key="job", read_version=version)


def test_writers_at_once_let_no_id_in_twice(store: str) -> None:
    """Eight threads add the same ids and others of their own, and one job commits."""
    version = vectorstore.table_version(store, "c")
    written = vectorstore.write_rows(store, "c", whole(rows(90, 92)), SCHEMA)
    outcomes: list[str] = []

    def work(number: int) -> None:
        for table in (rows(50, 51), rows(100 + number, 101 + number)):
            try:
                vectorstore.add(store, "c", table, **BY)
                outcomes.append("added")
            except StoreError as error:
                outcomes.append("there" if "already" in str(error) else str(error))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    with pytest.raises(StoreError, match="changed by somebody else"):
        vectorstore.commit(store, "c", SCHEMA, written, key="job", read_version=version)
    assert sorted(outcomes) == ["added"] * 9 + ["there"] * 7
    assert [row["id"] for row in held(store)] == [f"r{i:03d}" for i in [*range(20), 50, *range(100, 108)]]


def test_an_empty_collection_is_searched(store: str) -> None:
    vectorstore.delete(store, "c", "length > 0")
    opened = vectorstore.open(store, "c")
    for where in (None, "length < 9"):
        assert opened.search(vectors(2), where=where).num_rows == 0
        assert vectorstore.search_hybrid(opened, ["ACGU"], vectors(1), where=where, verify=True).num_rows == 0
    assert vectorstore.statistics(store, "c").rows == 0


def test_statistics(store: str) -> None:
    vectorstore.add_labels(store, "c", pa.table({"id": ["r001"], "organism": ["E. coli"]}))
    vectorstore.delete(store, "c", "length = 80")
    found = vectorstore.statistics(store, "c")
    lengths = [4 * (i + 1) for i in range(19)]
    assert (found.rows, found.nucleotides, found.shortest, found.median, found.longest) == (19, sum(lengths), 4, 40, 76)
    assert found.missing == {"family": 19, "organism": 18} and found.deleted_rows == 1 and found.bytes > 19 * D * 4
    assert vectorstore.statistics(store, "c", version=1).rows == 0


def test_copy_rename_and_drop_take_the_rejects_along(store: str, tmp_path: Path) -> None:
    vectorstore.append_rows(store, vectorstore.rejects_name("c"), pa.table({"id": ["bad"]}), key="r")
    before, other = held(store), str(tmp_path / "other")
    assert vectorstore.copy(store, "c", other, "d") == 20
    assert held(other, "d") == before and vectorstore.exists(other, vectorstore.rejects_name("d"))
    vectorstore.delete(store, "c", "length < 50")
    assert vectorstore.copy(store, "c", other, "old", version=2) == 20
    assert held(other, "old") == before and not vectorstore.exists(other, vectorstore.rejects_name("old"))
    vectorstore.drop(other, "old", confirm="old")
    with pytest.raises(StoreError, match="already"):
        vectorstore.copy(store, "c", other, "d")
    vectorstore.rename(other, "d", "e")
    assert vectorstore.list_collections(other) == ["e"] and held(other, "e") == before
    assert vectorstore.open(other, "e").search(vectors(20)[3], k=1)["id"].to_pylist() == ["r003"]
    make(other, "f")
    with pytest.raises(StoreError, match="already"):
        vectorstore.rename(other, "e", "f")
    with pytest.raises(StoreError, match="repeat its name"):
        vectorstore.drop(other, "e", confirm="yes")
    vectorstore.set_default(other, "f")
    vectorstore.drop(other, "e", confirm="e")
    assert vectorstore.list_collections(other) == ["f"] and not vectorstore.exists(other, vectorstore.rejects_name("e"))
    with pytest.raises(StoreError, match="no collection 'e'"):
        vectorstore.drop(other, "e", confirm="e")
    assert len(held(store)) == 8  # the first one is as it was


def test_the_command_line_does_all_of_it(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str, code: int = 0) -> str:
        assert _cli.main(["collections", *words, "--store", store]) == code
        done = capsys.readouterr()
        return done.err if code or not done.out else done.out

    table = tmp_path / "labels.tsv"
    table.write_text("id\torganism\nr001\tE. coli\n007\tnone\n")
    assert "1 row labelled, 1 ids" in run("label", "c", str(table))
    run("tag", "c", "full")
    assert "5 of 20 rows match" in run("delete", "c", "--where", "length > 60", "--dry-run")
    assert "5 rows deleted" in run("delete", "c", "--where", '"length" > 60')
    facts = json.loads(run("show", "c", "--json"))
    assert (facts["rows"], facts["longest"], facts["fingerprint"]) == (15, 60, MADE.fingerprint)
    assert facts["missing"] == {"family": 15, "organism": 14}
    assert json.loads(run("show", "c", "--json", "--version", "full"))["rows"] == 20
    assert "nucleotides   480" in run("show", "c")
    listed = [json.loads(line) for line in run("versions", "c", "--format", "jsonl").splitlines()]
    assert [(row["version"], row["change"], row["tags"]) for row in listed][-2:] == [
        (3, "labels", "full"),
        (4, "delete", ""),
    ]
    assert "index         none" in run("show", "c") and "an index needs 1,000" in run("index", "c", code=2)
    assert "15 rows copied" in run("copy", "c", "--to", "d")
    run("restore", "c", "full")
    run("untag", "c", "full")
    run("compact", "c", "--keep-days", "1")
    run("rename", "d", "e")
    assert "repeat its name" in run("drop", "e", code=2)
    assert [line.split("\t")[:2] for line in run("list").splitlines()[1:]] == [["c", "true"], ["e", "false"]]
    run("drop", "e", "--confirm", "e")
    assert run() == run("list") and "no collection 'e'" in run("show", "e", code=2)
    assert "labels.txt: no such file" in run("label", "c", "labels.txt", code=2)


def test_the_command_line_builds_and_shows_an_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(str(tmp_path), end=1200)
    arguments = ["--store", str(tmp_path)]
    assert _cli.main(["collections", "index", "c", "--kind", "ivf_flat", "--min-recall", "0.5", *arguments]) == 0
    assert "ivf_flat over 1,200 rows" in capsys.readouterr().err
    assert _cli.main(["collections", "show", "c", "--json", *arguments]) == 0
    index = json.loads(capsys.readouterr().out)["index"]
    assert index["rows"] == 1200 and index["measured"]["recall"] >= 0.5
    assert _cli.main(["collections", "index", "c", "--drop", *arguments]) == 0
    assert vectorstore.open(str(tmp_path), "c").index is None


def test_vectors_of_nucleotides_without_a_collection_are_never_removed_by_a_copy(tmp_path: Path) -> None:
    uri = str(tmp_path)
    made = vectorstore.Provenance("m", "feed", pooling="none")
    alone = vectorstore.collection_schema(2, pa.schema([]), made, "nucleotide")
    row = {
        "id": ["a"],
        "sequence": ["AC"],
        "length": pa.array([2], pa.int32()),
        "sha": ["0" * 32],
        "vectors": vectorstore.nucleotides_array([np.ones((2, 2), np.float16)]),
    }
    vectorstore.append_rows(uri, "free.nucleotides", pa.table(row, schema=alone), key="k")
    plain = vectorstore.collection_schema(2, pa.schema([]), made)
    row["vector"] = vectorstore.vector_array(np.ones((1, 2), np.float32))
    vectorstore.append_rows(uri, "c", pa.table({n: row[n] for n in plain.names}, schema=plain), key="k")
    for change in (lambda: vectorstore.copy(uri, "c", uri, "free"), lambda: vectorstore.rename(uri, "c", "free")):
        with pytest.raises(StoreError, match=r"there is 'free\.nucleotides' .* without a collection"):
            change()
    assert len(vectorstore.open(uri, "free.nucleotides")) == 1


def test_the_default_is_the_first_collection_and_never_moves_by_itself(tmp_path: Path) -> None:
    uri = str(tmp_path)
    assert vectorstore.default_collection(uri) is None
    make(uri, "m")
    assert vectorstore.default_collection(uri) == "m"
    make(uri, "a")  # first by name
    vectorstore.copy(uri, "m", uri, "b")
    assert vectorstore.default_collection(uri) == "m"
    with pytest.raises(StoreError, match=r"no collection 'x'.*a, b, m"):
        vectorstore.set_default(uri, "x")
    vectorstore.set_default(uri, "b")
    make(uri, "c")
    assert vectorstore.default_collection(uri) == "b"
    vectorstore.rename(uri, "b", "z")
    assert vectorstore.default_collection(uri) == "z"
    with pytest.raises(StoreError, match=r"'z' is the default.*set another"):
        vectorstore.drop(uri, "z", confirm="z")
    vectorstore.set_default(uri, "m")
    for name in ("z", "a", "c", "m"):  # the default last
        vectorstore.drop(uri, name, confirm=name)
    assert vectorstore.default_collection(uri) is None
    make(uri, "n")
    assert vectorstore.default_collection(uri) == "n"


def test_a_store_without_a_record_takes_the_oldest_collection(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(uri, "m")
    (tmp_path / "unirna.json").unlink()  # as an earlier version left it
    make(uri, "a")
    assert vectorstore.default_collection(uri) == "m"
    (tmp_path / "unirna.json").unlink()
    assert vectorstore.default_collection(uri) == "m"
    (tmp_path / "unirna.json").write_text("{}")
    with pytest.raises(StoreError, match=r"unirna\.json.*Set one"):
        vectorstore.default_collection(uri)
    vectorstore.set_default(uri, "a")
    assert vectorstore.default_collection(uri) == "a"


def test_the_command_line_sets_the_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = str(tmp_path)
    make(uri, "m")
    make(uri, "a")

    def run(*words: str) -> tuple[int, str]:
        code = _cli.main(["collections", *words, "--store", uri])
        return code, capsys.readouterr().out

    assert run("default") == (0, "m\n")
    assert run("default", "a") == (0, "")
    assert run("default") == (0, "a\n")
    assert run("default", "x")[0] == 2
    assert [line.split("\t")[:2] for line in run("list")[1].splitlines()[1:]] == [["a", "true"], ["m", "false"]]
