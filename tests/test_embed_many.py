"""The embedding job where sequences repeat, others write too, the model changes, or vectors of nucleotides are wanted."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirna import model, vectorstore
from unirna.embed import EmbedConfig, embed_collection, job
from unirna.embed.plan import Plan
from unirna.embed.scan import ROWS, FileInput, plan_units, scan_unit
from unirna.embed.state import State
from unirna.embed.stream import chunks_of
from unirna.job import JobError
from unirna.runs import read_partition
from unirna.sequence import plan_pieces, sequence_sha
from unirna.vectorstore import ChangedError, StoreError, ingest
from unirna.vectorstore.vector_cache import VECTOR_CACHE


def letters(length: int, seed: int) -> str:
    return "".join(random.Random(seed).choices("ACGU", k=length))


def config(store: Path | str, nano: Path, *inputs: Path, **settings: Any) -> EmbedConfig:
    return EmbedConfig(tuple(map(str, inputs)), "c", str(store), str(nano), **settings)


def fasta(path: Path, records: dict[str, str]) -> Path:
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in records.items()))
    return path


def stored(store: Path | str, name: str = "c") -> dict[str, tuple[str, bytes]]:
    """Id -> sequence and vector of every row."""
    rows = pa.Table.from_batches(vectorstore.open(str(store), name).scan(["id", "sequence", "vector"])).to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: (row["sequence"], np.float32(row["vector"]).tobytes()) for row in rows}


# ---- the spool, without Ray ----------------------------------------------------------------------------------------


def test_a_part_holds_all_records_of_its_sequences_and_no_record_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unirna.runs.partitions.SPILL_BYTES", 4096)  # several batches for each part
    few = {f"f{i}": letters(30 + i % 7, i % 7) for i in range(200)}
    fasta(tmp_path / "a.fasta", few)
    table = {"id": [f"t{i}" for i in range(60)], "sequence": [letters(30 + i % 7, i % 7) for i in range(60)]}
    pq.write_table(pa.table({**table, "kind": pa.array(["x", "y"] * 30).dictionary_encode()}), tmp_path / "b.parquet")
    state, parts = State(str(tmp_path / "state")), 5
    units = plan_units(plan_pieces([str(tmp_path / "a.fasta"), str(tmp_path / "b.parquet")]), 1 << 20)
    notes = [scan_unit(state, unit, FileInput("id", "sequence", ()), "job", 1, parts) for unit in units]
    assert len(units) == 1 and len(state.names("rows", "arrow")) == 2  # one file for each set of labels
    seen: dict[str, int] = {}
    ids: list[str] = []
    for part in range(parts):
        rows = [row for _, table in read_partition(state, ROWS, part, parts) for row in table.to_pylist()]
        assert len(rows) == notes[0]["parts"][part]
        ids += [row["id"] for row in rows]
        for row in rows:
            assert seen.setdefault(row["sha"], part) == part and row["sha"] == sequence_sha(row["sequence"])
    assert sorted(ids) == sorted([*few, *table["id"]]) and len(set(seen.values())) > 1


def test_chunks_keep_the_records_of_a_sequence_together(tmp_path: Path) -> None:
    """However many chunks there are, no sequence is in two."""
    fasta(tmp_path / "a.fasta", {f"s{i}": letters(20 + i % 30, i % 30) for i in range(300)})
    state = State(str(tmp_path / "state"))
    (unit,) = plan_units(plan_pieces([str(tmp_path / "a.fasta")]), 1 << 20)
    scan_unit(state, unit, FileInput("id", "sequence", ()), "job", 1, 1)
    schema = vectorstore.collection_schema(4, pa.schema([]), vectorstore.Provenance("m", "f"))
    chunks = list(chunks_of(Plan(state, "", "c", schema, "0", "r", 1, 100), 0, [], 300))
    shas = [set(chunk["sha"].to_pylist()) for chunk in chunks]
    assert len(chunks) > 5 and sum(chunk.num_rows for chunk in chunks) == 300
    assert sum(map(len, shas)) == len(set.union(*shas)) == 30


# ---- the job -------------------------------------------------------------------------------------------------------


def test_a_sequence_is_embedded_once_however_many_records_carry_it(
    ray_cluster: None, nano_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "PART_BYTES", 2000)  # several parts
    sequences = [letters(40 + 10 * i, i) for i in range(6)]
    first = fasta(tmp_path / "a.fasta", {f"a{i}": sequences[i % 6] for i in range(50)})
    second = fasta(tmp_path / "b.fasta", {f"b{i}": sequences[i % 6].lower().replace("u", "t") for i in range(50)})
    summary = embed_collection(config(tmp_path / "store", nano_model_path, first, second))
    assert (summary["stored"], summary["distinct"]) == (100, 6)
    assert summary["distinct_nucleotides"] == sum(map(len, sequences)) < summary["nucleotides"]
    rows = stored(tmp_path / "store")
    encoder = model.load(nano_model_path, device="cpu")
    for i in range(6):
        vectors = {rows[name + str(j)] for name in "ab" for j in range(i, 50, 6)}
        ((sequence, vector),) = vectors
        assert sequence == sequences[i]
        np.testing.assert_allclose(np.frombuffer(vector, np.float32), encoder.embed([sequence])[0], atol=1e-5)


def interrupt_the_commit(monkeypatch: pytest.MonkeyPatch, between: Callable[[], object]) -> None:
    """Do something just before the job's first commit."""
    commit = vectorstore.commit
    waiting = [between]

    def late(*args: Any, **kwargs: Any) -> int:
        while waiting:
            waiting.pop()()
        return commit(*args, **kwargs)

    monkeypatch.setattr(vectorstore, "commit", late)


