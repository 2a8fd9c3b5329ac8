"""What a running job has finished, beside the collection, so that a killed job goes on where it was.

The state of a job is a folder `<store>/_unirna/<collection>/<job key>/` of small files, each complete once it is there. The
key is a hash of the input files and their contents, the settings that matter and the model, so the same command finds its
own state and another never does. It goes when the job is done.

    job.json             what the key stands for
    scan/ keys/ rejects/ of each unit of input: counts; ids and shas; records rejected
    rows/                of each unit: its clean records, spread over parts by their sequence (`runs.partitions`)
    held-<version>/ resolved-<version>/  of each bucket of ids: what that version of the collection holds, and the records
                         not to embed against it
    kept-<run>/          of each part with records of earlier runs: those that still hold
    runs/                of each run: its number and the records of earlier runs that it builds on
    records/             of each written chunk: its files, and the rows they hold
    commit.json          the counts, just before the one commit
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from unirna.runs import RunFolder

STATE = "_unirna"
SPOOL = f"{STATE}/input"
"""Where in a store copies of standard input and pipes stand while a job reads them."""


@dataclass(frozen=True)
class State(RunFolder):
    """The folder of one job's state."""

    @classmethod
    def of(cls, store: str, collection: str, key: str) -> State:
        """The state of the job with this key."""
        return cls(f"{store.rstrip('/')}/{STATE}/{collection}/{key}")

    # ---- runs ------------------------------------------------------------------------------------------------------

    def start_run(
        self, against: str, schema: str, still_good: Callable[[str, list[str], bool], list[str]]
    ) -> tuple[str, list[str]]:
        """Name a new run and settle which records of earlier runs count.

        They are those that the run before built on and those it wrote itself, as far as they are there now. A worker of a
        killed run that writes a moment longer comes too late to be counted, now and ever, so no row can count twice. Nor
        can one where two runs start at once: each has a name of its own, and the next builds on one of them.

        Args:
            against: the version of the collection (`version_name`). schema: of the rows; records of others are not used.
            still_good: of the name of the run, records, and whether they were made against another version of the
                collection, those that can still be used.

        Returns:
            The run's name and the names of the records.
        """
        runs = self.names("runs", "json")
        number, records = 1, list[str]()
        last = self.read_json(f"runs/{runs[-1]}.json") if runs else None
        if last is not None:
            number = int(last["run"].partition("x")[0]) + 1
            if last["schema"] == schema:
                records = [*last["records"], *self.records_of(last["run"])]
        run = f"{number:06d}x{uuid.uuid4().hex[:8]}"
        if last is not None and records:
            records = still_good(run, records, last["against"] != against)
        self.write_json(f"runs/{run}.json", {"run": run, "against": against, "schema": schema, "records": records})
        return run, records

    def records_of(self, run: str) -> list[str]:
        """Names of the records that one run wrote."""
        return [name for name in self.names("records", "parquet") if name.split("-")[1] == run]


def record_name(part: int, run: str, chunk: int) -> str:
    """Name of the record of a chunk; the same when a worker dies and its chunk is done again."""
    return f"{part:06d}-{run}-{chunk:06d}"


def by_part(records: list[str]) -> dict[int, list[str]]:
    """Names of records by the part of the input that they are of."""
    found: dict[int, list[str]] = {}
    for name in records:
        found.setdefault(int(name.split("-")[0]), []).append(name)
    return found


def job_key(values: Mapping[str, Any]) -> str:
    """16 hex digits that name a job by what it does."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
