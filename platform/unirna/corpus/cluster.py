"""Third stage: near-duplicates become clusters, each with a representative that its members resemble.

Either way a member has at least the required identity to its representative over at least the required share of itself, and
representatives are at least as long as their members.

MMseqs2: `linclust`, one process on one machine, its memory bounded by itself; about as fast as the disk.

MinHash: the same idea as linclust's in our own steps over buckets on disk, each of which a cluster does in parallel:

1. Sketch: of each sequence the `SKETCH` 14-mers of least hash. Sequences that share one of them meet in a part.
2. Pair: among those that share a 14-mer, each is paired with the longest (of equals with the first).
3. Verify: a pair counts when the share of common 10-mers implies the required identity (`kmers.py`).
4. Settle, in rounds: who has no longer partner left that could take it is a representative; who has one that is a
   representative joins the longest. This gives what going through all sequences from the longest would give, without a
   step that sees all, and without chains: a member always resembles its representative itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from unirna.corpus import mmseqs
from unirna.corpus.config import BuildConfig
from unirna.corpus.exclude import write_fasta
from unirna.corpus.kmers import VERIFY_K, blocks, distinct_kmers, least_shared, mixed, shared_kmers, text_of
from unirna.corpus.work import Kept, Work
from unirna.job import num_cpus
from unirna.runs import PartitionWriter, new_file, read_partition

SKETCH: Final = 48
SKETCH_K: Final = 14
SKETCH_SCHEMA: Final = pa.schema([("hash", pa.uint64()), ("length", pa.int32()), ("index", pa.int64())])
PAIR_SCHEMA: Final = pa.schema([("member", pa.int64()), ("centre", pa.int64()), ("length", pa.int32())])
UNDECIDED: Final = -1
_PAIRS: Final = 200_000


# ---- MMseqs2 -------------------------------------------------------------------------------------------------------


def write_letters(work: Work, bucket: int, start: int) -> dict[str, Any]:
    """Write a bucket's kept sequences as FASTA, named by their index."""
    kept = work.table("kept", bucket)
    write_fasta(work.at("letters", bucket, "fasta"), pa.array(range(start, start + kept.num_rows)), kept["sequence"])
    return {}


def cluster_mmseqs(work: Work, starts: NDArray[np.int64], nucleotides: int, config: BuildConfig) -> dict[str, Any]:
    """Cluster all sequences with MMseqs2, and write the representative of each, bucket by bucket (stage `cluster`).

    Args:
        work: with the letters of all buckets. starts: of the buckets. nucleotides: in all. config: identity and coverage.
    """
    buckets = len(starts) - 1
    scratch = work.folder / "linclust"
    table = scratch / "clusters.tsv"
    if not table.exists():
        shutil.rmtree(scratch, ignore_errors=True)  # of a killed run
        scratch.mkdir(parents=True)
        inputs = [work.at("letters", b, "fasta") for b in range(buckets) if starts[b + 1] > starts[b]]
        with new_file(table) as beside:
            mmseqs.linclust(
                inputs,
                beside,
                scratch,
                nucleotides=nucleotides,
                identity=config.identity,
                coverage=config.coverage,
                threads=num_cpus(),
            )
    with ExitStack() as stack:
        files = [stack.enter_context(new_file(work.at("cluster", b, "npy"))) for b in range(buckets)]
        sizes = np.diff(starts).tolist()
        arrays = [np.lib.format.open_memmap(file, "w+", np.int64, (n,)) for file, n in zip(files, sizes, strict=True)]
        _fill_representatives(arrays, table, starts)
    return {}


