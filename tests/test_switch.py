"""Collections of other models than the service's, and collections that are switched while they are searched."""

from __future__ import annotations

import itertools
import shutil
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pytest

from tests.test_serve import running
from unirna import vectorstore
from unirna.embed import EmbedConfig, embed_collection
from unirna.model import load
from unirna.serve.engine import encoders
from unirna.serve.engine.engine import Engine
from unirna.serve.errors import RequestError
from unirna.serve.settings import Settings


def test_collections_of_other_models_are_searched_with_theirs(library: Any) -> None:
    open_ = partial(Engine.open, library.store, library.model)
    made = vectorstore.open(library.store, "other").provenance
    query = library.heldout[0]["sequence"]
    wanted = Engine.open(library.store, made.model).search(similar_to=query, collection="other").hits
    engine = open_(other_models=1)
    found = engine.search(similar_to=query, collection="other").hits
    assert [(h["id"], h["similarity"]) for h in found] == [(h["id"], h["similarity"]) for h in wanted]
    assert engine.catalogue.describe(engine.catalogue.open("other"))["searchable"]
    with pytest.raises(RequestError, match=made.fingerprint):  # whose vector it is cannot be seen
        engine.search(vector=[1.0] * 128, collection="other")
    with running(engine, Settings(library.store)) as http:
        for _ in range(2):
            answer = http.post("/v1/search", json={"similar_to": query, "collection": "other"}).json()
            assert [h["id"] for h in answer["hits"]] == [h["id"] for h in wanted]


def test_a_model_that_is_gone_is_refused_and_found_again(
    library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, there = str(tmp_path / "store"), tmp_path / "model"
    rows = vectorstore.open(library.store, "other").dataset.to_table()
    made = vectorstore.open(library.store, "other").provenance
    schema = vectorstore.collection_schema(128, pa.schema([]), replace(made, model=str(there)))
    vectorstore.append_rows(store, "moved", pa.Table.from_arrays([rows[n] for n in schema.names], schema=schema), key="k")
    engine = Engine(load(library.model), store, other_models=1)
    for _ in range(2):
        with pytest.raises(RequestError, match=made.fingerprint) as error:
            engine.search(similar_to="ACGUACGU")
        assert error.value.status == 409
        assert not engine.catalogue.describe_all()[0]["searchable"]
    monkeypatch.setattr(encoders, "LOOK_AGAIN", 0.0)
    with monkeypatch.context() as patch:  # nor does one for which there is no memory end in anything else
        patch.setattr(encoders, "load", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("out of memory")))
        with pytest.raises(RequestError, match=made.fingerprint):
            engine.search(similar_to="ACGUACGU")
    shutil.copytree(made.model, there)
    assert engine.search(similar_to="ACGUACGU").hits


@pytest.mark.slow
def test_no_search_fails_while_a_collection_is_switched_to_another_model(
    ray_cluster: None, library: Any, tmp_path: Path
) -> None:
    store = str(tmp_path / "store")
    vectorstore.copy(library.store, "rfam", store)
    made = vectorstore.open(library.store, "other").provenance
    engine = Engine.open(store, library.model, other_models=1)
    queries = [row["sequence"] for row in library.heldout]
    seen: list[tuple[int, str]] = []
    stop = threading.Event()

    def ask(http: httpx2.Client) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            query = {"id": library.rows[3]["id"]} if number % 3 == 0 else {"similar_to": queries[number % len(queries)]}
            answer = http.post("/v1/search", json=query | {"hybrid": number % 2 == 0})
            seen.append((answer.status_code, answer.text if answer.is_error else answer.json()["model"]))

    with running(engine, Settings(store)) as http:
        threads = [threading.Thread(target=ask, args=(http,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for model in (made.model, library.model, made.model):
                embed_collection(EmbedConfig((), "rfam", store, model, switch_model=True))
                vectorstore.compact(store, "rfam")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert {status for status, _ in seen} == {200}, [text for status, text in seen if status != 200][:3]
    assert {text for _, text in seen} == {library.model, made.model} and len(seen) > 50
