"""Label columns: the user's own, which go into the collection with their types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import pyarrow as pa

from unirna.sequence import file_columns
from unirna.sequence.columns import wider
from unirna.vectorstore import Collection, Provenance, StoreError, collection_schema, safe_names, storable
from unirna.vectorstore.columns import OWN

OURS: Final = ("length", "sha", "vector")
"""Columns of an export of a collection that are worked out again."""
TEXT: Final = {b"unirna.text": b"1"}
"""Of a label column that is text in its file: its type is what all of the text is, and text it can always be."""


def plan_labels(columns: Sequence[str], drop: Sequence[str], id_column: str, sequence_column: str) -> dict[str, str]:
    """Under which names the label columns of an input are kept, decided before any of it is read.

    Args:
        columns: names of the columns of all files of the input.
        drop: label columns to leave out, by their names in the file or in the collection.
        id_column, sequence_column: which are no labels.

    Returns:
        Name in the file -> name in the collection; an empty one for a column that is left out.
    """
    names = [name for name in dict.fromkeys(columns) if name not in (id_column, sequence_column)]
    export = {"length", "sha"} <= set(names)  # of a collection: these columns are worked out again
    kept = safe_names(name for name in names if not (export and name in OURS))
    kept |= {name: "" for name in names if name not in kept}
    return {name: "" if name in drop or new in drop else new for name, new in kept.items()}


def labels_of(schema: pa.Schema, types: Mapping[str, pa.DataType] | None = None) -> pa.Schema:
    """The label columns of a table of clean records, each with the type that a store keeps (`storable`).

    Args:
        schema: of the table.
        types: of the columns that are text in their file, by name.

    Raises:
        StoreError: a label of a type that no store holds.
    """
    fields = []
    for field in schema:
        for name in file_columns([field.name]):
            is_text = types is not None and name in types
            kind = (types or {})[name] if is_text else storable(name, field.type)
            fields.append(pa.field(name, kind, metadata=TEXT if is_text else None))
    return pa.schema(fields)


def pack_schema(schema: pa.Schema) -> str:
    """A schema as text, for a JSON file."""
    return str(schema.remove_metadata().serialize().to_pybytes().hex())


def unpack_schema(text: str) -> pa.Schema:
    """The schema that `pack_schema` packed."""
    return pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(text)))


def settle_schema(
    labels: Iterable[str], dimension: int, provenance: Provenance, collection: Collection | None, level: str = "sequence"
) -> pa.Schema:
    """The schema that all rows are brought to: that of the collection, or one that fits the labels of all files.

    Args:
        labels: packed schemas of the labels met.
        dimension: H. provenance: for a collection that is made.
        collection: the one that rows are added to, if it is there.
        level: of the vectors, "sequence" or "nucleotide".

    Raises:
        StoreError: files, or a file and the collection, that disagree on a label; the column is named.
    """
    found: dict[str, pa.Field] = {}
    for text in dict.fromkeys(labels):
        for field in unpack_schema(text):
            found[field.name] = _joined(found[field.name], field) if field.name in found else field
    if collection is None:
        fields = [(name, pa.string() if pa.types.is_null(field.type) else field.type) for name, field in found.items()]
        return collection_schema(dimension, pa.schema(fields), provenance, level)
    check_labels(found, collection)
    schema = collection.schema
    for name, field in found.items():
        wanted = schema.field(name).type
        if not (_is_text(field) and pa.types.is_string(wanted)) and not _fits(field.type, wanted):
            raise StoreError(
                f"label column {name!r} is {field.type} in the input and {wanted} in collection {collection.name!r}. "
                f"Convert it, name its type with --column-type, or leave it out with --drop-labels {name}"
            )
    return schema


def check_labels(names: Iterable[str], collection: Collection) -> None:
    """See that a collection has label columns of these names.

    Raises:
        StoreError: it lacks one.
    """
    schema = collection.schema
    for name in names:
        if name not in schema.names:
            have = ", ".join(n for n in schema.names if n not in OWN) or "none"
            raise StoreError(
                f"the input has a label column {name!r}, collection {collection.name!r} has none of that name (its labels: "
                f"{have}). Leave it out with --drop-labels {name}, or embed into another collection"
            )


def _is_text(field: pa.Field) -> bool:
    return bool(field.metadata) and TEXT.items() <= field.metadata.items()


def _joined(one: pa.Field, other: pa.Field) -> pa.Field:
    """A column of two files: where both are text the type that fits all of it, where one is, text if the other is."""
    if _is_text(one) and _is_text(other):
        return one.with_type(wider(one.type, other.type))
    for text, typed in ((one, other), (other, one)):
        if _is_text(text) and pa.types.is_string(typed.type):
            return typed
    return pa.field(one.name, _common(one.name, one.type, other.type))


def _common(name: str, one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type that holds both: int64 and double make double, null gives way to anything."""
    try:
        both = [pa.schema([(name, one)]), pa.schema([(name, other)])]
        return pa.unify_schemas(both, promote_options="permissive").field(name).type
    except pa.ArrowException as error:
        raise StoreError(
            f"label column {name!r} is {one} in one place and {other} in another. Convert it, or leave it out with "
            f"--drop-labels {name}"
        ) from error


def _fits(kind: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column of one type goes into one of another without loss."""
    try:
        return bool(_common("", wanted, kind) == wanted)
    except StoreError:
        return False