def _fill_representatives(arrays: Sequence[NDArray[np.int64]], table: Path, starts: NDArray[np.int64]) -> None:
    """Fill the representative of each sequence, one array for each bucket, from MMseqs2's table."""
    for array in arrays:
        array[:] = UNDECIDED
    names = ["representative", "member"]
    with pyarrow.csv.open_csv(
        table,
        read_options=pyarrow.csv.ReadOptions(column_names=names),
        parse_options=pyarrow.csv.ParseOptions(delimiter="\t"),
    ) as reader:
        for batch in reader:
            representative, member = (batch[name].to_numpy() for name in names)
            bucket = np.searchsorted(starts, member, side="right") - 1
            for b in np.unique(bucket):
                mine = bucket == b
                arrays[b][member[mine] - starts[b]] = representative[mine]
    for b, array in enumerate(arrays):
        alone = np.flatnonzero(array == UNDECIDED)  # shorter than a k-mer: MMseqs2 leaves them out
        array[alone] = alone + starts[b]


# ---- MinHash -------------------------------------------------------------------------------------------------------


def sketch_bucket(work: Work, bucket: int, start: int, parts: int) -> dict[str, Any]:
    """Step 1: write (hash, length, index) of a bucket's sketches, in parts by hash."""
    sequences = work.table("kept", bucket)["sequence"].combine_chunks()
    offsets = text_of(sequences)[1]
    lengths = np.diff(offsets).astype(np.int32)

    def part_of(table: pa.Table) -> NDArray[np.int64]:
        # not the top bits: the least hashes all begin with zeros
        return (mixed(table["hash"].to_numpy()) % np.uint64(parts)).astype(np.int64)

    with PartitionWriter(work.files, "sketch", bucket, parts, part_of) as writer:
        for first, last in blocks(offsets):
            codes, rows = distinct_kmers(sequences.slice(first, last - first), SKETCH_K)
            hashes = mixed(codes)
            order = np.lexsort((hashes, rows))
            hashes, rows = hashes[order], rows[order]
            rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
            hashes, rows = hashes[rank < SKETCH], rows[rank < SKETCH] + first
            writer.write(pa.table({"hash": hashes, "length": lengths[rows], "index": rows + start}, SKETCH_SCHEMA))
    return {}


def pair_part(work: Work, part: int, starts: NDArray[np.int64]) -> dict[str, Any]:
    """Step 2: write the pairs (member, longest partner) of those that share a k-mer of this part, in parts by member."""
    buckets = len(starts) - 1
    whole = _partition(work, "sketch", SKETCH_SCHEMA, part, buckets)
    hashes, length, index = (whole[name].to_numpy() for name in ("hash", "length", "index"))
    order = np.lexsort((index, -length, hashes))
    hashes, length, index = hashes[order], length[order], index[order]
    place = np.searchsorted(hashes, hashes)
    member, centre = index, index[place]
    other = member != centre
    pairs, once = np.unique(np.stack([member[other], centre[other]], 1), axis=0, return_index=True)
    columns = {"member": pairs[:, 0], "centre": pairs[:, 1], "length": length[place][other][once]}

    def bucket_of(table: pa.Table) -> NDArray[np.int64]:
        bucket: NDArray[np.int64] = np.searchsorted(starts, table["member"].to_numpy(), side="right") - 1
        return bucket

    with PartitionWriter(work.files, "pairs", part, buckets, bucket_of) as writer:
        writer.write(pa.table(columns, PAIR_SCHEMA))
    return {}


def verify_bucket(work: Work, bucket: int, starts: NDArray[np.int64], config: BuildConfig) -> dict[str, Any]:
    """Step 3: write a bucket's pairs that count, int64 [p, 2], by member and from its longest partner on."""
    buckets = len(starts) - 1
    kept = Kept(work, starts)
    whole = _partition(work, "pairs", PAIR_SCHEMA, bucket, buckets)
    member, centre, length = (whole[name].to_numpy() for name in PAIR_SCHEMA.names)
    pairs, once = np.unique(np.stack([member, -length.astype(np.int64), centre], 1), axis=0, return_index=True)
    del once
    least = least_shared(config.identity, config.coverage, VERIFY_K)
    good: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
    for first in range(0, len(pairs), _PAIRS):
        some = pairs[first : first + _PAIRS]
        for a, b in blocks(np.concatenate([[0], np.cumsum(-some[:, 1])]), 16_000_000):
            few = some[a:b]
            own, own_at = np.unique(few[:, 0], return_inverse=True)
            theirs, theirs_at = np.unique(few[:, 2], return_inverse=True)
            share = shared_kmers(kept.sequences(own), kept.sequences(theirs), np.stack([own_at, theirs_at], 1))
            good.append(few[share >= least][:, [0, 2]])
    work.write_array("edges", bucket, np.concatenate(good))
    return {}


