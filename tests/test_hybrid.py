"""K-mers against scikit-learn's tf-idf, alignments against a table filled by hand, and both joined with vectors."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from unirna import vectorstore
from unirna.vectorstore import Collection, FilterError, Provenance, StoreError, hybrid, kmer_index
from unirna.vectorstore.align import GAP_EXTEND, GAP_OPEN, MATCH, MISMATCH, Aligner
from unirna.vectorstore.kmers import KmerBlock, Kmers
from unirna.vectorstore.vector_cache import VECTOR_CACHE

Library = tuple[Collection, list[str], NDArray[np.float32]]
D = 256
RANDOM = np.random.default_rng(0)
SCHEMA = vectorstore.collection_schema(D, pa.schema([("family", pa.string())]), Provenance("nano", "feed"))
rna = st.text("ACGU", min_size=1, max_size=60) | st.text("ACGUN", min_size=1, max_size=60)


def drawn(length: int) -> str:
    return "".join(RANDOM.choice(list("ACGU"), length))


def kmers_of(*blocks: list[str]) -> Kmers:
    columns = [pa.chunked_array([pa.array(block, pa.string())]) for block in blocks]
    return Kmers([KmerBlock.of(column, column) for column in columns])


def eight_mers(sequence: str) -> list[str]:
    return [kmer for i in range(len(sequence) - 7) if "N" not in (kmer := sequence[i : i + 8])]


@settings(max_examples=40, deadline=None)
@given(st.lists(rna, min_size=1, max_size=30), st.lists(rna, min_size=0, max_size=30), rna)
def test_kmers_agree_with_tf_idf(first: list[str], second: list[str], query: str) -> None:
    index = kmers_of(first, second)
    found = index.cosines(query)
    whole = [*first, *second]
    assert index.sequences(np.arange(len(whole))) == index.ids(np.arange(len(whole))).to_pylist() == whole
    assert index.ids(np.arange(len(whole))[::2]).to_pylist() == whole[::2]
    counter = TfidfVectorizer(analyzer=eight_mers, binary=True)
    try:
        rows = counter.fit_transform(whole).toarray()
    except ValueError:  # no k-mer at all
        assert not found.any()
        return
    # A k-mer of the query that the collection lacks counts in its length here, as it should; scikit-learn leaves it out.
    wanted, length = np.zeros(len(whole)), 0.0
    for kmer in set(eight_mers(query)):
        place = counter.vocabulary_.get(kmer)
        weight = np.log(1 + len(whole)) + 1 if place is None else counter.idf_[place]
        wanted += 0 if place is None else rows[:, place] * weight
        length += weight**2
    np.testing.assert_allclose(found, wanted / (length**0.5 or 1), rtol=1e-4, atol=1e-6)


def smith_waterman(query: str, target: str) -> int:
    """Gotoh's recursion, letter by letter."""
    rows, columns = len(query) + 1, len(target) + 1
    best = np.zeros((rows, columns))
    up = np.full((rows, columns), -np.inf)
    left = np.full((rows, columns), -np.inf)
    for i in range(1, rows):
        for j in range(1, columns):
            up[i, j] = max(best[i - 1, j] - GAP_OPEN, up[i - 1, j]) - GAP_EXTEND
            left[i, j] = max(best[i, j - 1] - GAP_OPEN, left[i, j - 1]) - GAP_EXTEND
            step = MATCH if query[i - 1] == target[j - 1] and query[i - 1] in "ACGU" else MISMATCH
            best[i, j] = max(0, best[i - 1, j - 1] + step, up[i, j], left[i, j])
    return int(best.max())


