"""Searches of several queries at once, and which searches are aligned by default."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_serve import running
from unirna import sdk, vectorstore
from unirna.sdk import _cli
from unirna.serve.engine.engine import Engine
from unirna.serve.engine.limits import Limits
from unirna.serve.engine.search import SearchAnswer, SearchesAnswer
from unirna.serve.errors import RequestError
from unirna.serve.settings import Settings
from unirna.vectorstore.vector_cache import VECTOR_CACHE


@pytest.fixture(scope="module")
def engine(library: Any) -> Engine:
    return Engine.open(library.store, library.model, default_collection="rfam", limits=Limits(5_000, 1_000))


@pytest.fixture(scope="module")
def url(engine: Engine, library: Any) -> Iterator[str]:
    with running(engine, Settings(store=library.store, max_sequences=64)) as http:
        yield str(http.base_url).rstrip("/")


def one(engine: Engine, **asked: Any) -> SearchAnswer:
    answer = engine.search(**asked)
    assert isinstance(answer, SearchAnswer)
    return answer


def close(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    """The same hits, save that a vector made in another batch may be off by rounding."""
    similarities = [pytest.approx(h["similarity"], abs=1e-5) for h in other]
    return [h["id"] for h in one] == [h["id"] for h in other] and [h["similarity"] for h in one] == similarities


def test_many_queries_find_what_each_finds(engine: Engine, library: Any) -> None:
    texts = [row["sequence"] for row in library.heldout[:6]]
    for asked in ({}, {"verify": False}, {"hybrid": True}, {"k": 3, "offset": 2, "where": "length < 90"}):
        many = engine.search(queries=texts, **asked)
        assert isinstance(many, SearchesAnswer) and len(many.results) == 6
        for text, found in zip(texts, many.results, strict=True):
            alone = one(engine, similar_to=text, **asked)
            assert close(found.hits, alone.hits) and found.aligned == alone.aligned and found.error is None
            assert [h["alignment"] for h in found.hits] == [h["alignment"] for h in alone.hits]


def test_a_bad_query_fails_alone(engine: Engine, library: Any) -> None:
    good = library.rows[0]["sequence"]
    many = engine.search(queries=[good, "ACGJ", "", good, "A" * 5_001], k=2)
    assert isinstance(many, SearchesAnswer)
    errors = [None if found.error is None else found.error["field"] for found in many.results]
    assert errors == [None, "queries[1]", "queries[2]", None, "queries[4]"]
    assert [len(found.hits) for found in many.results] == [2, 0, 0, 2, 0]
    for bad in ([], "ACGU"):
        with pytest.raises(RequestError, match="queries: expected"):
            engine.search(queries=bad)
    with pytest.raises(RequestError, match="similar_to and queries"):
        engine.search(queries=[good], similar_to=good)
    assert engine.search(queries=["J"], k=1).results[0].hits == []  # type: ignore[union-attr]


def test_hits_are_aligned_by_default(engine: Engine, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    row = library.rows[3]
    flanked = "GA" * 20 + row["sequence"] + "AC" * 20
    found = one(engine, similar_to=flanked, k=3)
    assert found.aligned and row["id"] in [h["id"] for h in found.hits if h["alignment"]["identity"] == 1]
    assert one(engine, id=row["id"], k=3).aligned
    assert not one(engine, similar_to=flanked, verify=False).aligned
    plain = one(engine, similar_to=flanked, hybrid=True)
    assert not plain.aligned and plain.hits[0]["alignment"] is None
    chance = random.Random(0)
    long = "".join(chance.choices("ACGU", k=2_001))
    assert one(engine, similar_to=long[1:]).aligned and not one(engine, similar_to=long).aligned
    assert one(engine, similar_to=long, verify=True, k=1).aligned
    vector = engine.embed([flanked])[0]
    assert not one(engine, vector=vector).aligned
    many = engine.search(queries=[long, flanked], k=2)
    assert isinstance(many, SearchesAnswer)
    assert [found.aligned for found in many.results] == [False, True]
    collection = vectorstore.open(library.store, "rfam")
    monkeypatch.setattr(VECTOR_CACHE, "budget", len(collection) * 4 * engine.model.dimension)  # room for the vectors alone
    assert not one(engine, similar_to=flanked).aligned  # no error either
    with pytest.raises(RequestError, match=r"verify: .*do not fit in the memory"):
        one(engine, similar_to=flanked, verify=True)


def test_a_number_beyond_float32_is_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="not finite"):
        engine.search(vector=[1e300] * engine.model.dimension)


def test_pages_of_aligned_hits_fit_together(engine: Engine, library: Any) -> None:
    query, rows = library.heldout[0]["sequence"], len(library.rows)
    whole = one(engine, similar_to=query, k=1_000).hits
    pages = [hit for at in range(0, 60, 20) for hit in one(engine, similar_to=query, k=20, offset=at).hits]
    assert [h["id"] for h in pages] == [h["id"] for h in whole[:60]] and [h["rank"] for h in pages] == list(range(1, 61))
    assert len(whole) == min(rows, 1_000)


def test_clients_search_for_many(url: str, library: Any) -> None:
    texts = [row["sequence"] for row in library.rows[:35]] * 4
    texts[70] = "not RNA"
    with (
        sdk.connect(url) as http,
        sdk.connect(library.store, model=library.model, collection="rfam", progress=False) as local,
    ):
        for client in (http, local):
            found = client.search_many(texts, k=2)
            assert len(found) == len(texts) > 128 and found.collection == "rfam"
            assert found.names[:2] == ("0", "1") and list(found.errors) == ["70"]
            assert found[70].error is not None and "position 2" in found[70].error and not len(found[70])
            assert [h.id for h in found[3]] == [h.id for h in client.search(texts[3], k=2)]
            rows = found.to_dicts()
            assert len(rows) == 2 * (len(texts) - 1) and rows[0]["query"] == "0" and found.to_arrow().num_rows == len(rows)
            assert f"SearchResults: {len(texts)}" in repr(found) and found[69:72].names == ("69", "70", "71")
            named = client.search_many({"x": texts[0], "y": texts[1]}, k=1, verify=False)
            assert (
                named.names == ("x", "y") and not named[0].aligned and [r["query"] for r in named.to_dicts()] == ["x", "y"]
            )
            with pytest.raises(sdk.InvalidRequestError) as error:
                client.search_many(texts[:3], k=0)
            assert error.value.field == "k"
            with pytest.raises(sdk.InvalidRequestError, match="at least one"):
                client.search_many([])
            with pytest.raises(TypeError, match="one string"):
                client.search_many("ACGU")

    async def several() -> sdk.SearchResults:
        async with sdk.connect_async(url) as client:
            return await client.search_many(texts[:70], k=1)

    assert [found[0].id for found in asyncio.run(several())] == [r["id"] for r in rows[:140:2]]


def test_a_request_of_too_many_queries_is_refused(url: str) -> None:
    import httpx2

    answer = httpx2.post(f"{url}/v1/search", json={"queries": ["ACGU"] * 65}, trust_env=False)
    assert answer.status_code == 422 and "max_sequences" in answer.json()["detail"]


def test_the_command_line_searches_for_many(url: str, library: Any, tmp_path: Path, capsys: Any) -> None:
    fasta = tmp_path / "q.fasta"
    fasta.write_text("".join(f">q{i}\n{row['sequence']}\n" for i, row in enumerate(library.heldout[:5])) + ">bad\nACGJ\n")
    assert _cli.main(["search", str(fasta), "-k", "2", "--tsv", "--url", url]) == 2
    done = capsys.readouterr()
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert "cigar" in lines[0] and [line[0] for line in lines[1:]] == [f"q{i}" for i in range(5) for _ in range(2)]
    assert "left out: bad: " in done.err
    assert _cli.main(["search", str(fasta), "-k", "2", "--tsv", "--no-verify", "--url", url]) == 2
    assert "cigar" not in capsys.readouterr().out
    assert _cli.main(["search", "ACGU", "--verify", "--no-verify", "--url", url]) == 2
