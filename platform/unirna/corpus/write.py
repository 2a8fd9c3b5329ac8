"""Last stages, bucket by bucket: sizes of clusters, the side each stands on, sampling weights, and the shards themselves.

A cluster of n sequences weighs n^a (`cluster_exponent`), shared equally: each member weighs r = n^(a - 1). A source has
c = the sum of 1 / n over its sequences, which is its number of clusters where no cluster has members of other sources, and
gets the share w * c^b of the draw (its given weight, `source_exponent`), over the sum of the same of all sources. Within a
source sequences are drawn in proportion to r. All this within each split, whose weights add up to 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from unirna.corpus.cluster import lengths_of
from unirna.corpus.config import BuildConfig
from unirna.corpus.scan import sha_words
from unirna.corpus.shards import SPLITS, digest_file
from unirna.corpus.work import Kept, Work
from unirna.model import tokenise
from unirna.runs import new_file

LENGTH_EDGES: Final = (
    *(0, 20, 30, 40, 50, 60, 80, 100, 120, 150, 200, 250, 300, 400, 500),
    *(700, 1000, 1500, 2000, 3000, 5000, 10000),
)
"""Lower edges of the bins of the length histogram, in nucleotides; the last bin is open."""
TOKENISED: Final = 4096
"""Sequences that become tokens at once."""


def count_members(work: Work, bucket: int) -> dict[str, Any]:
    """Write the clusters met in a bucket, ascending, and how many of its sequences each has: int64 [c, 2]."""
    clusters, counts = np.unique(work.array("cluster", bucket), return_counts=True)
    work.write_array("members", bucket, np.stack([clusters, counts], 1))
    return {}


def size_clusters(work: Work, bucket: int, starts: NDArray[np.int64]) -> dict[str, Any]:
    """Write the size of the cluster that each sequence of a bucket represents, 0 if it represents none: int64 [n]."""
    start, end = int(starts[bucket]), int(starts[bucket + 1])
    sizes = np.zeros(end - start, np.int64)
    for other in range(len(starts) - 1):
        members = work.array("members", other)
        a, b = np.searchsorted(members[:, 0], [start, end])
        sizes[members[a:b, 0] - start] += members[a:b, 1]
    work.write_array("sizes", bucket, sizes)
    held, number = np.unique(sizes[sizes > 0], return_counts=True)
    return {"clusters": {str(size): int(n) for size, n in zip(held, number, strict=True)}}


def weigh_bucket(
    work: Work, bucket: int, starts: NDArray[np.int64], num_sources: int, config: BuildConfig
) -> dict[str, Any]:
    """Write each sequence's split and weight within its source; gives sums of each split and source."""
    kept = Kept(work, starts)
    table = work.table("kept", bucket)
    source = table["source"].to_numpy()
    if config.clustering == "none":
        words, size = sha_words(table["sha"]), np.ones(table.num_rows, np.int64)
    else:
        cluster = work.array("cluster", bucket)
        words, size = sha_words(kept.shas(cluster)), kept.values("sizes", cluster)
    # The first half of the hash orders the corpus; the second decides the side.
    place = (words[:, 1] >> np.uint64(11)).astype(np.float64) / 2**53
    held_out = [place < config.valid_share, place < config.valid_share + config.test_share]
    split = np.select(held_out, [1, 2], 0).astype(np.uint8)
    raw = size.astype(np.float64) ** (config.cluster_exponent - 1)
    work.write_array("split", bucket, split)
    work.write_array("raw", bucket, raw)
    key, cells = split * num_sources + source.astype(np.int64), len(SPLITS) * num_sources
    return {
        "raw": np.bincount(key, raw, cells).tolist(),
        "clusters": np.bincount(key, 1 / size, cells).tolist(),
    }


def source_factors(records: list[dict[str, Any]], weights: list[float], exponent: float) -> NDArray[np.float64]:
    """What a sequence's weight within its source is to be multiplied by: float64 [splits, sources]."""
    shape = (len(SPLITS), len(weights))
    raw, clusters = (np.sum([r[name] for r in records], axis=0).reshape(shape) for name in ("raw", "clusters"))
    share = np.where(clusters > 0, np.array(weights) * clusters**exponent, 0.0)
    share /= np.maximum(share.sum(1, keepdims=True), np.finfo(float).tiny)
    factors: NDArray[np.float64] = np.divide(share, raw, out=np.zeros(shape), where=raw > 0)
    return factors


