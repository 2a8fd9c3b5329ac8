"""What files are made of: encodings, column names and types, missing values, pipes, hidden files, and damage."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unirna.sequence import (
    InputError,
    Missing,
    TextTypes,
    column_of,
    file_columns,
    parse_types,
    plan_pieces,
    read,
    read_labels,
    read_tables,
    table_columns,
    types_of,
)
from unirna.sequence.columns import narrowest, wider

CSV = "id,sequence,käfer\na,ACGU,größer\nb,GGCC,NA\n"
FASTA = ">kä größer\nACGU\n>b\nGG\n"


def records(path: Path | str, **options: Any) -> list[tuple[str, str | None, dict[str, Any]]]:
    return [(r.id, r.sequence, r.labels) for r in read(str(path), **options)]


# ---- encodings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "named"),
    [("utf-8", ""), ("utf-8-sig", ""), ("utf-16", ""), ("utf-32", ""), ("latin-1", "latin-1"), ("utf-16-le", "utf-16-le")],
)
@pytest.mark.parametrize("kind", ["csv", "tsv", "fasta", "fastq", "csv.gz"])
def test_text_is_read_in_its_encoding(tmp_path: Path, encoding: str, named: str, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind.startswith("fast"):
        text = FASTA if kind == "fasta" else "@kä größer\nACGU\n+\nIIII\n@b\nGG\n+\nII\n"
        expected = [("kä", "ACGU", {"description": "größer"}), ("b", "GG", {"description": ""})]
    else:
        text = CSV.replace(",", "\t") if kind == "tsv" else CSV
        expected = [("a", "ACGU", {"käfer": "größer"}), ("b", "GGCC", {"käfer": None})]
    raw = text.encode(encoding)
    path.write_bytes(gzip.compress(raw, mtime=0) if kind.endswith("gz") else raw)
    assert records(path, encoding=named) == expected


def test_large_files_of_other_encodings_are_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.fa"
    for encoding, named in (("utf-16", ""), ("latin-1", "latin-1")):
        path.write_bytes(FASTA.encode(encoding))
        (piece,) = plan_pieces(str(path), piece_bytes=5, encoding=named)
        assert [t["id"].to_pylist() for t in read_tables(piece)] == [["kä", "b"]]


@pytest.mark.parametrize(
    ("name", "raw", "says"),
    [
        ("a.csv", CSV.encode("latin-1"), r"a\.csv: line 1 is not UTF-8 text \(byte 0xe4\).*--encoding latin-1"),
        ("a.csv", b"id,sequence,x\na,ACGU,u\nb,AC,\xe4\n", r"a\.csv: column 'x': line 3 is not UTF-8.*--encoding"),
        ("a.csv", b"id,sequence\na,ACGU\nk\xe4fer,AC\n", r"a\.csv: column 'id': line 3 is not UTF-8"),
        ("a.fa", FASTA.encode("latin-1"), r"a\.fa: line 1 is not UTF-8"),
        ("a.fa", b">a\nACGU\n>b \xe4\nA\n", r"a\.fa: line 3 is not UTF-8"),
        ("a.fq", b"@a\nA\n+\nI\n@\xe4\nA\n+\nI\n", r"a\.fq: line 5 is not UTF-8"),
        ("a.csv", CSV.encode("utf-16-le"), "--encoding utf-16-le"),
        ("a.csv", CSV.encode("utf-16") + b"\n", r"a\.csv: line 4 is not utf-16 text"),
        ("a.fa", b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X", r"a\.fa: is not text"),
    ],
)
def test_another_encoding_is_refused_by_file_and_line(tmp_path: Path, name: str, raw: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(InputError, match=says):
        records(path)


def test_no_such_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(FASTA, encoding="utf-8")
    for encoding in ("latin-7x", "base64"):  # the second is an encoding of bytes
        with pytest.raises(InputError, match=f"--encoding {encoding}: no such encoding"):
            plan_pieces(str(tmp_path / "a.fa"), encoding=encoding)


def test_a_column_that_is_not_used_may_hold_anything(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,sequence,x,n\na,ACGU,\xe4,1\nb,AC,\xff,2\n")
    (piece,) = plan_pieces(str(path))
    for options in ({"leave_out": ["x"]}, {"columns": ["n"]}):
        (table,) = read_tables(piece, **options)
        assert table[column_of("n")].to_pylist() == ["1", "2"] and file_columns(table.column_names) == ["n"]


# ---- columns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_columns_of_a_file_are_its_own(tmp_path: Path, kind: str) -> None:
    """Names that are also those of columns of ours, once replaced by them or lost."""
    names = ["number", "id", "sequence", "length", "sha", "piece", ":number", "source", "rank", "a.b", ""]
    path = tmp_path / f"a.{kind}"
    row = ["7", "x", "MKLV", "9", "s", "p", "c", "f", "r", "d", "u"]
    if kind == "csv":
        path.write_text(",".join(["name", "rna", *names]) + "\n" + ",".join(["a", "ACGU", *row]) + "\n", encoding="utf-8")
    else:
        pq.write_table(pa.table([["a"], ["ACGU"], *([value] for value in row)], names=["name", "rna", *names]), path)
    (piece,) = plan_pieces(str(path))
    (table,) = read_tables(piece, id_column="name", sequence_column="rna")
    own = {name: table[name].to_pylist() for name in ("number", "id", "sequence")}
    assert own == {"number": [1], "id": ["a"], "sequence": ["ACGU"]}
    names[-1] = "column_13"
    assert file_columns(table.column_names) == names
    assert [table[column_of(name)].to_pylist() for name in names] == [[value] for value in row]
    assert table_columns(piece) == ["name", "rna", *names]


def test_a_column_may_be_asked_for_that_names_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("gene,sequence\ng1,ACGU\n", encoding="utf-8")
    (piece,) = plan_pieces(str(path))
    (table,) = read_tables(piece, id_column="gene", columns=["gene"])
    assert table["id"].to_pylist() == table[column_of("gene")].to_pylist() == ["g1"]
    (table,) = read_tables(piece, id_column="")
    assert table["id"].to_pylist() == ["row 1"]


@pytest.mark.parametrize(
    "text",
    [
        "id;sequence;n\na;ACGU;1\n",  # as spreadsheets of many countries write it
        "\n\nid,sequence,n\n\na,ACGU,1\n\n",  # blank lines
        ' id , sequence,"n"\na,ACGU,1\n',
        "id,sequence,n\r\na,ACGU,1\r\n",
        "id,sequence,n\na,ACGU,1",
    ],
)
def test_small_flaws_of_csv_cost_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    assert records(path) == [("a", "ACGU", {"n": 1})]


def test_quoted_line_breaks_are_values(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id,sequence,"two\nlines"\na,ACGU,"one\ntwo, ""three"""\nb,AC,x\n', encoding="utf-8")
    assert [labels for _, _, labels in records(path)] == [{"two\nlines": 'one\ntwo, "three"'}, {"two\nlines": "x"}]


