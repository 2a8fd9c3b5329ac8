"""Reading and normalising: every format, every compression, every kind of dirt."""

import gzip
import io
import json
import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unirna import sequence
from unirna.sequence import (
    InputError,
    SequenceError,
    clean_table,
    normalise,
    plan_pieces,
    read,
    read_tables,
    shuffle_dinucleotides,
)

ROOT = Path(__file__).resolve().parent.parent
RECORDS = [("a", "ACGUacguTTtt"), ("b", "NNRYKMswbdhvn"), ("c", "G"), ("d", "ACGU" * 100)]
FASTA = "".join(f">{name} some text\n{letters}\n" for name, letters in RECORDS)


def test_normalise() -> None:
    assert normalise("acgTtu nryk"[:6]) == "ACGUUU"
    assert normalise("  ACGT\n") == "ACGU"
    assert normalise("RYKMSWBDHVN") == "RYKMSWBDHVN"


@pytest.mark.parametrize(
    ("letters", "reason", "position"),
    [
        ("", "empty sequence", 0),
        ("  \t", "empty sequence", 0),
        ("AC-GU", "gap", 3),
        ("AC.GU", "gap", 3),
        ("ACG7", "digit", 4),
        ("MKLV", "protein letter", 3),
        ("ACGU*", "protein letter", 5),
        ("AC GU", "space", 3),
        ("ACéGU", "unexpected character", 3),
        ("AC中GU", "unexpected character", 3),
        ("AC\0GU", "unexpected character", 3),
    ],
)
def test_bad_letters_are_named(letters: str, reason: str, position: int) -> None:
    with pytest.raises(SequenceError) as error:
        normalise(letters, "seq 7")
    assert (error.value.reason, error.value.position) == (reason, position)
    assert reason in sequence.REASONS
    assert str(error.value).startswith("seq 7: ")


@given(st.text(alphabet="ACGUTacgutRYKMSWBDHVNrykmswbdhvn", min_size=1))
def test_normalise_is_idempotent_and_keeps_the_length(letters: str) -> None:
    once = normalise(letters)
    assert normalise(once) == once == normalise(letters.lower()) == normalise(letters.upper().replace("U", "T"))
    assert len(once) == len(letters)


@given(st.text())
def test_normalise_accepts_or_explains(letters: str) -> None:
    try:
        assert set(normalise(letters)) <= set("ACGURYKMSWBDHVN")
    except SequenceError as error:
        assert error.reason in sequence.REASONS
        if error.position:
            assert letters.strip()[error.position - 1] == error.letter


def zstd(text: str) -> bytes:
    return bytes(pa.compress(text.encode(), "zstd", asbytes=True))


def write(folder: Path, kind: str) -> Path:
    table = pa.table({"id": [r[0] for r in RECORDS], "sequence": [r[1] for r in RECORDS], "score": [1.5, 2.5, None, 4.0]})
    match kind:
        case "fasta" | "crlf" | "wrapped" | "no-final-newline":
            text = FASTA
            if kind == "crlf":
                text = text.replace("\n", "\r\n")
            if kind == "wrapped":
                text = "\n" + "".join(
                    f">{n} some text\n" + "\n".join(s[i : i + 7] for i in range(0, len(s), 7)) + "\n\n" for n, s in RECORDS
                )
            if kind == "no-final-newline":
                text = text[:-1]
            path = folder / "x.fasta"
            path.write_bytes(text.encode())
        case "gz" | "bgz":
            path = folder / f"x.fa.{kind}"  # bgzip writes many gzip members
            path.write_bytes(gzip.compress(FASTA[:30].encode(), mtime=0) + gzip.compress(FASTA[30:].encode(), mtime=0))
        case "zst":
            path = folder / "x.fna.zst"
            path.write_bytes(zstd(FASTA[:30]) + zstd(FASTA[30:]))
        case "nameless":
            path = folder / "sequences"
            path.write_bytes(gzip.compress(FASTA.encode(), mtime=0))
        case "fastq":
            path = folder / "x.fq"
            path.write_text("".join(f"@{n} some text\n{s}\n+\n{'I' * len(s)}\n" for n, s in RECORDS))
        case "parquet":
            path = folder / "x.parquet"
            pq.write_table(table, path)
        case "csv":
            path = folder / "x.csv"
            pa.csv.write_csv(table, path)
        case "tsv":
            path = folder / "x.tsv.gz"
            buffer = io.BytesIO()
            pa.csv.write_csv(table, buffer, pa.csv.WriteOptions(delimiter="\t"))
            path.write_bytes(gzip.compress(buffer.getvalue(), mtime=0))
        case _:
            raise AssertionError(kind)
    return path


