"""The one look at the input: normalise each record, set bad ones aside, spool the good ones, note their ids and shas."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from unirna.embed.labels import labels_of, pack_schema
from unirna.embed.rejects import REJECT_SCHEMA, with_job
from unirna.embed.state import State
from unirna.runs import PartitionWriter
from unirna.sequence import InputPiece, Missing, TextTypes, clean_table, column_of, read_tables
from unirna.sequence.normalise import REJECT_SCHEMA as READ_REJECTS
from unirna.vectorstore import number_of, scan_rows, split_table, storable_table
from unirna.vectorstore.columns import OWN

KEY_SCHEMA: Final = pa.schema(
    [
        ("bucket", pa.int32()),
        ("id", pa.string()),
        ("sha", pa.string()),
        ("piece", pa.int32()),
        ("number", pa.int64()),
        ("length", pa.int32()),
    ]
)
ROWS: Final = "rows"
"""Stage of the clean records, spread over parts by their sequence, so that equal sequences stand together."""
UNIT_BYTES: Final = 64 << 20
"""Input that one task reads."""
KEYS_AT_ONCE: Final = 1 << 20
"""Keys sorted into buckets in memory at once: about 100 MB."""


@dataclass(frozen=True)
class EmbedUnit:
    """A share of the input that one task reads: a part of a large file, or several small files.

    Attributes:
        number: its place among the units. first: index of its first piece among all pieces of the input.
    """

    number: int
    first: int
    pieces: tuple[InputPiece, ...]


def plan_units(pieces: list[InputPiece], unit_bytes: int) -> list[EmbedUnit]:
    """Group neighbouring pieces so that small files share a unit of up to about `unit_bytes`."""
    units: list[EmbedUnit] = []
    group: list[InputPiece] = []
    size = 0
    for index, piece in enumerate(pieces):
        if group and size + piece.bytes > unit_bytes:
            units.append(EmbedUnit(len(units), index - len(group), tuple(group)))
            group, size = [], 0
        group.append(piece)
        size += piece.bytes
    return [*units, EmbedUnit(len(units), len(pieces) - len(group), tuple(group))]


@dataclass(frozen=True)
class FileInput:
    """How the records of the input are read.

    Attributes:
        id_column, sequence_column: of tables.
        labels: pairs of a label column's name in the file and in the collection; an empty one for a column to leave out.
        types: pairs of a column and its declared type (`unirna.sequence.TYPES`).
    """

    id_column: str
    sequence_column: str
    labels: tuple[tuple[str, str], ...] = ()
    types: tuple[tuple[str, str], ...] = ()

    @property
    def declared(self) -> frozenset[str]:
        """Labels, by their names in the collection, whose type is declared."""
        names = dict(self.labels)
        return frozenset(names.get(column, column) for column, _ in self.types)

    def tables(self, piece: InputPiece, missing: Missing) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Stream a piece as (good rows, rejects); labels under the names of the collection, `missing` is counted on."""
        names = {column_of(old): column_of(new) for old, new in self.labels}
        for table in read_tables(
            piece,
            id_column=self.id_column,
            sequence_column=self.sequence_column,
            leave_out=[old for old, new in self.labels if not new],
            types=dict(self.types),
            missing=missing,
        ):
            table = table.rename_columns([names.get(name, name) for name in table.column_names])
            yield clean_table(table, piece.name)


