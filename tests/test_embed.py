"""The embedding job: exact accounting, the vectors of the model alone, and what happens when it is killed or run again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirna import model, vectorstore
from unirna.embed import EmbedConfig, embed_collection
from unirna.embed.scan import plan_units
from unirna.embed.state import State, record_name
from unirna.job import JobError
from unirna.sequence import InputError, InputPiece, normalise
from unirna.vectorstore import ModelMismatchError, StoreError

ROOT = Path(__file__).resolve().parent.parent


def letters(length: int, seed: int) -> str:
    return "".join(random.Random(seed).choices("ACGU", k=length))


def rejects(store: str, name: str = "c") -> list[tuple[str, str, int]]:
    table = lance.dataset(f"{store}/{name}.rejects.lance").to_table()
    return sorted((row["id"], row["reason"], row["position"]) for row in table.to_pylist())


def config(store: Path | str, nano: Path, *inputs: Path, **settings: object) -> EmbedConfig:
    return EmbedConfig(tuple(map(str, inputs)), "c", str(store), str(nano), **settings)  # type: ignore[arg-type]


def check_vectors(store: str, nano: Path, name: str = "c") -> None:
    """Every vector is what the model gives for that sequence alone."""
    encoder = model.load(nano, device="cpu")
    for batch in vectorstore.open(store, name).scan(["sequence", "length", "vector"]):
        assert [len(s) for s in batch["sequence"].to_pylist()] == batch["length"].to_pylist()
        stored = np.stack(batch["vector"].to_numpy(zero_copy_only=False))
        some = range(0, batch.num_rows, max(batch.num_rows // 40, 1))
        alone = np.concatenate([encoder.embed([batch["sequence"][i].as_py()]) for i in some])
        np.testing.assert_allclose(stored[list(some)], alone, atol=1e-5)


GOOD = {
    "plain": letters(80, 1),
    "lower": letters(70, 2).lower(),
    "dna": letters(60, 3).replace("U", "T"),
    "iupac": "ACGURYKMSWBDHVN" * 3,
    "long": letters(3000, 4),
    "wrapped": letters(150, 5),
    "single": "A",
    "last": letters(40, 6),
}
BAD = {"gap": "ACG-ACG", "digit": "ACG1", "protein": "MEEPQ", "empty": ""}


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files: wrapped lines and CRLF in one, no newline at the end of the other; ids twice in a file and across."""
    folder = tmp_path_factory.mktemp("dirty")
    records = {**GOOD, **BAD}
    text = "".join(f">{name} about {name}\r\n{seq[:100]}\r\n{seq[100:]}\r\n" for name, seq in records.items())
    (folder / "a.fasta").write_text(text + f">plain again\r\n{letters(50, 7)}\r\n", newline="")
    (folder / "b.fasta").write_text(f">other\n{letters(90, 8)}\n>dna\n{GOOD['dna']}\n>only_here\n{letters(30, 9)}")
    return folder


