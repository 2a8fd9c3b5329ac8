"""Inputs that a person may well have: files of other kinds, odd tables, closed streams, wrong addresses and flags."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from unirna import sdk
from unirna.base import PastedError, parse_text
from unirna.corpus import BuildConfig, build_corpus
from unirna.job import JobError, local_ray
from unirna.screen.criteria import nearest_labels
from unirna.sdk._cli import main
from unirna.sdk._sequences import ReadsSequences, read_sequences
from unirna.sequence import InputError, read
from unirna.tasks import DataConfig, TaskError
from unirna.tasks.table.summary import describe
from unirna.tasks.table.table import read_labelled
from unirna.tasks.variants import VariantsConfig, _listed

FASTA = b">a\nACGUACGU\n>b\nGGGG\n"
RECORDS = [("a", "ACGUACGU"), ("b", "GGGG")]


def given(path: Path) -> list[tuple[str, str]]:
    """Records as the command line and as the jobs read them."""
    typed = read_sequences(str(path), ReadsSequences()).named
    assert [(record.id, record.sequence) for record in read(str(path))] == typed
    return typed


# ---- compressed files and containers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a.fa.bz2", bz2.compress(FASTA)),
        ("a.fa.bz2", bz2.compress(FASTA[:12]) + bz2.compress(FASTA[12:])),
        ("a.fa", bz2.compress(FASTA)),
        ("a.fa.gz", FASTA),  # plain, whatever its name says
    ],
)
def test_compression_is_told_by_the_content(tmp_path: Path, name: str, raw: bytes) -> None:
    (tmp_path / name).write_bytes(raw)
    assert given(tmp_path / name) == RECORDS


def zipped() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a.fa", FASTA)
    return held.getvalue()


@pytest.mark.parametrize(
    ("name", "raw", "says"),
    [
        ("a.fa.zip", zipped(), "is a zip archive or an Excel workbook"),
        ("a.xlsx", zipped(), "save the sheet as CSV"),
        ("a.fa", zipped(), "is a zip archive"),
        ("a.fa.xz", lzma.compress(FASTA), "xz -d"),
        ("a.fa.bz2", bz2.compress(FASTA)[:-9], "is damaged or cut short"),
        ("unnamed", gzip.compress(FASTA * 99, mtime=0)[:-20], "is damaged or cut short"),
        ("unnamed", b"\x1f\x8bjunkjunkjunk", "is damaged or cut short"),
    ],
)
def test_what_is_not_read_is_called_by_its_name(tmp_path: Path, name: str, raw: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(sdk.InvalidRequestError, match=says):
        read_sequences(str(tmp_path / name), ReadsSequences())
    with pytest.raises(InputError, match=says):
        list(read(str(tmp_path / name)))


def test_a_folder_is_no_sequence(tmp_path: Path) -> None:
    with pytest.raises(sdk.InvalidRequestError, match="is a folder"):
        read_sequences(str(tmp_path), ReadsSequences())


# ---- tables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_table_has_the_delimiter_of_its_header(tmp_path: Path, name: str, delimiter: str) -> None:
    (tmp_path / name).write_text("id,sequence,n\na,ACGUACGU,1\nb,GGGG,2\n".replace(",", delimiter), encoding="utf-8")
    assert given(tmp_path / name) == RECORDS


def test_a_row_with_too_many_cells_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,sequence,family\na,ACGUACGU,x\nb,GGGG,y,z\n", encoding="utf-8")
    found = parse_text(path.read_text(encoding="utf-8"))
    assert [(r.name, r.problem) for r in found.records] == [("a", ""), ("b", "line 3 has 4 cells, the header 3")]
    with pytest.raises(InputError, match="line 3 has 4 cells, the header has 3: b,GGGG,y,z"):
        list(read(str(path)))


def test_a_header_alone_and_columns_of_one_name() -> None:
    with pytest.raises(PastedError, match=r"header .* and no row"):
        parse_text("id,sequence,family\n")
    with pytest.raises(PastedError, match="2 columns called 'sequence'"):
        parse_text("id,sequence,sequence\na,ACGU,GGGG\n", sequence_column="sequence")


def test_a_table_without_a_header_or_ids_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,ACGUACGUACGUACGUACGU,x\nb,GGGGACGUACGUACGUACGU,y\n", encoding="utf-8")
    with pytest.raises(InputError, match="has no header"):
        list(read(str(path)))
    path.write_text("sequence,n\nACGU,1\n", encoding="utf-8")
    with pytest.raises(InputError, match='--id-column "" to number the rows'):
        list(read(str(path)))


def test_a_corpus_looks_at_its_columns_before_it_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,sequence,family\na,ACGU,x\n", encoding="utf-8")

    def never(function: object, items: object) -> list[dict[str, object]]:
        raise AssertionError("it read the input")

    with pytest.raises(InputError, match="no input has a column 'famly'"):
        build_corpus(BuildConfig((str(path),), str(tmp_path / "out"), group_column="famly", clustering="none"), never)


def test_columns_that_no_flag_names_are_asked_for_by_name(tmp_path: Path) -> None:
    table, fasta = tmp_path / "a.csv", tmp_path / "a.fa"
    table.write_text("id,note,family\na,x,y\n", encoding="utf-8")
    fasta.write_bytes(FASTA)
    with pytest.raises(InputError, match=r"expected the columns id and variant. It has: id, note, family. Rename"):
        _listed(VariantsConfig((str(fasta),), str(tmp_path / "out"), variants=str(table)))
    config = BuildConfig(
        (str(fasta),), str(tmp_path / "out"), group_column="description", drop_groups=str(table), clustering="none"
    )
    with pytest.raises(InputError, match="no column 'description', as --group-column calls it"):
        build_corpus(config)


@pytest.mark.parametrize(
    ("label", "near"),
    [("trna", ["tRNA"]), ("TRNA", ["tRNA"]), ("Gene;tRNA", ["tRNA"]), ("IRES", ["Cis-reg;IRES"]), ("introns", ["Intron"])],
)
def test_a_label_in_another_case_is_recognised(label: str, near: list[str]) -> None:
    assert nearest_labels(label, ["Intron", "Cis-reg;IRES", "tRNA", "rRNA"]) == near


# ---- labelled tables -----------------------------------------------------------------------------------------------


def labelled(path: Path, header: str, values: list[str]) -> None:
    letters = ["".join("ACGU"[(n >> 2 * i) & 3] for i in range(8)) for n in range(len(values))]
    rows = [f"r{n};{one};{value}" for n, (one, value) in enumerate(zip(letters, values, strict=True))]
    path.write_text("\n".join([f"id;sequence;{header}", *rows, ""]), encoding="utf-8")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["1,5", "2,25"], r"row 1, column 'y' holds '1,5': expected a number. Write it with a decimal point: 1\.5"),
        (["5%", "7%"], r"holds '5%': expected a number alone.*--unit"),
        (["high", "low"], r"holds 'high': expected a number\. Classes are predicted with --label-column"),
    ],
)
def test_a_target_that_is_no_number_is_shown(tmp_path: Path, values: list[str], says: str) -> None:
    labelled(tmp_path / "a.csv", "y", values)
    with pytest.raises(TaskError, match=says):
        read_labelled(DataConfig((str(tmp_path / "a.csv"),), "y", numeric=True))
    labelled(tmp_path / "a.csv", "y", [*map(str, range(20)), *values])
    (line,) = [
        x for x in describe(read_labelled(DataConfig((str(tmp_path / "a.csv"),), "y", numeric=True))) if "left out:" in x
    ]
    assert "row 21" in line and values[0] in line


def test_classes_of_one_row_are_told(tmp_path: Path) -> None:
    labelled(tmp_path / "a.csv", "c", ["rare", *["x", "y"] * 20])
    lines = describe(read_labelled(DataConfig((str(tmp_path / "a.csv"),), "c")))
    assert any("1 class has one row" in line and "rare" in line for line in lines)
    with pytest.raises(TaskError, match="Each of the 41 classes of column 'id' has one row"):
        read_labelled(DataConfig((str(tmp_path / "a.csv"),), "id"))


# ---- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["search", "ACGUACGU", "--url", "ftp://x"], "--url ftp://x: expected an address such as http://"),
        (["search", "ACGUACGU", "--timeout", "0"], "timeout 0.0: expected a number of seconds greater than 0"),
        (["predict", "m6a", "ACGUACGU", "--prior", "nan"], "--prior nan: expected a share between 0 and 1"),
        (["predict", "m6a", "ACGUACGU", "--prior", "x=2"], "--prior 2: expected a share between 0 and 1"),
        (["fold", "ACGUACGU", "--contacts", "/no/such/a.tsv"], "--contacts /no/such/a.tsv: there is no folder /no/such"),
        (["fold", "ACGUACGU", "--contacts", "/"], "--contacts /: a folder is there"),
        (["fold", "ACGUACGU", "--svg", "/dev/null"], "--svg /dev/null: a file is there"),
        (["score-variants", "ACGUACGU", "--svg", "/no/such/a.svg"], "--svg /no/such/a.svg: there is no folder"),
        (["models", "m6a", "--plot", "/no/such/a.svg"], "--plot /no/such/a.svg: there is no folder"),
    ],
)
def test_wrong_flags_are_refused_before_any_work(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIRNA_URL", "http://127.0.0.1:9")  # nothing answers there
    assert main(arguments) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(("closed", "code"), [("<&-", 2), (">&-", 0), ("<&- >&- 2>&-", 0)])
def test_streams_that_are_closed_leave_no_trace(closed: str, code: int) -> None:
    """As cron and some schedulers start programs."""
    what = "search -" if code else "key somebody"
    command = f'"{sys.executable}" -m unirna.sdk._cli {what} {closed}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_an_interrupt_does_not_wait_for_answers(tmp_path: Path) -> None:
    """A service that never answers: the command ends, whatever requests are under way."""
    path = tmp_path / "many.fa"
    path.write_text("".join(f">r{n}\n{'ACGUACGU' * 5}\n" for n in range(400)), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        command = [sys.executable, "-m", "unirna.sdk._cli", "search", str(path), "--url", url, "--timeout", "600"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            held = [server.accept()[0] for _ in range(2)]  # two at once: the requests of one call
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=60)[1] == "interrupted\n"
            assert process.returncode == 130
        for one in held:
            one.close()


# ---- the SDK -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sequences", "says"),
    [
        ({"a": "ACGU"}, r"got a mapping\. Write list\(sequences\.values\(\)\)"),
        ({"ACGU"}, r"got a set, which has no order"),
        (None, "got NoneType"),
        (5, "got int"),
    ],
)
def test_what_is_no_list_of_sequences(sequences: object, says: str) -> None:
    client = sdk.connect("http://127.0.0.1:9")
    for call in (client.embed, client.fold, lambda given: client.predict("m6a", given)):
        with pytest.raises(TypeError, match=says):
            call(sequences)  # type: ignore[operator]


@pytest.mark.parametrize("timeout", [0, -1, None, "3"])
def test_a_time_out_is_a_number_of_seconds(timeout: object) -> None:
    with pytest.raises(ValueError, match=r"timeout .*: expected a number of seconds"):
        sdk.connect("http://127.0.0.1:9", timeout=timeout)  # type: ignore[arg-type]


def test_a_value_that_json_cannot_hold_is_named() -> None:
    with pytest.raises(sdk.InvalidRequestError, match=r"^prior: cannot be sent"):
        sdk.connect("http://127.0.0.1:9").predict("m6a", ["ACGU"], prior={"x": float("nan")})
    with pytest.raises(sdk.InvalidRequestError, match=r"^where: cannot be sent"):
        sdk.connect("http://127.0.0.1:9").search("ACGU", where=b"length > 3")  # type: ignore[arg-type]


# ---- Ray -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "127.0.0.1:99999", "[::1]:9"])
def test_a_dead_ray_address_is_told_at_once(address: str) -> None:
    with pytest.raises(JobError) as caught:
        local_ray._join(address)
    told = str(caught.value)
    assert told.startswith(f"RAY_ADDRESS={address}: no Ray cluster answers there") and "unset RAY_ADDRESS" in told


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_temporary_folder_that_is_too_long_for_ray(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, "/tmp/" + "long/" * 20)
    assert local_ray._short_folder() == "/tmp/ray"
    assert capsys.readouterr().err.startswith(f"{name} is too long for Ray's sockets")
    monkeypatch.setenv(name, "/tmp")
    assert local_ray._short_folder() is None
