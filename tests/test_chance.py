"""How often chance finds as good a hit: the p of hits, from what random sequences find in the collection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.browser import Browser
from tests.test_serve import running
from unirna import sdk, vectorstore
from unirna.embed import calibrate, chance
from unirna.embed.chance import LEAST_ROWS, measured, random_queries
from unirna.model import load
from unirna.sdk import _cli
from unirna.sequence import LOW_COMPLEXITY, complexity_of, normalise
from unirna.serve.engine.engine import Engine
from unirna.serve.engine.search import SearchAnswer, SearchesAnswer
from unirna.serve.settings import Settings
from unirna.vectorstore.chance import Chance, Extremes


@pytest.fixture(autouse=True, scope="module")
def few_queries() -> Iterator[None]:
    """Fewer and shorter random queries than those of a real collection."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chance, "LENGTHS", (8, 16, 32, 64, 128, 256))
        patch.setattr(chance, "NUCLEOTIDES", (9_000, 9_000))
        yield


@pytest.fixture(scope="module")
def store(library: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store whose collection `rfam` was measured, and whose `plain` was not."""
    uri = str(tmp_path_factory.mktemp("chance"))
    for name in ("rfam", "plain"):
        vectorstore.copy(library.store, "rfam", uri, name)
    calibrate(uri, "rfam", load(library.model))
    return uri


@pytest.fixture(scope="module")
def engine(store: str, library: Any) -> Engine:
    return Engine.open(store, library.model)


def one(engine: Engine, **asked: Any) -> SearchAnswer:
    answer = engine.search(**asked)
    assert isinstance(answer, SearchAnswer)
    return answer


def best(rows: int, draws: int, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Largest of so many normal scores, several times."""
    return np.random.default_rng(seed).standard_normal((draws, rows)).max(axis=1)


def test_p_of_chance_is_uniform_and_follows_the_number_of_rows() -> None:
    lengths = np.repeat([10, 100, 1000], 400)
    shift = np.repeat([0.0, 1.0, 3.0], 400)
    fitted = Extremes.of(lengths, best(500, 1200, 0) + shift)
    for rows, growth in ((500, 1.0), (2000, 4.0), (125, 0.25)):
        for length, more in ((10, 0.0), (100, 1.0), (1000, 3.0)):
            p = fitted.p(best(rows, 400, rows + length) + more, length, growth)
            assert abs(np.mean(p <= 0.05) - 0.05) < 0.035 and abs(np.mean(p <= 0.5) - 0.5) < 0.12
    between = [fitted.p([4.0], length)[0] for length in (10, 31, 100, 310, 1000)]
    assert between == sorted(between)  # a longer random sequence scores more
    assert fitted.p([4.0], 1)[0] == between[0] and fitted.p([4.0], 10**6)[0] == pytest.approx(between[-1])
    assert fitted.p([4.0], None)[0] == between[-1]  # of a vector alone: the most cautious
    assert fitted.p([99.0, -99.0], 100).tolist() == pytest.approx([0, 1])


def test_equal_scores_are_chance_and_better_ones_are_not() -> None:
    fitted = Extremes.of([8] * 5 + [16], [1.0] * 6)
    assert fitted.p([1.0], 8)[0] > 0.3 and fitted.p([1.1], 8)[0] < 1e-6


def test_a_tiny_p_of_two_tries_is_not_rounded_to_zero() -> None:
    far = Extremes((100,), (0.0,), (1.0,))
    found = Chance("", 1_000, 1_000, far, score=far).of_hits([0.0, 0.0], length=100, rows=1_000, score=[40, 60])
    assert found is not None and found == pytest.approx([2 * np.exp(-40.0), 2 * np.exp(-60.0)], rel=1e-6)


def test_what_is_kept_reads_back(store: str, library: Any) -> None:
    opened = vectorstore.open(store, "rfam")
    found = vectorstore.chance_of(opened)
    assert found is not None and found.joined is not None and found.score is not None
    assert Chance.from_json(found.to_json()) == found and found.rows == len(opened)
    assert vectorstore.chance_of(vectorstore.open(store, "plain")) is None
    vectorstore.copy(store, "rfam", store, "copied")
    assert vectorstore.chance_of(vectorstore.open(store, "copied")) == found
    vectorstore.keep_chance(store, "copied", Chance("another model", 1, 1, found.cosine))
    assert vectorstore.chance_of(vectorstore.open(store, "copied")) is None
    vectorstore.drop(store, "copied", confirm="copied")


def test_an_embedding_job_measures_once_until_the_collection_grows(store: str, library: Any) -> None:
    vectorstore.copy(library.store, "rfam", store, "grown")
    encoder = load(library.model)
    assert not measured(store, "grown")
    first = calibrate(store, "grown", encoder, job=True)
    assert first is not None and measured(store, "grown") and calibrate(store, "grown", encoder, job=True) == first
    vectorstore.delete(store, "grown", "length < 75")
    rows = len(vectorstore.open(store, "grown"))
    again = calibrate(store, "grown", encoder, job=True)
    assert again is not None and (again.rows == rows) == (rows * 1.25 < first.rows)
    vectorstore.delete(store, "grown", "length < 1000")
    assert calibrate(store, "grown", encoder, job=True) == vectorstore.chance_of(vectorstore.open(store, "grown"))
    with pytest.raises(vectorstore.StoreError, match="is empty"):
        calibrate(store, "grown", encoder)
    assert LEAST_ROWS > 1
    vectorstore.drop(store, "grown", confirm="grown")


def test_random_queries_have_the_collections_composition(store: str) -> None:
    opened = vectorstore.open(store, "rfam")
    queries = random_queries(opened)
    assert queries == random_queries(opened) != random_queries(opened, seed=1)
    assert {len(text) for text in queries} >= {8, 256} and set("".join(queries)) == set("ACGU")

    def share(texts: list[str]) -> float:
        whole = "".join(texts)
        return (whole.count("G") + whole.count("C")) / len(whole)

    stored = opened.sample(1000, columns=["sequence"])["sequence"].to_pylist()
    assert share(queries) == pytest.approx(share(stored), abs=0.03)


@pytest.mark.parametrize("asked", [{"verify": False}, {"hybrid": True}, {}], ids=["vector", "hybrid", "aligned"])
def test_relatives_are_better_than_chance_and_random_sequences_are_not(
    engine: Engine, library: Any, asked: dict[str, Any]
) -> None:
    strange = [text for text in random_queries(vectorstore.open(engine.store, "rfam"), seed=7) if 32 <= len(text) <= 256]
    found = engine.search(queries=strange, k=3, collection="rfam", **asked)
    assert isinstance(found, SearchesAnswer)
    lucky = [min(hit["p"] for hit in result.hits) <= 0.05 for result in found.results]
    assert np.mean(lucky) < 0.15 and len(lucky) > 40
    none = next(result for result, better in zip(found.results, lucky, strict=True) if not better)
    assert none.better_than_chance == 0 and none.verdict.startswith("No hit better than chance")
    own = one(engine, similar_to=library.rows[3]["sequence"], k=5, collection="rfam", **asked)
    assert own.hits[0]["p"] < 1e-3 and own.better_than_chance and own.verdict.endswith("(p at most 0.05).")
    assert own.better_than_chance == sum(hit["p"] <= 0.05 for hit in own.hits)


@pytest.mark.parametrize("unit", ["A", "GC", "CA", "CAG", "GGGGCC", "ACGUUGC"])
def test_repeats_find_nothing_better_than_chance_and_are_named(engine: Engine, unit: str) -> None:
    for size in (12 * len(unit), 160):
        found = one(engine, similar_to=(unit * size)[: max(size, 20)], collection="rfam")
        assert found.better_than_chance == 0 and {hit["p"] for hit in found.hits} == {1.0}
        assert found.verdict.startswith("No hit better than chance: the query is a repeat")


def test_natural_rna_and_short_queries_are_no_repeats(rfam_sample: Path) -> None:
    natural = [normalise(text) for text in pq.read_table(rfam_sample)["sequence"].to_pylist()]
    assert min(map(complexity_of, natural)) > LOW_COMPLEXITY + 0.1
    assert complexity_of("GGGAAACCC") == pytest.approx(1)


def test_a_filter_leaves_the_p_of_a_hit_as_it_is(engine: Engine, library: Any) -> None:
    row = library.rows[3]
    asked: dict[str, Any] = {"similar_to": row["sequence"], "collection": "rfam", "verify": False}
    few = one(engine, where=f"id = '{row['id']}'", **asked).hits
    assert few[0]["p"] == next(hit["p"] for hit in one(engine, **asked).hits if hit["id"] == row["id"])


def test_without_a_measurement_the_words_say_how_to_make_it(engine: Engine, library: Any) -> None:
    found = one(engine, similar_to=library.rows[3]["sequence"], k=2, collection="plain")
    assert [hit["p"] for hit in found.hits] == [None, None] and found.better_than_chance is None
    assert "unirna collections calibrate plain --store" in found.verdict
    nothing = one(engine, similar_to="ACGU", where="length > 100000", collection="rfam")
    assert nothing.verdict == "" and nothing.hits == []
    vector = one(engine, vector=engine.embed([library.rows[3]["sequence"]])[0], collection="rfam")
    assert 0 <= vector.hits[0]["p"] < 1e-3


def test_clients_and_the_command_line_say_it(engine: Engine, store: str, library: Any, capsys: Any, tmp_path: Path) -> None:
    row, strange = library.rows[3], random_queries(vectorstore.open(store, "rfam"), seed=3)[-20]
    with running(engine, Settings(store=store)) as http, sdk.connect(str(http.base_url).rstrip("/")) as client:
        found = client.search(row["sequence"], k=3, collection="rfam")
        assert found[0].p is not None and found[0].p < 1e-3 and found.better_than_chance is not None
        assert (
            found.verdict in repr(found) and found.verdict in found._repr_html_() and found.to_dicts()[0]["p"] == found[0].p
        )
        fasta = tmp_path / "q.fa"
        fasta.write_text(f">known\n{row['sequence']}\n>strange\n{strange}\n")
        url = ["--url", client._transport._address.url]  # type: ignore[attr-defined]
        assert _cli.main(["search", str(fasta), "-k", "2", "--tsv", "--collection", "rfam", *url]) == 0
        said = capsys.readouterr()
        assert said.out.splitlines()[0].split("\t")[:5] == ["query", "rank", "id", "similarity", "p"]
        better = client.search(strange, k=2, collection="rfam").better_than_chance
        assert ("for 1 query of 2: strange" in said.err) == (better == 0)
        assert _cli.main(["search", row["sequence"], "-k", "2", "--tsv", "--collection", "rfam", *url]) == 0
        assert "better than chance" in capsys.readouterr().err


def test_a_records_neighbours_have_a_p(browser: Browser, engine: Engine, store: str, library: Any) -> None:
    row = library.rows[3]
    near = [hit for hit in one(engine, id=row["id"], k=9, collection="rfam").hits if hit["id"] != row["id"]][:8]
    better = sum(hit["p"] <= 0.05 for hit in near)
    with running(engine, Settings(store=store)) as http:
        browser.open(
            f"http://{http.base_url.host}:{http.base_url.port}/record?{urlencode({'collection': 'rfam', 'id': row['id']})}"
        )
        browser.wait("!document.querySelector('#record-neighbours').hidden")
        assert browser.text("#neighbours-note").startswith(f"{better} of 8 better than chance: p is how often")
        shown = browser.texts("#neighbours td[data-label=p]")
        assert [text.endswith("(chance)") for text in shown] == [hit["p"] > 0.05 for hit in near]
        script = "return [1, 0.05001, 0.05, 0.00012, 1e-20, 0].map((await import('/static/common.js')).chanceText);"
        said = browser.run(f"return (async () => {{{script}}})()")
        assert said == ["1.00 (chance)", "0.050 (chance)", "0.050", "1e-4", "< 1e-15", "< 1e-15"]
        browser.open("about:blank")


def test_the_command_line_measures(store: str, library: Any, capsys: Any) -> None:
    vectorstore.copy(store, "plain", store, "later")
    assert _cli.main(["collections", "calibrate", "later", "--store", store, "--model", library.model]) == 0
    assert "its hits have a p now" in capsys.readouterr().err
    assert measured(store, "later")
    assert _cli.main(["collections", "show", "later", "--store", store]) == 0
    assert "chance        queries" in capsys.readouterr().out
    vectorstore.drop(store, "later", confirm="later")