@pytest.fixture(scope="module")
def embedded(ray_cluster: None, dirty: Path, nano_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    store = str(tmp_path_factory.mktemp("store"))
    summary = embed_collection(config(store, nano_model_path, dirty))
    assert (summary["read"], summary["stored"], summary["new"], summary["rejected"]) == (16, 10, 10, 6)
    assert summary["rejected_by_reason"] == {
        "digit": 1,
        "duplicate id": 2,
        "empty sequence": 1,
        "gap": 1,
        "protein letter": 1,
    }
    assert summary["windowed"] == 1 and summary["rejects"] == "c.rejects"
    assert summary["nucleotides"] == sum(map(len, GOOD.values())) + 90 + 30
    return store


REJECTED = [
    ("digit", "digit", 4),
    ("dna", "duplicate id", 0),
    ("empty", "empty sequence", 0),
    ("gap", "gap", 4),
    ("plain", "duplicate id", 0),
    ("protein", "protein letter", 2),
]


def test_dirty_input_is_accounted_for_record_by_record(embedded: str, nano_model_path: Path) -> None:
    collection = vectorstore.open(embedded, "c")
    found = collection.get([*GOOD, "other", "only_here"])
    assert found.num_rows == len(collection) == 10
    by_id = {row["id"]: row for row in found.to_pylist()}
    assert all(by_id[name]["sequence"] == normalise(seq) for name, seq in GOOD.items())  # never cut, first of two wins
    assert by_id["plain"]["description"] == "about plain"
    assert rejects(embedded) == REJECTED
    check_vectors(embedded, nano_model_path)
    assert vectorstore.list_collections(embedded) == ["c"]
    made = collection.provenance
    fingerprint = model.load(nano_model_path).fingerprint
    assert (made.model, made.fingerprint) == (str(nano_model_path), fingerprint)
    assert (made.pooling, made.layer, made.normalisation) == ("mean", -1, "none")


def test_the_same_again_adds_nothing_and_more_is_appended(embedded: str, nano_model_path: Path, dirty: Path) -> None:
    before = vectorstore.open(embedded, "c").info
    summary = embed_collection(config(embedded, nano_model_path, dirty))
    assert (summary["stored"], summary["new"], summary["unchanged"], summary["rejected"]) == (10, 0, 10, 6)
    assert vectorstore.open(embedded, "c").info == before and rejects(embedded) == REJECTED

    more = dirty.parent / "more.fasta"
    more.write_text(f">last\n{GOOD['last']}\n>single\nCC\n>new\n{letters(66, 10)}\n")
    summary = embed_collection(config(embedded, nano_model_path, more))
    assert [summary[n] for n in ("read", "stored", "new", "unchanged", "rejected")] == [3, 2, 1, 1, 1]
    assert len(vectorstore.open(embedded, "c")) == 11
    table = lance.dataset(f"{embedded}/c.rejects.lance").to_table()
    (conflict,) = [row for row in table.to_pylist() if row["id"] == "single"]
    assert conflict["reason"] == "duplicate id" and "another sequence" in conflict["detail"]


def test_rejects_of_a_file_embedded_again_stand_there_once(
    dirty: Path, ray_cluster: None, nano_model_path: Path, tmp_path: Path
) -> None:
    store, copy = str(tmp_path / "store"), tmp_path / "a.fasta"
    copy.write_bytes((dirty / "a.fasta").read_bytes())
    first = embed_collection(config(store, nano_model_path, copy))
    assert len(rejects(store)) == first["rejected"] == 5
    os.utime(copy, ns=(1, 1))
    again = embed_collection(config(store, nano_model_path, copy))
    assert again["rejected"] == 5 and len(rejects(store)) == 5
    copy.write_text(f">single\n{GOOD['single']}\n")
    assert embed_collection(config(store, nano_model_path, copy))["rejected"] == 0
    assert rejects(store) == []


@pytest.mark.parametrize("asked", [{"cpus_per_worker": 8}, {"cpus_per_worker": 0}, {"workers": 3}, {"workers": 0}])
def test_more_workers_than_the_cluster_carries_are_refused(
    dirty: Path, ray_cluster: None, nano_model_path: Path, tmp_path: Path, asked: dict[str, int]
) -> None:
    wanted = replace(config(str(tmp_path / "store"), nano_model_path, dirty), **asked)  # type: ignore[arg-type]
    ((name, count),) = asked.items()
    with pytest.raises(JobError, match=rf"--{name.replace('_', '-')} {count}.*(with 2 CPUs and 0 GPUs|expected 1 or more)"):
        embed_collection(wanted)


def test_another_model_is_refused_before_any_work(embedded: str, dirty: Path, tmp_path: Path) -> None:
    other = model.initialise("nano", seed=1).save(tmp_path / "other")
    with pytest.raises(ModelMismatchError, match="other"):
        embed_collection(config(embedded, other, dirty))
    assert not list(Path(embedded, "_unirna", "c").iterdir())


def test_labels_that_do_not_fit_are_named(embedded: str, nano_model_path: Path, tmp_path: Path) -> None:
    table = tmp_path / "labelled.csv"
    table.write_text("id,sequence,description,weight\nx1,ACGU,a,1.5\n")
    with pytest.raises(StoreError, match=r"'weight'.*--drop-labels weight"):
        embed_collection(config(embedded, nano_model_path, table))
    table = tmp_path / "labelled.parquet"  # 17 in a CSV file is text, where the collection has text
    pq.write_table(pa.table({"id": ["x1"], "sequence": ["ACGU"], "description": [17]}), table)
    with pytest.raises(StoreError, match="'description' is int64 in the input and string"):
        embed_collection(config(embedded, nano_model_path, table))


def test_where_nothing_can_be_stored_the_job_says_so_and_saves_the_rejects(
    ray_cluster: None, nano_model_path: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.fasta"
    bad.write_text(">p\nMEEPQ\n")
    with pytest.raises(JobError, match=r"1 records read, 1 rejected \(protein letter: 1\)"):
        embed_collection(config(tmp_path / "store", nano_model_path, bad))
    assert rejects(str(tmp_path / "store")) == [("p", "protein letter", 2)]
    assert vectorstore.list_collections(str(tmp_path / "store")) == []
    with pytest.raises(InputError, match="no such file"):
        embed_collection(config(tmp_path / "store", nano_model_path, tmp_path / "absent.fasta"))


def test_label_types_go_through_and_our_columns_win(ray_cluster: None, nano_model_path: Path, tmp_path: Path) -> None:
    table = pa.table(
        {
            "name": ["a", "b", "c"],
            "rna": ["ACGU", "GGG", None],
            "length": [1, 1, 1],
            "vector": ["v", "v", "v"],
            "rank": [7, 8, 9],
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "tags": [["t"], [], ["u", "v"]],
            "nothing": pa.nulls(3),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    settings = {"id_column": "name", "sequence_column": "rna", "drop_labels": ("tags",)}
    summary = embed_collection(config(tmp_path / "store", nano_model_path, tmp_path / "t.parquet", **settings))
    renamed = {"length": "label_length", "vector": "label_vector", "rank": "label_rank"}
    assert (summary["renamed_labels"], summary["replaced_labels"]) == (renamed, [])
    assert summary["rejected_by_reason"] == {"no sequence": 1}
    found = vectorstore.open(str(tmp_path / "store"), "c").get(["b"]).to_pylist()
    assert {k: found[0][k] for k in ("length", "label_length", "label_rank", "kind", "nothing")} == {
        "length": 3,
        "label_length": 1,
        "label_rank": 8,
        "kind": "y",
        "nothing": None,
    }
    assert "tags" not in found[0]


# ---- stopping and going on -----------------------------------------------------------------------------------------


class Job:
    """`jobs/embed.py` in a process of its own; its output goes to files, which Ray's programs may hold open longer."""

    def __init__(self, store: Path, nano: Path, sample: Path, name: str, logs: Path | None = None) -> None:
        logs = logs or store.parent
        self.store, self.out, self.err = store, logs / f"{name}.out", logs / f"{name}.err"
        command = [sys.executable, "jobs/embed.py", str(sample), "--collection", "c", "--store", str(store)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [*command, "--model", str(nano)],
                cwd=ROOT,
                env=environment,
                stdout=out,
                stderr=err,
                start_new_session=True,
                # A shell's background job ignores SIGINT, and so would everything that it starts.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def records(self) -> list[Path]:
        return sorted(self.store.glob("_unirna/c/*/records/*.parquet"))

    def wait_for_records(self, count: int) -> None:
        limit = time.monotonic() + 180
        while len(self.records()) < count:
            assert self.process.poll() is None and time.monotonic() < limit, self.err.read_text()
            time.sleep(0.02)


@pytest.fixture
def start(nano_model_path: Path, rfam_sample: Path, tmp_path: Path) -> Iterator[Callable[[str], Job]]:
    """Start the job on the sample; what still runs when the test ends is killed."""
    jobs: list[Job] = []

    def run(name: str) -> Job:
        jobs.append(Job(tmp_path / "store", nano_model_path, rfam_sample, name))
        return jobs[-1]

    yield run
    for job in jobs:
        job.process.kill()
        job.process.wait(60)


@pytest.mark.slow
def test_interrupted_and_killed_it_goes_on_and_repeats_nothing(
    start: Callable[[str], Job], nano_model_path: Path, rfam_sample: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    interrupted = start("interrupted")
    interrupted.wait_for_records(1)
    interrupted.process.send_signal(signal.SIGINT)
    assert interrupted.process.wait(60) == 130
    assert "interrupted. Run the same command again to go on" in interrupted.err.read_text()
    assert vectorstore.list_collections(str(store)) == []

    first = len(interrupted.records())
    killed = start("killed")
    killed.wait_for_records(first + 1)
    killed.process.kill()
    killed.process.wait(60)
    time.sleep(2)  # its workers notice and end
    assert vectorstore.list_collections(str(store)) == []  # nothing half-written shows
    done = sum(pq.read_metadata(path).num_rows for path in killed.records())
    assert 0 < done <= 3900

    finished = start("finished")
    assert finished.process.wait(240) == 0, finished.err.read_text()
    assert f"going on: {done:,} of 3,900 records" in finished.err.read_text()
    summary = json.loads(finished.out.read_text())
    assert (summary["read"], summary["stored"], summary["new"], summary["rejected"]) == (3900, 3900, 3900, 0)
    collection = vectorstore.open(str(store), "c")
    sample = pq.read_table(rfam_sample)
    stored = pa.concat_tables(pa.Table.from_batches([b]) for b in collection.scan(["id", "family", "split", "sequence"]))
    assert sorted(stored["id"].to_pylist()) == sorted(sample["id"].to_pylist())
    wanted = {row["id"]: (row["family"], row["split"], row["sequence"]) for row in sample.to_pylist()}
    assert all(wanted[r["id"]] == (r["family"], r["split"], r["sequence"]) for r in stored.to_pylist())
    assert collection.schema.field("family").type == sample.schema.field("family").type
    check_vectors(str(store), nano_model_path)
    assert not list(store.glob("_unirna/c/*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("a small file system can be mounted by root alone")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_the_job_which_goes_on_when_there_is_room(
    small_disk: Path, nano_model_path: Path, rfam_sample: Path
) -> None:
    sample = pq.read_table(rfam_sample).slice(0, 1500)
    source = small_disk.parent / "sample.parquet"
    pq.write_table(sample, source)
    job = Job(small_disk / "store", nano_model_path, source, "full", logs=small_disk.parent)
    assert job.process.wait(240) == 74, job.err.read_text()
    said = job.err.read_text()
    assert "No space left" in said and "run the same command again: it goes on" in said and "Traceback" not in said
    assert vectorstore.list_collections(str(small_disk / "store")) == []
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    again = Job(small_disk / "store", nano_model_path, source, "again", logs=small_disk.parent)
    assert again.process.wait(240) == 0, again.err.read_text()
    collection = vectorstore.open(str(small_disk / "store"), "c")
    stored = pa.concat_tables(pa.Table.from_batches([b]) for b in collection.scan(["id"]))
    assert sorted(stored["id"].to_pylist()) == sorted(sample["id"].to_pylist())
    check_vectors(str(small_disk / "store"), nano_model_path)


# ---- parts that need no Ray ----------------------------------------------------------------------------------------


def test_a_record_written_too_late_by_a_killed_run_never_counts(tmp_path: Path) -> None:
    state = State(str(tmp_path / "job"))
    table = pa.table({"piece": [0], "number": [1]})

    def keep(run: str, records: list[str], changed: bool) -> list[str]:
        return [] if changed else records

    def write(run: str, chunk: int) -> str:
        name = record_name(0, run, chunk)
        state.write_table(f"records/{name}.parquet", table)
        return name

    one, found = state.start_run("3-a", "s", keep)
    assert found == []
    first = write(one, 0)
    two, found = state.start_run("3-a", "s", keep)
    assert found == [first] and two > one
    write(one, 1)  # a worker of run 1 that outlived its driver
    second = write(two, 0)
    twin, found = state.start_run("3-a", "s", keep)
    assert found == [first, second]
    other, found = state.start_run("3-b", "s", keep)
    assert found == []  # another version of the collection: what was compared with the old one does not count
    assert state.start_run("3-b", "t", keep)[1] == [] and len({one, two, twin, other}) == 4


def test_what_is_left_of_a_state_whose_removal_was_cut_short_is_no_state(tmp_path: Path) -> None:
    state = State(str(tmp_path / "job"))
    state.tidy()  # nothing there: nothing to do
    for name in ("job.json", "scan/000000.json", "commit.json"):
        state.write_json(name, {})
    state.tidy()
    assert state.has("scan/000000.json")
    (tmp_path / "job" / "job.json").unlink()  # what `clear` does first
    state.tidy()
    assert not (tmp_path / "job").exists()
    state.clear()  # another run was faster


def test_a_file_of_the_state_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    state = State(str(tmp_path))
    with pytest.raises(RuntimeError), state.writing("folder/half.json") as sink:
        sink.write(b"{")
        raise RuntimeError
    assert not state.has("folder/half.json") and state.names("folder", "json") == []


def test_small_files_share_a_unit_and_large_ones_do_not() -> None:
    pieces = [InputPiece(str(i), "fasta", bytes=size) for i, size in enumerate((10, 20, 200, 30, 30, 30, 30))]
    units = plan_units(pieces, 100)
    assert [[p.path for p in unit.pieces] for unit in units] == [["0", "1"], ["2"], ["3", "4", "5"], ["6"]]
    assert [(unit.number, unit.first) for unit in units] == [(0, 0), (1, 2), (2, 3), (3, 6)]
