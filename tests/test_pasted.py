"""Text as people paste it: every format, what is removed, and where something is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from unirna.base import PastedError, counted, is_name, parse_text, percent

ROOT = Path(__file__).resolve().parent.parent
GENBANK = """\
LOCUS       SCU49845      70 bp    DNA             PLN       21-JUN-1999
VERSION     U49845.1
ORIGIN
        1 gatcctccat atacaacggt atctccacct caggtttaga tctcaacaac ggaaccattg
       61 ccgacatgag
//
"""
LETTERS = "gatcctccatatacaacggtatctccacctcaggtttagatctcaacaacggaaccattgccgacatgag"
STOCKHOLM = "# STOCKHOLM 1.0\n#=GF ID x\na/1-4   AC-GU\nb/1-4   ACC.U\n#=GC SS_cons <<.>>\n//"
CLUSTAL = "CLUSTAL W (1.8)\n\na  ACGU-A 5\nb  ACGUUA 6\n   **** *\n\na  GG 7\nb  -C 7\n"
EMBL = """\
ID   X56734; SV 1; linear; mRNA; STD; PLN; 20 BP.
XX
SQ   Sequence 20 BP; 8 A; 4 C; 2 G; 6 T; 0 other;
     aaacaaacca aatatggatt                                                     20
