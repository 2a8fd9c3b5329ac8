"""Label columns: the user's own, which go into the collection with their types."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from unirna.vectorstore import Collection, Provenance, StoreError, collection_schema, storable
from unirna.vectorstore.schema import OWN


def label_name(name: str) -> str:
    """The name under which a label column is kept: those that mean something in a search result get a prefix."""
    return f"label_{name}" if name in ("query", "rank", "similarity", "piece") or name.startswith("_") else name


def labels_of(schema: pa.Schema) -> pa.Schema:
    """The label columns of a table of clean records, each with the type that a store keeps (`storable`).

    Raises:
        StoreError: a label of a type that no store holds.
    """
    own = ("number", "id", "sequence", "length", "sha")
    fields = [f for f in schema if f.name not in own]
    return pa.schema([(f.name, storable(f.name, f.type)) for f in fields])


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
    types: dict[str, pa.DataType] = {}
    for text in dict.fromkeys(labels):
        for field in unpack_schema(text):
            types[field.name] = _common(field.name, types.get(field.name, field.type), field.type)
    if collection is None:
        fields = [(name, pa.string() if pa.types.is_null(kind) else kind) for name, kind in types.items()]
        return collection_schema(dimension, pa.schema(fields), provenance, level)
    schema = collection.schema
    for name, kind in types.items():
        if name not in schema.names:
            have = ", ".join(n for n in schema.names if n not in OWN) or "none"
            raise StoreError(
                f"the input has a label column {name!r}, collection {collection.name!r} has none of that name (its labels: "
                f"{have}). Leave it out with --drop-labels {name}, or embed into another collection"
            )
        wanted = schema.field(name).type
        if not _fits(kind, wanted):
            raise StoreError(
                f"label column {name!r} is {kind} in the input and {wanted} in collection {collection.name!r}. Convert it, "
                f"or leave it out with --drop-labels {name}"
            )
    return schema


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
