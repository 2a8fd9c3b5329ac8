"""What the manifest of a corpus says: sums over its buckets, and the tables that stand beside it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unirna.corpus.shards import SPLITS, CorpusError
from unirna.corpus.work import Work
from unirna.corpus.write import LENGTH_EDGES
from unirna.runs import new_file


def sum_counts(names: list[str], scanned: list[dict[str, Any]], resolved: list[dict[str, Any]]) -> dict[str, Any]:
    """The sums of the whole, checked; `by_source` holds them for each source."""
    reasons: Counter[str] = Counter()
    excluded: Counter[str] = Counter()
    each = {name: {"read": 0, "rejected": 0, "duplicates": 0, "excluded": 0} for name in names}
    for record in scanned:
        source = each[names[record["source"]]]
        source["read"] += record["read"]
        source["rejected"] += sum(record["rejected"].values())
        reasons.update(record["rejected"])
    for record in resolved:
        for name, count in record["duplicates"].items():
            each[name]["duplicates"] += count
        for name, by, count in record["excluded"]:
            each[name]["excluded"] += count
            excluded[by] += count
    sums = {key: sum(source[key] for source in each.values()) for key in ("read", "rejected", "duplicates", "excluded")}
    kept = sum(record["kept"] for record in resolved)
    if sums["read"] != kept + sums["rejected"] + sums["duplicates"] + sums["excluded"]:
        raise CorpusError(f"{sums} do not add up with {kept} kept: the input changed while it was read. Start again")
    for source in each.values():
        source["kept"] = source["read"] - source["rejected"] - source["duplicates"] - source["excluded"]
    return {
        "read": sums["read"],
        "kept": kept,
        "rejected": sums["rejected"],
        "rejected_by_reason": dict(reasons.most_common()),
        "duplicates": sums["duplicates"],
        "excluded": sums["excluded"],
        "excluded_by_set": dict(excluded.most_common()),
        "by_source": each,
    }


def reasons_of(totals: dict[str, Any]) -> str:
    """Why so little is left, in words."""
    reasons = totals["rejected_by_reason"] or "none"
    return f"Rejected: {reasons}. Excluded: {totals['excluded_by_set'] or 'none'}"


def split_contents(names: list[str], weights: dict[str, float], shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Sequences, nucleotides, lengths and shares of the draw, of each split and source."""
    splits: dict[str, Any] = {}
    for split in SPLITS:
        parts = [shard["splits"][split] for shard in shards if split in shard["splits"]]
        by_source: dict[str, dict[str, float]] = {}
        share = np.sum([part["source_weight"] for part in parts], axis=0) if parts else np.zeros(len(names))
        for number, name in enumerate(names):
            counts = [part["sources"][name] for part in parts if name in part["sources"]]
            if counts:
                sequences, nucleotides = (sum(c[i] for c in counts) for i in (0, 1))
                of_draw = round(float(share[number]), 6)
                by_source[name] = {"sequences": sequences, "nucleotides": nucleotides, "share": of_draw}
        splits[split] = {
            "sequences": sum(part["sequences"] for part in parts),
            "nucleotides": sum(part["nucleotides"] for part in parts),
            "with_group": sum(part["with_group"] for part in parts),
            "sources": by_source,
            "lengths": np.sum([part["lengths"] for part in parts], axis=0).tolist() if parts else [],
        }
    for shard in shards:
        for part in shard["splits"].values():
            for detail in ("sources", "source_weight", "lengths"):
                del part[detail]  # of interest in sum alone
    return {
        "splits": splits,
        "sources": names,
        "source_weights": [weights[name] for name in names],
        "length_edges": list(LENGTH_EDGES),
    }


def cluster_statistics(sizes: Counter[int]) -> dict[str, Any]:
    """Number of clusters, of those with one member, the largest, and how many there are up to each power of two."""
    histogram: Counter[int] = Counter()
    for size, number in sizes.items():
        histogram[1 << (size - 1).bit_length()] += number
    return {
        "clusters": sum(sizes.values()),
        "singletons": sizes.get(1, 0),
        "largest": max(sizes, default=0),
        "sizes_up_to": {str(size): histogram[size] for size in sorted(histogram)},
    }


def gather_tables(work: Work, out: Path, stage: str, count: int, schema: pa.Schema) -> None:
    """One Parquet file of what the parts of a stage set aside, copied part by part."""
    with new_file(out / f"{stage}.parquet") as beside, pq.ParquetWriter(beside, schema) as writer:
        for number in range(count):
            table: pa.Table = pq.read_table(work.at(stage, number, "parquet"))
            if table.num_rows:
                writer.write_table(table)