//
"""
CT = "7{}\n1 G 0 2 7 1\n2 G 1 3 6 2\n3 A 2 4 0 3\n4 A 3 5 0 4\n5 A 4 6 0 5\n6 C 5 7 2 6\n7 C 6 0 1 7\n"


@pytest.mark.parametrize(
    ("text", "format", "records"),
    [
        ("ggg aaa CCC\n", "plain", [("", "gggaaaCCC")]),
        ("\ufeff>a one\r\nAC\r\nGU\r\n", "fasta", [("a", "ACGU")]),
        ("ACGU\n>b\nGG\n", "fasta", [("", "ACGU"), ("b", "GG")]),
        (">a\nAC-GU..~\nCC*\n", "fasta", [("a", "ACGUCC")]),
        (">a\nGGGAAACCC\n(((...))) (-1.20)\n", "fasta", [("a", "GGGAAACCC")]),
        ("'GGGAAACCC'\n", "plain", [("", "GGGAAACCC")]),
        ("\u201cGGG\nAAACCC\u201d", "plain", [("", "GGG"), ("", "AAACCC")]),
        ("@r1 x\nACGU\n+\n@@+@\n@r2\nAC\nGG\n+r2\nII\n@I\n\n", "fastq", [("r1", "ACGU"), ("r2", "ACGG")]),
        (
            GENBANK,
            "genbank",
            [("U49845.1", LETTERS)],
        ),
        (GENBANK.partition("ORIGIN\n")[2], "plain", [("", LETTERS)]),
        (EMBL, "embl", [("X56734", "aaacaaaccaaatatggatt")]),
        ("gatcctccat 10\natacaacggt 20\n", "plain", [("", "gatcctccatatacaacggt")]),
        ("1gatcctccatataca\n16acggt acgga\n", "plain", [("", "gatcctccatatacaacggtacgga")]),
        (STOCKHOLM, "stockholm", [("a/1-4", "ACGU"), ("b/1-4", "ACCU")]),
        (CLUSTAL, "clustal", [("a", "ACGUAGG"), ("b", "ACGUUAC")]),
        ("GGGAAACCC\nACGUACGU\n", "plain", [("", "GGGAAACCC"), ("", "ACGUACGU")]),
        (f"{'A' * 60}\n{'C' * 20}\n", "plain", [("", "A" * 60 + "C" * 20)]),
        ("id,sequence,x\na,ACGUAC,1\nb,AC-GU*,2\n", "table", [("a", "ACGUAC"), ("b", "ACGU")]),
        ("name;utr\na;ACGUAC\nb;GGGAAA\n", "table", [("a", "ACGUAC"), ("b", "GGGAAA")]),
        ("g1\tACGUACGUACGUACGU\ng2\tACGUAAAAAA\n", "table", [("g1", "ACGUACGUACGUACGU"), ("g2", "ACGUAAAAAA")]),
        ("sequence\nACGU\nGG\n", "table", [("", "ACGU"), ("", "GG")]),
        (CT.format("  ENERGY = -1.2  hp x"), "ct", [("hp", "GGAAACC")]),
        (CT.format("\thp") * 2 + CT.format("  dG = 0 hp"), "ct", [("hp", "GGAAACC")]),
        (CT.format("").replace(" ", "\t"), "ct", [("", "GGAAACC")]),
        (CT.format(" one") + CT.format(" two"), "ct", [("one", "GGAAACC"), ("two", "GGAAACC")]),
        ("# File: x\n# from y\n1 G 4\n2 A 0\n3 A 0\n4 C 1\n", "bpseq", [("", "GAAC")]),
        ("Filename: x\nOrganism: y\n1\tG\t4\n2\tA\t0\n3\tA\t0\n4\tC\t1\n", "bpseq", [("", "GAAC")]),
        ("GGGAAAUCCC\n(((....))) (-1.20)\n", "plain", [("", "GGGAAAUCCC")]),
        ("# a comment\nGGGAAACCC\n", "plain", [("", "GGGAAACCC")]),
        ("5'-GGGAAACCC-3'", "plain", [("", "GGGAAACCC")]),
    ],
)  # fmt: skip
def test_every_format(text: str, format: str, records: list[tuple[str, str]]) -> None:
    found = parse_text(text)
    assert found.format == format and not found.question
    assert [(one.name, one.sequence, one.problem) for one in found.records] == [(*pair, "") for pair in records]


def test_what_is_removed_is_said() -> None:
    assert parse_text(">a\nAC-GU.\n>b\nAC*\n").notes == ("2 gaps removed", "final * removed")
    assert parse_text("1 gatcctccat").notes == ("numbers within the sequence removed",)
    assert parse_text(CT.format(" x")).notes == ("structure lines left out",)
    assert parse_text(">a\nACGU\n").notes == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hello world", "protein letter 'e' at line 1, column 2"),
        (">a\nACGU\n>b\nAC GU\nACX", "protein letter 'X' at line 5, column 3"),
        ("ACGU*ACGU", "protein letter '*' at line 1, column 5"),
        ("AC7GU", "digit '7' at line 1, column 3"),
        ("id,sequence\na,ACGU\nb,ACXU\n", "protein letter 'X' at line 3, column 'sequence', position 3"),
        ("MKLVEEFIPQ", "It looks like a protein"),
        (">a\n>b\nACGU\n", "no sequence at line 1"),
        ("@r\nACGU\n+\nII\n", "4 nucleotides and 2 qualities; the record at line 1 is cut short or damaged"),
        ("CLUSTAL W\n\na  ACGX\n", "line 3, column 7"),
        (CT.format(" cut")[:-12], "line 1 announces 7 nucleotides, and 6 follow"),
        (CT.format(" bad").replace("3 A", "3 E"), "protein letter 'E' at line 4, column 3"),
        ("1 G 4\n2 A 0\n4 C 1\n", "line 3 should be nucleotide 3, and is 4"),
    ],
)
def test_a_problem_has_its_place(text: str, problem: str) -> None:
    assert problem in next(one.problem for one in parse_text(text).records if one.problem)


def test_a_table_asks_which_column() -> None:
    text = "name\tutr5\tutr3\na\tACGUACGU\tACGUAAAA\n"
    found = parse_text(text)
    assert found.records == () and found.columns == ("name", "utr5", "utr3")
    assert found.question.startswith("Which column holds the sequences? It has name, utr5, utr3")
    assert [one.sequence for one in parse_text(text, sequence_column="utr3").records] == ["ACGUAAAA"]
    with pytest.raises(PastedError, match=r"no column 'cds'.*It has: name, utr5, utr3"):
        parse_text(text, sequence_column="cds")


@pytest.mark.parametrize("text", ["RF00005/X14835.1-6927", "6S", "tRNA", "KRAS", "AC_000091.1", "NR_1"])
def test_what_may_be_an_identifier(text: str) -> None:
    assert parse_text(f" {text}\n").identifier == text


@pytest.mark.parametrize("text", ["ACGU", "hello world", "5'-GGGAAACCC-3'", ">a\nACGX", "ACGX\nACGX", "GGGAAANCCC"])
def test_what_is_no_identifier(text: str) -> None:
    assert parse_text(text).identifier == ""


def test_names_are_short_and_of_ambiguity_codes() -> None:
    assert all(map(is_name, ("tRNA", "DNA", "KRAS", "MYC", "SNRNA")))
    assert not any(map(is_name, ("", "ACGU", "ACGR", "GGGAAANCCC", "NNNNNNNNNNNNN")))


@pytest.mark.parametrize("text", ["", " \n\n", "; a comment\n"])
def test_nothing_is_an_error(text: str) -> None:
    with pytest.raises(PastedError, match="no sequence"):
        parse_text(text)


@pytest.mark.parametrize(
    "text", ["#NEXUS\nmatrix\na ACGU\n", "\n@HD\tVN:1.6\nr\t0\n", "ATOM      1  P     G A   1", '{"a": "ACGU"}']
)
def test_a_format_that_is_not_read_is_named(text: str) -> None:
    with pytest.raises(PastedError, match=r"it looks like (NEXUS|SAM|PDB|JSON), .*FASTA"):
        parse_text(text)


def test_numbers_in_sentences() -> None:
    assert [counted(n, "sequence") for n in (0, 1, 1200)] == ["0 sequences", "1 sequence", "1,200 sequences"]
    assert counted(1, "family", "families") == "1 family" and counted(2, "family", "families") == "2 families"
    shares = (0.997, 1.0, 0.0, 0.004, 0.5, 0.99996, 0.9999999, 0.87)
    assert [percent(share) for share in shares] == ["99.7%", "100%", "0%", "0.4%", "50%", "99.996%", ">99.9999%", "87%"]
    assert percent(0.87, 1) == "87.0%"


# ---- console commands --------------------------------------------------------------------------------------------------

JOB = """
import argparse, sys
from unirna.base import command
sys.exit(command(lambda: argparse.ArgumentParser().parse_args()))
"""


@pytest.mark.parametrize("command", [["-m", "unirna.sdk._cli"], ["-c", JOB]], ids=["unirna", "job"])
def test_a_reader_that_goes_leaves_no_trace(command: list[str]) -> None:
    """As `… --help | true`: the output's reader is gone before the first line."""
    process = subprocess.Popen([sys.executable, *command, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) in (0, 141)  # argparse passes over a failed write, unbuffered


def test_version() -> None:
    command = [sys.executable, "-m", "unirna.sdk._cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("unirna ") and done.stderr == ""


@pytest.mark.parametrize("path", sorted(ROOT.glob("jobs/*.py")), ids=lambda path: path.name)
def test_every_job_is_such_a_command(path: Path) -> None:
    assert "sys.exit(command(" in path.read_text().partition('if __name__ == "__main__":')[2]
