"""Search against a brute force in numpy, provenance, and commits that are atomic and never done twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unirna import vectorstore
from unirna.vectorstore import Collection, FilterError, ModelMismatchError, Provenance, StoreError, vector_cache
from unirna.vectorstore import collection as collections
from unirna.vectorstore.filters import check_filter
from unirna.vectorstore.vector_cache import VECTOR_CACHE

H, N = 16, 500
MADE = Provenance("nano", "0123456789abcdef", unirna="0.1.0")
LABELS = pa.schema([("family", pa.string()), ("score", pa.float64())])
SCHEMA = vectorstore.collection_schema(H, LABELS, MADE)


def vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Few distinct vectors, so that ties are everywhere."""
    drawn = np.random.default_rng(seed).integers(-1, 2, (count, H)).astype(np.float32)
    drawn[:, 0] = 1
    drawn[count // 2 :] = drawn[: count - count // 2]
    return drawn


def rows(values: NDArray[np.float32], first: int = 0) -> pa.Table:
    count = len(values)
    # Ids descend, so that the order of the table is not the order of the ids.
    ids = [f"r{first + count - i:05d}" for i in range(count)]
    lengths = np.arange(count) % 300 + 1
    return pa.table(
        {
            "id": ids,
            "sequence": ["ACGU"] * count,
            "length": pa.array(lengths, pa.int32()),
            "sha": ["0" * 32] * count,
            "vector": vectorstore.vector_array(values),
            "family": [f"fam{i % 7}" for i in range(count)],
            "score": lengths / 7,
        }
    ).cast(SCHEMA)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("store"))
    table = rows(vectors(N))
    parts = [*vectorstore.write_rows(uri, "c", table.slice(0, 300), SCHEMA)]
    parts += vectorstore.write_rows(uri, "c", table.slice(300), SCHEMA)
    vectorstore.commit(uri, "c", SCHEMA, parts, key="k", read_version=0)
    return uri


@pytest.fixture(scope="module")
def collection(store: str) -> Collection:
    return vectorstore.open(store, "c")


Keep = Callable[[dict[str, object]], bool]
FILTERS: list[tuple[str | None, Keep]] = [
    (None, lambda row: True),
    ("length < 50", lambda row: row["length"] < 50),
    ("family = 'fam3' AND score >= 10", lambda row: row["family"] == "fam3" and row["score"] >= 10),
    ("family = 'it''s (not) there'", lambda row: False),
]


def brute_force(query: NDArray[np.float32], keep: Keep, k: int, offset: int) -> list[tuple[str, float]]:
    table = rows(vectors(N))
    values = np.stack(table["vector"].to_numpy(zero_copy_only=False)).astype(np.float64)
    cosine = values @ query / np.linalg.norm(values, axis=1) / np.linalg.norm(query)
    kept = [(row["id"], float(c)) for row, c in zip(table.to_pylist(), cosine, strict=True) if keep(row)]
    return sorted(kept, key=lambda pair: (-round(pair[1], 5), pair[0]))[offset : offset + k]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 99),
    batch=st.integers(1, 4),
    k=st.integers(1, 60),
    offset=st.integers(0, 40),
    which=st.integers(0, 3),
)
@pytest.mark.parametrize("budget", [1 << 30, 0], ids=["memory", "store"])
def test_search_agrees_with_brute_force(
    collection: Collection, budget: int, seed: int, batch: int, k: int, offset: int, which: int
) -> None:
    queries = vectors(2 * batch, seed)[:batch]
    where, keep = FILTERS[which]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VECTOR_CACHE, "budget", budget)
        found = collection.search(queries, k=k, offset=offset, where=where)
    for i, query in enumerate(queries):
        mine = found.filter(pc.equal(found["query"], i))
        wanted = brute_force(query, keep, k, offset)
        assert mine["id"].to_pylist() == [name for name, _ in wanted]
        np.testing.assert_allclose(mine["similarity"].to_numpy(), [c for _, c in wanted], atol=1e-5)
        assert mine["rank"].to_pylist() == list(range(offset + 1, offset + 1 + len(wanted)))


