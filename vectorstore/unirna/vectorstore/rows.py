"""Changing the rows of a collection: each change is one commit, seen whole or not at all.

For large inputs there is `jobs/embed.py`; what stands here is for a notebook, the command line and the service.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any, Final

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unirna.vectorstore.collection import open
from unirna.vectorstore.conditions import id_in
from unirna.vectorstore.errors import StoreError
from unirna.vectorstore.filters import check_filter, filter_errors
from unirna.vectorstore.ingest import CHANGE, emptied, swap, until_swapped
from unirna.vectorstore.names import renamed, safe_names
from unirna.vectorstore.types import storable_table

_LETTERS: Final = "^[ACGUNRYSWKMBDHV]+$"
IDS_AT_ONCE: Final = 100_000
"""Ids that are looked up by one query."""
SHOWN: Final = 5
"""Most ids that an error message names."""


def add(uri: str, name: str, rows: pa.Table, *, fingerprint: str) -> int:
    """Add rows whose ids are new.

    Args:
        uri: the store. name: the collection.
        rows: `id`, `sequence` (normalised: `unirna.sequence.normalise`), `vector` [D] and any label columns of the
            collection, each convertible to the column's type; labels that are left out are null. `length` and `sha` are
            worked out.
        fingerprint: of the model that made the vectors (`Model.fingerprint`).

    Returns:
        The collection's new version.

    Raises:
        StoreError: columns that do not fit, an id twice or one that is there already; nothing is added.
        ModelMismatchError: the collection is another model's.
    """
    return int(_put(uri, name, rows, fingerprint, replace=False)["version"])


def upsert(uri: str, name: str, rows: pa.Table, *, fingerprint: str) -> dict[str, int]:
    """Add rows and replace those with the same ids. A row is replaced whole: labels that are left out become null.

    Arguments and errors as for `add`.

    Returns:
        How many rows were `added` and `replaced`, and the new `version`.
    """
    return _put(uri, name, rows, fingerprint, replace=True)


def _put(uri: str, name: str, rows: pa.Table, fingerprint: str, *, replace: bool) -> dict[str, int]:
    def attempt() -> dict[str, int]:
        table = _prepared(uri, name, rows, fingerprint)
        dataset = open(uri, name).dataset
        known = _known(dataset, table["id"].to_pylist())
        if known and not replace:
            raise StoreError(f"collection {name!r} holds {_named(known)} already. Use upsert to replace them")
        merge = dataset.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        transaction, _ = merge.execute_uncommitted(table)
        done = transaction.operation
        changed = {part.id: part for part in done.updated_fragments}
        changed |= {number: emptied(dataset, dataset.get_fragment(number)) for number in done.removed_fragment_ids}
        kept = [changed.get(part.fragment_id, part.metadata) for part in dataset.get_fragments()]
        version = swap(dataset, kept, done.new_fragments, {CHANGE: "rows"})
        return {"added": len(table) - len(known), "replaced": len(known), "version": version}

    return until_swapped(name, attempt)


def delete(uri: str, name: str, where: str) -> int:
    """Delete the rows that pass a filter; an older version still has them until `compact` removes it.

    Returns:
        How many they were.

    Raises:
        FilterError: a filter that the store cannot read, or that fails on a row.
    """
    dataset = open(uri, name).dataset
    condition = check_filter(dataset, where)
    with filter_errors(where, dataset.schema.names):
        if not dataset.count_rows(filter=condition):
            return 0  # no new version for nothing
        return int(dataset.delete(condition)["num_deleted_rows"])


def add_labels(uri: str, name: str, labels: pa.Table) -> dict[str, Any]:
    """Add label columns from a table that has an `id` column; rows whose id it lacks get null.

    A name that a collection cannot hold is replaced by a safe one (`safe_names`).

    Returns:
        How many rows were `labelled`, how many `unknown` ids the table has, the new `version`, and what was `renamed`.

    Raises:
        StoreError: no column `id`, an id twice, two columns of one name, or a column that the collection has already.
    """
    dataset = open(uri, name).dataset
    if "id" not in labels.column_names or len(labels.column_names) < 2:
        raise StoreError(f"the labels have the columns {', '.join(labels.column_names)}: expected id and one more at least")
    if twice := sorted(name for name, count in Counter(labels.column_names).items() if count > 1):
        raise StoreError(f"the labels have two columns called {', '.join(twice)}: rename or remove one")
    names = safe_names(column for column in labels.column_names if column != "id")
    labels = labels.rename_columns([names.get(column, column) for column in labels.column_names])
    new = list(names.values())
    if there := [column for column in new if column in dataset.schema.names]:
        raise StoreError(f"collection {name!r} has the columns {', '.join(there)} already: rename them, or upsert the rows")
    table = storable_table(labels.set_column(labels.column_names.index("id"), "id", labels["id"].cast(pa.string())))
    _check_ids(table["id"])
    given = table["id"].combine_chunks()
    labelled = sum(
        int(pc.sum(pc.is_in(batch["id"], given)).as_py() or 0) for batch in dataset.scanner(columns=["id"]).to_batches()
    )
    dataset.merge(table, "id")
    return {
        "labelled": labelled,
        "unknown": len(table) - labelled,
        "version": int(dataset.version),
        "renamed": renamed(names),
    }


def _known(dataset: lance.LanceDataset, ids: list[str]) -> list[str]:
    """Those of some ids that a table has."""
    return [
        name
        for first in range(0, len(ids), IDS_AT_ONCE)
        for name in dataset.scanner(columns=["id"], filter=id_in(ids[first : first + IDS_AT_ONCE]))
        .to_table()["id"]
        .to_pylist()
    ]


def _prepared(uri: str, name: str, rows: pa.Table, fingerprint: str) -> pa.Table:
    """Rows with the columns of the collection, checked."""
    collection = open(uri, name)
    collection.check_model(fingerprint, "the given vectors' model")
    schema = collection.schema
    if missing := [column for column in ("id", "sequence", "vector") if column not in rows.column_names]:
        raise StoreError(f"the rows have no column {', '.join(missing)}. They have {', '.join(rows.column_names)}")
    if unknown := [column for column in rows.column_names if column not in schema.names]:
        raise StoreError(
            f"collection {name!r} has no column {', '.join(unknown)}. It has {', '.join(schema.names)}; "
            "add_labels adds columns"
        )
    rows = storable_table(rows)
    ids = rows["id"].cast(pa.string())
    _check_ids(ids)
    sequences = rows["sequence"].cast(pa.string())
    fits = pc.fill_null(pc.match_substring_regex(sequences, _LETTERS), False)
    if bad := ids.filter(pc.invert(fits)).to_pylist():
        raise StoreError(
            f"rows {_named(bad)}: expected a sequence in upper-case RNA, as unirna.sequence.normalise returns it"
        )
    texts = sequences.to_pylist()
    worked_out: dict[str, Any] = {
        "id": ids,
        "sequence": sequences,
        "length": pa.array([len(text) for text in texts], pa.int32()),
        "sha": pa.array([hashlib.sha256(text.encode("ascii")).hexdigest()[:32] for text in texts]),
    }
    columns = []
    for field in schema:
        if field.name in worked_out:
            columns.append(worked_out[field.name])
        elif field.name in rows.column_names:
            try:
                columns.append(rows[field.name].cast(field.type))
            except pa.ArrowException as error:
                raise StoreError(
                    f"column {field.name}: expected {field.type}, got {rows[field.name].type} ({error})"
                ) from error
        else:
            columns.append(pa.nulls(len(rows), field.type))
    vectors = columns[schema.names.index("vector")]
    flat = pc.list_flatten(vectors)
    if vectors.null_count or len(flat) != len(rows) * collection.info.dimension or not np.isfinite(flat.to_numpy()).all():
        raise StoreError(f"column vector: expected {collection.info.dimension} finite numbers in every row")
    return pa.table(columns, schema=schema)


def _check_ids(ids: pa.ChunkedArray) -> None:
    if ids.null_count:
        raise StoreError(f"{ids.null_count} rows have no id")
    counts = pc.value_counts(ids.combine_chunks())
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if twice:
        raise StoreError(f"duplicate ids: {_named(twice)}")


def _named(ids: list[str]) -> str:
    more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
    return ", ".join(map(repr, sorted(ids)[:SHOWN])) + more
