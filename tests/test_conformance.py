"""What every kind of search owes, against a brute force: in memory, in the store, by each index, the SDK near and far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unirna import sdk, vectorstore
from unirna.vectorstore.vector_cache import VECTOR_CACHE

Hits = list[tuple[str, float]]
EXACT = ("memory", "store", "local", "http")
KINDS = (*EXACT, *sorted(vectorstore.KINDS))
NEAR = 2e-5
"""Similarities closer than this may stand in either order: they are told in float32."""


class Searcher:
    """One kind of search over one collection (no dataclass: Hypothesis would print all of it).

    Attributes:
        find: vector, k and filter -> hits. rows: of the collection, without vectors. vectors: float64 [N, D], of length 1.
        filters: SQL condition and the same in Python.
    """

    def __init__(
        self,
        find: Callable[[NDArray[np.float32], int, str | None], Hits],
        rows: list[dict[str, Any]],
        vectors: NDArray[np.float64],
        filters: list[tuple[str | None, Callable[[dict[str, Any]], bool]]],
    ) -> None:
        self.find, self.rows, self.vectors, self.filters = find, rows, vectors, filters

    def similarities(self, query: NDArray[np.float32]) -> dict[str, float]:
        cosine = self.vectors @ (query.astype(np.float64) / np.linalg.norm(query.astype(np.float64)))
        return {row["id"]: float(value) for row, value in zip(self.rows, cosine, strict=True)}


def rows_and_vectors(uri: str, name: str) -> tuple[list[dict[str, Any]], NDArray[np.float64]]:
    table = pa.Table.from_batches(vectorstore.open(uri, name).scan(vectorstore.open(uri, name).schema.names))
    vectors = np.stack(table["vector"].to_numpy(zero_copy_only=False)).astype(np.float64)
    return table.drop_columns(["vector"]).to_pylist(), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """1,500 vectors around 40 centres, some of them equal."""
    uri, random = str(tmp_path_factory.mktemp("drawn")), np.random.default_rng(0)
    centres = random.standard_normal((40, 16))
    values = (centres[np.arange(1500) % 40] + 0.7 * random.standard_normal((1500, 16))).astype(np.float32)
    values[1400:] = values[:100]
    labels = pa.schema([("family", pa.string())])
    schema = vectorstore.collection_schema(16, labels, vectorstore.Provenance("drawn", "feed"))
    table = {
        "id": [f"r{(7 * i) % 1500:04d}" for i in range(1500)],
        "sequence": ["ACGU"] * 1500,
        "length": pa.array(np.arange(1500) % 200 + 1, pa.int32()),
        "sha": ["0" * 32] * 1500,
        "vector": vectorstore.vector_array(values),
        "family": [f"fam{i % 7}" for i in range(1500)],
    }
    vectorstore.append_rows(uri, "c", pa.table(table).cast(schema), key="k")
    return uri


PARAMETERS = [pytest.param(k, marks=[] if k in (*EXACT, "hnsw") else pytest.mark.slow) for k in KINDS]


@pytest.fixture(scope="module", params=PARAMETERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def searcher(kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Searcher]:
    if kind in ("local", "http"):
        library = request.getfixturevalue("library")
        rows, vectors = rows_and_vectors(library.store, "rfam")
        family, short = rows[0]["family"], int(np.median([row["length"] for row in rows]))
        where = f"length < {short} AND family <> '{family}'"
        source = {"model": library.model, "collection": "rfam"} if kind == "local" else {}
        place = library.store if kind == "local" else request.getfixturevalue("service").url
        with sdk.connect(place, **source) as client:
            yield Searcher(
                lambda query, k, where: [(h.id, h.similarity) for h in client.search(vector=query, k=k, where=where)],
                rows,
                vectors,
                [
                    (None, lambda row: True),
                    (f"family = '{family}'", lambda row: bool(row["family"] == family)),
                    (where, lambda row: bool(row["length"] < short and row["family"] != family)),
                ],
            )
        return
    uri = str(tmp_path_factory.mktemp(kind))
    vectorstore.copy(request.getfixturevalue("drawn"), "c", uri)
    if kind in vectorstore.KINDS:
        vectorstore.build_index(uri, "c", kind=kind, min_recall=0.9, queries=50)
    collection = vectorstore.open(uri, "c")

    def find(query: NDArray[np.float32], k: int, where: str | None) -> Hits:
        found = collection.search(query, k=k, where=where)
        assert found["rank"].to_pylist() == list(range(1, found.num_rows + 1))
        return list(zip(found["id"].to_pylist(), found["similarity"].to_pylist(), strict=True))

    rows, vectors = rows_and_vectors(uri, "c")
    filters: list[tuple[str | None, Callable[[dict[str, Any]], bool]]] = [
        (None, lambda row: True),
        ("family = 'fam3'", lambda row: bool(row["family"] == "fam3")),
        ("length < 30 AND family <> 'fam0'", lambda row: bool(row["length"] < 30 and row["family"] != "fam0")),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VECTOR_CACHE, "budget", VECTOR_CACHE.budget if kind == "memory" else 0)
        yield Searcher(find, rows, vectors, filters)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 999), k=st.integers(1, 30), which=st.integers(0, 2))
def test_hits_are_the_nearest_rows_that_pass_the_filter(
    searcher: Searcher, kind: str, seed: int, k: int, which: int
) -> None:
    random = np.random.default_rng(seed)
    near = searcher.vectors[random.integers(len(searcher.rows))]
    query = (near + 0.3 * random.standard_normal(len(near)) / len(near) ** 0.5).astype(np.float32)
    where, keep = searcher.filters[which]
    hits = searcher.find(query, k, where)
    true = searcher.similarities(query)
    allowed = {row["id"] for row in searcher.rows if keep(row)}
    wanted = sorted(((name, true[name]) for name in allowed), key=lambda hit: (-hit[1], hit[0]))[:k]

    assert len(hits) == len(wanted) and len({name for name, _ in hits}) == len(hits)
    assert {name for name, _ in hits} <= allowed  # a filter holds, whatever finds the rows
    np.testing.assert_allclose([s for _, s in hits], [true[name] for name, _ in hits], atol=NEAR)  # true cosines
    for (one, s), (two, t) in pairwise(hits):
        assert s > t or (s == t and one < two)  # the nearest first, equals in the order of their ids
    last = wanted[-1][1] if wanted else 0.0
    found = sum(true[name] >= last - NEAR for name, _ in hits)
    assert found == len(wanted) if kind in EXACT else found >= 0.7 * len(wanted) - 1


def test_a_stored_vector_finds_its_row_and_more_than_there_are_finds_all(searcher: Searcher, kind: str) -> None:
    for i in range(0, len(searcher.rows), max(1, len(searcher.rows) // 20)):
        query = searcher.vectors[i].astype(np.float32)
        best = searcher.find(query, 3, None)
        equal = [name for name, value in searcher.similarities(query).items() if value > 1 - NEAR]
        assert best[0][0] in equal and best[0][1] == pytest.approx(1, abs=NEAR)
    where, keep = searcher.filters[1]
    few = [row["id"] for row in searcher.rows if keep(row)]
    hits = searcher.find(searcher.vectors[0].astype(np.float32), min(len(few) + 10, 100), where)
    assert {name for name, _ in hits} <= set(few) and len(hits) == min(len(few), 100)