@pytest.mark.parametrize("budget", [1 << 30, 0], ids=["memory", "store"])
def test_all_similar_and_min_similarity_agree_with_brute_force(
    collection: Collection, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VECTOR_CACHE, "budget", budget)
    query, (where, keep) = vectors(4, 5)[0], FILTERS[1]
    wanted = [(name, value) for name, value in brute_force(query, keep, N, 0) if value > 0.31]
    assert 5 < len(wanted) < 100
    batches = list(collection.all_similar(query, 0.31, where=where, columns=["id", "length"], batch_rows=64))
    found = pa.Table.from_batches(batches)
    assert found.column_names == ["similarity", "id", "length"]
    assert sorted(found["id"].to_pylist()) == sorted(name for name, _ in wanted)
    ranked = collection.search(query, k=N, where=where, min_similarity=0.31)
    assert ranked["id"].to_pylist() == [name for name, _ in wanted]
    assert not list(collection.all_similar(query, 1.1))
    sizes = [batch.num_rows for batch in collection.all_similar(query, -1, batch_rows=64)]
    assert sum(sizes) == N and max(sizes) <= 64
    with pytest.raises(FilterError):
        next(collection.all_similar(query, 0.31, where="lenth < 3"))


def test_search_columns_and_types(collection: Collection) -> None:
    found = collection.search(vectors(4)[0], k=3)
    own = ["query", "rank", "similarity", "id", "sequence", "length", "sha"]
    assert found.column_names == [*own, "family", "score"]
    assert [found.schema.field(name).type for name in own[:3]] == [pa.int32(), pa.int32(), pa.float32()]
    assert collection.search(vectors(4)[0], k=1, columns=["vector"]).column_names == [*own[:3], "vector"]
    with pytest.raises(StoreError, match=r"no column nothing.*family"):
        collection.search(vectors(4)[0], columns=["nothing"])


@pytest.mark.parametrize(
    "where",
    [
        "lenth < 3",
        "length",
        "length <",
        "length < 'a'",
        "length < 9) OR (1 = 1",
        "length < 9; DROP TABLE c",
        "length < 9 LIMIT 2",
        " ",
    ],
)
def test_a_bad_filter_names_itself_and_the_columns(collection: Collection, where: str) -> None:
    with pytest.raises(FilterError) as caught:
        collection.search(vectors(4)[0], where=where)
    assert repr(where) in str(caught.value) and "family, score" in str(caught.value)
    with pytest.raises(FilterError):
        list(collection.scan(where=where))


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("length = " + "+".join(["1"] * 1000), "2,008 characters, at most 2,000"),
        (" OR ".join(["length=1"] * 200_000), "at most 2,000"),
        ("length = " + "+".join(["1"] * 500), "1,001 words, numbers and operators, at most 100"),
        ("NOT " * 400 + "length = 1", "at most 100"),
        ("(" * 400 + "length = 1" + ")" * 400, "at most 100"),
        ("case when length=1 then " * 30 + "true" + " else false end" * 30, "at most 100"),
        ("length = 1 /* ' */ " + "+ 1 " * 400 + " /* ' */", "a comment"),
        ("length = 1 -- '\n" + "+ 1 " * 400 + " -- '", "a comment"),
        ("family = E'\\'' " + "+ 1 " * 400 + "'", "an escape"),
        ("family = $$x$$", "an escape"),
        ("length = ?", "a placeholder"),
        ("length = :x", "a placeholder"),
        ("length = character_length(repeat('a', 1000000000))", r"calls repeat\(\)"),
        ("length = character_length(`repeat` ('a', 1000000000))", r"calls repeat\(\)"),
    ],
)
def test_a_filter_that_would_end_the_process_never_reaches_the_store(
    collection: Collection, where: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lance.LanceDataset, "scanner", lambda *a, **k: pytest.fail("the store was asked"))
    with pytest.raises(FilterError, match=says) as caught:
        collection.search(vectors(4)[0], where=where)
    assert len(str(caught.value)) < 1500


WORDS = """"family" "score" "famly" `score` ""
length family score id vector sequence sha nothing 1 0 -1 1.5 'a' 'fam1' 'it''s' '' ' ` true false null
< > = <> <= ( ) [ ] , ; + - * / % . :: -- /* */ $$ ? : \\ and or not in is between like case when then else end cast( as
double select from where limit order by group union drop table exists any date '2020-01-01' interval lower( repeat( abs(
regexp_match( {} é 😀""".split()  # noqa: SIM905
PIECES = st.lists(st.sampled_from(WORDS), max_size=12)
SOUND = st.sampled_from(["length < 50", "family = 'fam1'", "(score > 3 or id like 'r%')", "not (length in (1, 2))"])
TEXTS = st.one_of(
    PIECES.map(" ".join),
    st.text(max_size=40),
    st.tuples(SOUND, PIECES, SOUND, PIECES).map(lambda t: " ".join([t[0], *t[1][:3], t[2], *t[3][:2]])),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=TEXTS)