@pytest.mark.slow
def test_two_jobs_at_once_both_land_and_embed_nothing_twice(
    ray_cluster: None,
    nano_model_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    store = tmp_path / "store"
    mine = fasta(tmp_path / "mine.fasta", {f"m{i}": letters(50, i) for i in range(20)} | {"both": letters(30, 99)})
    theirs = fasta(tmp_path / "theirs.fasta", {f"t{i}": letters(50, 50 + i) for i in range(5)} | {"both": letters(30, 99)})
    monkeypatch.setattr(job, "_chunk_nucleotides", lambda *_: 300)  # so that one chunk, not all, holds the record of both
    interrupt_the_commit(monkeypatch, lambda: embed_collection(config(store, nano_model_path, theirs)))
    summary = embed_collection(config(store, nano_model_path, mine))
    assert (summary["stored"], summary["new"], summary["unchanged"]) == (21, 20, 1)
    rows = stored(store)
    assert sorted(rows) == sorted([*(f"m{i}" for i in range(20)), *(f"t{i}" for i in range(5)), "both"])
    said = capfd.readouterr().err
    assert "was changed by somebody else while this job ran (version 0, now 1): comparing with what it holds now" in said
    going_on = [line for line in said.splitlines() if line.startswith("going on: ")]
    assert len(going_on) == 1 and int(going_on[0].split()[2]) >= 15  # the chunk with the record of both was done again


def test_a_collection_switches_to_another_model_when_all_is_done(
    ray_cluster: None, nano_model_path: Path, tmp_path: Path
) -> None:
    store = str(tmp_path / "store")
    table = pa.table({"id": ["a", "b", "c"], "sequence": ["ACGU", "GGGAAACCC", "ACGU"], "kind": ["x", None, "z"]})
    pq.write_table(table, tmp_path / "t.parquet")
    embed_collection(config(store, nano_model_path, tmp_path / "t.parquet"))
    before, opened = stored(store), vectorstore.open(store, "c")
    old = opened.provenance
    query = model.load(nano_model_path).embed(["ACGU"])
    other = model.initialise("nano", seed=5).save(tmp_path / "other")
    switch = replace(config(store, other), switch_model=True)

    with pytest.raises(JobError, match="give no input with it"):
        embed_collection(replace(switch, inputs=("x.fasta",)))
    summary = embed_collection(switch)
    assert [summary[n] for n in ("read", "stored", "new", "unchanged", "distinct")] == [3, 3, 3, 0, 2]
    now = vectorstore.open(store, "c")
    assert now.provenance.fingerprint == model.load(other).fingerprint != old.fingerprint
    assert now.get(["a", "b", "c"], ["id", "kind"]).to_pylist() == table.select(["id", "kind"]).to_pylist()
    alone = model.load(other, device="cpu").embed(["GGGAAACCC"])[0]
    np.testing.assert_allclose(np.frombuffer(stored(store)["b"][1], np.float32), alone, atol=1e-5)

    with pytest.raises(ChangedError, match=r"switched from model .*nano.* to .*other.* open it again"):
        opened.search(query)  # a query of the old model never meets vectors of the new one
    again = embed_collection(switch)
    assert (again["new"], again["unchanged"]) == (0, 3) and vectorstore.table_version(store, "c") == now.info.version
    vectorstore.restore(store, "c", f"model-{old.fingerprint}")
    assert stored(store) == before


@pytest.mark.slow
def test_a_switch_does_not_overwrite_what_others_added_meanwhile(
    ray_cluster: None, nano_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "store")
    embed_collection(config(store, nano_model_path, fasta(tmp_path / "a.fasta", {"a": "ACGU"})))
    other = model.initialise("nano", seed=5).save(tmp_path / "other")
    more = fasta(tmp_path / "b.fasta", {"b": "GGGG"})
    overwrite = vectorstore.overwrite

    def late(*args: Any, **kwargs: Any) -> int:
        embed_collection(config(store, nano_model_path, more))
        return overwrite(*args, **kwargs)

    monkeypatch.setattr(vectorstore, "overwrite", late)
    with pytest.raises(ChangedError, match="changed by somebody else"):
        embed_collection(replace(config(store, other), switch_model=True))
    assert sorted(stored(store)) == ["a", "b"]
    assert vectorstore.open(store, "c").provenance.fingerprint == model.load(nano_model_path).fingerprint


def test_vectors_of_nucleotides_and_of_another_layer(
    ray_cluster: None, nano_model_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = str(tmp_path / "store")
    records = {"short": "ACGU", "again": "ACGU", "long": letters(1500, 3), "bad": "MEEP"}
    source = fasta(tmp_path / "a.fasta", records)
    settings: dict[str, Any] = {"level": "nucleotide", "layer": -2}
    summary = embed_collection(config(store, nano_model_path, source, **settings))
    assert [summary[n] for n in ("collection", "read", "stored", "rejected", "distinct", "windowed")] == [
        "c.nucleotides", 4, 3, 1, 2, 1
    ]  # fmt: skip
    assert "1,508 nucleotides x 128 numbers of 2 bytes: 0.0 GB in 'c.nucleotides'" in capfd.readouterr().err
    assert vectorstore.list_collections(store) == []
    table = vectorstore.open(store, "c.nucleotides")
    assert (table.provenance.layer, table.provenance.pooling) == (-2, "none")
    encoder = model.load(nano_model_path, device="cpu", layer=-2)
    for row in table.get(["short", "again", "long"], ["sequence", "vectors"]).to_pylist():
        vectors = np.asarray(row["vectors"], np.float32)
        assert len(vectors) == len(row["sequence"])
        np.testing.assert_allclose(vectors, encoder.nucleotides(row["sequence"]), rtol=1e-3, atol=2e-3)
    with pytest.raises(StoreError, match="holds vectors of nucleotides"):
        table.search(encoder.embed(["ACGU"]))
    again = embed_collection(config(store, nano_model_path, source, **settings))
    assert (again["new"], again["unchanged"]) == (0, 3)

    embed_collection(config(store, nano_model_path, source, layer=-2))
    pooled = stored(store)["short"][1]
    np.testing.assert_allclose(np.frombuffer(pooled, np.float32), encoder.embed(["ACGU"])[0], atol=1e-5)
    with pytest.raises(vectorstore.ModelMismatchError):
        embed_collection(config(store, nano_model_path, source))
    vectorstore.drop(store, "c", confirm="c")
    assert not list(Path(store).glob("*.lance"))


class Killed(BaseException):
    """The end of a process, where the test says."""


def cut_short(monkeypatch: pytest.MonkeyPatch, whole: object, name: str, first: Callable[..., object] | None) -> None:
    """Let a function do `first` of its work, and then the job be killed, once."""
    real = getattr(whole, name)
    waiting = [first]

    def once(*args: Any, **kwargs: Any) -> Any:
        if not waiting:
            return real(*args, **kwargs)
        if (work := waiting.pop()) is not None:
            work(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(whole, name, once)


@pytest.mark.parametrize(
    "gone",
    [
        ["job.json"],
        pytest.param(["job.json", "commit.json", "keys", "records"], marks=pytest.mark.slow),
        pytest.param(["job.json", "rows", "scan"], marks=pytest.mark.slow),
    ],
)
def test_killed_while_it_tidies_up_it_stores_nothing_twice(
    ray_cluster: None, nano_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: list[str]
) -> None:
    settings = config(tmp_path / "store", nano_model_path, fasta(tmp_path / "a.fasta", {"a": "ACGU", "b": "GGG"}))

    def some(state: State) -> None:
        for name in gone:
            path = Path(state.uri, name)
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    cut_short(monkeypatch, State, "clear", some)
    with pytest.raises(Killed):
        embed_collection(settings)
    assert embed_collection(settings)["unchanged"] == 2
    assert sorted(stored(tmp_path / "store")) == ["a", "b"] and not list(tmp_path.glob("store/_unirna/c/*"))


@pytest.mark.slow
def test_killed_before_the_commit_it_looks_again_at_a_collection_made_anew(
    ray_cluster: None, nano_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, two = tmp_path / "store", {"a": "ACGU", "b": "GGG"}
    embed_collection(config(store, nano_model_path, fasta(tmp_path / "a.fasta", two)))
    settings = config(store, nano_model_path, fasta(tmp_path / "b.fasta", two | {"c": "CCCC", "d": "UUUU"}))
    cut_short(monkeypatch, vectorstore, "commit", None)
    with pytest.raises(Killed):
        embed_collection(settings)
    vectorstore.drop(str(store), "c", confirm="c")
    embed_collection(config(store, nano_model_path, fasta(tmp_path / "c.fasta", {"c": "CCCC", "d": "UUUU"})))
    summary = embed_collection(settings)  # the version has the same number, and the files of the first run are gone
    assert (summary["new"], summary["unchanged"]) == (2, 2)
    assert {name: row[0] for name, row in stored(store).items()} == two | {"c": "CCCC", "d": "UUUU"}


@pytest.mark.slow
def test_a_switch_killed_after_its_commit_is_finished_by_the_same_command(
    ray_cluster: None, nano_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "store")
    embed_collection(config(store, nano_model_path, fasta(tmp_path / "a.fasta", {"a": "ACGU", "b": "GGG"})))
    other = model.initialise("nano", seed=5).save(tmp_path / "other")
    switch = replace(config(store, other), switch_model=True)
    cut_short(monkeypatch, ingest, "tidy_overwritten", None)
    with pytest.raises(Killed):
        embed_collection(switch)
    assert embed_collection(switch)["new"] == 2
    old = model.load(nano_model_path).fingerprint
    assert vectorstore.open(store, "c", version=f"model-{old}").provenance.fingerprint == old
    assert embed_collection(switch)["unchanged"] == 2 and not list(Path(store).glob("_unirna/c/*"))


def test_labels_with_names_of_our_own(ray_cluster: None, nano_model_path: Path, tmp_path: Path) -> None:
    table = pa.table({"id": ["a"], "sequence": ["ACGU"], "piece": [7]})
    pq.write_table(table, tmp_path / "t.parquet")
    embed_collection(config(tmp_path / "store", nano_model_path, tmp_path / "t.parquet"))
    assert vectorstore.open(str(tmp_path / "store"), "c").get(["a"])["piece"].to_pylist() == [7]
    pq.write_table(table.append_column("vectors", pa.array(["x"])), tmp_path / "t.parquet")
    assert embed_collection(config(tmp_path / "other", nano_model_path, tmp_path / "t.parquet"))["renamed_labels"] == {
        "vectors": "label_vectors"
    }


@pytest.mark.slow
def test_the_job_builds_the_index_that_is_asked_for(
    ray_cluster: None, nano_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = fasta(tmp_path / "a.fasta", {f"s{i}": letters(30, i) for i in range(1200)})
    settings = config(tmp_path / "store", nano_model_path, source)
    assert embed_collection(settings)["index"] is None  # it fits in memory
    summary = embed_collection(replace(settings, index="ivf_flat", min_recall=0.9))
    assert summary["new"] == 0 and summary["index"]["kind"] == "ivf_flat" and summary["index"]["rows"] == 1200
    kept = vectorstore.open(str(tmp_path / "store"), "c").index
    assert kept is not None and kept.measured is not None and kept.measured.recall >= 0.9
    assert embed_collection(replace(settings, index="ivf_flat", min_recall=0.9))["index"] == summary["index"]
    refused = embed_collection(replace(settings, index="hnsw", min_recall=1.5))
    assert "finds" in refused["index"] and len(vectorstore.open(str(tmp_path / "store"), "c")) == 1200
    with pytest.raises(JobError, match="--index tree: expected auto, none, hnsw"):
        embed_collection(replace(settings, index="tree"))
    collection = vectorstore.open(str(tmp_path / "store"), "c")
    assert not collection.has_kmer_index
    monkeypatch.setattr(VECTOR_CACHE, "budget", 1200 * 4 * collection.info.dimension + 100_000)  # not for the words as well
    assert embed_collection(settings)["index"] is None
    assert collection.fits_in_memory and collection.index is None and collection.has_kmer_index
    monkeypatch.setattr(VECTOR_CACHE, "budget", 0)
    summary = embed_collection(replace(settings, min_recall=0.5))
    assert summary["index"]["kind"] == "hnsw" and collection.index is not None


@pytest.mark.parametrize("level", ["sequence", pytest.param("nucleotide", marks=pytest.mark.slow)])
def test_a_model_with_unsound_weights_is_named(ray_cluster: None, tmp_path: Path, level: str) -> None:
    broken = model.initialise("nano", seed=0)
    broken.encoder.final_norm.weight.data[3] = float("nan")
    broken.save(tmp_path / "broken")
    source = fasta(tmp_path / "a.fasta", {"first": "ACGU", "second": "GG"})
    with pytest.raises(JobError, match=r"record (first|second): model .*broken returned a vector with NaN"):
        embed_collection(config(tmp_path / "store", tmp_path / "broken", source, level=level))


def test_settings_that_contradict_each_other(nano_model_path: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no input"):
        embed_collection(config(tmp_path, nano_model_path))
    with pytest.raises(JobError, match="--level letter: expected sequence or nucleotide"):
        embed_collection(replace(config(tmp_path, nano_model_path, tmp_path), level="letter"))
    with pytest.raises(model.CheckpointError, match="no layer 9"):
        embed_collection(EmbedConfig(("x.fasta",), "c", str(tmp_path), str(nano_model_path), layer=9))
    with pytest.raises(StoreError, match="no collection 'c'"):
        embed_collection(replace(config(tmp_path, nano_model_path), switch_model=True))
