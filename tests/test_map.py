"""Maps: the layout, the table beside the collection, the job, the command line, and what the service says of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pytest

from unirna import sdk, vectorstore
from unirna.embed import EmbedConfig, embed_collection, finishing, projection
from unirna.embed.projection import make_map, project
from unirna.job import JobError
from unirna.sdk import _cli
from unirna.serve.engine.engine import Engine
from unirna.serve.engine.maps import NAMED, Maps
from unirna.serve.errors import RequestError
from unirna.vectorstore import StoreError

D = 16
MADE = vectorstore.Provenance("m", "feed")
LABELS = pa.schema([("family", pa.string()), ("place", pa.int32()), ("score", pa.float64()), ("good", pa.bool_())])
SCHEMA = vectorstore.collection_schema(D, LABELS, MADE)


def clusters(count: int, each: int, seed: int = 0) -> np.ndarray:
    """Vectors about a few directions, one cluster after the other."""
    random = np.random.default_rng(seed)
    about = np.repeat(np.random.default_rng(99).normal(size=(count, D)), each, axis=0)
    return (about + 0.2 * random.normal(size=about.shape)).astype(np.float32)


def rows(vectors: np.ndarray, first: int = 0) -> pa.Table:
    numbers = list(range(first, first + len(vectors)))
    return pa.table(
        {
            "id": [f"r{i:05d}" for i in numbers],
            "sequence": ["ACGU" * (i % 9 + 1) for i in numbers],
            "vector": vectorstore.vector_array(vectors),
            "family": pa.array([None if i % 10 == 9 else f"f{i % 3}" for i in numbers]),
            "place": pa.array(numbers, pa.int32()),
            "score": pa.array([float("nan") if i == 3 else None if i == 4 else i / 2 for i in numbers]),
            "good": pa.array([i % 2 == 0 for i in numbers]),
        }
    )


def make(uri: Path | str, vectors: np.ndarray, name: str = "c") -> str:
    uri = str(uri)
    empty = vectorstore.write_rows(uri, name, SCHEMA.empty_table(), SCHEMA)
    vectorstore.commit(uri, name, SCHEMA, empty, key="k", read_version=0)
    vectorstore.add(uri, name, rows(vectors), fingerprint="feed")
    return uri


def apart(places: np.ndarray, count: int) -> bool:
    """Whether clusters, one after the other, are farther from each other than they are wide."""
    parts = np.split(places, count)
    middles = np.array([part.mean(axis=0) for part in parts])
    wide = max(np.linalg.norm(part - middle, axis=1).max() for part, middle in zip(parts, middles, strict=True))
    between = np.linalg.norm(middles[:, None] - middles[None], axis=-1)[np.triu_indices(count, 1)]
    return bool(between.min() > 2 * wide)


def read(body: bytes) -> tuple[dict[str, Any], np.ndarray, np.ndarray | None]:
    """What the service sends: the line, the places [N, 2], and the numbers of the label."""
    end = body.index(b"\n") + 1
    assert end % 4 == 0
    header = json.loads(body[:end])
    count = header["points"]
    places = np.frombuffer(body[end : end + 8 * count], "<f4").reshape(-1, 2)
    rest = body[end + 8 * count :]
    if header["label"] is None:
        assert not rest
        return header, places, None
    kind = {"classes": "<u2", "values": "<f4"}[header["label"]["kind"]]
    numbers = np.frombuffer(rest, kind)
    assert len(numbers) == count
    return header, places, numbers


# ---- the layout --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_clusters_stay_apart_and_the_same_seed_gives_the_same_map() -> None:
    vectors = clusters(5, 40)
    places = project(vectors.copy())
    assert places.shape == (200, 2) and places.dtype == np.float32
    assert apart(places, 5)
    assert (project(vectors.copy()) == places).all()
    assert (project(vectors.copy(), seed=1) != places).any()


def test_the_length_of_a_vector_counts_for_nothing() -> None:
    vectors = clusters(3, 20)
    longer = vectors * np.random.default_rng(0).choice([1, 2, 4], size=(60, 1)).astype(np.float32)
    np.testing.assert_array_equal(project(vectors.copy(), method="pca"), project(longer, method="pca"))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 14, 15, 16])
def test_few_rows_have_a_map_too(count: int) -> None:
    places = project(clusters(1, count))
    assert places.shape == (count, 2) and np.isfinite(places).all()
    assert len(np.unique(places, axis=0)) == count
    assert np.isfinite(project(np.ones((count, D), np.float32))).all()  # all alike


def test_pca_shows_the_two_widest_directions() -> None:
    random = np.random.default_rng(0)
    vectors = np.ones((50, D), np.float32)
    vectors[:, 3] += random.normal(size=50) / 10
    vectors[:, 5] += random.normal(size=50) / 40
    places = project(vectors.copy(), method="pca")
    assert abs(np.corrcoef(places[:, 0], vectors[:, 3])[0, 1]) > 0.9
    assert places[:, 0].std() > 2 * places[:, 1].std() > 0


def test_what_is_beyond_the_layout_is_placed_among_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = make(tmp_path, clusters(4, 60))
    monkeypatch.setattr(projection, "FITTED", 100)
    monkeypatch.setattr(projection, "READ", 32)
    told = make_map(uri, "c")
    assert (told["points"], told["rows"], told["made"]) == (240, 240, True)
    found = vectorstore.read_map(uri, "c")
    assert found is not None
    assert found.ids.to_pylist() == [f"r{i:05d}" for i in range(240)]
    assert apart(found.places, 4)


def test_of_a_large_collection_a_sample_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = make(tmp_path, clusters(4, 60))
    monkeypatch.setattr(projection, "POINTS", 50)
    ids = []
    for seed in (0, 0, 1):
        told = make_map(uri, "c", method="pca", seed=seed, rebuild=True)
        assert (told["points"], told["rows"]) == (50, 240)
        found = vectorstore.read_map(uri, "c")
        assert found is not None and len(set(found.ids.to_pylist())) == 50
        ids.append(found.ids.to_pylist())
    assert ids[0] == ids[1] != ids[2]
    engine_view = _maps(uri).answer("c")
    assert {k: read(engine_view)[0][k] for k in ("points", "rows", "num_rows", "added")} == {
        "points": 50,
        "rows": 240,
        "num_rows": 240,
        "added": 0,
    }


def test_a_neighbour_that_is_the_same_draws_most() -> None:
    places = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
    near = vectorstore.place_among(places, np.array([1, 0.5, 0.5], np.float32))
    assert np.linalg.norm(near) < 0.5
    even = vectorstore.place_among(places, np.array([0.7, 0.7, 0.7], np.float32))
    np.testing.assert_allclose(even, [10 / 3, 10 / 3], rtol=1e-5)


# ---- beside the collection ---------------------------------------------------------------------------------------------


def test_a_map_goes_where_its_collection_goes(tmp_path: Path) -> None:
    uri, other = make(tmp_path / "a", clusters(2, 10)), str(tmp_path / "b")
    make_map(uri, "c", method="pca")
    assert vectorstore.list_collections(uri) == ["c"]
    before = vectorstore.read_map(uri, "c")
    assert before is not None
    vectorstore.rename(uri, "c", "d")
    assert vectorstore.map_info(uri, "c") is None and vectorstore.map_info(uri, "d") == before.info
    vectorstore.copy(uri, "d", other, "e")
    copied = vectorstore.read_map(other, "e")
    assert copied is not None and (copied.places == before.places).all() and copied.ids == before.ids
    vectorstore.copy(uri, "d", other, "old", version=1)  # of an older version the map is not
    assert vectorstore.map_info(other, "old") is None
    vectorstore.drop(uri, "d", confirm="d")
    assert not list(Path(uri).glob("*.lance"))
    with pytest.raises(StoreError, match=r"\.map"):
        vectorstore.check_name("my.map")


def test_a_map_without_its_collection_makes_room(tmp_path: Path) -> None:
    uri = make(tmp_path, clusters(2, 10))
    make_map(uri, "c", method="pca")
    (tmp_path / "c.map.lance").rename(tmp_path / "d.map.lance")
    vectorstore.rename(uri, "c", "d")
    assert vectorstore.map_info(uri, "d") is None


def test_it_is_made_again_only_where_rows_have_changed(tmp_path: Path) -> None:
    uri = make(tmp_path, clusters(2, 20))
    assert make_map(uri, "c", method="pca")["made"]
    named = vectorstore.name_of_map(uri, "c")
    assert not make_map(uri, "c", method="pca")["made"]
    vectorstore.compact(uri, "c")
    assert not make_map(uri, "c", method="pca")["made"] and vectorstore.name_of_map(uri, "c") == named
    vectorstore.add(uri, "c", rows(clusters(1, 5, seed=5), 40), fingerprint="feed")
    told = make_map(uri, "c", method="pca")
    assert told["made"] and told["points"] == 45 and vectorstore.name_of_map(uri, "c") != named
    assert make_map(uri, "c", method="pca", seed=1)["made"]
    assert make_map(uri, "c", method="pca", seed=1, rebuild=True)["made"]
    with pytest.raises(StoreError, match="no collection 'x'"):
        make_map(uri, "x", method="pca")


# ---- the job and the command line --------------------------------------------------------------------------------------


def test_the_job_makes_it_when_all_is_stored(
    ray_cluster: None, nano_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    fasta = tmp_path / "a.fasta"
    fasta.write_text("".join(f">s{i}\n{''.join(random.choice(list('ACGU'), 30))}\n" for i in range(40)))
    store = str(tmp_path / "store")
    config = EmbedConfig((str(fasta),), "c", store, str(nano_model_path), map=True)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # stopped when the rows are there and the map is not
        patch.setattr(finishing, "make_map", killed)
        with pytest.raises(KeyboardInterrupt):
            embed_collection(config)
    assert len(vectorstore.open(store, "c")) == 40 and vectorstore.map_info(store, "c") is None
    summary = embed_collection(config)
    assert summary["new"] == 40
    assert (summary["map"]["points"], summary["map"]["method"], summary["map"]["made"]) == (40, "umap", True)
    assert not embed_collection(config)["map"]["made"]
    assert "map" not in embed_collection(EmbedConfig((str(fasta),), "c", store, str(nano_model_path)))
    with pytest.raises(JobError, match="--level nucleotide"):
        embed_collection(EmbedConfig((str(fasta),), "c", store, str(nano_model_path), level="nucleotide", map=True))
    monkeypatch.setattr(projection, "find_spec", lambda name: None)
    with pytest.raises(JobError, match=r'pip install "unirna\[map\]"'):
        embed_collection(EmbedConfig((str(fasta),), "new", store, str(nano_model_path), map=True))
    assert vectorstore.list_collections(store) == ["c"]


def test_the_command_line_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = make(tmp_path, clusters(2, 10))
    command = ["collections", "map", "c", "--store", uri]
    assert _cli.main([*command, "--method", "pca"]) == 0
    assert "20 of 20 rows on the map" in capsys.readouterr().err
    assert _cli.main([*command, "--method", "pca"]) == 0
    assert "has a map of its 20 points already" in capsys.readouterr().err
    monkeypatch.setattr(projection, "find_spec", lambda name: None)
    assert _cli.main(command) == 2
    assert 'umap-learn, which is not installed: pip install "unirna[map]"' in capsys.readouterr().err
    assert _cli.main(["collections", "map", "x", "--store", uri, "--method", "pca"]) == 2
    assert "no collection 'x'" in capsys.readouterr().err


def test_umap_is_loaded_only_when_it_is_wanted() -> None:
    code = "import sys, unirna.embed, unirna.serve.engine.engine; print([m for m in ('umap', 'ray') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert answer.stdout.split("\n")[-2] == "[]"


# ---- what the service says ---------------------------------------------------------------------------------------------


class _Catalogue:
    """As much of a catalogue as maps need."""

    def __init__(self, store: str) -> None:
        self.store = store

    def open(self, name: str | None) -> vectorstore.Collection:
        return vectorstore.open(self.store, name or "c")


def _maps(store: str, budget: int = 1 << 28) -> Maps:
    return Maps(_Catalogue(store), budget)  # type: ignore[arg-type]


@pytest.fixture
def mapped(tmp_path: Path) -> str:
    uri = make(tmp_path, clusters(3, 20))
    make_map(uri, "c", method="pca")
    return uri


def test_the_answer_holds_places_and_labels(mapped: str) -> None:
    maps = _maps(mapped)
    header, places, none = read(maps.answer("c"))
    found = vectorstore.read_map(mapped, "c")
    assert found is not None and none is None
    np.testing.assert_array_equal(places, found.places)
    np.testing.assert_allclose(header["bounds"], [*places.min(axis=0), *places.max(axis=0)])
    assert header["columns"] == {
        "length": "values",
        "family": "classes",
        "place": "values",
        "score": "values",
        "good": "classes",
    }
    header, _, codes = read(maps.answer("c", "family"))
    assert codes is not None
    wanted = rows(clusters(3, 20))
    names = [None, "other", *(value["name"] for value in header["label"]["values"])]
    assert [names[code] for code in codes] == wanted["family"].to_pylist()
    counts = {value["name"]: value["count"] for value in header["label"]["values"]}
    assert counts == {name: wanted["family"].to_pylist().count(name) for name in ("f0", "f1", "f2")}
    assert (header["label"]["none"], header["label"]["other"], header["label"]["distinct"]) == (6, 0, 3)
    header, _, values = read(maps.answer("c", "score"))
    assert values is not None and np.flatnonzero(np.isnan(values)).tolist() == [3, 4]
    assert (header["label"]["min"], header["label"]["max"], header["label"]["none"]) == (0, 29.5, 2)
    header, _, codes = read(maps.answer("c", "good"))
    assert [value["name"] for value in header["label"]["values"]] == ["false", "true"]


def test_labels_of_many_values_are_lumped(tmp_path: Path) -> None:
    uri = make(tmp_path, clusters(1, NAMED + 40))
    count = NAMED + 40
    table = pa.table({"id": [f"r{i:05d}" for i in range(count)], "kind": [f"k{max(i, 30):04d}" for i in range(count)]})
    vectorstore.add_labels(uri, "c", table)
    make_map(uri, "c", method="pca")
    header, _, codes = read(_maps(uri).answer("c", "kind"))
    assert codes is not None
    assert header["label"]["values"][0] == {"name": "k0030", "count": 31}
    assert (header["label"]["distinct"], header["label"]["other"]) == (count - 30, count - 30 - NAMED)
    assert (codes == 1).sum() == header["label"]["other"] and (codes == 2).sum() == 31


@pytest.mark.parametrize("label", ["nope", "id", "vector", "sequence", "\ud800"])
def test_a_label_that_is_no_colour_is_refused(mapped: str, label: str) -> None:
    with pytest.raises(RequestError, match="label") as error:
        _maps(mapped).answer("c", label)
    assert error.value.status == 422 and error.value.errors[0].field == "label"


def test_rows_that_came_and_went_are_told(mapped: str) -> None:
    maps = _maps(mapped)
    first = maps.answer("c", "family")
    assert maps.answer("c", "family") is first  # held
    assert read(first)[0]["current"]
    vectorstore.upsert(mapped, "c", rows(clusters(3, 20, seed=9)[20:21], 20), fingerprint="feed")
    header = read(maps.answer("c"))[0]
    assert (header["added"], header["gone"], header["current"]) == (0, 0, False)  # a row was replaced
    vectorstore.delete(mapped, "c", "place < 5")
    vectorstore.upsert(mapped, "c", rows(clusters(3, 20)[10:15], 10), fingerprint="feed")  # these stand last now
    vectorstore.add(mapped, "c", rows(clusters(1, 7, seed=3), 60), fingerprint="feed")
    header, places, codes = read(maps.answer("c", "place"))
    assert not header["current"]
    assert (header["points"], header["gone"], header["added"], header["num_rows"]) == (60, 5, 7, 62)
    assert codes is not None and np.isnan(places[:5]).all() and not np.isnan(places[5:]).any()
    assert codes[5:].tolist() == list(range(5, 60))  # each point has its own row's label still
    found = maps.records("c", [4, 12, 59, 5, 12])["records"]
    wanted = [(12, "r00012"), (59, "r00059"), (5, "r00005"), (12, "r00012")]
    assert [(record["point"], record["id"]) for record in found] == wanted
    vectorstore.delete(mapped, "c", "place < 60")
    with pytest.raises(RequestError, match="none of the rows on the map"):
        maps.answer("c")


def test_no_map_says_how_to_make_one(mapped: str) -> None:
    vectorstore.rename(mapped, "c", "d")
    shutil.rmtree(Path(mapped) / "d.map.lance")
    for ask in (lambda m: m.answer("d"), lambda m: m.records("d", [0]), lambda m: m.check("d")):
        with pytest.raises(RequestError, match=r"has no map\. Make one with: unirna collections map d") as error:
            ask(_maps(mapped))
        assert error.value.status == 404 and error.value.errors[0].field == "map"


def test_records_are_checked(mapped: str) -> None:
    maps = _maps(mapped)
    named = read(maps.answer("c"))[0]["map"]
    (record,) = maps.records("c", [7], named)["records"]
    assert (record["id"], record["sequence"], record["labels"]["family"]) == ("r00007", "ACGU" * 8, "f1")
    assert set(record["labels"]) == {"family", "place", "score", "good"}
    assert maps.records("c", [])["records"] == []
    for points, field in (([0, 60], "points[1]"), ([-1], "points[0]"), ([True], "points[0]"), ([0] * 1001, "points")):
        with pytest.raises(RequestError) as error:
            maps.records("c", points)
        assert (error.value.status, error.value.errors[0].field) == (422, field)
    make_map(mapped, "c", method="pca", rebuild=True)
    with pytest.raises(RequestError, match="rebuilt"):
        maps.records("c", [7], named)


def test_a_vector_is_placed_among_its_neighbours(mapped: str) -> None:
    maps = _maps(mapped)
    collection, vectors = maps.check("c"), clusters(3, 20)
    found = vectorstore.read_map(mapped, "c")
    assert found is not None
    for point in (0, 25, 59):
        placed = maps.place(collection, vectors[point])
        assert placed["neighbours"][0]["id"] == f"r{point:05d}" and placed["neighbours"][0]["point"] == point
        assert len(placed["neighbours"]) == 10 and placed["map"] == found.name
        part = found.places[20 * (point // 20) : 20 * (point // 20) + 20]
        assert (part.min(axis=0) <= [placed["x"], placed["y"]]).all()
        assert (part.max(axis=0) >= [placed["x"], placed["y"]]).all()
    vectorstore.add(mapped, "c", rows(clusters(3, 20)[:20] * 2, 60), fingerprint="feed")  # nearer ones, not on the map
    placed = maps.place(collection, vectors[0])
    assert placed["neighbours"][0]["point"] == 0 and all(n["point"] < 60 for n in placed["neighbours"])


def test_what_is_held_is_bounded(mapped: str) -> None:
    maps = _maps(mapped, budget=3000)
    for label in ("family", "place", "score", "good", "length"):
        maps.answer("c", label)
        assert maps._bytes() <= 3000
    assert len(read(maps.answer("c", "family"))[1]) == 60


def test_a_map_of_another_models_vectors_is_none(library: Any, tmp_path: Path) -> None:
    store = str(shutil.copytree(library.store, tmp_path / "store"))
    make_map(store, "other", method="pca")
    engine = Engine.open(store, library.model, default_collection="rfam")
    with pytest.raises(RequestError) as error:
        engine.plan_place("other", "ACGU")
    assert error.value.status == 409
    assert len(read(engine.maps.answer("other"))[1]) == 5  # it can be looked at
    found = vectorstore.read_map(store, "other")
    assert found is not None
    info = vectorstore.MapInfo(**{**found.info.__dict__, "fingerprint": "feed"})
    vectorstore.write_map(store, "other", found.ids, found.places, info)
    with pytest.raises(RequestError, match="another model") as error:
        engine.maps.answer("other")
    assert error.value.status == 404


# ---- over HTTP ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def http(service: Any, library: Any) -> Iterator[httpx2.Client]:
    make_map(library.store, "rfam", method="pca")
    with httpx2.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        yield client


def test_the_map_over_http(http: httpx2.Client, library: Any) -> None:
    path = "/v1/collections/rfam/map"
    response = http.get(path, params={"label": "family"})
    assert response.headers["content-type"] == "application/octet-stream"
    header, places, codes = read(response.content)
    assert codes is not None and header["points"] == len(library.rows) == len(places)
    names = [value["name"] for value in header["label"]["values"]]
    by_id = {row["id"]: row for row in library.rows}
    answer = http.post(f"{path}/records", json={"points": [5, 0], "map": header["map"]}).json()
    assert [record["point"] for record in answer["records"]] == [5, 0]
    for record in answer["records"]:
        assert record["sequence"] == by_id[record["id"]]["sequence"]
        assert record["labels"]["family"] == by_id[record["id"]]["family"] == names[codes[record["point"]] - 2]
    stored = by_id[answer["records"][0]["id"]]
    placed = http.post(f"{path}/place", json={"sequence": stored["sequence"].lower().replace("u", "t")}).json()
    assert placed["neighbours"][0]["similarity"] == pytest.approx(1, abs=1e-5)
    assert stored["id"] in [n["id"] for n in placed["neighbours"]]
    left, bottom, right, top = header["bounds"]
    assert left <= placed["x"] <= right and bottom <= placed["y"] <= top


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("GET", "rfam/map?label=nope", None, 422, "label"),
        ("GET", "other/map", None, 404, "map"),
        ("GET", "none/map", None, 404, "collection"),
        ("POST", "rfam/map/records", {"points": [10**6]}, 422, "points[0]"),
        ("POST", "rfam/map/records", {"points": ["a"]}, 422, "points[0]"),
        ("POST", "rfam/map/records", {}, 422, "points"),
        ("POST", "rfam/map/records", {"points": [0], "map": "1-feed"}, 422, "map"),
        ("POST", "other/map/records", {"points": [0]}, 404, "map"),
        ("POST", "rfam/map/place", {"sequence": "PROTEIN"}, 422, "sequence"),
        ("POST", "rfam/map/place", {"sequence": "ACGU", "k": 3}, 422, "k"),
        ("POST", "other/map/place", {"sequence": "ACGU"}, 404, "map"),
    ],
)
def test_bad_requests_name_the_field(
    http: httpx2.Client, method: str, path: str, body: Any, status: int, field: str
) -> None:
    response = http.request(method, f"/v1/collections/{path}", json=body)
    assert response.status_code == status
    assert [entry["field"] for entry in response.json()["errors"]] == [field]


def test_the_reference_describes_it(http: httpx2.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    told = paths["/v1/collections/{name}/map"]["get"]["responses"]["200"]
    assert "little-endian" in told["description"] and "application/octet-stream" in told["content"]
    assert {"/v1/collections/{name}/map/records", "/v1/collections/{name}/map/place"} <= set(paths)


def test_clients_of_the_store_and_of_the_service_agree(http: httpx2.Client, library: Any) -> None:
    with (
        sdk.connect(library.store, model=library.model, collection="rfam") as local,
        sdk.connect(str(http.base_url)) as far,
    ):
        for label in ("family", "length", None):
            found, same = local.map(label=label), far.map("rfam", label=label)
            assert found.to_arrow() == same.to_arrow()
            assert (len(found), found.added, found.method, found.label) == (len(library.rows), 0, "pca", label)
        by_id = {row["id"]: row["family"] for row in library.rows}
        frame = far.map(label="family").to_pandas()
        assert dict(zip(frame["id"], frame["family"], strict=True)) == by_id
        assert "rfam" in repr(found)
        for client in (local, far):
            with pytest.raises(sdk.NotFoundError, match="has no map"):
                client.map("other")
            with pytest.raises(sdk.InvalidRequestError, match="label"):
                client.map("rfam", label="nope")


def test_a_client_leaves_out_what_is_gone(mapped: str) -> None:
    from unirna.sdk._answers import map_result

    vectorstore.delete(mapped, "c", "place < 5")
    found = map_result(_maps(mapped).answer("c", "score", ids=True))
    assert (found.ids[0], len(found), found.rows) == ("r00005", 55, 60)
    assert found.values == tuple(i / 2 for i in range(5, 60)) and np.isfinite(found.places).all()
