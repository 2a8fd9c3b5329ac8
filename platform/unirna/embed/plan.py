"""What the workers of a run are told, and what they leave behind. Imports no torch, so that readers start quickly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from unirna.embed.state import State

COUNTS: Final = ("rows", "nucleotides", "distinct", "distinct_nucleotides", "windowed")
"""What is counted of a chunk: its rows and their nucleotides, the distinct sequences among them that were embedded and
their nucleotides, and the rows whose sequence was longer than the model's context."""


@dataclass(frozen=True)
class Plan:
    """What every worker of a run needs to know.

    Attributes:
        state: of the job. store, collection: where the rows go. schema: of the collection.
        against: the version of the collection that the input was compared with (`version_name`). run: name of this run.
        parts: over which the records are spread. chunk_nucleotides: about how much one chunk holds.
        overwrite: the rows replace all rows of the collection.
    """

    state: State
    store: str
    collection: str
    schema: pa.Schema
    against: str
    run: str
    parts: int
    chunk_nucleotides: int
    overwrite: bool = False


@dataclass(frozen=True)
class Recipe:
    """How an actor runs the model.

    Attributes:
        batch_tokens: tokens of one forward pass, None for the model's own choice. threads: of torch in one actor.
        level: "sequence" or "nucleotide".
    """

    batch_tokens: int | None
    threads: int
    level: str = "sequence"


def read_record(state: State, name: str) -> dict[str, Any]:
    """What a record says: `COUNTS` and `fragments`; which rows they are is not read."""
    filesystem, path = state.at(f"records/{name}.parquet")
    note: dict[str, Any] = json.loads(pq.read_schema(path, filesystem=filesystem).metadata[b"unirna"])
    return note


def record_counts(state: State, name: str) -> dict[str, int]:
    """The `COUNTS` of a record."""
    note = read_record(state, name)
    return {key: note[key] for key in COUNTS}
