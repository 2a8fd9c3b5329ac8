"""Writing collections: many workers write files that nobody sees, one commit makes them part of the table.

Files of a job that was killed and never finished are orphans: no reader sees them, and they cost only space. They go with
`lance.dataset(path).cleanup_old_versions(delete_unverified=True)`, run while no job writes to the collection, since it
cannot tell an orphan from a file that a running job is about to commit.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import lance
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
from lance.commit import CommitConflictError
from lance.fragment import DeletionFile, FragmentMetadata, LanceFragment, write_fragments

from unirna.vectorstore.collection import NUCLEOTIDES, REJECTS, SIDECARS, exists, filesystem_of, has_index, table_uri
from unirna.vectorstore.default import keep_default
from unirna.vectorstore.errors import ChangedError, StoreError
from unirna.vectorstore.schema import INDEX_KEY, VECTOR_INDEX, Provenance

JOB_PROPERTY: Final = "unirna.job"
CHANGE: Final = "unirna.change"
"""Property of a commit: what it did, where Lance's own word does not say."""
COMMIT_TRIES: Final = 20
Result = TypeVar("Result")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_name(name: str) -> None:
    """See that a collection can have this name.

    Raises:
        StoreError: other characters than letters, digits, `_`, `-` and `.`, or the ending of a sidecar table.
    """
    if not _NAME.fullmatch(name) or name.endswith((*SIDECARS, ".lance")):
        raise StoreError(
            f"a collection cannot be called {name!r}: expected letters, digits, '_', '-' and '.', a letter or digit first, "
            f"and not the ending {', '.join(SIDECARS)} or .lance"
        )


def nucleotides_name(name: str) -> str:
    """The table with the per-nucleotide vectors of a collection; `list_collections` does not show it."""
    return name + NUCLEOTIDES


def rejects_name(name: str) -> str:
    """The sidecar table with a collection's rejected records; `list_collections` does not show it."""
    return name + REJECTS