def test_an_empty_table_has_no_records_and_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,sequence\n", encoding="utf-8")
    assert records(path) == []
    path.write_text("id,rna\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"no column 'sequence'. It has: id, rna"):
        records(path)


# ---- types and missing values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", None], pa.int64()),
        (["1", "2.5", "1e3"], pa.float64()),
        (["true", "FALSE"], pa.bool_()),
        (["1", "true"], pa.string()),
        (["2024-01-31"], pa.date32()),
        (["2024-01-31", "2024-01-31 10:00"], pa.timestamp("s")),
        (["1", "X"], pa.string()),
        (["007", "1"], pa.string()),  # codes
        (["0", "0.5", "-0"], pa.float64()),
        (["12345678901234567890"], pa.string()),
        ([" 1 ", "2"], pa.int64()),
        ([None], pa.null()),
    ],
)
def test_a_type_is_what_all_values_are(values: list[str | None], kind: pa.DataType) -> None:
    assert narrowest(pa.chunked_array([pa.array(values, pa.string())])) == kind
    found = pa.null()
    for value in values:  # however they are divided
        found = wider(found, narrowest(pa.chunked_array([pa.array([value], pa.string())])))
    assert found == kind


def test_types_are_those_of_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"r{i},ACGU,{1 + i % 22},{i}\n" for i in range(9000))
    path.write_text(f"id,sequence,chrom,n\n{rows}last,ACGU,X,0.5\n", encoding="utf-8")
    (piece,) = plan_pieces(str(path))
    tables = list(read_tables(piece, rows=1000))
    assert len(tables) == 10 and {t.schema.field(column_of("chrom")).type for t in tables} == {pa.string()}
    found = types_of(piece, id_column="id", sequence_column="sequence")
    assert found == {"chrom": pa.string(), "n": pa.float64()}
    apart = [TextTypes(), TextTypes()]
    for i, table in enumerate(tables):
        apart[i % 2].look(table)
    apart[1].join(TextTypes.of_named(apart[0].named()).types)  # as workers find them
    assert apart[1].types == found


def test_missing_values_are_one(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    words = ["", "NA", "nan", "NaN", "N/A", "NULL", " "]
    path.write_text("id,sequence,n,x\n" + "".join(f"{i},ACGU,{w},{w}\n" for i, w in enumerate(words)), encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write("z,ACGU,1,none\n")  # a word of its own
    missing = Missing()
    (piece,) = plan_pieces(str(path))
    (table,) = read_tables(piece, types={"x": "text"}, missing=missing)
    assert table[column_of("n")].to_pylist() == [None] * 7 + ["1"]
    assert table[column_of("x")].to_pylist() == [None, "NA", "nan", "NaN", "N/A", "NULL", None, "none"]
    assert missing == Counter({("n", word): 1 for word in ("NA", "nan", "NaN", "N/A", "NULL")})


def test_declared_types(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,sequence,chrom,n\na,ACGU,1,2\nb,ACGU,2,x\n", encoding="utf-8")
    (piece,) = plan_pieces(str(path))
    types = parse_types(["chrom=text", "n=text"])
    (table,) = read_tables(piece, types=types)
    assert table[column_of("chrom")].to_pylist() == ["1", "2"]
    with pytest.raises(InputError, match=r"row 2: column 'n' holds 'x', which is no integer.*--column-type n=text"):
        list(read_tables(piece, types={"n": "integer"}))
    for wrong in ("n", "n=int", "=text"):
        with pytest.raises(ValueError, match=f"--column-type {wrong}: expected NAME=TYPE"):
            parse_types([wrong])


def test_bytes_in_parquet_are_text_where_they_are_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["a"], "sequence": ["ACGU"], "x": ["käfer".encode()]}), path)
    assert records(path)[0][2] == {"x": "käfer"}
    pq.write_table(pa.table({"id": ["a"], "sequence": ["ACGU"], "x": ["käfer".encode("latin-1")]}), path)
    with pytest.raises(InputError, match=r"a\.parquet: column 'x': is not UTF-8 text"):
        records(path)


