"""Types of label columns: which ones a store can hold, and as what it keeps the others."""

from __future__ import annotations

import pyarrow as pa

from unirna.vectorstore.errors import StoreError


def storable(name: str, kind: pa.DataType) -> pa.DataType:
    """The type as which a store keeps a column: the same, or one that holds the same values.

    Categories are kept as their values, decimals of 32 and 64 bits as decimals of 128 bits, views as what they view, and
    lists of one length as lists, if their items are of no fixed width.

    Args:
        name: of the column, for the message. kind: its Arrow type.

    Raises:
        StoreError: a type that no store holds (unions, intervals, structs without fields); the column is named.
    """
    kept = _storable(kind)
    if kept is None:
        raise StoreError(
            f"column {name!r}: a store cannot hold values of the type {kind}. Convert them to text or numbers, "
            "or leave the column out"
        )
    return kept


def storable_table(table: pa.Table) -> pa.Table:
    """A table with each column as a store keeps it (`storable`).

    Raises:
        StoreError: a column of a type that no store holds.
    """
    columns = []
    for field in table.schema:
        kept, column = storable(field.name, field.type), table[field.name]
        columns.append(column if column.type == kept else _cast(column, kept))
    return pa.table(columns, names=table.column_names)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column with another type; by way of Python values where Arrow has no cast, or a faulty one (list views)."""
    try:
        found = column.cast(kind)
        found.validate(full=True)
    except pa.ArrowException:
        found = pa.chunked_array([pa.array(chunk.to_pylist(), kind) for chunk in column.chunks], kind)
    return found


def _storable(kind: pa.DataType) -> pa.DataType | None:
    """None if there is no such type."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return kind if _storable(kind.storage_type) == kind.storage_type else None
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return None if types.is_nested(kind.value_type) else _storable(kind.value_type)
    if types.is_decimal32(kind) or types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if types.is_string_view(kind):
        return pa.string()
    if types.is_binary_view(kind):
        return pa.binary()
    if types.is_union(kind) or types.is_interval(kind):
        return None
    if not types.is_nested(kind):
        return kind
    fields = [kind.field(i) for i in range(kind.num_fields)]
    inner = [_storable(field.type) for field in fields]
    if not fields or None in inner:
        return None
    fixed = types.is_fixed_size_list(kind) and kind.list_size > 0 and _is_fixed(inner[0])
    if types.is_struct(kind):
        fits = pa.struct([field.with_type(part) for field, part in zip(fields, inner, strict=True)])
    elif types.is_map(kind):
        fits = pa.map_(_storable(kind.key_type), _storable(kind.item_type))
    elif fixed:
        fits = pa.list_(inner[0], kind.list_size)
    else:
        large = types.is_large_list(kind) or types.is_large_list_view(kind)
        fits = pa.large_list(inner[0]) if large else pa.list_(inner[0])
    return kind if fits == kind else fits


def _is_fixed(kind: pa.DataType) -> bool:
    """Whether all values of a type take the same space."""
    if pa.types.is_fixed_size_list(kind):
        return _is_fixed(kind.value_type)
    return bool(pa.types.is_primitive(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_decimal(kind))
