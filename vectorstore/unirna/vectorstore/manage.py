"""Changing collections in place: rows, labels, versions, names. Each change is one commit, seen whole or not at all.

For large inputs there is `jobs/embed.py`; what stands here is for a notebook, the command line and the service.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
from lance.commit import CommitConflictError

from unirna.vectorstore.collection import check_filter, exists, filesystem_of, filter_errors, open, table_uri
from unirna.vectorstore.errors import StoreError
from unirna.vectorstore.ingest import COMMIT_TRIES, JOB_PROPERTY, check_name, rejects_name, swap
from unirna.vectorstore.schema import OWN, RESERVED

KEPT: Final = timedelta(days=14)
"""How long `compact` leaves old versions in place, for those who still read them."""
_TAG: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_LETTERS: Final = "^[ACGUNRYSWKMBDHV]+$"
CHANGE: Final = "unirna.change"
"""Property of a commit: what it did, where Lance's own word does not say."""
SHOWN: Final = 5
"""Most ids that an error message names."""


@dataclass(frozen=True)
class Version:
    """One state of a collection.

    Attributes:
        number: ascending from 1. time: of the commit, with its zone. change: what was done: "append", "delete" and so on.
        tags: names that were given to it.
    """

    number: int
    time: datetime
    change: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Statistics:
    """How large a collection is and how it lies on the disk.

    Attributes:
        rows: sequences in it. nucleotides: their sum. shortest, median, longest: of their lengths, in nucleotides.
        missing: label column -> rows without a value.
        bytes: of the newest version's data files. files: how many. deleted_rows: rows still in the files and not in the
            collection. versions: states that can be opened.
    """

    rows: int
    nucleotides: int
    shortest: int
    median: int
    longest: int
    missing: dict[str, int]
    bytes: int
    files: int
    deleted_rows: int
    versions: int


# ---- rows ----------------------------------------------------------------------------------------------------------


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
    """Add rows, in the place of those that have their ids; these are replaced whole, labels that are left out become null.

    Arguments and errors as for `add`.

    Returns:
        How many rows were `added` and `replaced`, and the new `version`.
    """
    return _put(uri, name, rows, fingerprint, replace=True)


def _put(uri: str, name: str, rows: pa.Table, fingerprint: str, *, replace: bool) -> dict[str, int]:
    for _ in range(COMMIT_TRIES):
        table = _prepared(uri, name, rows, fingerprint)
        dataset = _dataset(uri, name)
        condition = pc.field("id").isin(table["id"].combine_chunks())
        known = dataset.scanner(columns=["id"], filter=condition).to_table()["id"].to_pylist()
        if known and not replace:
            raise StoreError(f"collection {name!r} holds {_named(known)} already. Use upsert to replace them")
        merge = dataset.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        transaction, _ = merge.execute_uncommitted(table)
        done = transaction.operation
        changed = {part.id: part for part in done.updated_fragments}
        kept = [part.metadata for part in dataset.get_fragments() if part.fragment_id not in done.removed_fragment_ids]
        try:
            version = swap(dataset, [changed.get(part.id, part) for part in kept], done.new_fragments, {CHANGE: "rows"})
        except CommitConflictError:  # somebody else was faster: look again
            continue
        return {"added": len(table) - len(known), "replaced": len(known), "version": version}
    raise StoreError(f"{name!r} is changed all the time: {COMMIT_TRIES} attempts to add to it failed. Try again later")


def delete(uri: str, name: str, where: str) -> int:
    """Take out the rows that pass a filter; they can be had again by an older version until `compact` removes it.

    Returns:
        How many they were.

    Raises:
        FilterError: a filter that the store cannot read, or that fails on a row.
    """
    dataset = _dataset(uri, name)
    check_filter(dataset, where)
    with filter_errors(where, dataset.schema.names):
        if not dataset.count_rows(filter=where):
            return 0  # no new version for nothing
        return int(dataset.delete(where)["num_deleted_rows"])