def test_no_text_breaks_out_of_a_filter(collection: Collection, where: str) -> None:
    """Any text is one whole condition, or a FilterError: no other error, no panic, no part that is left unread."""
    try:
        found = collection.search(vectors(4)[0], k=500, where=where)
    except FilterError:
        return
    dataset = collection.dataset
    condition = check_filter(dataset, where)
    assert found.num_rows == dataset.count_rows(filter=condition) == dataset.count_rows(filter=f"({condition}\n)")
    assert dataset.count_rows(filter=f"({condition}\n) AND false") == 0


def test_filters_that_people_write_are_read(collection: Collection) -> None:
    for where in (
        "length < 200 AND family = 'fam1'",
        "id IN (" + ", ".join(f"'r{i:05d}'" for i in range(150)) + ")",
        "(family LIKE 'fam%' OR not (length BETWEEN 2 AND 3)) and score::int >= -1",
        "lower(family) = 'it''s' or cast(length as double) > 1.5e2",
        "`family` is not null",
    ):
        collection.search(vectors(4)[0], where=where)


@pytest.mark.parametrize(
    "query, k", [(np.zeros(H), 1), (np.full(H, np.nan), 1), (np.ones(H + 1), 1), (np.ones((2, 2, H)), 1), (np.ones(H), 0)]
)
def test_a_bad_query_is_refused(collection: Collection, query: NDArray[np.float32], k: int) -> None:
    with pytest.raises(ValueError):
        collection.search(query, k=k)


def test_get_scan_and_info(collection: Collection) -> None:
    assert collection.get(["r00007", "absent", "r00002", "it's"])["id"].to_pylist() == ["r00007", "r00002"]
    assert collection.get([]).num_rows == 0
    batches = list(collection.scan(["id", "vector"], 64, "length <= 10"))
    assert sum(b.num_rows for b in batches) == 20 and max(b.num_rows for b in batches) <= 64
    info = collection.info
    assert (info.num_rows, info.dimension, info.provenance, info.version) == (N, H, MADE, 1)
    assert info.columns["vector"] == f"fixed_size_list<item: float>[{H}]"


def test_another_model_is_refused_with_both_names(collection: Collection) -> None:
    collection.check_model(MADE.fingerprint, "anything")
    with pytest.raises(ModelMismatchError, match=r"nano \(0123456789abcdef\).*other \(feed\)"):
        collection.check_model("feed", "other")


def test_nothing_shows_before_the_commit_and_an_open_collection_sees_the_next(tmp_path: Path) -> None:
    uri = str(tmp_path)
    table = rows(vectors(20))
    parts = vectorstore.write_rows(uri, "c", table.slice(0, 15), SCHEMA)
    assert vectorstore.list_collections(uri) == []
    with pytest.raises(StoreError, match="none yet"):
        vectorstore.open(uri, "c")
    vectorstore.commit(uri, "c", SCHEMA, parts, key="a", read_version=0)
    opened = vectorstore.open(uri, "c")
    more = vectorstore.write_rows(uri, "c", table.slice(15), SCHEMA)
    assert len(opened) == 15
    assert vectorstore.commit(uri, "c", SCHEMA, more, key="b", read_version=1) == 2
    assert len(opened) == 20 and opened.search(vectors(4)[0], k=100).num_rows == 20
    assert vectorstore.commit(uri, "c", SCHEMA, more, key="b", read_version=1) == 2  # a second time adds nothing
    assert len(opened) == 20 and opened.info.version == 2