def test_labels_are_read_from_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,käfer,n\n007,NA,1\n008,b,2\n".encode("utf-16"))
    table, missing = read_labels(str(path))
    assert table.to_pydict() == {"id": ["007", "008"], "käfer": [None, "b"], "n": [1, 2]}
    assert missing == {("käfer", "NA"): 1}
    (tmp_path / "a.fa").write_text(FASTA, encoding="utf-8")
    with pytest.raises(InputError, match="is not a table"):
        read_labels(str(tmp_path / "a.fa"))


# ---- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", ["._a.fa", ".a.fa", "__MACOSX/a.fa", ".ipynb_checkpoints/a.fa", "deep/._b.fa.gz"])
def test_hidden_files_of_a_folder_are_passed_over(tmp_path: Path, hidden: str) -> None:
    (tmp_path / "a.fa").write_text(">m1\nACGU\n", encoding="utf-8")
    (tmp_path / hidden).parent.mkdir(exist_ok=True)
    (tmp_path / hidden).write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    assert [name for name, _, _ in records(tmp_path)] == ["m1"]


@pytest.mark.parametrize(
    "text",
    [
        "@r1 first\nACGU\n+\n@>+I\n@r2\nGG\n+r2\nII\n",
        "\n@r1 first\nACGU\n+\nIIII\n\n@r2\nGG\n+\nII\n\n\n",
        "@r1 first\r\nACGU\r\n+\r\nIIII\r\n@r2\r\nGG\r\n+\r\nII",
        "@r1 first\nAC\nGU\n+\nII\n@I\n@r2\nGG\n+\nII\n",
    ],
)
def test_fastq_framing(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.fq").write_bytes(text.encode())
    expected = [("r1", "ACGU", {"description": "first"}), ("r2", "GG", {"description": ""})]
    assert records(tmp_path / "a.fq") == expected


def test_a_byte_outside_ascii_costs_its_own_read(tmp_path: Path) -> None:
    (tmp_path / "a.fq").write_bytes(b"@a\nAC\xffU\n+\nIIII\n@b\nGG\n+\nII\n")
    assert [(name, letters) for name, letters, _ in records(tmp_path / "a.fq")] == [("a", "AC\ufffdU"), ("b", "GG")]


@pytest.mark.parametrize(
    "raw", [FASTA.encode(), gzip.compress(FASTA.encode(), mtime=0), CSV.encode(), CSV.encode("utf-16")]
)
def test_named_pipes_are_read_once(tmp_path: Path, raw: bytes) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(raw,))
    writer.start()
    pieces = plan_pieces(str(pipe), spool=tmp_path / "spool")
    writer.join()
    assert plan_pieces(str(pipe), spool=tmp_path / "spool") == pieces  # asked again, it is not waited for
    assert sum(table.num_rows for piece in pieces for table in read_tables(piece)) == 2
    (copy,) = (tmp_path / "spool").iterdir()
    assert copy.stat().st_mtime == 0  # the same content is the same input


def test_process_substitution(tmp_path: Path) -> None:
    (tmp_path / "a.fa.gz").write_bytes(gzip.compress(FASTA.encode(), mtime=0))
    code = "import sys; from unirna.sequence import read; print([r.id for r in read(sys.argv[1])])"
    command = ["bash", "-c", f"'{sys.executable}' -c '{code}' <(zcat '{tmp_path}/a.fa.gz')"]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=60, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert answer.stdout.decode().strip() == "['kä', 'b']"


def test_a_compressed_file_may_be_called_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_bytes(gzip.compress(FASTA.encode(), mtime=0))
    assert [name for name, _, _ in records(tmp_path / "a.fa")] == ["kä", "b"]
    (piece,) = plan_pieces(str(tmp_path / "a.fa"), piece_bytes=5)
    assert piece.end is None


def test_output_is_utf8_in_every_locale() -> None:
    code = r"from unirna.base import command; command(lambda: print('gr\u00f6\u00dfer \u2013 5\u2032') or 0)"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, timeout=60, check=False)
    assert answer.stdout.decode() == "größer – 5′\n" and not answer.stderr
