"""What the workers of a run are told, and what they leave behind. Imports no torch, so that readers start quickly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unirna.embed.scan import Source
from unirna.embed.state import State


@dataclass(frozen=True)
class Plan:
    """What every worker of a run needs to know.

    Attributes:
        state: of the job. store, collection: where the rows go. schema: of the collection.
        version: of the collection that the input was compared with. run: number of this run.
        source: how the input is read. chunk_nucleotides: about how much one chunk holds.
    """

    state: State
    store: str
    collection: str
    schema: pa.Schema
    version: int
    run: int
    source: Source
    chunk_nucleotides: int


@dataclass(frozen=True)
class Recipe:
    """Which model an actor loads, and how it runs.

    Attributes:
        path: name, folder or URI. fingerprint: that the driver saw there.
        batch_tokens: tokens of one forward pass, None for the model's own choice. threads: of torch in one actor.
    """

    path: str
    fingerprint: str
    batch_tokens: int | None
    threads: int


def read_record(plan: Plan, name: str) -> dict[str, Any]:
    """What a record says: `rows`, `nucleotides`, `windowed` and `fragments`; which rows they are is not read."""
    filesystem, path = plan.state.at(f"records/{name}.parquet")
    note: dict[str, Any] = json.loads(pq.read_schema(path, filesystem=filesystem).metadata[b"unirna"])
    return note


def record_counts(plan: Plan, name: str) -> dict[str, int]:
    """`rows`, `nucleotides` and `windowed` of a record."""
    note = read_record(plan, name)
    return {key: note[key] for key in ("rows", "nucleotides", "windowed")}