def write_shard(
    work: Work,
    out: Path,
    bucket: int,
    starts: NDArray[np.int64],
    sources: list[str],
    groups: list[str],
    factors: NDArray[np.float64],
    config: BuildConfig,
) -> dict[str, Any]:
    """Write a bucket's shard, one set of files to each split that it has sequences of; gives what they hold."""
    table = work.table("kept", bucket)
    split = work.array("split", bucket)
    source = table["source"].to_numpy()
    size = int(starts[bucket + 1] - starts[bucket])
    own = np.arange(starts[bucket], starts[bucket] + size)
    cluster = own if config.clustering == "none" else np.asarray(work.array("cluster", bucket))
    group = pc.fill_null(pc.index_in(table["group"], pa.array(groups, pa.string())), -1).to_numpy()
    weight = np.asarray(work.array("raw", bucket)) * factors[split, source]
    lengths = lengths_of(table)
    bins = np.searchsorted(LENGTH_EDGES, lengths, "right") - 1
    record: dict[str, Any] = {"number": bucket, "splits": {}, "files": {}}
    for number, name in enumerate(SPLITS):
        rows = np.flatnonzero(split == number)
        if not len(rows):
            continue
        stem = f"{name}-{bucket:05d}"
        part = table.take(rows)
        offsets = np.concatenate([[0], np.cumsum(lengths[rows])]).astype(np.int64)
        arrays = {
            "offsets": offsets,
            "source": source[rows].astype(np.uint16),
            "cluster": cluster[rows].astype(np.int64),
            "group": group[rows].astype(np.int32),
            "cumulative": np.cumsum(weight[rows]),
        }
        ids = {
            "id": part["id"],
            "source": pa.array([sources[s] for s in source[rows]], pa.string()).dictionary_encode(),
            "sha": pa.array([sha.hex() for sha in part["sha"].to_pylist()], pa.string()),
            "cluster": pa.array(cluster[rows]),
            "group": part["group"],
            "split": pa.array([name] * len(rows), pa.string()).dictionary_encode(),
        }
        by_source = np.bincount(source[rows], minlength=len(sources))
        nucleotides = np.bincount(source[rows], lengths[rows], len(sources))
        record["splits"][name] = {
            "sequences": len(rows),
            "nucleotides": int(offsets[-1]),
            "weight": float(arrays["cumulative"][-1]),
            "with_group": int((group[rows] >= 0).sum()),
            "sources": {s: [int(by_source[i]), int(nucleotides[i])] for i, s in enumerate(sources) if by_source[i]},
            "source_weight": np.bincount(source[rows], weight[rows], len(sources)).tolist(),
            "lengths": np.bincount(bins[rows], minlength=len(LENGTH_EDGES)).tolist(),
        }
        record["files"] |= _write_files(out, stem, part["sequence"], arrays, pa.table(ids))
    return record


def _write_files(
    out: Path, stem: str, sequences: pa.ChunkedArray, arrays: dict[str, NDArray[Any]], ids: pa.Table
) -> dict[str, dict[str, Any]]:
    """Write the files of one split of a shard; the size and the checksum of each by its name."""
    with new_file(out / f"{stem}.tokens") as beside, beside.open("wb") as sink:
        for start in range(0, len(sequences), TOKENISED):
            sink.write(tokenise("".join(sequences.slice(start, TOKENISED).to_pylist())).tobytes())
    for ending, array in arrays.items():
        with new_file(out / f"{stem}.{ending}.npy") as beside, beside.open("wb") as sink:
            np.save(sink, array)
    with new_file(out / f"{stem}.ids.parquet") as beside:
        pq.write_table(ids, beside)
    paths = [out / f"{stem}.{ending}" for ending in ("tokens", *(f"{name}.npy" for name in arrays), "ids.parquet")]
    return {path.name: {"bytes": path.stat().st_size, "blake2b": digest_file(path)} for path in paths}