def add_labels(uri: str, name: str, labels: pa.Table) -> dict[str, int]:
    """Add label columns from a table that has an `id` column; rows whose id it lacks get null.

    Returns:
        How many rows were `labelled`, how many `unknown` ids the table has, and the new `version`.

    Raises:
        StoreError: no column `id`, an id twice, a reserved name, or a column that the collection has already.
    """
    dataset = _dataset(uri, name)
    if "id" not in labels.column_names or len(labels.column_names) < 2:
        raise StoreError(f"the labels have the columns {', '.join(labels.column_names)}: wanted id and one more at least")
    new = [column for column in labels.column_names if column != "id"]
    if taken := [column for column in new if column in RESERVED or column.startswith("_")]:
        raise StoreError(f"label columns cannot be called {', '.join(taken)}: rename them")
    if there := [column for column in new if column in dataset.schema.names]:
        raise StoreError(f"collection {name!r} has the columns {', '.join(there)} already: rename them, or upsert the rows")
    table = labels.set_column(labels.column_names.index("id"), "id", labels["id"].cast(pa.string()))
    _check_ids(table["id"])
    given = table["id"].combine_chunks()
    labelled = sum(
        int(pc.sum(pc.is_in(batch["id"], given)).as_py() or 0) for batch in dataset.scanner(columns=["id"]).to_batches()
    )
    dataset.merge(table, "id")
    return {"labelled": labelled, "unknown": len(table) - labelled, "version": int(dataset.version)}


# ---- versions ------------------------------------------------------------------------------------------------------


def versions(uri: str, name: str) -> list[Version]:
    """The versions that can be opened, the oldest first."""
    dataset = _dataset(uri, name)
    tags: dict[int, list[str]] = {}
    for tag, values in dataset.tags.list().items():
        tags.setdefault(int(values["version"]), []).append(tag)
    return [
        Version(number, entry["timestamp"].astimezone(), _change(dataset, number), tuple(sorted(tags.get(number, ()))))
        for entry in dataset.versions()
        for number in [int(entry["version"])]
    ]


def tag(uri: str, name: str, label: str, version: int | None = None) -> None:
    """Give a version (by default the newest) a name: `open(uri, name, version=label)` finds it, and `compact` keeps it.

    Raises:
        StoreError: no such version, or a name that another version has, or that is none.
    """
    dataset = _dataset(uri, name)
    if not _TAG.fullmatch(label):
        raise StoreError(f"a tag cannot be {label!r}: wanted a letter, then letters, digits, '_', '-' and '.'")
    number = int(dataset.version) if version is None else version
    there = [int(entry["version"]) for entry in dataset.versions()]
    if number not in there:
        raise StoreError(f"collection {name!r} has no version {number}. It has {', '.join(map(str, there))}")
    if label in dataset.tags.list():
        raise StoreError(f"collection {name!r} has a version called {label!r} already. Untag it first")
    dataset.tags.create(label, number)


def untag(uri: str, name: str, label: str) -> None:
    """Take a version's name away; the version stays.

    Raises:
        StoreError: no such tag.
    """
    dataset = _dataset(uri, name)
    tags = dataset.tags.list()
    if label not in tags:
        raise StoreError(f"collection {name!r} has no tag {label!r}. Tags: {', '.join(sorted(tags)) or 'none'}")
    dataset.tags.delete(label)


def restore(uri: str, name: str, version: int | str) -> int:
    """Make an older version the newest again. What came after it stays as versions of its own.

    Returns:
        The new version.

    Raises:
        StoreError: no such version or tag.
    """
    dataset = open(uri, name, version=version).dataset
    dataset.restore()
    return int(dataset.version)