@settings(max_examples=60, deadline=None)
@given(st.text("ACGUN", min_size=1, max_size=40), st.text("ACGUN", min_size=1, max_size=40), st.booleans())
def test_alignments_are_the_best_and_add_up(query: str, target: str, related: bool) -> None:
    if related:
        target = target[:5] + query[2:20] + target[5:]
    aligner = Aligner(query)
    found = aligner.align(target)
    assert found.score == aligner.score(target) == smith_waterman(query, target)
    if not found.score:
        assert found.cigar == "" and found.identity == 0
        return
    i, j, equal, score, columns = found.query_start, found.target_start, 0, 0, 0
    for count, step in ((int(n), s) for n, s in re.findall(r"(\d+)([=XID])", found.cigar)):
        columns += count
        if step in "=X":
            pairs = list(zip(query[i : i + count], target[j : j + count], strict=True))
            assert all((a == b and a in "ACGU") == (step == "=") for a, b in pairs)
            equal += count * (step == "=")
            score += count * (MATCH if step == "=" else MISMATCH)
            i, j = i + count, j + count
        else:
            i, j = (i + count, j) if step == "I" else (i, j + count)
            score -= GAP_OPEN + count * GAP_EXTEND
    assert (i, j, score) == (found.query_end, found.target_end, found.score)
    assert found.identity == equal / columns
    assert found.query_coverage == (found.query_end - found.query_start) / len(query)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Library:
    sequences = [drawn(int(length)) for length in RANDOM.integers(60, 200, 600)]
    vectors = RANDOM.standard_normal((600, D)).astype(np.float32)
    rows = pa.table(
        {
            "id": [f"r{i:03d}" for i in range(600)],
            "sequence": sequences,
            "length": pa.array([len(s) for s in sequences], pa.int32()),
            "sha": ["x"] * 600,
            "vector": vectorstore.vector_array(vectors),
            "family": [f"fam{i % 4}" for i in range(600)],
        }
    )
    uri = str(tmp_path_factory.mktemp("store"))
    vectorstore.append_rows(uri, "c", rows.cast(SCHEMA), key="k")
    return vectorstore.open(uri, "c"), sequences, vectors