def write_rows(
    uri: str, name: str, rows: pa.Table | Iterable[pa.RecordBatch], schema: pa.Schema, *, overwrite: bool = False
) -> list[str]:
    """Write rows beside a table that need not exist yet, without making them part of it.

    Args:
        uri: the store. name: the table.
        rows: columns as in `schema`.
        schema: of the table.
        overwrite: the rows will replace all that are there (`overwrite`), so their columns may differ.

    Returns:
        What `commit` or `overwrite` needs to add them: one JSON text for each file.
    """
    reader = rows.to_reader() if isinstance(rows, pa.Table) else pa.RecordBatchReader.from_batches(schema, rows)
    mode = ("overwrite" if overwrite else "append") if exists(uri, name) else "create"
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
        ChangedError: somebody else has changed the table since `read_version` (compaction and indexes do not count as
            changes).
        StoreError: a file of the rows is gone. In both cases nothing is added.
    """
    done = committed_version(uri, name, key, read_version)
    if done is not None:
        return done
    target = table_uri(uri, name)
    files = [FragmentMetadata.from_json(text) for text in fragments]
    _check_files(target, name, files)
    if read_version == 0:
        operation = lance.LanceOperation.Overwrite(schema, files)
        transaction = lance.Transaction(0, operation, transaction_properties={JOB_PROPERTY: key})
        try:
            # Creation writes version 1 if there is none, so of two jobs that create a table one fails here.
            made = int(lance.LanceDataset.commit(target, transaction, max_retries=0).version)
        except (OSError, ValueError) as error:
            if exists(uri, name):
                raise ChangedError(_changed(name, 0, table_version(uri, name))) from error
            raise
        keep_default(uri)
        return made

    def attempt() -> int:
        if not exists(uri, name):
            raise StoreError(f"{name!r} is no longer there: it was dropped or renamed while this job ran")
        dataset = lance.dataset(target)
        if not _same_rows(dataset, read_version) or not _same_table(dataset, schema):
            raise ChangedError(_changed(name, read_version, int(dataset.version)))
        return swap(dataset, [part.metadata for part in dataset.get_fragments()], files, {JOB_PROPERTY: key})

    return until_swapped(name, attempt)


def overwrite(uri: str, name: str, schema: pa.Schema, fragments: Sequence[str], *, key: str, read_version: int) -> int:
    """Replace all rows of a collection in one commit; the columns and the model may differ.

    What it held stays as a version with the tag `model-<fingerprint>`, which `restore` brings back. Indexes go.

    Args:
        uri, name, schema, fragments, key, read_version: as for `commit`; the rows are written with `overwrite=True`.

    Returns:
        The new version.

    Raises:
        ChangedError, StoreError: as for `commit`; nothing is changed.
    """
    target = table_uri(uri, name)

    def attempt() -> int:
        dataset = lance.dataset(target)
        if not _same_rows(dataset, read_version):
            raise ChangedError(_changed(name, read_version, int(dataset.version)))
        operation = lance.LanceOperation.Overwrite(schema, files)
        properties = {JOB_PROPERTY: key, CHANGE: "model"}
        transaction = lance.Transaction(dataset.version, operation, transaction_properties=properties)
        # Without a retry it fails where there is a newer version.
        return int(lance.LanceDataset.commit(target, transaction, max_retries=0).version)

    done = committed_version(uri, name, key, read_version)
    if done is None:
        files = [FragmentMetadata.from_json(text) for text in fragments]
        _check_files(target, name, files)
        done = until_swapped(name, attempt)
    tidy_overwritten(uri, name, read_version)
    return done


def tidy_overwritten(uri: str, name: str, before: int) -> None:
    """Tag the version before an `overwrite`, and remove the record of its index. Done twice it is done once."""
    dataset = lance.dataset(table_uri(uri, name))
    label = f"model-{Provenance.from_schema(dataset.checkout_version(before).schema, name).fingerprint}"
    if label in dataset.tags.list():
        dataset.tags.update(label, before)
    else:
        dataset.tags.create(label, before)
    if INDEX_KEY in dataset.config() and not has_index(dataset, VECTOR_INDEX):
        dataset.delete_config_keys([INDEX_KEY])


def until_swapped(name: str, attempt: Callable[[], Result]) -> Result:
    """Do what reads a table and ends in `swap`, again each time another commit came first.

    Raises:
        StoreError: they always were.
    """
    for _ in range(COMMIT_TRIES):
        try:
            return attempt()
        except CommitConflictError:
            continue
    raise StoreError(f"{name!r} keeps changing: {COMMIT_TRIES} attempts to add to it failed. Try again later")


def swap(
    dataset: lance.LanceDataset,
    kept: Sequence[FragmentMetadata],
    new: Sequence[FragmentMetadata],
    properties: dict[str, str],
) -> int:
    """Give a table other fragments, if nobody has changed it since: a compare-and-swap.

    Lance's own append goes through whatever others have appended since, which would let an id in twice. Its merge, which
    states all fragments, does not.

    Args:
        dataset: the version that was read. kept: its fragments that stay. new: written ones that come, without numbers.
        properties: kept with the commit.

    Returns:
        The new version.

    Raises:
        CommitConflictError: it was changed since.
    """
    numbers = [part.metadata.id for part in dataset.get_fragments()] + [part.id for part in kept]
    for index in dataset.describe_indices():  # a number must not come again while an index knows it
        numbers += [number for segment in index.segments for number in segment.fragment_ids]
    first = max(numbers, default=-1) + 1
    for number, part in enumerate(new, first):
        part.id = number
    operation = lance.LanceOperation.Merge([*kept, *new], dataset.lance_schema)
    transaction = lance.Transaction(dataset.version, operation, transaction_properties=properties)
    return int(lance.LanceDataset.commit(dataset.uri, transaction, max_retries=0).version)


def emptied(dataset: lance.LanceDataset, fragment: LanceFragment) -> FragmentMetadata:
    """A fragment with all of its rows deleted, for `swap`, which must name every fragment; the commit drops it.

    Its deletion file is one as Lance writes it: an Arrow file of the numbers of the deleted rows within the fragment.
    """
    metadata = fragment.metadata
    count = metadata.physical_rows
    deletion = DeletionFile(dataset.version, secrets.randbits(63), "array", count, None)
    filesystem, path = filesystem_of(dataset.uri)
    place = f"{path}/{deletion.path(metadata.id)}"
    rows = pa.table(
        [pa.array(range(count), pa.uint32())], schema=pa.schema([pa.field("row_id", pa.uint32(), nullable=False)])
    )
    filesystem.create_dir(place.rpartition("/")[0], recursive=True)
    with filesystem.open_output_stream(place) as stream, pa.ipc.new_file(stream, rows.schema) as writer:
        writer.write_table(rows)
    return replace(metadata, deletion_file=deletion)


def _check_files(target: str, name: str, fragments: Sequence[FragmentMetadata]) -> None:
    filesystem, path = filesystem_of(target)
    paths = [f"{path}/data/{file.path}" for part in fragments for file in part.files]
    missing = [info.path for info in filesystem.get_file_info(paths) if info.type == pa.fs.FileType.NotFound]
    if missing:
        raise StoreError(
            f"{len(missing)} of {len(paths)} files written for {name!r} are gone (such as {missing[0]}): it was "
            "dropped, or compacted more than a week after they were written. Run the job again"
        )


def _same_rows(dataset: lance.LanceDataset, since: int) -> bool:
    """Whether what was committed after a version left all rows as they were."""
    count = dataset.version - since
    if count <= 0:
        return bool(count == 0)
    transactions = dataset.get_transactions(count)
    if len(transactions) != count or None in transactions:  # the record of one is gone with its version
        return False
    tidy = (lance.LanceOperation.Rewrite, lance.LanceOperation.CreateIndex, lance.LanceOperation.UpdateConfig)
    later = None
    for kind in (type(transaction.operation) for transaction in transactions):  # the newest first
        # Before it joins files a compaction reserves numbers for them, a commit that pylance has no class for.
        reserved = kind is lance.LanceOperation.BaseOperation and later is lance.LanceOperation.Rewrite
        if kind not in tidy and not reserved:
            return False
        later = kind
    return True


def _same_table(dataset: lance.LanceDataset, schema: pa.Schema) -> bool:
    """Whether it has the columns and the model for which rows were prepared: it may have been dropped and created again."""
    there: pa.Schema = dataset.schema
    return bool(there.names == schema.names and there.metadata == schema.metadata)


def replace_rows(
    uri: str, name: str, rows: pa.Table | Iterable[pa.RecordBatch], schema: pa.Schema, where: pc.Expression, *, key: str
) -> int:
    """Delete the rows that `where` selects, if any, and add others; the table is created if it is absent.

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


