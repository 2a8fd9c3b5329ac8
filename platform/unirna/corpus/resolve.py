"""Second stage, bucket by bucket: copies of one molecule become one, and what must stay out is set aside and listed."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from unirna.corpus.config import BuildConfig
from unirna.corpus.exclude import References, find_excluded
from unirna.corpus.scan import ROW_SCHEMA, CorpusUnit, sha_words
from unirna.corpus.work import Work
from unirna.runs import new_file, read_partition

EXCLUDED_SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("set", pa.string()),
        ("match", pa.string()),
        ("identity", pa.float64()),
        ("coverage", pa.float64()),
    ]
)
"""What was left out: by which set, its closest member, the identity of the alignment, and its share of the shorter one."""


def resolve_bucket(
    work: Work, bucket: int, units: list[CorpusUnit], sources: list[str], config: BuildConfig, tool: str, buckets: int
) -> dict[str, Any]:
    """Settle a bucket: write the kept sequences and the excluded ones.

    Of copies the first in input order stands for all. A group is taken from the first copy that has one; a rule that drops
    any copy drops the sequence. Gives the numbers of `kept`, `duplicates` (of each source) and `excluded` (of each set).
    """
    parts = [
        table.append_column("source", pa.array(np.full(table.num_rows, units[number].source, np.uint16)))
        for number, table in read_partition(work.files, "rows", bucket, buckets)
    ]
    none = ROW_SCHEMA.append(pa.field("source", pa.uint16())).empty_table()
    rows = pa.concat_tables([none, *parts]).combine_chunks()
    words = sha_words(rows["sha"])
    order = np.lexsort((words[:, 1], words[:, 0]))  # stable: copies stay in input order
    new = np.ones(len(order), bool)
    new[1:] = (words[order[1:]] != words[order[:-1]]).any(1)
    first = order[new]
    copies = Counter({sources[s]: int(n) for s, n in enumerate(np.bincount(rows["source"].to_numpy()[order[~new]])) if n})

    starts = np.flatnonzero(new)
    group = rows["group"].combine_chunks().take(_first_where(rows["group"].is_valid().to_numpy(), order, starts))
    rule_at = _first_where(rows["drop"].to_numpy() >= 0, order, starts)
    rule = rows["drop"].combine_chunks().take(rule_at)
    kept = rows.select(["sha", "id", "source", "sequence"]).take(first).append_column("group", group)

    names = [*config.drop, f"{config.group_column} in {PurePath(config.drop_groups).name}"]
    by_rule = np.flatnonzero(rule.is_valid().to_numpy(False))
    reasons = [names[rule[int(i)].as_py()] for i in by_rule]
    nothing = pa.nulls(len(by_rule))
    excluded = [_excluded(kept, by_rule, sources, reasons, nothing, nothing, nothing)]
    left = np.flatnonzero(rule.is_null().to_numpy(False))
    if config.exclude and len(left):
        references = References.of(work)
        hits = find_excluded(work, bucket, kept.take(left), references, config, tool)
        rows_out = left[hits["row"].to_numpy()]
        members = references.table.take(hits["member"])
        sets = members["set"].to_pylist()
        excluded.append(_excluded(kept, rows_out, sources, sets, members["id"], hits["identity"], hits["coverage"]))
        left = np.setdiff1d(left, rows_out)
    out = pa.concat_tables(excluded)
    with new_file(work.at("excluded", bucket, "parquet")) as beside:
        pq.write_table(out, beside)
    kept = kept.take(left)
    work.write_table("kept", bucket, kept)
    counts = Counter(zip(out["source"].to_pylist(), out["set"].to_pylist(), strict=True))
    return {
        "kept": kept.num_rows,
        "nucleotides": pc.sum(pc.binary_length(kept["sequence"])).as_py() or 0,
        "duplicates": dict(copies),
        "excluded": [[source, name, count] for (source, name), count in sorted(counts.items())],
    }


def _first_where(wanted: NDArray[Any], order: NDArray[Any], starts: NDArray[Any]) -> pa.Array:
    """The first selected row of each run of the ordered rows; null if there is none."""
    none = len(order)
    if not none:
        return pa.array([], pa.int64())
    place = np.minimum.reduceat(np.where(wanted[order], np.arange(none), none), starts)
    return pa.array(order[np.minimum(place, none - 1)], mask=place == none)


def _excluded(
    kept: pa.Table,
    rows: NDArray[Any],
    sources: list[str],
    sets: list[str],
    match: object,
    identity: object,
    coverage: object,
) -> pa.Table:
    chosen = kept.take(rows)
    names = pa.array([sources[i] for i in chosen["source"].to_pylist()], pa.string())
    columns = [chosen["id"], names, pa.array(sets, pa.string()), match, identity, coverage]
    return pa.table(columns, names=EXCLUDED_SCHEMA.names).cast(EXCLUDED_SCHEMA)