@pytest.fixture(params=["memory", "disk"])
def library(request: pytest.FixtureRequest, made: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """A collection that is held in memory, or one whose vectors are scanned and whose k-mers are in an index."""
    if request.param == "memory":
        return made
    monkeypatch.setattr(VECTOR_CACHE, "budget", 0)
    vectorstore.copy(made[0].uri, "c", str(tmp_path), "c")
    vectorstore.build_kmer_index(str(tmp_path), "c")
    return vectorstore.open(str(tmp_path), "c"), *made[1:]


def copied(library: Library, to: Path) -> Collection:
    vectorstore.copy(library[0].uri, "c", str(to), "c")
    if library[0].has_kmer_index:
        vectorstore.build_kmer_index(str(to), "c")
    return vectorstore.open(str(to), "c")


def test_each_ranking_finds_what_the_other_misses_and_says_so(
    library: Library,
) -> None:
    collection, sequences, vectors = library
    query = drawn(40) + sequences[300][10:50] + drawn(40)  # shares 40 letters with r300, and has the vector of r007
    found = vectorstore.search_hybrid(collection, [query, sequences[5]], vectors[[7, 5]], k=5)
    assert found.column_names[:4] == ["query", "rank", "similarity", "found_by"]
    first = found.slice(0, 5).to_pylist()
    assert {row["id"] for row in first[:3]} >= {"r007", "r300"}
    by = {row["id"]: row["found_by"] for row in first}
    assert by["r007"] in ("vector", "both") and by["r300"] in ("kmers", "both")
    assert next(row["similarity"] for row in first if row["id"] == "r007") == pytest.approx(1)
    second = found.slice(5).to_pylist()
    assert (second[0]["id"], second[0]["found_by"], second[0]["rank"]) == ("r005", "both", 1)


def test_verified_hits_are_ranked_by_their_alignment(library: Library) -> None:
    collection, sequences, vectors = library
    query = drawn(20) + sequences[300][10:50]
    found = vectorstore.search_hybrid(collection, [query], vectors[[7]], k=8, verify=True).to_pylist()
    assert found[0]["id"] == "r300" and found[0]["found_by"] == "kmers"
    assert found[0]["identity"] > 0.9 and found[0]["query_coverage"] >= 0.6
    scores = [row["alignment_score"] for row in found]
    assert scores == sorted(scores, reverse=True)
    assert found[0]["alignment_score"] == smith_waterman(query, sequences[300])


def test_filters_columns_and_new_rows(library: Library, tmp_path: Path) -> None:
    collection, sequences, vectors = library
    found = vectorstore.search_hybrid(
        collection, sequences[:3], vectors[:3], k=20, where="family = 'fam1'", columns=["id", "family"]
    )
    assert set(found["family"].to_pylist()) == {"fam1"} and found.num_rows == 60
    assert found.column_names == ["query", "rank", "similarity", "found_by", "_shared", "id", "family"]
    none = vectorstore.search_hybrid(collection, sequences[:1], vectors[:1], where="length < 3", verify=True)
    assert none.num_rows == 0 and "cigar" in none.column_names
    with pytest.raises(FilterError):
        vectorstore.search_hybrid(collection, sequences[:1], vectors[:1], where="lenth < 3")
    with pytest.raises(ValueError, match="2 sequences and 1 vectors"):
        vectorstore.search_hybrid(collection, sequences[:2], vectors[:1])
    other = copied(library, tmp_path / "copy")
    vectorstore.search_hybrid(other, sequences[:1], vectors[:1])
    new = drawn(90)
    row = pa.table({"id": ["new"], "sequence": [new], "vector": vectorstore.vector_array(-vectors[:1])})
    vectorstore.add(other.uri, "c", row, fingerprint="feed")
    hit = vectorstore.search_hybrid(other, [new[20:70]], vectors[:1], k=1, verify=True).to_pylist()[0]
    assert (hit["id"], hit["identity"], hit["query_coverage"], hit["target_start"]) == ("new", 1.0, 1.0, 20)


def test_equals_stand_by_id_and_long_queries_are_aligned_as_far_as_it_pays(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sequences, vectors = library
    opened = copied(library, tmp_path / "equal")
    twins = {"id": ["b", "a"], "sequence": [sequences[5]] * 2, "vector": vectorstore.vector_array(vectors[[5, 5]])}
    vectorstore.add(opened.uri, "c", pa.table(twins), fingerprint="feed")
    for verify in (False, True):
        found = vectorstore.search_hybrid(opened, [sequences[5]], vectors[[5]], k=3, verify=verify)
        assert found["id"].to_pylist() == ["a", "b", "r005"]
    monkeypatch.setattr(hybrid, "CELLS", 3 * len(sequences[5]) ** 2)
    found = vectorstore.search_hybrid(opened, [sequences[5]], vectors[[5]], k=20, verify=True).to_pylist()
    assert [row["alignment_score"] is not None for row in found] == sorted(
        (row["alignment_score"] is not None for row in found), reverse=True
    )
    assert found[0]["identity"] == 1 and found[-1]["alignment_score"] is None and found[-1]["cigar"] is None


def test_more_hits_are_the_same_hits_and_those_behind_the_ranked_ones_are_aligned_too(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection, sequences, vectors = library
    monkeypatch.setattr(hybrid, "ALIGNED", 3)
    query = drawn(20) + sequences[300][10:50]
    many = vectorstore.search_hybrid(collection, [query], vectors[[7]], k=40, verify=True)
    for k in (1, 4, 12):
        few = vectorstore.search_hybrid(collection, [query], vectors[[7]], k=k, verify=True)
        assert few.equals(many.slice(0, k))
    scores = many["alignment_score"].to_pylist()
    assert None not in scores and many["cigar"].null_count == 0
    ranked = max(n for n in range(1, 7) if scores[:n] == sorted(scores[:n], reverse=True))
    assert ranked >= 3 and scores != sorted(scores, reverse=True)  # at most 3 of each ranking stand by their score
    plain = vectorstore.search_hybrid(collection, [query], vectors[[7]], k=400)["id"].to_pylist()
    behind = many["id"].to_pylist()[6:]
    assert behind == sorted(behind, key=plain.index)  # the others as they stood
    # ---- without a k-mer: only the vectors' ranking has best ones, whatever the rows are called
    wordless = vectorstore.search_hybrid(collection, ["N" * 30], vectors[[7]], k=40, verify=True)["id"].to_pylist()
    near = collection.search(vectors[7], k=40)["id"].to_pylist()
    assert wordless == near


def test_a_long_query_is_looked_for_in_stretches(made: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = copied(made, tmp_path)
    vectorstore.build_kmer_index(str(tmp_path), "c")
    monkeypatch.setattr(VECTOR_CACHE, "budget", 0)
    query = drawn(390) + made[1][11][:50] + drawn(1500) + made[1][12][:50] + drawn(10)  # across a border, and near the end
    found = vectorstore.search_hybrid(disk, [query], made[2][[7]], k=2, verify=True)
    assert sorted(found["id"].to_pylist()) == ["r011", "r012"]
    asked = kmer_index._stretches(drawn(20_000))
    assert len(asked) == kmer_index.STRETCHES and kmer_index._stretches("ACGU") == ["ACGU"]
    whole = drawn(1000)
    kmers = [part[i : i + 8] for part in kmer_index._stretches(whole) for i in range(len(part) - 7)]
    assert kmers == [whole[i : i + 8] for i in range(993)]


def test_a_filter_that_fails_on_a_row(library: Library) -> None:
    with pytest.raises(FilterError, match="failed on a row"):
        vectorstore.search_hybrid(library[0], library[1][:1], library[2][:1], where="1 / (length - length) = 1")


def test_a_collection_larger_than_the_memory_says_what_to_do(made: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VECTOR_CACHE, "budget", 0)
    with pytest.raises(StoreError, match=r"UNIRNA_SEARCH_MEMORY_GB.*index c --store . --kind kmers"):
        vectorstore.search_hybrid(made[0], made[1][:1], made[2][:1])


def test_both_ways_find_the_same(made: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = copied(made, tmp_path)
    vectorstore.build_kmer_index(str(tmp_path), "c")
    queries = [drawn(30) + made[1][i][5:60] for i in range(20)]
    found = []
    for collection, budget in ((made[0], VECTOR_CACHE.budget), (disk, 0)):
        monkeypatch.setattr(VECTOR_CACHE, "budget", budget)
        # the best hit: what follows is chance, and k-mers weigh by how rare they are in memory alone
        found.append(vectorstore.search_hybrid(collection, queries, made[2][100:120], k=1, verify=True))
    columns = ["query", "rank", "id", "similarity", "alignment_score", "cigar"]
    assert found[0].select(columns).equals(found[1].select(columns))


def test_a_kmer_index_lives_beside_that_of_the_vectors(made: Library, tmp_path: Path) -> None:
    disk = copied(made, tmp_path)
    for part in ("x", "y"):
        ids = [f"{part}{i}" for i in range(600)]
        rows = {"id": ids, "sequence": made[1], "vector": vectorstore.vector_array(made[2])}
        vectorstore.add(str(tmp_path), "c", pa.table(rows), fingerprint="feed")
        if part == "x":
            vectorstore.build_kmer_index(str(tmp_path), "c")
            vectorstore.build_index(str(tmp_path), "c", kind="ivf_flat", min_recall=0)
    assert disk.has_kmer_index and disk.index is not None
    assert disk.dataset.stats.index_stats("kmer_index")["num_unindexed_rows"] == 600
    vectorstore.compact(str(tmp_path), "c")
    assert disk.has_kmer_index and disk.index is not None
    assert disk.dataset.stats.index_stats("kmer_index")["num_unindexed_rows"] == 0
    vectorstore.drop_index(str(tmp_path), "c")
    assert disk.has_kmer_index and disk.index is None
    vectorstore.drop_kmer_index(str(tmp_path), "c")
    vectorstore.drop_kmer_index(str(tmp_path), "c")
    assert not disk.has_kmer_index


def test_the_kmer_index_of_an_older_version_is_used_and_replaced(
    made: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = copied(made, tmp_path)
    with monkeypatch.context() as older:
        older.setattr(kmer_index, "KMER_INDEX", "word_index")
        older.setattr(kmer_index, "OLD_KMER_INDEX", "none")
        vectorstore.build_kmer_index(str(tmp_path), "c")
    assert disk.has_kmer_index
    monkeypatch.setattr(VECTOR_CACHE, "budget", 0)
    found = vectorstore.search_hybrid(disk, [made[1][3]], made[2][[7]], k=2, verify=True)
    assert "r003" in found["id"].to_pylist()
    vectorstore.build_kmer_index(str(tmp_path), "c")
    assert [index.name for index in disk.dataset.describe_indices()] == ["kmer_index"]
