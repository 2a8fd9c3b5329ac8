"""What resumable work stands on, in a local folder and in a bucket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.test_s3 import environment, server
from unirna.job import JobError
from unirna.runs import (
    Folder,
    PartitionWriter,
    RunFolder,
    absolute,
    new_file,
    new_folder,
    on_ray,
    owned,
    read_partition,
    run_stage,
    write_json,
)
from unirna.runs.run_folder import FILES
from unirna.runs.storage import CHECKSUMS, checksum

__all__ = ["server"]  # a fixture: moto's S3 server
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """An empty folder."""
    if request.param == "local":
        yield Folder(str(tmp_path / "folder"))
        return
    import boto3

    port = request.getfixturevalue("server")
    for name, value in environment(port).items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="runs")
    yield Folder(f"s3://runs/{tmp_path.name}")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def in_process(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process with this code, and `import sys` before it; its standard output is read."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("platform", "vectorstore", "sdk"))
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys\n{code}", *arguments],
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# ---- storage -------------------------------------------------------------------------------------------------------

HALF = """
import time
from unirna.runs import Folder
with Folder(sys.argv[1]).writing("part/a.json") as sink:
    sink.write(b"{")
    sink.flush()
    print("half", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_nothing_under_the_name(folder: Folder) -> None:
    writer = in_process(HALF, folder.uri)
    assert writer.stdout is not None and writer.stdout.readline() == "half\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait(30)
    assert not folder.has("part/a.json") and folder.names("part", "json") == []
    folder.write_json("part/a.json", {"a": 1})
    assert folder.read_json("part/a.json") == {"a": 1} and folder.names("part", "json") == ["a"]


def test_a_writer_that_fails_leaves_nothing(folder: Folder) -> None:
    folder.write_json("a.json", {"a": 1})
    with pytest.raises(RuntimeError), folder.writing("a.json") as sink:
        sink.write(b"{")
        raise RuntimeError
    assert folder.read_json("a.json") == {"a": 1}
    assert "://" in folder.uri or names_in(Path(folder.uri)) == ["a.json"]


def test_tables_and_removal(folder: Folder) -> None:
    table = pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    folder.write_table("t/1.parquet", table)
    folder.write_json("t/1.json", {})
    assert folder.read_table("t/1.parquet", ["b"], [("a", "==", 2)]).to_pydict() == {"b": ["y"]}
    assert folder.names("t", "parquet") == ["1"] and folder.names("absent", "parquet") == []
    folder.remove("t/1.json")
    assert not folder.has("t/1.json") and folder.has("t/1.parquet")
    folder.remove()
    folder.remove()
    assert folder.names("t", "parquet") == []


def test_local_files_take_their_place_when_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), new_file(path) as part:
        part.write_text("half", encoding="utf-8")
        assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1}
        raise RuntimeError
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1} and names_in(path.parent) == ["a.json"]


