"""Which records are not to be embedded: ids met before in the input, and ids that the collection holds already.

Ids are compared bucket by bucket, a bucket being the ids whose hash falls together, so no process holds all of them. Which
of two records wins depends on their place in the input alone, never on which worker was faster.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirna.embed.rejects import DUPLICATE
from unirna.embed.scan import KEY_SCHEMA, part_of
from unirna.embed.state import State

UNCHANGED: Final = "unchanged"
EXCEPTION_SCHEMA: Final = pa.schema(
    [
        ("part", pa.int32()),
        ("piece", pa.int32()),
        ("number", pa.int64()),
        ("id", pa.string()),
        ("kind", pa.string()),
        ("detail", pa.string()),
    ]
)


def resolve_bucket(state: State, against: str, bucket: int, sources: list[str], parts: int) -> dict[str, int]:
    """Compare the ids of one bucket among each other and with the collection; write the exceptions, give the counts.

    Args:
        state: with the keys of the input and of what the collection holds.
        against: the version of the collection (`version_name`).
        bucket: which ids.
        sources: names of all pieces of the input. parts: over which the records are spread.

    Returns:
        `unchanged` and `duplicate` records, and the `nucleotides` of both.
    """
    keys = _bucket(state, "keys", bucket).sort_by([("id", "ascending"), ("piece", "ascending"), ("number", "ascending")])
    held = _bucket(state, f"held-{against}", bucket)
    ids = keys["id"].combine_chunks()
    again = np.zeros(len(ids), bool)
    again[1:] = pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    place = pc.index_in(ids, held["id"].combine_chunks())
    known = place.is_valid().to_numpy(zero_copy_only=False) & ~again
    theirs = held["sha"].combine_chunks().take(place)
    same = pc.fill_null(pc.equal(theirs, keys["sha"].combine_chunks()), False).to_numpy(zero_copy_only=False)

    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(ids))))
    pieces, numbers = keys["piece"].to_numpy(), keys["number"].to_numpy()
    rows = np.flatnonzero(again | known)
    kinds = [UNCHANGED if known[i] and same[i] else DUPLICATE for i in rows]
    details = [
        f"first at record {numbers[first[i]]} of {sources[pieces[first[i]]]}"
        if again[i]
        else ("" if same[i] else "the collection holds another sequence under this id")
        for i in rows
    ]
    exceptions = pa.table(
        {
            "part": part_of(keys["sha"].take(rows), parts),
            "piece": keys["piece"].take(rows),
            "number": keys["number"].take(rows),
            "id": keys["id"].take(rows),
            "kind": pa.array(kinds, pa.string()),
            "detail": pa.array(details, pa.string()),
        },
        EXCEPTION_SCHEMA,
    )
    state.write_table(f"resolved-{against}/{bucket:06d}.parquet", exceptions.sort_by("part"), row_group_size=65536)
    unchanged = kinds.count(UNCHANGED)
    return {
        "unchanged": unchanged,
        "duplicate": len(kinds) - unchanged,
        "nucleotides": int(keys["length"].to_numpy()[rows].sum()),
    }


def _bucket(state: State, folder: str, bucket: int) -> pa.Table:
    """The keys of one bucket; of the files of a folder only the parts that hold it are read."""
    names = state.names(folder, "parquet")
    parts = [state.read_table(f"{folder}/{name}.parquet", filters=[("bucket", "==", bucket)]) for name in names]
    return pa.concat_tables([KEY_SCHEMA.empty_table(), *parts])


def exceptions_of(state: State, against: str, part: int) -> pa.Table:
    """Place (`piece`, `number`) of the records of one part that are not to be embedded."""
    folder = f"resolved-{against}"
    names = state.names(folder, "parquet")
    wanted: Any = [("part", "==", part)]
    found = [state.read_table(f"{folder}/{name}.parquet", ["piece", "number"], wanted) for name in names]
    empty = pa.schema([("piece", pa.int32()), ("number", pa.int64())]).empty_table()
    return pa.concat_tables([empty, *found])