def _partition(work: Work, stage: str, schema: pa.Schema, part: int, parts: int) -> pa.Table:
    """All rows of one partition of a stage."""
    return pa.concat_tables([schema.empty_table(), *(table for _, table in read_partition(work.files, stage, part, parts))])


def settle_bucket(work: Work, bucket: int, starts: NDArray[np.int64], turn: int) -> dict[str, Any]:
    """Step 4, one round: write the representative of each sequence of a bucket, or `UNDECIDED`; gives how many are."""
    start, size = int(starts[bucket]), int(starts[bucket + 1] - starts[bucket])
    edges = work.array("edges", bucket)
    if turn == 0:
        state = np.arange(start, start + size)
        state[edges[:, 0] - start] = UNDECIDED
    else:
        state = np.array(work.array(f"settle-{turn - 1}", bucket))
        edges = edges[state[edges[:, 0] - start] == UNDECIDED]
        theirs = Kept(work, starts).values(f"settle-{turn - 1}", edges[:, 1])
        # Partners that joined another cluster no longer count. The first that counts decides, or is waited for.
        counts = theirs == edges[:, 1]
        counts |= theirs == UNDECIDED
        members, first = np.unique(edges[:, 0], return_index=True)
        none = len(edges)
        if none:
            place = np.minimum.reduceat(np.where(counts, np.arange(none), none), first)
            alone = place == none
            place = np.minimum(place, none - 1)
            state[members - start] = np.where(alone, members, theirs[place])
    work.write_array(f"settle-{turn}", bucket, state)
    return {"undecided": int((state == UNDECIDED).sum())}


def keep_settled(work: Work, bucket: int, turn: int) -> dict[str, Any]:
    """Write the representatives of the last round as those of the bucket (stage `cluster`)."""
    work.write_array("cluster", bucket, np.asarray(work.array(f"settle-{turn}", bucket)))
    return {}


# ---- comparison ----------------------------------------------------------------------------------------------------


def agreement(one: NDArray[Any], other: NDArray[Any]) -> dict[str, float]:
    """How far two clusterings of the same sequences agree.

    Args:
        one, other: cluster of each sequence, [n]; any labels.

    Returns:
        `rand`: adjusted Rand index (Hubert & Arabie 1985); `precision` and `recall`: share of `other`'s pairs that are also
        pairs of `one`, and share of `one`'s that are also pairs of `other`; 1 where there are none.
    """
    _, a = np.unique(one, return_inverse=True)
    _, b = np.unique(other, return_inverse=True)
    _, both = np.unique(np.stack([a, b], 1), axis=0, return_counts=True)

    def pairs(counts: NDArray[Any]) -> float:
        return float((counts.astype(np.float64) * (counts - 1) / 2).sum())

    together, in_one, in_other = pairs(both), pairs(np.bincount(a)), pairs(np.bincount(b))
    every = len(a) * (len(a) - 1) / 2
    expected = in_one * in_other / every if every else 0.0
    most = (in_one + in_other) / 2
    return {
        "rand": (together - expected) / (most - expected) if most != expected else 1.0,
        "precision": together / in_other if in_other else 1.0,
        "recall": together / in_one if in_one else 1.0,
    }


def lengths_of(table: pa.Table) -> NDArray[np.int64]:
    """Lengths of a table's sequences."""
    lengths: NDArray[np.int64] = pc.binary_length(table["sequence"]).to_numpy().astype(np.int64)
    return lengths
