"""Sequence sets that must stay out of a corpus, such as test data: what is identical or near-identical to a member.

Near-identical means a local alignment, forward strand, of at least `MIN_ALIGNED` columns, with the required identity, that
covers the required share of the shorter of the two. So a long sequence that contains a member goes, and so does a
fragment of a member. Members shorter than `MIN_ALIGNED` exclude identical sequences only: by chance they resemble parts
of much else.

With MMseqs2 this is a nucleotide search. Without it the alignment is replaced by an estimate: two 12-mers in common make a
pair, and the share of common 10-mers decides (`kmers.py`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from unirna.corpus import mmseqs
from unirna.corpus.config import BuildConfig, CorpusSource
from unirna.corpus.kmers import VERIFY_K, blocks, distinct_kmers, estimated_identity, least_shared, shared_kmers, text_of
from unirna.corpus.scan import sha_array
from unirna.corpus.work import Work
from unirna.runs import new_file
from unirna.sequence import clean_table, plan_pieces, read_tables

MIN_ALIGNED: Final = 30
SEED_K: Final = 12
SEEDS: Final = 2
HIT_SCHEMA: Final = pa.schema(
    [("row", pa.int64()), ("member", pa.int64()), ("identity", pa.float64()), ("coverage", pa.float64())]
)
_PAIRS: Final = 1_000_000


@dataclass(frozen=True)
class References:
    """The members of all exclusion sets. Every worker that searches holds them: sets of some hundred MB at most.

    Attributes:
        table: distinct members: `sha`, `id`, `set`, `sequence`.
    """

    table: pa.Table

    @classmethod
    def of(cls, work: Work) -> References:
        """Those that `write_references` wrote."""
        return cls(work.table("references", 0))


def write_references(work: Work, sets: list[CorpusSource], config: BuildConfig) -> dict[str, Any]:
    """Read the exclusion sets; the first set that names a sequence has it. Gives `read`, `rejected` and `kept` of each."""
    tables: list[pa.Table] = []
    counts: dict[str, dict[str, int]] = {}
    for one in sets:
        count = counts.setdefault(one.name, {"read": 0, "rejected": 0, "distinct": 0})
        for piece in plan_pieces(one.path, encoding=config.encoding):
            for table in read_tables(piece, id_column=config.id_column, sequence_column=config.sequence_column, columns=()):
                good, rejects = clean_table(table, piece.name)
                count["read"] += table.num_rows
                count["rejected"] += rejects.num_rows
                columns = {
                    "sha": sha_array(good["sha"].to_pylist()),
                    "id": good["id"],
                    "set": pa.array([one.name] * good.num_rows, pa.string()),
                    "sequence": good["sequence"].cast(pa.large_string()),
                }
                tables.append(pa.table(columns))
    whole = pa.concat_tables(tables).combine_chunks()
    _, first = np.unique(np.array(whole["sha"].to_pylist()), return_index=True)
    whole = whole.take(np.sort(first))
    for name, number in zip(*np.unique(whole["set"].to_pylist(), return_counts=True), strict=True):
        counts[str(name)]["distinct"] = int(number)
    work.write_table("references", 0, whole)
    long = whole.filter(pc.greater_equal(pc.binary_length(whole["sequence"]), MIN_ALIGNED))
    rows = pc.index_in(long["sha"], whole["sha"].combine_chunks())
    write_fasta(work.at("references", 0, "fasta"), rows, long["sequence"])
    return counts


def write_fasta(path: Path, names: Any, sequences: pa.ChunkedArray) -> None:
    """Write FASTA of DNA sequences, a line to a sequence."""
    dna = pc.replace_substring(sequences, "U", "T")
    with new_file(path) as beside, beside.open("w", encoding="utf-8") as sink:
        for name, sequence in zip(names.to_pylist(), dna.to_pylist(), strict=True):
            sink.write(f">{name}\n{sequence}\n")


def find_excluded(
    work: Work, bucket: int, rows: pa.Table, references: References, config: BuildConfig, tool: str
) -> pa.Table:
    """Rows that are identical or near-identical to a member of an exclusion set, each with its closest member.

    Args:
        work, bucket: where temporary files may go. rows: `sha`, `sequence`. references: the members.
        config: identity and coverage. tool: `mmseqs2` or `kmers`.

    Returns:
        `row`, `member` (row of the references), `identity`, `coverage` (of the shorter).
    """
    same = pc.index_in(rows["sha"].combine_chunks(), references.table["sha"].combine_chunks())
    exact = np.flatnonzero(same.is_valid().to_numpy(False))
    found = [_hits(exact, same.take(exact).to_numpy(False), np.ones(len(exact)), np.ones(len(exact)))]
    others = np.flatnonzero(same.is_null().to_numpy(False))
    if len(others) and work.at("references", 0, "fasta").stat().st_size:
        if tool == "mmseqs2":
            found.append(_search(work, bucket, rows, others, config))
        else:
            found.append(_compare(rows, others, references, config))
    return pa.concat_tables(found)


def _hits(row: Any, member: Any, identity: Any, coverage: Any) -> pa.Table:
    columns = [np.asarray(row), np.asarray(member), np.asarray(identity), np.asarray(coverage)]
    return pa.table(columns, names=HIT_SCHEMA.names).cast(HIT_SCHEMA)


def _closest(hits: pa.Table) -> pa.Table:
    """Of each row's hits the one of highest identity, then coverage, then the first member."""
    order = np.lexsort(
        [
            hits["member"].to_numpy(),
            -hits["coverage"].to_numpy(),
            -hits["identity"].to_numpy(),
            hits["row"].to_numpy(),
        ]
    )
    _, first = np.unique(hits["row"].to_numpy()[order], return_index=True)
    return hits.take(order[first])


