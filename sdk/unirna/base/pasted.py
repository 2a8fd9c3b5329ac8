"""Text that people paste, drop or pipe, read with tolerance: FASTA, FASTQ, GenBank, EMBL, alignments, CT and BPSEQ, tables,
plain lines.

For interactive use: what is removed (gaps, numbers, a final '*') is said in notes. Jobs read their files strictly instead
(`unirna.sequence.read`), where a record with a gap is rejected with its reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from unirna.base.letters import Gathered, notes_of
from unirna.base.tables import PastedError, delimiter_of, read_table
from unirna.base.wording import counted

WRAPPED: Final = 50
"""Shortest line at which a sequence is wrapped; plain lines that are shorter are a sequence each."""
STRUCTURE: Final = re.compile(r"(?=.*[()\[\]{}<>])[.()\[\]{}<>,|&~+:-]+(\s+[(\[].*)?$")
IDENTIFIER: Final = re.compile(r"[^\s>;,&*]{1,200}")
SHORT: Final = 12
CT_HEADER: Final = re.compile(r"\s*(\d+)\b\s*(?:(?:ENERGY|dG|ddG)\s*=?\s*\S+)?\s*(\S*)", re.IGNORECASE)
"""The line above a structure in a CT file: the number of nucleotides, often the energy, and the title."""
CT_ROW: Final = re.compile(r"\s*(\d+)\s+([A-Za-z])(?:\s+\d+){4}(?:\s.*)?")
BPSEQ_ROW: Final = re.compile(r"\s*(\d+)\s+([A-Za-z])\s+\d+\s*")
FOREIGN: Final = {
    "#NEXUS": "NEXUS",
    "@HD\t": "SAM",
    "@SQ\t": "SAM",
    "##fileformat=": "VCF",
    "##gff-version": "GFF",
    "HEADER  ": "PDB",
    "ATOM  ": "PDB",
    "data_": "mmCIF",
    "{": "JSON",
}
"""Beginnings of formats that hold other things than a list of sequences, and their names."""
QUOTES: Final = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019"}
Numbered = tuple[int, str]
"""The number of a line, from 1, and its text."""


@dataclass(frozen=True)
class PastedRecord:
    """One sequence of a text.

    Attributes:
        name: its identifier, "" where the text gives none.
        sequence: upper or lower case, without white space, numbers, gaps and a final '*'.
        line: where it begins, from 1.
        problem: why it cannot be used, with line and column; "" for nothing.
    """

    name: str
    sequence: str
    line: int
    problem: str = ""


@dataclass(frozen=True)
class Pasted:
    """What a text holds.

    Attributes:
        format: "plain", "fasta", "fastq", "genbank", "embl", "stockholm", "clustal", "ct", "bpseq" or
            "table".
        records: its sequences.
        notes: what was removed or assumed, a sentence each.
        columns: of a table.
        sequence_column: of a table, the column that was read; "" where `question` asks for it.
        question: what has to be decided before the records can be read; "" for nothing.
        identifier: the text, where it may be the identifier of a stored sequence; else "".
    """

    format: str
    records: tuple[PastedRecord, ...]
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    sequence_column: str = ""
    question: str = ""
    identifier: str = ""


def parse_text(text: str, *, id_column: str = "", sequence_column: str = "") -> Pasted:
    """Read the sequences of a text in whatever format it stands.

    Args:
        text: as it was pasted.
        id_column: of a table, the column of identifiers; by default one that is called so, else the first that fits.
        sequence_column: of a table, the column of sequences; by default the one that holds nucleotides.

    Returns:
        Its records, those with a `problem` included.

    Raises:
        PastedError: no sequence in it, or a column that is not there.
    """
    text, unquoted = _unquoted(text)
    lines = [
        (number, line.rstrip())
        for number, line in enumerate(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1)
    ]
    filled = [(number, line) for number, line in lines if line.strip()]
    while filled and filled[0][1].lstrip()[0] in ";#" and not filled[0][1].startswith("# STOCKHOLM"):
        del filled[0]  # comments before the first record
    if not filled:
        raise PastedError("there is no sequence in it")
    for beginning, name in FOREIGN.items():
        if text.lstrip("\ufeff \n").startswith(beginning):
            raise PastedError(f"it looks like {name}, which is not read here. Save the sequences as FASTA")
    kind = _format_of(filled)
    removed: Counter[str] = Counter()
    if kind == "table":
        table = read_table(text.removeprefix("\ufeff"), id_column, sequence_column, removed)
        records = tuple(PastedRecord(one.name, one.letters(), one.line, one.problem) for one in table.rows)
        notes = (*table.notes, *notes_of(removed))
        return Pasted(kind, records, notes, table.columns, table.sequence_column, table.question)
    gathered = list(READERS[kind](filled if kind != "plain" else lines[filled[0][0] - 1 :], removed))
    records = tuple(PastedRecord(one.name, one.letters(), one.line, one.problem) for one in gathered)
    if kind == "ct":
        records = _once(records)
    if not records:
        raise PastedError(f"it looks like {kind}, and there is no sequence in it")
    notes = (*notes_of(removed), *(["quotes removed"] if unquoted else []))
    if kind == "plain" and len(records) > 1:
        notes = (f"{len(records):,} sequences, one on each line", *notes)
    identifier = _identifier(filled) if kind == "plain" and (records[0].problem or is_name(records[0].sequence)) else ""
    return Pasted(kind, records, () if identifier else notes, identifier=identifier)


def _unquoted(text: str) -> tuple[str, bool]:
    """A text without the quotes that it stands in, as one copied from code or a table does; and whether it did."""
    inner = text.strip()
    if len(inner) > 2 and QUOTES.get(inner[0]) == inner[-1] and not {inner[0], inner[-1]} & set(inner[1:-1]):
        return inner[1:-1], True
    return text, False


def is_name(letters: str) -> bool:
    """Whether text of nucleotide codes is more likely a name, such as tRNA, KRAS or DNA: short, with ambiguity codes."""
    text = letters.strip()
    return 0 < len(text) <= SHORT and 3 * sum(letter.upper() not in "ACGUT" for letter in text) >= len(text)


def _identifier(lines: list[Numbered]) -> str:
    text = lines[0][1].strip()
    return text if len(lines) == 1 and IDENTIFIER.fullmatch(text) else ""


def _format_of(lines: list[Numbered]) -> str:
    first = lines[0][1]
    if first.startswith("# STOCKHOLM"):
        return "stockholm"
    if first.startswith(("CLUSTAL", "MUSCLE (")):
        return "clustal"
    if first.startswith("@") and any(line.startswith("+") for _, line in lines[2:]):
        return "fastq"
    if any(line.lstrip().startswith(">") for _, line in lines):
        return "fasta"
    if first.startswith("LOCUS") or any(re.match(r"ORIGIN\b", line) for _, line in lines):
        return "genbank"
    if re.match(r"(ID|AC|SQ) {3}", first) and any(line.startswith("SQ ") for _, line in lines):
        return "embl"
    if kind := _structure_format([line for _, line in lines]):
        return kind
    return "table" if delimiter_of([line for _, line in lines[:20]]) else "plain"


def _structure_format(lines: list[str]) -> str:
    """ "ct" or "bpseq" for the text of such a file, else ""."""
    for kind, pattern in (("ct", CT_ROW), ("bpseq", BPSEQ_ROW)):
        start = next((i for i, line in enumerate(lines) if (row := pattern.fullmatch(line)) and row[1] == "1"), None)
        if start is None or (kind == "ct" and not (start and CT_HEADER.match(lines[start - 1]))):
            continue
        if kind == "ct" or all(pattern.fullmatch(line) or line.startswith("#") for line in lines[start:]):
            return kind
    return ""


def _plain(lines: list[Numbered], removed: Counter[str]) -> Iterator[Gathered]:
    """One sequence to a block of lines that are numbered or wrapped, else to each line."""
    blocks: list[list[Numbered]] = [[]]
    for number, line in lines:
        if STRUCTURE.fullmatch(line.strip()) and any(blocks):
            removed["structures"] += 1
        elif line.strip():
            blocks[-1].append((number, line))
        elif blocks[-1]:
            blocks.append([])
    blocks = [block for block in blocks if block]
    filled = [one for block in blocks for one in block if one[1].strip() != "//"]
    if all(_numbered(line) for _, line in filled):
        blocks = [filled]
    for block in blocks:
        together = _wrapped(block)
        for part in [block] if together else [[one] for one in block]:
            made = Gathered("", part[0][0], removed)
            for number, line in part:
                made.add(line, number)
            yield made


def _numbered(line: str) -> bool:
    return bool(re.match(r"\s*\d+\s*[A-Za-z]", line) or re.search(r"[A-Za-z]\s+\d+\s*$", line))


def _wrapped(block: list[Numbered]) -> bool:
    if all(_numbered(line) for _, line in block):
        return True
    lengths = [len(line.strip()) for _, line in block]
    return len(set(lengths[:-1])) == 1 and lengths[0] >= WRAPPED and lengths[-1] <= lengths[0]


def _fasta(lines: list[Numbered], removed: Counter[str]) -> Iterator[Gathered]:
    made: Gathered | None = None
    for number, line in lines:
        text = line.strip()
        if text.startswith(">"):
            if made is not None:
                yield made
            words = text[1:].split()
            made = Gathered(words[0] if words else "", number, removed)
        elif STRUCTURE.fullmatch(text):
            removed["structures"] += 1
        else:
            made = made or Gathered("", number, removed)
            made.add(line, number)
    if made is not None:
        yield made


def _fastq(lines: list[Numbered], removed: Counter[str]) -> Iterator[Gathered]:
    at = 0
    while at < len(lines):
        number, line = lines[at]
        words = line[1:].split()
        made = Gathered(words[0] if words else "", number, removed)
        if not line.startswith("@"):
            made.refuse(f"line {number} should begin with '@', the start of a FASTQ record")
            yield made
            return
        at += 1
        size = 0
        while at < len(lines) and not lines[at][1].startswith("+"):
            made.add(lines[at][1], lines[at][0])
            size += len(lines[at][1].strip())
            at += 1
        at += 1
        qualities = 0
        while at < len(lines) and qualities < size:
            qualities += len(lines[at][1].strip())
            at += 1
        if qualities != size:
            made.refuse(
                f"{size} nucleotides and {qualities} qualities; the record at line {number} is cut short or damaged"
            )
        yield made


def _genbank(lines: list[Numbered], removed: Counter[str]) -> Iterator[Gathered]:
    made: Gathered | None = None
    inside = False
    for number, line in lines:
        rest = line.split()[1:]
        if line.startswith("//"):
            if made is not None:
                yield made
            made, inside = None, False
            continue
        made = made or Gathered("", number, removed)
        if inside:
            made.add(line, number)
        elif re.match(r"(ORIGIN|SQ )", line):
            inside = True
        elif rest and re.match(r"(LOCUS|VERSION|ID  )", line):
            made.name = rest[0].rstrip(";")
    if made is not None:
        yield made


def _alignment(lines: list[Numbered], removed: Counter[str]) -> Iterator[Gathered]:
    """Stockholm and Clustal: a name and a part of its row on each line, in one block or several."""
    rows: dict[str, Gathered] = {}
    for number, line in lines:
        if line.startswith(("#", "//", "CLUSTAL", "MUSCLE")) or line[0].isspace():  # the last: marks of conservation
            continue
        name = line.split()[0]
        row = " " * len(name) + line[len(name) :]  # as wide as it was, so that columns are those of the line
        rows.setdefault(name, Gathered(name, number, removed)).add(row, number)
    yield from rows.values()


def _ct(lines: list[Numbered], removed: Counter[str]) -> Iterator[Gathered]:
    """A line with the length and the title, then a row for each nucleotide; one structure or several."""
    at = 0
    while at < len(lines):
        number, line = lines[at]
        at += 1
        if line.startswith("#"):
            continue
        header = CT_HEADER.match(line)
        made = Gathered(header[2] if header else "", number, removed)
        rows = 0
        while at < len(lines) and (row := CT_ROW.fullmatch(lines[at][1])) and int(row[1]) == rows + 1:
            made.add(" " * row.start(2) + row[2], lines[at][0])
            rows += 1
            at += 1
        expected = int(header[1]) if header else 0
        if rows != expected:
            made.refuse(f"line {number} announces {counted(expected, 'nucleotide')}, and {rows} follow")
            yield made
            return
        removed["structures"] += 1
        yield made


def _once(records: tuple[PastedRecord, ...]) -> tuple[PastedRecord, ...]:
    """Without the further structures of a sequence, which a CT file lists one after the other."""
    pairs = zip((None, *records), records, strict=False)
    return tuple(
        one for before, one in pairs if before is None or (before.name, before.sequence) != (one.name, one.sequence)
    )


def _bpseq(lines: list[Numbered], removed: Counter[str]) -> Iterator[Gathered]:
    """A row for each nucleotide, under lines of comments."""
    rows = [(number, row) for number, line in lines if (row := BPSEQ_ROW.fullmatch(line))]
    made = Gathered("", rows[0][0], removed)
    for place, (number, row) in enumerate(rows, 1):
        if int(row[1]) != place:
            made.refuse(f"line {number} should be nucleotide {place}, and is {row[1]}")
        made.add(" " * row.start(2) + row[2], number)
    removed["structures"] += 1
    yield made


READERS: Final[dict[str, Callable[[list[Numbered], Counter[str]], Iterator[Gathered]]]] = {
    "plain": _plain,
    "fasta": _fasta,
    "fastq": _fastq,
    "genbank": _genbank,
    "embl": _genbank,
    "stockholm": _alignment,
    "clustal": _alignment,
    "ct": _ct,
    "bpseq": _bpseq,
}