def version_name(uri: str, name: str, version: int) -> str:
    """A name of one version of a table that a table dropped and created again does not have; "0" for an absent table."""
    if not version:
        return "0"
    (transaction,) = lance.dataset(table_uri(uri, name), version=version).get_transactions(1)
    return f"{version}-{transaction.uuid[:8] if transaction is not None else 'unknown'}"


def number_of(version_name: str) -> int:
    """The number of a version, from its name."""
    return int(version_name.partition("-")[0])


def same_rows(uri: str, name: str, since: str) -> bool:
    """Whether a table holds the rows of a version (`version_name`) still: compaction and indexes do not count as
    changes."""
    dataset = lance.dataset(table_uri(uri, name))
    number = number_of(since)
    try:
        return _same_rows(dataset, number) and version_name(uri, name, number) == since
    except (OSError, ValueError):  # the version is gone
        return False


def files_there(uri: str, name: str, fragments: Sequence[Sequence[str]]) -> list[bool]:
    """Whether all files of some written rows (`write_rows`) are there, for each of them."""
    filesystem, path = filesystem_of(table_uri(uri, name))
    parts = [[FragmentMetadata.from_json(text) for text in texts] for texts in fragments]
    paths = [[f"{path}/data/{file.path}" for part in group for file in part.files] for group in parts]
    there = {
        info.path
        for info in filesystem.get_file_info([file for group in paths for file in group])
        if info.type != pa.fs.FileType.NotFound
    }
    return [all(file in there for file in group) for group in paths]


def split_table(uri: str, name: str, version: int, rows: int) -> list[list[int]]:
    """Parts of about `rows` rows of one version of a table, as lists of fragment ids for `scan_rows`."""
    parts: list[list[int]] = []
    size = rows
    for fragment in lance.dataset(table_uri(uri, name), version=version).get_fragments():
        if size >= rows:
            parts.append([])
            size = 0
        parts[-1].append(int(fragment.fragment_id))
        size += fragment.count_rows()
    return parts


def scan_rows(
    uri: str, name: str, version: int, part: Sequence[int], columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Stream columns of a part of one version of a collection (`split_table`); by default all but `vector`."""
    dataset = lance.dataset(table_uri(uri, name), version=version)
    fragments = [dataset.get_fragment(i) for i in part]
    wanted = [n for n in dataset.schema.names if n != "vector"] if columns is None else list(columns)
    size = 4096 if columns is None else 65536  # whole rows may be long
    yield from dataset.scanner(columns=wanted, fragments=fragments, batch_size=size, batch_readahead=2).to_batches()