def compact(uri: str, name: str, *, keep: timedelta = KEPT) -> dict[str, int]:
    """Join small files, drop deleted rows from them, and remove old versions without a tag.

    A version goes when it has not been the newest for longer than `keep`. Safe while jobs write and services read: files
    that belong to no version are left for a week, since a running job may be about to commit them, and `commit` lets a
    compaction pass that came between.

    Returns:
        `files_before`, `files_after`, `versions_removed`, `bytes_removed`, and the `version`.
    """
    dataset = _dataset(uri, name)
    done = dataset.optimize.compact_files()
    dataset.optimize.optimize_indices()
    tagged = {int(values["version"]) for values in dataset.tags.list().values()}
    entries = [(int(entry["version"]), entry["timestamp"].astimezone()) for entry in dataset.versions()]
    now = datetime.now(UTC)
    old = [n for (n, _), (_, until) in pairwise(entries) if now - until > keep and n not in tagged]
    removed = dataset.cleanup_old_versions(versions=old, error_if_tagged_old_versions=False) if old else None
    return {
        "files_before": len(dataset.get_fragments()) + done.fragments_removed - done.fragments_added,
        "files_after": len(dataset.get_fragments()),
        "versions_removed": len(old),
        "bytes_removed": int(removed.bytes_removed) if removed is not None else 0,
        "version": int(dataset.version),
    }


