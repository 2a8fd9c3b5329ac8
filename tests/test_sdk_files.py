"""Files of the command line: opened, decompressed, decoded, and divided into records."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import pytest

from unirna import sdk
from unirna.sdk._files import is_file, read_text
from unirna.sdk._sequences import ReadsSequences, read_sequences

FASTA = ">kä one\nACG\nU\n>b\nGG\n"
RECORDS = [("kä", "ACGU"), ("b", "GG")]


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        (FASTA.encode(), ""),
        (FASTA.encode("utf-8-sig"), ""),
        (FASTA.encode("utf-16"), ""),
        (FASTA.encode("utf-16-be"), "utf-16-be"),
        (FASTA.encode("utf-32"), ""),
        (FASTA.encode("latin-1"), "latin-1"),
        (FASTA.replace("\n", "\r\n").encode(), ""),
        (FASTA.replace("\n", "\r").encode(), ""),
        (gzip.compress(FASTA.encode(), mtime=0), ""),
        (
            gzip.compress(FASTA[:12].encode(), mtime=0) + gzip.compress(FASTA[12:].encode(), mtime=0),
            "",
        ),  # several members, as bgzip writes
    ],
)
def test_text_is_read_in_its_encoding(tmp_path: Path, raw: bytes, encoding: str) -> None:
    path = tmp_path / "a.fa"
    path.write_bytes(raw)
    assert sdk.read_fasta(path, encoding=encoding) == RECORDS


def test_zstd_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    path = tmp_path / "a.fa.zst"
    with pyarrow.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(FASTA.encode())
    assert sdk.read_fasta(path) == RECORDS
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(sdk.InvalidRequestError, match="damaged or cut short"):
        sdk.read_fasta(path)


def damaged_gzip() -> bytes:
    raw = bytearray(gzip.compress(os.urandom(3000), mtime=0))
    raw[200:300] = bytes(100)
    return bytes(raw)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (FASTA.encode("latin-1"), r"a\.fa, line 1: not UTF-8 text \(byte 0xe4\).*--encoding latin-1"),
        (b">a\nACGU\n>b\xff\nGG\n", r"a\.fa, line 3: not UTF-8"),
        (b"@a\nACGU\n+\nIIII\n@b\xff\nA\n+\nI\n", r"a\.fa, line 5: not UTF-8"),
        (FASTA.encode("utf-16-le"), "utf-16-le"),
        (FASTA.encode("utf-16") + b"\n", r"a\.fa, line \d+: not utf-16 text"),  # an odd number of bytes
        (damaged_gzip(), r"a\.fa is damaged or cut short"),
        (gzip.compress(FASTA.encode(), mtime=0)[:-9], r"a\.fa is damaged or cut short"),
        (gzip.compress(FASTA.encode(), mtime=0) + b"more", r"a\.fa is damaged or cut short"),
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X", "is not text"),
        (b"@a\nACGU\n+\nIII\n", r"a\.fa, line 1: FASTQ record 'a' is cut short or damaged: 3 qualities for 4"),
        (b"@a\nA\n+\nI\n@b\nACGU\n", r"a\.fa, line 5: FASTQ record 'b'.*no line that starts with '\+'"),
        (b"@a\nACGU\n+\nIIII\nACGU\n", r"a\.fa, line 5: not FASTQ: expected a line that starts with '@', got 'ACGU'"),
        (b"\nACGU\n>one\nACGU\n", r"a\.fa, line 2: not FASTA"),
    ],
)
def test_a_file_that_is_not_sound_is_refused_by_its_place(tmp_path: Path, raw: bytes, why: str) -> None:
    path = tmp_path / "a.fa"
    path.write_bytes(raw)
    with pytest.raises(sdk.InvalidRequestError, match=why):
        sdk.read_fasta(path)


def test_no_such_encoding() -> None:
    with pytest.raises(sdk.InvalidRequestError, match="--encoding latin-7x: no such encoding"):
        sdk.read_fasta(__file__, encoding="latin-7x")


@pytest.mark.parametrize(
    "text",
    [
        "@r1 first\nACGU\n+\n@>+I\n@r2\nGG\n+r2\nII\n",
        "\n@r1\nACGU\n+\nIIII\n\n@r2\nGG\n+\nII\n\n\n",  # blank lines
        "@r1\r\nACGU\r\n+\r\nIIII\r\n@r2\r\nGG\r\n+\r\nII",
        "@r1\nAC\nGU\n+\nII\n@I\n@r2\nGG\n+\nII\n",  # on several lines
    ],
)
def test_qualities_are_not_sequences(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.fq"
    path.write_text(text)
    assert sdk.read_fasta(path) == [("r1", "ACGU"), ("r2", "GG")]


def test_an_empty_read_is_a_record(tmp_path: Path) -> None:
    path = tmp_path / "a.fq"
    path.write_text("@none\n\n+\n\n@r\nA\n+\nI\n")
    assert sdk.read_fasta(path) == [("none", ""), ("r", "A")]


def test_a_byte_outside_utf8_in_a_sequence_costs_that_sequence_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.fa"
    path.write_bytes(b">a\nAC\xffGU\n>b\nGG\n")
    assert sdk.read_fasta(path) == [("a", "AC\ufffdGU"), ("b", "GG")]


def test_named_pipes_are_files(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert is_file(str(pipe)) and not is_file(str(tmp_path)) and not is_file("ACGU" * 2000) and not is_file("A\0")
    writer = threading.Thread(target=pipe.write_bytes, args=(gzip.compress(FASTA.encode(), mtime=0),))
    writer.start()
    assert read_sequences(str(pipe), ReadsSequences()).named == RECORDS
    writer.join()


def test_tables_are_decoded_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,sequence\nä,ACGU\n".encode("latin-1"))
    assert read_text(path, "latin-1") == "id,sequence\nä,ACGU\n"
    with pytest.raises(sdk.InvalidRequestError, match=r"a\.csv, line 2"):
        read_text(path)
