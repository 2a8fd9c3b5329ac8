"""Collections of RNA sequences and their vectors in a LanceDB store: search, read, write. Knows arrays and Arrow only."""

from unirna.vectorstore.collection import Collection, CollectionInfo, exists, list_collections, open
from unirna.vectorstore.errors import FilterError, ModelMismatchError, StoreError
from unirna.vectorstore.ingest import (
    append_rows,
    check_name,
    commit,
    committed_version,
    rejects_name,
    replace_rows,
    scan_keys,
    split_table,
    table_version,
    write_rows,
)
from unirna.vectorstore.schema import RESERVED, Provenance, collection_schema, vector_array

__all__ = [
    "RESERVED",
    "Collection",
    "CollectionInfo",
    "FilterError",
    "ModelMismatchError",
    "Provenance",
    "StoreError",
    "append_rows",
    "check_name",
    "collection_schema",
    "commit",
    "committed_version",
    "exists",
    "list_collections",
    "open",
    "rejects_name",
    "replace_rows",
    "scan_keys",
    "split_table",
    "table_version",
    "vector_array",
    "write_rows",
]