def statistics(uri: str, name: str, version: int | str | None = None) -> Statistics:
    """How large a collection is; by one pass over its lengths and labels."""
    dataset = open(uri, name, version=version).dataset
    counts: Counter[int] = Counter()
    for batch in dataset.scanner(columns=["length"]).to_batches():
        counts.update(dict(zip(*(part.tolist() for part in np.unique(batch["length"], return_counts=True)), strict=True)))
    lengths, rows = np.array(sorted(counts), np.int64), counts.total()
    number = np.array([counts[length] for length in lengths.tolist()], np.int64)
    median = int(lengths[np.searchsorted(np.cumsum(number), rows // 2, side="right")]) if rows else 0
    labels = [column for column in dataset.schema.names if column not in OWN]
    missing = Counter({label: dataset.count_rows(filter=f"`{label}` IS NULL") for label in labels})
    fragments = dataset.get_fragments()
    return Statistics(
        rows=rows,
        nucleotides=int(lengths @ number),
        shortest=int(lengths[0]) if rows else 0,
        median=median,
        longest=int(lengths[-1]) if rows else 0,
        missing=dict(missing),
        bytes=sum(field.bytes_on_disk for field in dataset.stats.data_stats().fields),
        files=len(fragments),
        deleted_rows=sum(fragment.num_deletions for fragment in fragments),
        versions=len(dataset.versions()),
    )


# ---- whole collections ---------------------------------------------------------------------------------------------


def copy(uri: str, name: str, to_uri: str, to_name: str | None = None, *, version: int | str | None = None) -> int:
    """Copy one version of a collection, with its indexes, to another name or store; of the newest also the rejects.

    Returns:
        Rows copied.

    Raises:
        StoreError: a name that is taken or none.
    """
    target = to_name or name
    check_name(target)
    source = open(uri, name, version=version).dataset
    _check_free(to_uri, target)
    rejects = rejects_name(name)
    if version is None and exists(uri, rejects):  # first, so that a copy that was cut short is not taken for whole
        table = lance.dataset(table_uri(uri, rejects))
        table.deep_clone(table_uri(to_uri, rejects_name(target)), table.version)
    source.deep_clone(table_uri(to_uri, target), source.version)
    return int(source.count_rows())


def rename(uri: str, name: str, new: str) -> None:
    """Give a collection another name. On a disk that is a move; on an object store all of its files are copied first.

    Not for a collection that a job is writing to: the job will say that it is gone, and add nothing.

    Raises:
        StoreError: a name that is taken or none.
    """
    check_name(new)
    open(uri, name)
    _check_free(uri, new)
    filesystem, _ = filesystem_of(uri)
    if not isinstance(filesystem, pa.fs.LocalFileSystem):
        copy(uri, name, uri, new)
        drop(uri, name, confirm=name)
        return
    for old, other in ((rejects_name(name), rejects_name(new)), (name, new)):
        if exists(uri, old):
            filesystem.move(filesystem_of(table_uri(uri, old))[1], filesystem_of(table_uri(uri, other))[1])


def drop(uri: str, name: str, *, confirm: str) -> None:
    """Remove a collection and its rejects for good.

    Args:
        confirm: the collection's name once more.

    Raises:
        StoreError: no such collection, or `confirm` is not its name.
    """
    open(uri, name)
    if confirm != name:
        raise StoreError(f"dropping {name!r} cannot be undone: repeat its name to confirm (got {confirm!r})")
    for table in (rejects_name(name), name):  # the collection last: cut short, this can be done again
        _remove(uri, table)


def _check_free(uri: str, name: str) -> None:
    """See that a collection can be put under a name; rejects that belong to no collection make room."""
    filesystem, path = filesystem_of(table_uri(uri, name))
    if filesystem.get_file_info(path).type != pa.fs.FileType.NotFound:
        there = "a collection" if exists(uri, name) else "a folder with the files of a job that made none yet,"
        raise StoreError(f"there is {there} {name!r} in {uri} already. Drop it first, or choose another name")
    _remove(uri, rejects_name(name))


def _remove(uri: str, table: str) -> None:
    filesystem, path = filesystem_of(table_uri(uri, table))
    for folder in (f"{path}/_versions", path):  # the versions first: from then on it is not there
        if filesystem.get_file_info(folder).type == pa.fs.FileType.Directory:
            filesystem.delete_dir(folder)


# ---- inside --------------------------------------------------------------------------------------------------------


def _dataset(uri: str, name: str) -> lance.LanceDataset:
    """The newest version of a collection; errors as for `open`."""
    return open(uri, name).dataset


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
    ids = rows["id"].cast(pa.string())
    _check_ids(ids)
    sequences = rows["sequence"].cast(pa.string())
    fits = pc.fill_null(pc.match_substring_regex(sequences, _LETTERS), False)
    if bad := ids.filter(pc.invert(fits)).to_pylist():
        raise StoreError(
            f"rows {_named(bad)}: wanted a sequence of RNA letters in upper case, as unirna.sequence.normalise gives it"
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
                    f"column {field.name}: wanted {field.type}, got {rows[field.name].type} ({error})"
                ) from error
        else:
            columns.append(pa.nulls(len(rows), field.type))
    vectors = columns[schema.names.index("vector")]
    flat = pc.list_flatten(vectors)
    if vectors.null_count or len(flat) != len(rows) * collection.info.dimension or not np.isfinite(flat.to_numpy()).all():
        raise StoreError(f"column vector: wanted {collection.info.dimension} finite numbers in every row")
    return pa.table(columns, schema=schema)


def _check_ids(ids: pa.ChunkedArray) -> None:
    if ids.null_count:
        raise StoreError(f"{ids.null_count} rows have no id")
    counts = pc.value_counts(ids.combine_chunks())
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if twice:
        raise StoreError(f"ids that stand there more than once: {_named(twice)}")


def _named(ids: list[str]) -> str:
    more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
    return ", ".join(map(repr, sorted(ids)[:SHOWN])) + more


def _change(dataset: lance.LanceDataset, number: int) -> str:
    """What made a version, in one word; empty where its record is gone."""
    try:
        transaction = dataset.read_transaction(number)
    except (OSError, ValueError):
        return ""
    if transaction is None:
        return ""
    properties = transaction.transaction_properties or {}
    if JOB_PROPERTY in properties and type(transaction.operation) is lance.LanceOperation.Merge:
        return "append"
    return properties.get(CHANGE) or _WORDS.get(type(transaction.operation).__name__, "other")


_WORDS: Final = {
    "Append": "append",
    "Overwrite": "create",
    "Delete": "delete",
    "Update": "rows",
    "Merge": "labels",
    "Rewrite": "compact",
    "CreateIndex": "index",
    "UpdateConfig": "settings",
    "Restore": "restore",
    "Clone": "copy",
    "Project": "columns",
}
