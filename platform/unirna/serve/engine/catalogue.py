"""The collections of a store, as the service lists them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from unirna import vectorstore
from unirna.serve.engine.encoders import Encoders
from unirna.serve.engine.values import arrow_parts, plain_row, rows_of
from unirna.serve.errors import FieldError, RequestError, bad_field
from unirna.vectorstore import VERIFIED, Collection, FilterError, StoreError

log = logging.getLogger(__name__)

OWN_COLUMNS = (
    *("id", "sequence", "length", "sha", "query", "rank", "similarity", "vector", "found_by", "_shared"),
    *VERIFIED.names,
)
"""Columns of a search result that are no labels."""
MOST_SAMPLED = 1_000
"""Rows of one sample."""
EXPORTED_AT_ONCE = 4_096
"""Rows of an export that are read at once."""
EXAMPLES_FROM = 512
"""Rows from the start of a collection among which its examples are chosen."""


class Catalogue:
    """Opens and describes the collections of a store. Safe to use from several threads.

    Args:
        store: its URI. encoders: models whose collections can be searched.
        default_collection: what is searched when a request names none; None for the store's own default.
    """

    def __init__(self, store: str, encoders: Encoders, default_collection: str | None) -> None:
        self.store, self.encoders, self.default_collection = store, encoders, default_collection

    def open(self, name: str | None = None) -> Collection:
        """A collection by name, or the default one.

        Raises:
            RequestError: no such collection (404), or none named and no default (422).
        """
        names = vectorstore.list_collections(self.store)
        if name is None:
            try:
                name = self._default()
            except StoreError as error:
                raise bad_field("collection", str(error)) from error
        if name is None:
            raise bad_field("collection", "the store is empty")
        if name not in names:  # never a path: only names that the store lists are opened
            raise bad_field("collection", f"no collection {name!r}. There are: {', '.join(names) or 'none'}", 404)
        try:
            return vectorstore.open(self.store, name)
        except StoreError as error:
            log.warning("collection %s cannot be opened: %s", name, error)
            raise bad_field("collection", f"{name!r} cannot be opened; the service's log says why", 500) from error

    def default(self) -> str | None:
        """The collection that is searched when a request names none; None for an empty store, or one that lost it."""
        try:
            return self._default()
        except StoreError as error:
            log.warning("%s", error)
            return None

    def _default(self) -> str | None:
        return self.default_collection or vectorstore.default_collection(self.store)

    def set_default(self, name: str) -> None:
        """Set the collection of the store that is searched when a request names none.

        Args:
            name: the collection.

        Raises:
            RequestError: no such collection (404), or this service has a default of its own, from its settings (409).
        """
        if self.default_collection not in (None, name):
            detail = f"this service searches {self.default_collection!r} by default (--collection), whatever the store says"
            raise RequestError(409, detail, FieldError("collection", detail))
        self.open(name)
        vectorstore.set_default(self.store, name)

    def drop(self, name: str, confirm: str) -> None:
        """Remove a collection for good.

        Args:
            name: the collection.
            confirm: its name once more.

        Raises:
            RequestError: no such collection (404), `confirm` is another name (422), or it is the default and there are
                others (409).
        """
        self.open(name)
        if confirm != name:
            raise bad_field("confirm", f"this cannot be undone: confirm with the collection's name, {name!r}")
        others = [other for other in vectorstore.list_collections(self.store) if other != name]
        if others and self.default() == name:
            detail = (
                f"{name!r} is the default collection: set another one first, PUT /v1/collections/NAME/default with one of "
                f"{', '.join(others)}"
            )
            raise RequestError(409, detail, FieldError("collection", detail))
        vectorstore.drop(self.store, name, confirm=confirm)

    def describe_all(self) -> list[dict[str, Any]]:
        """All collections that can be opened, by name; see `describe`."""
        answers = []
        for name in vectorstore.list_collections(self.store):
            try:
                answers.append(self.describe(vectorstore.open(self.store, name)))
            except StoreError as error:
                log.warning("collection %s is left out: %s", name, error)
        return answers

    def describe(self, collection: Collection) -> dict[str, Any]:
        """What a collection is: name, num_rows, dimension, model, fingerprint, columns, version, searchable."""
        info, made = collection.info, collection.provenance
        return {
            "name": info.name,
            "num_rows": info.num_rows,
            "dimension": info.dimension,
            "model": made.model,
            "fingerprint": made.fingerprint,
            "columns": info.columns,
            "version": info.version,
            "searchable": self.encoders.known(made),
        }

    def record(self, collection: str | None, id: str) -> dict[str, Any]:
        """One stored sequence: id, length, sequence, labels.

        Raises:
            RequestError: unknown collection or id (404).
        """
        check_text(id, "id")
        table = self.open(collection)
        rows = rows_of(table.get([id]))
        if not rows:
            raise bad_field("id", f"no sequence {id!r} in collection {table.name!r}", 404)
        return plain_row(rows[0], OWN_COLUMNS)

    def sample(self, collection: str | None, count: int, seed: int) -> list[dict[str, Any]]:
        """Stored sequences (id, length, sequence, labels) chosen at random.

        Raises:
            RequestError: unknown collection (404); a count or a seed that is none (422).
        """
        for field, value, most in (("count", count, MOST_SAMPLED), ("seed", seed, 2**63 - 1)):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
                raise bad_field(field, f"expected a whole number from 0 to {most:,}, got {value!r}")
        return [plain_row(row, OWN_COLUMNS) for row in rows_of(self.open(collection).sample(count, seed=seed))]

    def export(self, collection: str | None, where: str | None) -> Iterator[bytes]:
        """All rows of a collection that pass a filter, as the parts of an Arrow IPC stream, some rows at a time.

        The metadata of its schema has `unirna.provenance`, what made the vectors (JSON), and `unirna.rows`, how many there
        are: a stream that was cut short has fewer.

        Args:
            collection: which; by default the default one.
            where: SQL condition on the columns.

        Raises:
            RequestError: unknown collection (404), a filter that the store cannot read (422). Nothing is sent then.
        """
        if where is not None:
            check_text(where, "where")
        table = self.open(collection)
        table = vectorstore.open(table.uri, table.name, version=table.info.version)  # the same for all rows
        columns = [name for name in table.schema.names if name != "sha"]
        try:
            rows = table.count(where)
        except FilterError as error:
            raise bad_field("where", str(error)) from error
        made = {b"unirna.provenance": table.provenance.to_bytes(), b"unirna.rows": str(rows).encode()}
        schema = pa.schema([table.schema.field(name) for name in columns], metadata=made)
        return arrow_parts(schema, table.scan(columns, batch_rows=EXPORTED_AT_ONCE, where=where))

    def examples(self, collection: str | None, count: int = 5) -> list[dict[str, Any]]:
        """A few stored sequences (id, length, sequence, labels), spread over the start of a collection."""
        table = self.open(collection)
        batch = next(table.scan(batch_rows=EXAMPLES_FROM), None)
        if batch is None or not batch.num_rows:
            return []
        places = np.linspace(0, batch.num_rows - 1, min(count, batch.num_rows)).astype(int)
        return [plain_row(row, OWN_COLUMNS) for row in rows_of(pa.Table.from_batches([batch.take(pa.array(places))]))]


def check_text(value: object, field: str) -> None:
    """See that a name can be looked up.

    Raises:
        RequestError: no text, or text that is no Unicode.
    """
    if not isinstance(value, str):
        raise bad_field(field, f"expected text, got {type(value).__name__}")
    if not value.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise bad_field(field, "a lone surrogate is not a valid character")