def test_memory_follows_commits_deletions_and_a_table_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_cache, "BLOCK_ROWS", 8)
    read: list[int] = []
    real = vector_cache._read

    def counted(dataset: Any, fragments: list[Any], key: tuple[str, ...]) -> vector_cache.Block:
        read.append(len(fragments))
        return real(dataset, fragments, key)

    monkeypatch.setattr(vector_cache, "_read", counted)
    uri, table = str(tmp_path), rows(vectors(40))
    parts = [text for i in range(5) for text in vectorstore.write_rows(uri, "c", table.slice(4 * i, 4), SCHEMA)]
    vectorstore.commit(uri, "c", SCHEMA, parts, key="a", read_version=0)
    opened = vectorstore.open(uri, "c")

    def found() -> list[str]:
        return sorted(opened.search(vectors(4)[0], k=100)["id"].to_pylist())

    assert found() == sorted(table["id"].to_pylist()[:20]) and read == [2, 2, 1]
    assert found() and read == [2, 2, 1]  # nothing is read again
    more = vectorstore.write_rows(uri, "c", table.slice(20), SCHEMA)
    vectorstore.commit(uri, "c", SCHEMA, more, key="b", read_version=1)
    assert found() == sorted(table["id"].to_pylist()) and read == [2, 2, 1, 2]  # the short block and the new rows
    lance.dataset(f"{uri}/c.lance").delete("id = 'r00001'")
    assert found() == sorted(set(table["id"].to_pylist()) - {"r00001"}) and read == [2, 2, 1, 2, 2]
    assert opened.search(vectors(4)[0], k=100, where="length > 35").num_rows == 4  # 36 to 40, less the one that is gone
    read.clear()
    lance.dataset(f"{uri}/c.lance").delete(f"id = '{table['id'][0]}'")
    assert len(found()) == 38 and read == [2]  # of what lies before and behind nothing is read again
    assert len(vectorstore.open(uri, "c", version=1).search(vectors(4)[0], k=100)) == 20
    read.clear()
    assert len(found()) == 38 and not read  # an older version does not displace the newest
    backup, ids = tmp_path / "backup", found()
    shutil.copytree(tmp_path / "c.lance", backup)
    lance.dataset(f"{uri}/c.lance").delete(f"id = '{ids[0]}'")
    assert found() == ids[1:]
    shutil.rmtree(tmp_path / "c.lance")
    shutil.copytree(backup, tmp_path / "c.lance")
    lance.dataset(f"{uri}/c.lance").delete(f"id = '{ids[1]}'")
    assert found() == [ids[0], *ids[2:]]  # the same version and files, other rows
    shutil.rmtree(tmp_path / "c.lance")
    vectorstore.append_rows(uri, "c", table.slice(0, 3), key="a")
    assert vectorstore.open(uri, "c").search(vectors(4)[0], k=100).num_rows == 3


def test_memory_holds_what_was_searched_last_and_no_more_than_its_budget(tmp_path: Path) -> None:
    table = rows(vectors(40))
    for name in ("a", "b", "c"):
        vectorstore.append_rows(str(tmp_path), name, table, key=name)
    a, b, c = (lance.dataset(f"{tmp_path}/{name}.lance") for name in "abc")
    held = vector_cache.VectorCache(2 * 40 * H * 4)
    first = held.matrix(a)
    assert first is not None and held.matrix(b) is not None and held.matrix(a) is first
    assert held.matrix(c) is not None and held.matrix(a) is first  # b was searched longest ago
    assert sorted(held._held) == sorted([(a.uri, None), (c.uri, None)])
    assert vector_cache.VectorCache(40 * H * 4 - 1).matrix(a) is None