def _search(work: Work, bucket: int, rows: pa.Table, others: NDArray[np.int64], config: BuildConfig) -> pa.Table:
    scratch = work.at("search", bucket, "tmp")
    shutil.rmtree(scratch, ignore_errors=True)  # of a killed run
    scratch.mkdir(parents=True)
    queries, hits = scratch / "queries.fasta", scratch / "hits.tsv"
    write_fasta(queries, pa.array(others), rows["sequence"].take(others))
    mmseqs.search(
        queries,
        work.at("references", 0, "fasta"),
        hits,
        scratch / "tmp",
        identity=config.exclude_identity,
        least=MIN_ALIGNED,
        threads=1,
    )
    names = ["row", "member", "identity", "qstart", "qend", "qlen", "tstart", "tend", "tlen"]
    found: list[pa.Table] = [_hits([], [], [], [])]
    if hits.stat().st_size:
        options = pyarrow.csv.ReadOptions(column_names=names)
        with pyarrow.csv.open_csv(
            hits, read_options=options, parse_options=pyarrow.csv.ParseOptions(delimiter="\t")
        ) as reader:
            found.extend(_covering(batch, config.exclude_coverage) for batch in reader)
    shutil.rmtree(scratch)
    return _closest(pa.concat_tables(found))


def _covering(batch: pa.RecordBatch, coverage: float) -> pa.Table:
    """The alignments that hold enough of the shorter sequence."""
    column = {name: batch[name].to_numpy(False) for name in batch.schema.names}
    aligned_q = column["qend"] - column["qstart"] + 1
    aligned_t = column["tend"] - column["tstart"] + 1
    shorter = np.where(column["qlen"] <= column["tlen"], aligned_q / column["qlen"], aligned_t / column["tlen"])
    enough = shorter >= coverage
    return _closest(_hits(column["row"][enough], column["member"][enough], column["identity"][enough], shorter[enough]))


def _compare(rows: pa.Table, others: NDArray[np.int64], references: References, config: BuildConfig) -> pa.Table:
    members = references.table["sequence"].combine_chunks()
    long = np.flatnonzero(pc.greater_equal(pc.binary_length(members), MIN_ALIGNED).to_numpy(False))
    members = members.take(long)
    codes, owners = distinct_kmers(members, SEED_K)
    order = np.argsort(codes, kind="stable")
    codes, owners = codes[order], owners[order]
    sequences = rows["sequence"].combine_chunks().take(others)
    least = least_shared(config.exclude_identity, config.exclude_coverage, VERIFY_K)
    found = [_hits([], [], [], [])]
    for start, end in blocks(text_of(sequences)[1]):
        part = sequences.slice(start, end - start)
        pairs = _seeded(part, codes, owners, len(members))
        for first in range(0, len(pairs), _PAIRS):
            some = pairs[first : first + _PAIRS]
            own, own_at = np.unique(some[:, 0], return_inverse=True)
            theirs, theirs_at = np.unique(some[:, 1], return_inverse=True)
            share = shared_kmers(part.take(own), members.take(theirs), np.stack([own_at, theirs_at], 1))
            good = share >= least
            near = estimated_identity(share[good], VERIFY_K)
            found.append(
                _closest(_hits(others[some[good, 0] + start], long[some[good, 1]], near, np.full(len(near), np.nan)))
            )
    return _closest(pa.concat_tables(found))


def _seeded(part: pa.Array, codes: NDArray[Any], owners: NDArray[Any], members: int) -> NDArray[np.int64]:
    """Pairs (row, member) with at least `SEEDS` 12-mers in common; int64 [p, 2]."""
    own, rows = distinct_kmers(part, SEED_K)
    pairs: list[NDArray[np.int64]] = []
    left, right = np.searchsorted(codes, own, "left"), np.searchsorted(codes, own, "right")
    number = right - left
    for start, end in blocks(np.concatenate([[0], np.cumsum(number)]).astype(np.int64)):
        count = number[start:end]
        first = np.concatenate([[0], np.cumsum(count)])
        place = np.arange(first[-1]) + np.repeat(left[start:end] - first[:-1], count)
        pairs.append(np.repeat(rows[start:end], count) * members + owners[place])
    keys, times = np.unique(np.concatenate(pairs), return_counts=True) if pairs else (np.array([], np.int64), np.array([]))
    keys = keys[times >= SEEDS]
    return np.stack([keys // max(members, 1), keys % max(members, 1)], 1)
