"""Writing collections: many workers write files that nobody sees, one commit makes them part of the table.

Files of a job that was killed and never finished are orphans: no reader sees them, and they cost only space. They go with
`lance.dataset(path).cleanup_old_versions(delete_unverified=True)`, run while no job writes to the collection, since it
cannot tell an orphan from a file that a running job is about to commit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import lance
import pyarrow as pa
import pyarrow.compute as pc
from lance.fragment import FragmentMetadata, write_fragments

from unirna.vectorstore.collection import REJECTS, exists, table_uri
from unirna.vectorstore.errors import StoreError

JOB_PROPERTY: Final = "unirna.job"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_name(name: str) -> None:
    """See that a collection can have this name.

    Raises:
        StoreError: other characters than letters, digits, `_`, `-` and `.`, or the ending of a sidecar table.
    """
    if not _NAME.fullmatch(name) or name.endswith((REJECTS, ".lance")):
        raise StoreError(
            f"a collection cannot be called {name!r}: wanted letters, digits, '_', '-' and '.', a letter or digit first, "
            f"and not the ending {REJECTS} or .lance"
        )


def rejects_name(name: str) -> str:
    """The sidecar table with a collection's rejected records; `list_collections` does not show it."""
    return name + REJECTS


def write_rows(uri: str, name: str, rows: pa.Table | Iterable[pa.RecordBatch], schema: pa.Schema) -> list[str]:
    """Write rows beside a table that need not exist yet, without making them part of it.

    Args:
        uri: the store. name: the table.
        rows: columns as in `schema`.
        schema: of the table.

    Returns:
        What `commit` needs to add them: one JSON text for each file.
    """
    reader = rows.to_reader() if isinstance(rows, pa.Table) else pa.RecordBatchReader.from_batches(schema, rows)
    mode = "append" if exists(uri, name) else "create"
    fragments = write_fragments(reader, table_uri(uri, name), schema=schema, mode=mode)
    return [json.dumps(fragment.to_json()) for fragment in fragments]


def committed_version(uri: str, name: str, key: str, since: int = 0) -> int | None:
    """The version that a commit with this key made, if it is among those after version `since`; else None."""
    if not exists(uri, name):
        return None
    dataset = lance.dataset(table_uri(uri, name))
    recent = dataset.get_transactions(max(dataset.version - since, 1))
    for back, transaction in enumerate(recent):
        if transaction is not None and (transaction.transaction_properties or {}).get(JOB_PROPERTY) == key:
            return int(dataset.version) - back
    return None


def commit(uri: str, name: str, schema: pa.Schema, fragments: Sequence[str], *, key: str, read_version: int) -> int:
    """Make written rows part of a table, all in one step; the table is created if it is absent.

    Args:
        uri: the store. name: the table.
        schema: of the table; used when it is created.
        fragments: from `write_rows`.
        key: a name for this commit. Kept with it, so that it is known after a crash and never done twice.
        read_version: the version against which the rows were prepared; 0 for an absent table.

    Returns:
        The table's version with the rows in it.

    Raises:
        StoreError: somebody else has changed the table since `read_version`; nothing is added. Compaction and indexes are
            no change.
    """
    done = committed_version(uri, name, key, read_version)
    if done is not None:
        return done
    target = table_uri(uri, name)
    now = table_version(uri, name)
    if now != read_version and not (read_version and _only_tidied(uri, name, read_version)):
        raise StoreError(_changed(name, read_version, now))
    files = [FragmentMetadata.from_json(text) for text in fragments]
    create = read_version == 0
    operation = lance.LanceOperation.Overwrite(schema, files) if create else lance.LanceOperation.Append(files)
    transaction = lance.Transaction(read_version, operation, transaction_properties={JOB_PROPERTY: key})
    try:
        # Creation writes version 1 if there is none, so of two jobs that create a table one fails here.
        dataset = lance.LanceDataset.commit(target, transaction, max_retries=0 if create else 20)
    except (OSError, ValueError) as error:
        if create and exists(uri, name):
            raise StoreError(_changed(name, 0, table_version(uri, name))) from error
        raise
    return int(dataset.version)


def _only_tidied(uri: str, name: str, since: int) -> bool:
    """Whether what was committed after a version left all rows as they were."""
    dataset = lance.dataset(table_uri(uri, name))
    if dataset.version < since:
        return False
    operations = [
        None if transaction is None else type(transaction.operation)
        for transaction in dataset.get_transactions(dataset.version - since)
    ]
    # Before it joins files a compaction reserves numbers for them, a commit that pylance has no class for.
    tidy = (
        lance.LanceOperation.Rewrite,
        lance.LanceOperation.CreateIndex,
        lance.LanceOperation.UpdateConfig,
        lance.LanceOperation.BaseOperation,
    )
    return all(operation in tidy for operation in operations)


def replace_rows(
    uri: str, name: str, rows: pa.Table | Iterable[pa.RecordBatch], schema: pa.Schema, where: pc.Expression, *, key: str
) -> int:
    """Take out the rows that `where` selects, if any, and add others; the table is created if it is absent.

    Two commits where there is something to take out, so not for what readers rely on; done twice it is done once.
    """
    if exists(uri, name):
        dataset = lance.dataset(table_uri(uri, name))
        if dataset.count_rows(filter=where):
            dataset.delete(where)
    version = table_version(uri, name)
    fragments = write_rows(uri, name, rows, schema)
    return commit(uri, name, schema, fragments, key=key, read_version=version)


def append_rows(uri: str, name: str, rows: pa.Table, *, key: str) -> int:
    """Write and commit rows at once, for what is small; `key` as for `commit`. The table is created if it is absent."""
    version = table_version(uri, name)
    fragments = write_rows(uri, name, rows, rows.schema)
    return commit(uri, name, rows.schema, fragments, key=key, read_version=version)


def _changed(name: str, before: int, now: int) -> str:
    return (
        f"{name!r} was changed by somebody else while this job ran (version {before}, now {now}). "
        "Run the same command again: it compares with the new rows and goes on"
    )


def table_version(uri: str, name: str) -> int:
    """The newest version of a table; 0 if it is absent."""
    return int(lance.dataset(table_uri(uri, name)).version) if exists(uri, name) else 0


def split_table(uri: str, name: str, version: int, rows: int) -> list[list[int]]:
    """Parts of about `rows` rows of one version of a table, as lists of fragment ids for `scan_keys`."""
    parts: list[list[int]] = []
    size = rows
    for fragment in lance.dataset(table_uri(uri, name), version=version).get_fragments():
        if size >= rows:
            parts.append([])
            size = 0
        parts[-1].append(int(fragment.fragment_id))
        size += fragment.count_rows()
    return parts


def scan_keys(uri: str, name: str, version: int, part: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """Stream `id` and `sha` of a part of one version of a collection."""
    dataset = lance.dataset(table_uri(uri, name), version=version)
    fragments = [dataset.get_fragment(i) for i in part]
    yield from dataset.scanner(columns=["id", "sha"], fragments=fragments, batch_size=65536).to_batches()
