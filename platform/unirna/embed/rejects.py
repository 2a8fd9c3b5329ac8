"""The sidecar table of records that were not stored, with the reason for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from unirna.embed.state import State
from unirna.vectorstore import rejects_name, replace_rows

DUPLICATE: Final = "duplicate id"
REJECT_SCHEMA: Final = pa.schema(
    [
        ("job", pa.string()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("number", pa.int64()),
        ("reason", pa.string()),
        ("position", pa.int64()),
        ("letter", pa.string()),
        ("detail", pa.string()),
    ]
)
"""`number` is the record's 1-based place in its source, `position` that of the invalid letter (0: the whole record)."""


def with_job(rejects: pa.Table, job: str) -> pa.Table:
    """Rejects as `clean_table` gives them, in the columns of the sidecar table."""
    blank = pa.array([""] * rejects.num_rows, pa.string())
    rejects = rejects.append_column("job", pa.array([job] * rejects.num_rows, pa.string())).append_column("detail", blank)
    return rejects.select(REJECT_SCHEMA.names).cast(REJECT_SCHEMA)


def save_rejects(state: State, store: str, collection: str, job: str, against: str, sources: list[str]) -> None:
    """Write the rejects of a job to the sidecar table, replacing earlier ones from the same sources.

    Args:
        state: of the job. store, collection: whose rejects they are.
        job: the job's key.
        against: the version of the collection that the input was compared with (`version_name`).
        sources: names of all pieces of the input.
    """
    rows = _rejects(state, job, against, sources)
    replace_rows(
        store, rejects_name(collection), rows, REJECT_SCHEMA, pc.field("source").isin(sources), key=f"{job}-rejects"
    )


def _rejects(state: State, job: str, against: str, sources: list[str]) -> Iterator[pa.RecordBatch]:
    for name in state.names("rejects", "parquet"):
        yield from state.read_table(f"rejects/{name}.parquet").to_batches()
    folder = f"resolved-{against}"
    for name in state.names(folder, "parquet"):
        twice = state.read_table(f"{folder}/{name}.parquet", filters=[("kind", "==", DUPLICATE)])
        count = twice.num_rows
        columns = {
            "job": [job] * count,
            "id": twice["id"],
            "source": [sources[piece] for piece in twice["piece"].to_pylist()],
            "number": twice["number"],
            "reason": twice["kind"],
            "position": [0] * count,
            "letter": [""] * count,
            "detail": twice["detail"],
        }
        yield from pa.table(columns, schema=REJECT_SCHEMA).to_batches()
