"""First stage: read every record once, normalise it or count why not, and spread the good ones over buckets on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from unirna.corpus.config import BuildConfig, CorpusSource
from unirna.corpus.work import Work
from unirna.runs import PartitionWriter, new_file
from unirna.sequence import (
    REJECT_SCHEMA,
    InputError,
    InputPiece,
    clean_table,
    column_of,
    plan_pieces,
    read_tables,
)

UNIT_BYTES: Final = 64 << 20
ROW_SCHEMA: Final = pa.schema(
    [
        ("sha", pa.binary(16)),
        ("id", pa.string()),
        ("group", pa.string()),
        ("drop", pa.int16()),
        ("sequence", pa.large_string()),
    ]
)
"""A good record. `drop` is the number of the rule that leaves it out, -1 for none: columns first, then groups."""


@dataclass(frozen=True)
class CorpusUnit:
    """What one task reads: one large piece or several small ones of one source.

    Attributes:
        source: number of the source. pieces: in input order.
    """

    source: int
    pieces: tuple[InputPiece, ...]

    @property
    def bytes(self) -> int:
        """Size as stored."""
        return sum(piece.bytes for piece in self.pieces)


def plan_units(sources: list[CorpusSource], spool: str, encoding: str = "") -> tuple[list[str], list[CorpusUnit]]:
    """Names of the sources, in order, and the units of all inputs.

    Raises:
        InputError: an input that is not there or of no known format.
    """
    names = list(dict.fromkeys(source.name for source in sources))
    units: list[CorpusUnit] = []
    for source in sources:
        number = names.index(source.name)
        group: list[InputPiece] = []
        for piece in plan_pieces(source.path, spool=spool, encoding=encoding):
            if group and sum(p.bytes for p in group) + piece.bytes > UNIT_BYTES:
                units.append(CorpusUnit(number, tuple(group)))
                group = []
            group.append(piece)
        units.append(CorpusUnit(number, tuple(group)))
    return names, units


def num_buckets(units: list[CorpusUnit], shard_nucleotides: int) -> int:
    """Buckets, so that each holds about a shard. Compressed files and Parquet are assumed to hold four nucleotides per
    byte."""
    letters = sum(p.bytes * (4 if p.compression or p.format == "parquet" else 1) for unit in units for p in unit.pieces)
    return 1 + letters // shard_nucleotides


def scan_unit(
    work: Work, number: int, unit: CorpusUnit, config: BuildConfig, dropped: frozenset[str], buckets: int
) -> dict[str, Any]:
    """Read a unit and write its good records and its rejects; gives its `source`, `read`, `rejected` and `groups`."""
    reasons: Counter[str] = Counter()
    groups: set[str] = set()
    read = 0
    wanted = {name for name in (config.group_column, *config.drop) if name}

    def rows(bad: pq.ParquetWriter) -> Iterator[pa.Table]:
        nonlocal read
        for piece in unit.pieces:
            for table in read_tables(
                piece, id_column=config.id_column, sequence_column=config.sequence_column, columns=sorted(wanted)
            ):
                read += table.num_rows
                good, rejects = clean_table(table, piece.name)
                reasons.update(rejects["reason"].to_pylist())
                if rejects.num_rows:
                    bad.write_table(rejects)
                group = _strings(good, config.group_column, piece)
                groups.update(name for name in pc.unique(group).to_pylist() if name)
                yield pa.table(
                    {
                        "sha": sha_array(good["sha"].to_pylist()),
                        "id": good["id"],
                        "group": group,
                        "drop": _rules(good, group, config, dropped, piece),
                        "sequence": good["sequence"],
                    },
                    ROW_SCHEMA,
                )

    with (
        new_file(work.at("rejects", number, "parquet")) as beside,
        pq.ParquetWriter(beside, REJECT_SCHEMA) as bad,
        PartitionWriter(work.files, "rows", number, buckets, lambda table: _buckets_of(table["sha"], buckets)) as writer,
    ):
        for table in rows(bad):
            writer.write(table)
    return {"source": unit.source, "read": read, "rejected": dict(reasons), "groups": sorted(groups)}


def sha_array(names: list[str]) -> pa.Array:
    """Binary form, 16 bytes each, of SHAs in hexadecimal."""
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(names), [None, pa.py_buffer(bytes.fromhex("".join(names)))]
    )


def sha_words(column: pa.ChunkedArray | pa.Array) -> NDArray[np.uint64]:
    """SHAs as two numbers that sort like them: uint64 [n, 2]."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    raw = np.frombuffer(array.buffers()[1] or b"", ">u8", 2 * len(array), 16 * array.offset)
    return raw.reshape(-1, 2).astype(np.uint64)


def _buckets_of(shas: pa.ChunkedArray, buckets: int) -> NDArray[np.int64]:
    return ((sha_words(shas)[:, 0] >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)).astype(np.int64)


def _strings(table: pa.Table, column: str, piece: InputPiece) -> pa.Array:
    if not column or column_of(column) not in table.column_names:
        return pa.nulls(table.num_rows, pa.string())
    try:
        names = table[column_of(column)].combine_chunks().cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(piece.path, f"group column {column!r} holds no text ({error})") from error
    return pc.if_else(pc.equal(names, ""), None, names)


def _rules(table: pa.Table, group: pa.Array, config: BuildConfig, dropped: frozenset[str], piece: InputPiece) -> pa.Array:
    rule = np.full(table.num_rows, -1, np.int16)
    if dropped:
        rule[pc.is_in(group, pa.array(sorted(dropped), pa.string())).to_numpy(False)] = len(config.drop)
    for number, column in reversed(list(enumerate(config.drop))):
        if column_of(column) in table.column_names:
            try:
                flags = pc.fill_null(table[column_of(column)].combine_chunks().cast(pa.bool_()), False)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                problem = f"column {column!r}, which --drop names, is not true or false ({error})"
                raise InputError(piece.path, problem) from error
            rule[flags.to_numpy(False)] = number
    return pa.array(rule)