def test_a_filter_that_fails_on_a_row_says_so(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    for budget in (1 << 30, 0):
        monkeypatch.setattr(VECTOR_CACHE, "budget", budget)
        with pytest.raises(FilterError, match=r"1 / \(length - length\) = 1.*failed on a row"):
            collection.search(vectors(4)[0], where="1 / (length - length) = 1")


def test_a_commit_never_overwrites_what_somebody_else_committed(tmp_path: Path) -> None:
    uri = str(tmp_path)
    table = rows(vectors(20))
    mine, theirs = (vectorstore.write_rows(uri, "c", part, SCHEMA) for part in (table.slice(0, 5), table.slice(5)))
    vectorstore.commit(uri, "c", SCHEMA, theirs, key="theirs", read_version=0)
    with pytest.raises(StoreError, match="changed by somebody else"):
        vectorstore.commit(uri, "c", SCHEMA, mine, key="mine", read_version=0)
    assert len(vectorstore.open(uri, "c")) == 15


def test_names_and_tables_that_are_none_of_ours(tmp_path: Path) -> None:
    for name in ("", "a/b", "../c", "x.rejects", "_x", "x.lance"):
        with pytest.raises(StoreError):
            vectorstore.check_name(name)
    vectorstore.append_rows(str(tmp_path), "alien", pa.table({"id": ["a"]}), key="k")
    vectorstore.append_rows(str(tmp_path), "alien.rejects", pa.table({"id": ["a"]}), key="k")
    assert vectorstore.list_collections(str(tmp_path)) == ["alien"]
    with pytest.raises(StoreError, match="which model made it"):
        vectorstore.open(str(tmp_path), "alien")
    with pytest.raises(StoreError, match="similarity"):
        vectorstore.collection_schema(H, pa.schema([("similarity", pa.string())]), MADE)


def test_more_ties_than_asked_for_still_stand_in_the_order_of_their_ids(tmp_path: Path) -> None:
    vectorstore.append_rows(str(tmp_path), "c", rows(np.ones((200, H), np.float32)), key="k")
    found = vectorstore.open(str(tmp_path), "c").search(np.ones((2, H), np.float32), k=3, offset=2)
    assert found["id"].to_pylist() == ["r00003", "r00004", "r00005"] * 2


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri, random = str(tmp_path_factory.mktemp("large")), np.random.default_rng(0)
    centres = random.standard_normal((100, H))
    values = (centres[np.arange(3000) % 100] + 0.5 * random.standard_normal((3000, H))).astype(np.float32)
    values[1] = values[0]
    vectorstore.append_rows(uri, "c", rows(values), key="k")
    return uri


@pytest.mark.parametrize(
    "kind", ["hnsw", *(pytest.param(kind, marks=pytest.mark.slow) for kind in sorted(vectorstore.KINDS) if kind != "hnsw")]
)
def test_an_index_is_measured_kept_and_used(large: str, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vectorstore.copy(large, "c", str(tmp_path), "c")
    uri = str(tmp_path)
    index = vectorstore.build_index(uri, "c", kind=kind, min_recall=0.9, queries=50)
    collection = vectorstore.open(uri, "c")
    assert collection.index == index and index.measured is not None and index.measured.recall >= 0.9
    monkeypatch.setattr(VECTOR_CACHE, "budget", 0)
    explained: list[bool] = []
    by_index, by_scan = collections.by_index, Collection._scanned

    def indexed(*given: Any) -> pa.Table:
        explained.append(True)
        return by_index(*given)

    def scanned(self: Collection, *given: Any) -> pa.Table:
        explained.append(False)
        return by_scan(self, *given)

    monkeypatch.setattr(collections, "by_index", indexed)
    monkeypatch.setattr(Collection, "_scanned", scanned)
    sample = collection.dataset.take(list(range(0, 3000, 60)), columns=["id", "vector"])
    queries = np.stack(sample["vector"].to_numpy(zero_copy_only=False))
    for where in (None, "family = 'fam3'"):
        approximate, exact = (collection.search(queries, k=10, where=where, exact=flag) for flag in (None, True))
        pairs = [set(zip(t["query"].to_pylist(), t["id"].to_pylist(), strict=True)) for t in (approximate, exact)]
        assert len(pairs[0] & pairs[1]) >= 0.85 * len(pairs[1])
        if where:
            assert set(approximate["family"].to_pylist()) == {"fam3"}
    assert any(explained) and not all(explained)
    new = rows(np.ones((1, H), np.float32), first=5000)
    version = vectorstore.table_version(uri, "c")
    vectorstore.commit(uri, "c", SCHEMA, vectorstore.write_rows(uri, "c", new, SCHEMA), key="new", read_version=version)
    assert collection.search(np.ones(H, np.float32), k=1)["id"].to_pylist() == new["id"].to_pylist()  # before any re-index
    vectorstore.drop_index(uri, "c")
    assert collection.index is None


def test_an_index_that_finds_too_little_is_refused_with_the_figure(large: str, tmp_path: Path) -> None:
    vectorstore.copy(large, "c", str(tmp_path), "c")
    with pytest.raises(StoreError, match=r"finds 1\.000 .*1\.5 was asked for"):
        vectorstore.build_index(str(tmp_path), "c", min_recall=1.5, queries=20)
    collection = vectorstore.open(str(tmp_path), "c")
    assert collection.index is None and not collection.dataset.describe_indices()
    with pytest.raises(StoreError, match=r"no kind of index 'tree'\. Kinds: hnsw"):
        vectorstore.build_index(str(tmp_path), "c", kind="tree")


def test_a_small_collection_wants_no_index(store: str) -> None:
    with pytest.raises(StoreError, match="500 rows: an index needs 1,000"):
        vectorstore.build_index(store, "c")
