"""Versions of collections, what they take up, and moving whole ones: tags, restoring, compaction, copies, names."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

import lance
import numpy as np
import pyarrow.fs

from unirna.vectorstore.collection import exists, filesystem_of, list_collections, open, table_uri
from unirna.vectorstore.columns import OWN
from unirna.vectorstore.default import default_collection, keep_default, rename_default
from unirna.vectorstore.errors import StoreError
from unirna.vectorstore.filters import check_filter
from unirna.vectorstore.ingest import CHANGE, JOB_PROPERTY, check_name, nucleotides_name, rejects_name
from unirna.vectorstore.maps import map_name

KEPT: Final = timedelta(days=14)
"""How long `compact` leaves old versions in place, for those who still read them."""
_TAG: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


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
    """Size of a collection, in rows and on disk.

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
        raise StoreError(f"a tag cannot be {label!r}: expected a letter, then letters, digits, '_', '-' and '.'")
    number = int(dataset.version) if version is None else version
    there = [int(entry["version"]) for entry in dataset.versions()]
    if number not in there:
        raise StoreError(f"collection {name!r} has no version {number}. It has {', '.join(map(str, there))}")
    if label in dataset.tags.list():
        raise StoreError(f"collection {name!r} has a version called {label!r} already. Untag it first")
    dataset.tags.create(label, number)


def untag(uri: str, name: str, label: str) -> None:
    """Remove the name of a version; the version is kept.

    Raises:
        StoreError: no such tag.
    """
    dataset = _dataset(uri, name)
    tags = dataset.tags.list()
    if label not in tags:
        raise StoreError(f"collection {name!r} has no tag {label!r}. Tags: {', '.join(sorted(tags)) or 'none'}")
    dataset.tags.delete(label)


def restore(uri: str, name: str, version: int | str) -> int:
    """Make an older version the newest again. The versions after it are kept.

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
    missing = Counter({label: _missing(dataset, label) for label in labels})
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


def _missing(dataset: lance.LanceDataset, label: str) -> int:
    """Rows without a label: null or NaN, as a filter takes them."""
    return int(dataset.count_rows(filter=check_filter(dataset, f'"{label.replace(chr(34), 2 * chr(34))}" IS NULL')))


# ---- whole collections ---------------------------------------------------------------------------------------------


def copy(uri: str, name: str, to_uri: str, to_name: str | None = None, *, version: int | str | None = None) -> int:
    """Copy one version of a collection, with its indexes, to another name or store; of the newest also what is beside it.

    Returns:
        Rows copied.

    Raises:
        StoreError: a name that is taken or none.
    """
    target = to_name or name
    check_name(target)
    source = open(uri, name, version=version).dataset
    _check_free(to_uri, target)
    for old, new in zip(_beside(name), _beside(target), strict=True):
        if version is None and exists(uri, old):  # first, so that a copy that was cut short is not taken for whole
            table = lance.dataset(table_uri(uri, old))
            table.deep_clone(table_uri(to_uri, new), table.version)
    source.deep_clone(table_uri(to_uri, target), source.version)
    keep_default(to_uri)
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
    if not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        copy(uri, name, uri, new)
        rename_default(uri, name, new)
        drop(uri, name, confirm=name)
        return
    for old, other in zip((*_beside(name), name), (*_beside(new), new), strict=True):
        if exists(uri, old):
            filesystem.move(filesystem_of(table_uri(uri, old))[1], filesystem_of(table_uri(uri, other))[1])
    rename_default(uri, name, new)


def drop(uri: str, name: str, *, confirm: str) -> None:
    """Remove a collection for good, with its rejects, its map and the vectors of its nucleotides.

    Args:
        confirm: the collection's name once more.

    Raises:
        StoreError: no such collection, `confirm` is not its name, or it is the default and there are others.
    """
    open(uri, name)
    if confirm != name:
        raise StoreError(f"dropping {name!r} cannot be undone: repeat its name to confirm (got {confirm!r})")
    others = [other for other in list_collections(uri) if other != name]
    if others and default_collection(uri) == name:
        raise StoreError(
            f"{name!r} is the default collection of {uri}: set another default first, one of {', '.join(others)} "
            f"(unirna collections default NAME --store {uri})"
        )
    for table in (*_beside(name), name):  # the collection last: cut short, this can be done again
        _remove(uri, table)


def _check_free(uri: str, name: str) -> None:
    """See that a collection can be put under a name; rejects and a map that belong to no collection make room."""
    filesystem, path = filesystem_of(table_uri(uri, name))
    if filesystem.get_file_info(path).type != pyarrow.fs.FileType.NotFound:
        there = "a collection" if exists(uri, name) else "a folder with the files of a job that made none yet,"
        raise StoreError(f"there is {there} {name!r} in {uri} already. Drop it first, or choose another name")
    nucleotides = nucleotides_name(name)
    if exists(uri, nucleotides):
        raise StoreError(f"there is {nucleotides!r} in {uri}, without a collection. Drop it first, or choose another name")
    for table in (rejects_name(name), map_name(name)):
        _remove(uri, table)


def _beside(name: str) -> tuple[str, ...]:
    """The tables that belong to a collection."""
    nucleotides = nucleotides_name(name)
    return rejects_name(name), nucleotides, rejects_name(nucleotides), map_name(name)


def _remove(uri: str, table: str) -> None:
    filesystem, path = filesystem_of(table_uri(uri, table))
    for folder in (f"{path}/_versions", path):  # the versions first: from then on it is not there
        if filesystem.get_file_info(folder).type == pyarrow.fs.FileType.Directory:
            filesystem.delete_dir(folder)


# ---- inside --------------------------------------------------------------------------------------------------------


def _dataset(uri: str, name: str) -> lance.LanceDataset:
    """The newest version of a collection; errors as for `open`."""
    return open(uri, name).dataset


def _change(dataset: lance.LanceDataset, number: int) -> str:
    """The operation that made a version; empty if its record is gone."""
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