def test_local_folders_take_their_place_when_they_are_whole(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "model"
    for text in ("one", "two"):
        with new_folder(folder, checksums=True) as part:
            (part / "a.txt").write_text(text, encoding="utf-8")
    with pytest.raises(RuntimeError), new_folder(folder) as part:
        (part / "a.txt").write_text("half", encoding="utf-8")
        raise RuntimeError
    assert (folder / "a.txt").read_text(encoding="utf-8") == "two" and names_in(folder.parent) == ["model"]
    assert json.loads((folder / CHECKSUMS).read_text(encoding="utf-8")) == {"a.txt": checksum(folder / "a.txt")}


def test_absolute_leaves_what_is_no_local_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("a") == str(tmp_path / "a") and absolute("a", if_there=True) == "a"
    assert [absolute(name) for name in ("-", "s3://bucket/a")] == ["-", "s3://bucket/a"]


# ---- partitions ----------------------------------------------------------------------------------------------------


def test_partitions_round_trip(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unirna.runs.partitions.SPILL_BYTES", 2000)  # several batches for each partition
    count, units = 5, 3
    rows: dict[int, list[tuple[int, int]]] = {partition: [] for partition in range(count)}
    written = np.zeros(count, np.int64)
    for unit in range(units):
        with PartitionWriter(folder, "rows", unit, count, lambda table: table["n"].to_numpy() % 4) as writer:
            for first in range(0, 200, 20):
                table = pa.table({"n": range(first, first + 20)})
                writer.write(table if first % 40 or unit else table.append_column("label", pa.array(["a"] * 20)))
        written += writer.rows
    for partition in range(count):
        for unit, table in read_partition(folder, "rows", partition, count):
            assert table.num_rows
            rows[partition] += [(unit, n) for n in table["n"].to_pylist()]
    assert written.tolist() == [len(rows[partition]) for partition in range(count)] and not rows.pop(4)
    for partition, found in rows.items():
        assert sorted(found) == [(unit, n) for unit in range(units) for n in range(200) if n % 4 == partition]
        assert [pair for pair in found if pair[0]] == sorted(pair for pair in found if pair[0])  # one schema: in order
    assert len(folder.names("rows", "arrow")) == units + 1  # the first has two schemas


def test_partitions_of_a_unit_that_fails_are_not_there(folder: Folder) -> None:
    with (
        pytest.raises(RuntimeError),
        PartitionWriter(folder, "rows", 0, 1, lambda table: np.zeros(table.num_rows, int)) as writer,
    ):
        writer.write(pa.table({"n": [1]}))
        raise RuntimeError
    assert folder.names("rows", "arrow") == []


# ---- stages --------------------------------------------------------------------------------------------------------


def test_units_are_done_once(folder: Folder) -> None:
    done: list[int] = []
    tried: list[int] = []
    told: list[list[int]] = []

    def unit(number: int) -> dict[str, int]:
        if number == 3 and 3 not in tried:
            tried.append(number)
            raise KeyboardInterrupt
        done.append(number)
        return {"square": number**2}

    def stage() -> list[dict[str, int]]:
        return run_stage(folder, "squares", 5, unit, report=lambda numbers: told.append(list(numbers)))

    with pytest.raises(KeyboardInterrupt):
        stage()
    assert [record["square"] for record in stage()] == [0, 1, 4, 9, 16]
    assert [record["square"] for record in stage()] == [0, 1, 4, 9, 16]
    assert done == [0, 1, 2, 3, 4]
    assert told == [[], [0], [1], [2], [0, 1, 2], [3], [4]]


def test_a_unit_on_the_cluster_tells_what_the_user_can_fix(ray_cluster: None, tmp_path: Path) -> None:
    def unit(number: int) -> dict[str, int]:
        if number == 2:
            raise JobError("unit 2 has no data")
        return {"square": number**2}

    folder = Folder(str(tmp_path))
    with pytest.raises(JobError, match=r"^unit 2 has no data$"):
        run_stage(folder, "squares", 3, unit, spread=on_ray)
    assert [record["square"] for record in run_stage(folder, "squares", 2, unit, spread=on_ray)] == [0, 1]


# ---- the folder of a run -------------------------------------------------------------------------------------------


def test_a_run_goes_on_with_the_same_settings_and_is_refused_with_others(folder: Folder) -> None:
    run, gone = RunFolder(folder.uri), []
    file = {"path": "in.fa", "size": 4, "digest": "a"}
    settings = {"method": "masked", "size": (1, 2), FILES: [file]}

    def claim(finished: bool = False, **other: object) -> str:
        return run.claim({**settings, **other}, finished=finished, start_over=lambda: gone.append(1))

    assert claim() == claim() == claim(finished=True) == "" and not gone
    with pytest.raises(JobError, match=r"another command \(method was 'masked', is now 'plain'\)"):
        claim(method="plain")
    changed = [{**file, "digest": "b"}]
    with pytest.raises(JobError, match=r"an earlier content of in\.fa"):
        claim(finished=True, files=changed)
    with pytest.raises(JobError, match=r"an earlier content of in\.fa"):
        claim(method="plain", files=changed)
    assert claim(files=changed) == "in.fa" and gone == [1]
    assert claim(files=changed) == "" and gone == [1]


def test_what_a_cut_short_removal_leaves_is_no_run(folder: Folder) -> None:
    run = RunFolder(folder.uri)
    run.tidy()
    run.claim({"a": 1}, finished=False, start_over=run.clear)
    run.write_json("scan/1.json", {})
    run.tidy()
    assert run.has("scan/1.json")
    run.remove("job.json")  # what `clear` does first
    run.tidy()
    assert not run.has("scan/1.json")
    run.clear()


OWNER = """
from unirna.runs import Folder, owned
from unirna.job import JobError
try:
    with owned(Folder(sys.argv[1])):
        print("owner", flush=True)
        sys.stdin.read()
except JobError as error:
    print(error, flush=True)
"""


def test_of_two_that_begin_at_once_one_owns_the_folder(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unirna.runs.run_folder.LEASE_SECONDS", 3.0)
    both = [in_process(OWNER, folder.uri) for _ in range(2)]
    said = [job.stdout.readline() for job in both if job.stdout]
    assert sorted(line.partition(" to ")[0].strip() for line in said) == ["another run is writing", "owner"]
    with pytest.raises(JobError, match="another run is writing to"), owned(folder):
        pass
    owner = both[said.index("owner\n")]
    owner.communicate()  # its block ends
    assert "://" in folder.uri or not Path(folder.uri, ".lock").exists()
    with owned(folder):
        time.sleep(0 if "://" not in folder.uri else 4)  # longer than a lease: it is renewed
        with pytest.raises(JobError, match="another run is writing to"), owned(folder):
            pass


def test_a_killed_owner_loses_the_folder(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    short = "import unirna.runs.run_folder as r; r.LEASE_SECONDS = 6.0"
    killed = in_process(f"{short}\n{OWNER}", folder.uri)
    assert killed.stdout is not None and killed.stdout.readline() == "owner\n"
    killed.kill()
    killed.wait(30)
    limit = time.monotonic() + 60
    while True:
        try:
            with owned(folder):
                return
        except JobError:
            assert "://" in folder.uri and time.monotonic() < limit
            time.sleep(0.5)