@dataclass(frozen=True)
class CollectionInput:
    """The rows of a collection as input, to embed them with another model.

    Attributes:
        store, collection, version: where they are. rows: about how many make a piece.
        declared: none: the collection has the types.
    """

    store: str
    collection: str
    version: int
    rows: int
    declared: frozenset[str] = frozenset()

    def pieces(self) -> list[InputPiece]:
        """The parts of the table, one after the other."""
        parts = split_table(self.store, self.collection, self.version, self.rows)
        name = f"{self.collection}@{self.version}"
        return [InputPiece(name, "collection", start=i, end=i + 1, bytes=UNIT_BYTES) for i in range(len(parts))]

    def tables(self, piece: InputPiece, missing: Missing) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Stream a piece, as `FileInput.tables`; its rows were good when they were stored."""
        part = split_table(self.store, self.collection, self.version, self.rows)[piece.start]
        first = 1
        for batch in scan_rows(self.store, self.collection, self.version, part):
            numbers = pa.array(np.arange(first, first + batch.num_rows, dtype=np.int64))
            table = pa.Table.from_batches([batch])
            table = table.rename_columns([name if name in OWN else column_of(name) for name in table.column_names])
            first += batch.num_rows
            table = table.append_column("number", numbers)
            yield table.replace_schema_metadata(None), READ_REJECTS.empty_table()


def part_of(shas: pa.ChunkedArray | pa.Array, parts: int) -> NDArray[np.int32]:
    """The part of each sequence, by the first 8 hex digits of its sha: int32 [N]."""
    if parts == 1 or not len(shas):
        return np.zeros(len(shas), np.int32)
    digits = np.array(shas.to_pylist(), dtype="S8").view("<u8")
    return (((digits * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) % np.uint64(parts)).astype(np.int32)


def scan_unit(
    state: State, unit: EmbedUnit, source: FileInput | CollectionInput, job: str, buckets: int, parts: int
) -> dict[str, Any]:
    """Read a unit; write its records, keys and rejects, and give its counts.

    Returns:
        `read`, `good`, `nucleotides` (of the good), `rejected` (reason -> count), `labels` (schemas as hex), `missing`
        (column, word such as NA that was read as "no value", count), `parts` (good records for each part).
    """
    name = f"{unit.number:06d}"
    counts: dict[str, Any] = {"read": 0, "good": 0, "nucleotides": 0}
    reasons: Counter[str] = Counter()
    labels: dict[str, None] = {}
    tables: dict[pa.Schema, None] = {}
    missing = Missing()
    text = TextTypes()
    with (
        PartitionWriter(state, ROWS, unit.number, parts, lambda rows: part_of(rows["sha"], parts)) as writer,
        state.writing(f"rejects/{name}.parquet") as sink,
        pq.ParquetWriter(sink, REJECT_SCHEMA) as bad,
    ):

        def keys() -> Iterator[pa.Table]:
            for index, piece in enumerate(unit.pieces, unit.first):
                for good, rejects in source.tables(piece, missing):
                    counts["read"] += good.num_rows + rejects.num_rows
                    counts["good"] += good.num_rows
                    counts["nucleotides"] += int(good["length"].to_numpy().sum())
                    reasons.update(rejects["reason"].to_pylist())
                    if piece.is_text_table:
                        text.look(good)
                        tables[good.schema] = None
                    else:
                        labels[pack_schema(labels_of(good.schema))] = None
                    if rejects.num_rows:
                        bad.write_table(with_job(rejects, job))
                    good = good.append_column("piece", pa.array(np.full(good.num_rows, index, np.int32)))
                    if good.num_rows:
                        writer.write(storable_table(good).replace_schema_metadata(None))
                    yield good.select([n for n in KEY_SCHEMA.names if n != "bucket"])

        write_keys(state, f"keys/{name}.parquet", keys(), buckets)
    types = {name: kind for name, kind in text.types.items() if name not in source.declared}
    labels |= {pack_schema(labels_of(schema, types)): None for schema in tables}
    return {
        **counts,
        "rejected": dict(reasons),
        "labels": list(labels),
        "missing": [[column, word, count] for (column, word), count in missing.items()],
        "parts": writer.rows.tolist(),
    }


def scan_held(
    state: State, store: str, collection: str, against: str, part: int, fragments: list[int], buckets: int
) -> dict[str, Any]:
    """Write the keys of a part of what the collection holds already; there is nothing to record of it."""
    batches = scan_rows(store, collection, number_of(against), fragments, ["id", "sha"])
    tables = (pa.Table.from_batches([batch]) for batch in batches)
    write_keys(state, f"held-{against}/{part:06d}.parquet", tables, buckets)
    return {}


def write_keys(state: State, name: str, tables: Iterable[pa.Table], buckets: int) -> None:
    """Write keys with the bucket of each id, in runs sorted by bucket, so that a bucket is read without the others."""
    with state.writing(name) as sink, pq.ParquetWriter(sink, KEY_SCHEMA) as writer:
        waiting: list[pa.Table] = []

        def flush() -> None:
            table = pa.concat_tables(waiting)
            waiting.clear()
            ids = table["id"].to_pylist()
            bucket = np.fromiter((zlib.crc32(i.encode()) % buckets for i in ids), np.int32, len(ids))
            table = table.append_column("bucket", pa.array(bucket))
            for missing in (field for field in KEY_SCHEMA if field.name not in table.column_names):
                table = table.append_column(missing.name, pa.nulls(table.num_rows, missing.type))
            table = table.select(KEY_SCHEMA.names).cast(KEY_SCHEMA).take(np.argsort(bucket, kind="stable"))
            ends = np.cumsum(np.bincount(bucket, minlength=buckets))
            for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
                if end > start:
                    writer.write_table(table.slice(start, end - start), row_group_size=end - start)

        for table in tables:
            waiting.append(table)
            if sum(t.num_rows for t in waiting) >= KEYS_AT_ONCE:
                flush()
        if waiting:
            flush()