KINDS = ["fasta", "crlf", "wrapped", "no-final-newline", "gz", "bgz", "zst", "nameless", "fastq", "parquet", "csv", "tsv"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_records(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    records = list(read(str(path)))
    assert [(r.id, r.sequence) for r in records] == RECORDS
    assert [r.number for r in records] == [1, 2, 3, 4]
    if kind in ("parquet", "csv", "tsv"):
        assert [r.labels["score"] for r in records] == [1.5, 2.5, None, 4.0]
    else:
        assert {r.labels["description"] for r in records} == {"some text"}


def test_folder_glob_and_list(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "2.fasta").write_text(">x\nA\n")
    (tmp_path / "1.fa").write_text(">y\nC\n")
    (tmp_path / "notes.txt").write_text("not a sequence")
    assert [r.id for r in read(str(tmp_path))] == ["y", "x"]
    assert [r.id for r in read(str(tmp_path / "**" / "*.fa*"))] == ["y", "x"]
    assert [r.id for r in read([str(tmp_path / "deep"), str(tmp_path / "1.fa")])] == ["x", "y"]


def test_standard_input() -> None:
    code = "from unirna.sequence import read; print([(r.id, r.sequence) for r in read('-')])"
    for payload in (FASTA.encode(), gzip.compress(FASTA.encode(), mtime=0)):
        answer = subprocess.run([sys.executable, "-c", code], input=payload, capture_output=True, check=True, timeout=60)
        assert answer.stdout.decode().strip() == str(RECORDS)


@given(
    st.lists(st.text(alphabet="ACGU", max_size=40), min_size=1, max_size=20),
    st.integers(1, 60),
    st.integers(1, 15),
)
def test_byte_ranges_hold_every_record_once(
    tmp_path_factory: pytest.TempPathFactory, letters: list[str], size: int, width: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "ranges.fasta"
    wrapped = ["\n".join(s[i : i + width] for i in range(0, len(s), width)) for s in letters]
    path.write_text("".join(f">r{i} > d\n{s}\n" for i, s in enumerate(wrapped)))
    pieces = plan_pieces(str(path), piece_bytes=size)
    got = [row for piece in pieces for table in read_tables(piece) for row in table.to_pylist()]
    assert [(row["id"], row["sequence"]) for row in got] == [(f"r{i}", s) for i, s in enumerate(letters)]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.fasta", b"ACGU\n", "expected a line that starts with '>'"),
        ("x.fasta", b">a\rACGU\r", "Macintosh"),
        ("x.fastq", b"@a\nACGU\n+\nII\n", "FASTQ"),
        ("x.fastq", b"@a\nACGU\n+\nIIII\n\nACGU\n", "x.fastq: is not FASTQ: .* in line 6"),
        ("x.fastq", b"@a\nACGU\n+\nIIII\n@b\nACGU\n", "record 'b' in line 5 is cut short"),
        ("x.csv", b"id,sequence,sequence\na,ACGU,A\n", "two columns called sequence"),
        ("x.csv", b"id,id,sequence,n\na,b,ACGU,1\n", "two columns called id"),
        ("x.fa.gz", gzip.compress(FASTA.encode(), mtime=0)[:-30], "cut short"),
        ("x.fa.gz", b"not gzip at all", "is not FASTA"),
        ("x.fa.zst", zstd(FASTA)[:-6], "cut short"),
        ("x.parquet", b"PAR1 no", "parquet"),
        ("x.csv", b"name,sequence\na,ACGU\n", "--id-column"),
        ("x.csv", b"id,letters\na,ACGU\n", "--sequence-column"),
        ("x.bin", b"\x01\x02\x03\x04", "Known endings"),
    ],
)
def test_unreadable_files_say_why(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        list(read(str(path)))
    assert name in str(error.value)


def test_missing_input_says_so(tmp_path: Path) -> None:
    for missing in (tmp_path / "no.fasta", tmp_path / "*.fasta"):
        with pytest.raises(InputError, match=r"no such file|matches no file"):
            plan_pieces(str(missing))
    with pytest.raises(InputError, match="no sequence file"):
        plan_pieces(str(tmp_path))


def test_clean_table_accounts_for_every_record(tmp_path: Path) -> None:
    path = tmp_path / "dirt.fasta"
    path.write_bytes(">ok text\nacgt\n>gap\nAC-G\n>\nACGU\n>empty\n>é\nACÿG\n>last\nMKLV\n".encode())
    (table,) = read_tables(plan_pieces(str(path))[0])
    good, rejects = clean_table(table, "dirt.fasta")
    assert good["id"].to_pylist() == ["ok"]
    assert good["sequence"].to_pylist() == ["ACGU"]
    assert good["length"].to_pylist() == [4]
    assert good.num_rows + rejects.num_rows == table.num_rows == 6
    assert rejects["reason"].to_pylist() == ["gap", "no id", "empty sequence", "unexpected character", "protein letter"]
    assert rejects["number"].to_pylist() == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"\xef\xbb\xbf>a\nACGU\n>b\nAC\n", ["a", "b"]),
        (b"; made by hand\n# twice\n\n>a\nACGU\n>b\nAC\n", ["a", "b"]),
        (b">a\nACGU\n>x\rACGU\n>b\nAC\n", ["a", "b"]),
        (b">a\nACGU\n>x y\rACGU\nACGU\n>b\nAC\n", ["a", "b"]),
        (b">a\nACGU\n>b\nAC\n>x\rACGU\n", ["a", "b"]),
    ],
)
@pytest.mark.parametrize("piece_bytes", [1 << 20, 9])
def test_small_flaws_of_fasta_cost_no_other_record(
    tmp_path: Path, content: bytes, wanted: list[str], piece_bytes: int
) -> None:
    path = tmp_path / "x.fasta"
    path.write_bytes(content)
    tables = [t for piece in plan_pieces(str(path), piece_bytes=piece_bytes) for t in read_tables(piece)]
    cleaned = [clean_table(table, "x") for table in tables]
    assert [name for good, _ in cleaned for name in good["id"].to_pylist()] == wanted
    lost = [row for _, rejects in cleaned for row in rejects.to_pylist()]
    assert [(row["id"], row["reason"]) for row in lost] == ([("x", "unexpected character")] if b">x" in content else [])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_byte_that_is_no_text_costs_its_own_record(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "csv":
        path.write_bytes(b"id,sequence\na,ACGU\nb,AC\xffU\nc,AC\n")
    else:
        pq.write_table(pa.table({"id": ["a", "b", "c"], "sequence": [b"ACGU", b"AC\xffU", b"AC"]}), path)
    (table,) = read_tables(plan_pieces(str(path))[0])
    good, rejects = clean_table(table, "x")
    assert good["id"].to_pylist() == ["a", "c"]
    assert [(r["id"], r["reason"], r["position"]) for r in rejects.to_pylist()] == [("b", "unexpected character", 3)]


def test_a_column_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": ["a"], "sequence": [["A", "C"]]}), path)
    with pytest.raises(InputError, match=r"x\.parquet: column 'sequence' holds list.*--sequence-column"):
        list(read(str(path)))


def test_other_columns_called_like_ours_are_labels(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,name,sequence,rna,number\n1,a,MKLV,ACGU,9\n")
    (record,) = read(str(path), id_column="name", sequence_column="rna")
    assert (record.id, record.sequence, record.number) == ("a", "ACGU", 1)
    assert record.labels == {"id": 1, "sequence": "MKLV", "number": 9}


def test_null_cells_are_rejected(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a", None, "c"], "sequence": ["ACGU", "ACGU", None]}), tmp_path / "x.parquet")
    (table,) = read_tables(plan_pieces(str(tmp_path / "x.parquet"))[0])
    good, rejects = clean_table(table, "x")
    assert good["id"].to_pylist() == ["a"]
    assert rejects["reason"].to_pylist() == ["no id", "no sequence"]


def test_memory_is_flat_in_the_input(tmp_path: Path) -> None:
    """Resident memory, Arrow's included, of a process that streams 20 and 120 MB (`benchmarks/read.py`)."""
    body = "\n".join("".join(random.Random(0).choices("ACGU", k=100)) for _ in range(10))
    peaks = []
    for count in (20_000, 120_000):
        path = tmp_path / "generated.fasta"
        with path.open("w") as out:
            out.writelines(f">r{i}\n{body}\n" for i in range(count))
        command = [sys.executable, str(ROOT / "benchmarks" / "read.py"), "--measure", str(path)]
        answer = subprocess.run(command, check=True, capture_output=True, timeout=120)
        found = json.loads(answer.stdout)
        assert found["records"] == count
        peaks.append(found["mb_at_peak"])
    assert peaks[1] < peaks[0] + 30


@given(st.text("ACGUN", max_size=60), st.integers(0, 2**32))
def test_a_shuffle_keeps_dinucleotides_and_ends(sequence: str, seed: int) -> None:
    mixed = shuffle_dinucleotides(sequence, np.random.default_rng(seed))
    assert sorted(pairwise(mixed)) == sorted(pairwise(sequence))
    assert (mixed[:1], mixed[-1:]) == (sequence[:1], sequence[-1:])


def test_every_shuffle_is_equally_probable() -> None:
    chance = np.random.default_rng(0)
    counts = Counter(shuffle_dinucleotides("ACAGAUA", chance) for _ in range(3000))
    assert sorted(counts) == ["ACAGAUA", "ACAUAGA", "AGACAUA", "AGAUACA", "AUACAGA", "AUAGACA"]
    assert all(400 < count < 600 for count in counts.values())
