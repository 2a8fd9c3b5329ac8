"""Maps of collections, as the service gives them: places and labels of many points in one binary answer, records of some of
them, and the place of a sequence that is not stored."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unirna import vectorstore
from unirna.serve.engine.catalogue import OWN_COLUMNS, Catalogue, check_text
from unirna.serve.engine.values import plain, plain_row, python_values, rows_of
from unirna.serve.errors import FieldError, RequestError, bad_field
from unirna.vectorstore import Collection, Map, StoreError

HELD_BYTES: Final = 256 << 20
"""Most bytes of maps and answers that are held; what was asked for longest ago goes first."""
NAMED: Final = 250
"""Values of a label that are named, the most frequent; the others share a code."""
NONE: Final = 0
OTHER: Final = 1
FIRST: Final = 2
"""Codes of points without a value, with one that is not named, and with the most frequent one."""
MOST_RECORDS: Final = 1000
"""Records of one request."""
PLACED_BY: Final = 10
"""Neighbours on the map among which a sequence is placed."""
LOOKED_AT: Final = 1000
"""Most hits of a search among which these neighbours are sought."""
UNCOLOURED: Final = ("id", "sequence", "sha", "vector")
"""Columns that say nothing as a colour."""
ID_ROWS: Final = 1 << 18
"""Ids that are looked up at once."""

Vectors = NDArray[np.float32]
Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class LoadedMap:
    """A map beside one version of its collection.

    Attributes:
        map: the map. dataset: the version. rows: that it has. offsets: where in it each point's row stands, -1 if it is
            gone. there: points whose row is there. current: whether these rows are still those that it was made of.
    """

    map: Map
    dataset: lance.LanceDataset
    rows: int
    offsets: Offsets
    there: int
    current: bool

    @property
    def added(self) -> int:
        """Rows that came since the map was made; of a map of a sample, how many more there are."""
        info = self.map.info
        whole = info.points == info.rows
        return max(self.rows - (self.there if whole else info.rows), 0)

    @property
    def bytes(self) -> int:
        """About what it takes in memory."""
        return int(self.map.ids.nbytes + self.map.places.nbytes + self.offsets.nbytes)


class Maps:
    """The maps of a catalogue's collections. Safe to use from several threads.

    Args:
        catalogue: of the store. budget: most bytes that are held.
    """

    def __init__(self, catalogue: Catalogue, budget: int = HELD_BYTES) -> None:
        self._catalogue, self.budget = catalogue, budget
        self._held: OrderedDict[tuple[str, ...], LoadedMap] = OrderedDict()
        self._answers: OrderedDict[tuple[str, ...], tuple[LoadedMap, bytes]] = OrderedDict()
        self._lock = threading.Lock()
        self._reading: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    # ---- all points ------------------------------------------------------------------------------------------------

    def answer(self, name: str | None, label: str | None = None, *, ids: bool = False) -> bytes:
        """A map as it is sent: a line of JSON, padded to a multiple of 4 bytes, then x and y of each point in turn
        (float32), then of each point the code (uint16) or the value (float32) of the label, all little-endian; then, where
        `ids` are requested, a JSON list of them.

        The place of a point whose row is gone is NaN, and so is a value that is missing.

        Raises:
            RequestError: no such collection, or it has no map (404); a label that is no column, or that cannot be a colour.
        """
        collection = self._catalogue.open(name)
        held = self._of(collection)
        columns = {field.name: _kind(field.type) for field in held.dataset.schema if field.name not in UNCOLOURED}
        if label is not None:
            check_text(label, "label")
            if label not in columns:
                raise bad_field("label", f"no column {label!r} to colour by. There are: {', '.join(columns)}")
        key = (collection.name, label or "")
        with self._lock:
            before = self._answers.get(key)
            made = before[1] if before is not None and before[0] is held else None
        if made is None:
            made = self._made(collection, held, columns, label)
        with self._lock:
            self._answers[key] = held, made
            self._answers.move_to_end(key)
            self._shrink()
        return made + json.dumps(held.map.ids.to_pylist()).encode() if ids else made

    def _made(self, collection: Collection, held: LoadedMap, columns: dict[str, str], label: str | None) -> bytes:
        info, there = held.map.info, held.offsets >= 0
        places = np.where(there[:, None], held.map.places, np.float32(np.nan)).astype("<f4")
        low, high = (held.map.places[there].min(axis=0), held.map.places[there].max(axis=0))
        colour: dict[str, Any] | None = None
        body = b""
        if label is not None:
            column = _take(held.dataset, held.offsets[there], [label])[label].combine_chunks()
            colour, codes = _values(column) if columns[label] == "values" else _classes(column)
            empty = np.float32(np.nan) if columns[label] == "values" else NONE
            whole = np.full(len(there), empty, codes.dtype)
            whole[there] = codes
            colour = {"column": label, "kind": columns[label], **colour}
            body = whole.tobytes()
        header = {
            "collection": collection.name,
            "map": held.map.name,
            "points": len(there),
            "rows": info.rows,
            "num_rows": held.rows,
            "added": held.added,
            "gone": len(there) - held.there,
            "current": held.current,
            "model": collection.provenance.model,
            "fingerprint": info.fingerprint,
            "method": info.method,
            "seed": info.seed,
            "bounds": [float(value) for value in (*low, *high)],
            "columns": columns,
            "label": colour,
        }
        line = json.dumps(header).encode()
        return line + b" " * (-(len(line) + 1) % 4) + b"\n" + places.tobytes() + body

    # ---- some points -----------------------------------------------------------------------------------------------

    def records(self, name: str | None, points: Sequence[int], map: str | None = None) -> dict[str, Any]:
        """Records of points, by their places in the answer, in the order asked for; those that are gone are left out.

        Args:
            name: the collection. points: 0 is the first. map: the map they are of, as its answer says, to be sure.

        Raises:
            RequestError: no such collection or map (404); a point that is none, too many, or of another map (422).
        """
        if len(points) > MOST_RECORDS:
            raise bad_field("points", f"{len(points):,} points; a request takes at most {MOST_RECORDS:,}")
        collection = self._catalogue.open(name)
        held = self._of(collection)
        self._check_map(held, map)
        count = len(held.offsets)
        for i, point in enumerate(points):
            if isinstance(point, bool) or not isinstance(point, int) or not 0 <= point < count:
                raise bad_field(f"points[{i}]", f"expected a whole number from 0 to {count - 1:,}, got {point!r}")
        wanted = [point for point in points if held.offsets[point] >= 0]
        at = np.unique(held.offsets[wanted]) if wanted else np.zeros(0, np.int64)
        columns = [column for column in held.dataset.schema.names if column != "vector"]
        rows = dict(zip(at.tolist(), rows_of(_take(held.dataset, at, columns)), strict=True))
        found = [{"point": point, **plain_row(rows[int(held.offsets[point])], OWN_COLUMNS)} for point in wanted]
        return {"collection": collection.name, "records": found}

    # ---- another sequence ------------------------------------------------------------------------------------------

    def check(self, name: str | None) -> Collection:
        """See that a collection has a map, before work is done for it.

        Raises:
            RequestError: no such collection, or it has no map (404).
        """
        collection = self._catalogue.open(name)
        self._of(collection)
        return collection

    def place(self, collection: Collection, vector: Vectors) -> dict[str, Any]:
        """Where a vector belongs on the map, and its nearest neighbours there.

        Raises:
            RequestError: it has no map (404), or none of the nearest rows is on it (422).
        """
        held = self._of(collection)
        share = held.there / max(held.rows, 1)
        k = min(max(int(2 * PLACED_BY / share), PLACED_BY + held.added, PLACED_BY), LOOKED_AT)
        hits = collection.search(vector, k=PLACED_BY if share == 1 else k, columns=["id"])
        points = pc.index_in(hits["id"].combine_chunks(), value_set=held.map.ids).to_pylist()
        near = [(p, s) for p, s in zip(points, hits["similarity"].to_pylist(), strict=True) if p is not None][:PLACED_BY]
        if not near:
            message = f"none of the {len(points):,} nearest rows is on the map, which shows {held.there:,} of {held.rows:,}"
            raise bad_field("sequence", f"{message}. Search for it instead")
        at = np.array([point for point, _ in near])
        x, y = vectorstore.place_among(held.map.places[at], np.array([s for _, s in near], np.float32)).tolist()
        ids = held.map.ids.take(pa.array(at)).to_pylist()
        neighbours = [
            {"point": point, "id": id, "similarity": min(max(similarity, -1.0), 1.0)}
            for (point, similarity), id in zip(near, ids, strict=True)
        ]
        return {"collection": collection.name, "map": held.map.name, "x": x, "y": y, "neighbours": neighbours}

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _of(self, collection: Collection) -> LoadedMap:
        """The map beside the newest version of a collection, read if it is not held."""
        store, name = collection.uri, collection.name
        with self._lock:
            reading = self._reading[name]
        with reading:  # once, for all who ask for it now
            dataset, called = collection.dataset, vectorstore.name_of_map(store, name)
            with self._lock:
                before = self._held.get((name,))
                if before is not None and before.dataset.version == dataset.version and before.map.name == called:
                    self._held.move_to_end((name,))
                    return before
            held = _held(collection, dataset)
            with self._lock:
                self._held[name,] = held
                self._held.move_to_end((name,))
                self._shrink()
            return held

    def _check_map(self, held: LoadedMap, map: str | None) -> None:
        if map is not None and map != held.map.name:
            raise bad_field("map", "the map has been rebuilt with other points: read it again")

    def _shrink(self) -> None:
        while self._answers and self._bytes() > self.budget:
            self._answers.popitem(last=False)
        while self._held and self._bytes() > self.budget:
            self._held.popitem(last=False)

    def _bytes(self) -> int:
        return sum(held.bytes for held in self._held.values()) + sum(len(made) for _, made in self._answers.values())


def _held(collection: Collection, dataset: lance.LanceDataset) -> LoadedMap:
    name = collection.name
    make = f"Make one with: unirna collections map {name} --store …, or with jobs/embed.py --map"
    try:
        found = vectorstore.read_map(collection.uri, name)
    except StoreError as error:
        raise _no_map(str(error)) from error
    if found is None:
        raise _no_map(f"collection {name!r} has no map. {make}")
    if found.info.fingerprint != collection.provenance.fingerprint:
        raise _no_map(f"the map of {name!r} is of another model's vectors. {make}")
    offsets = np.full(len(found.ids), -1, np.int64)
    rows = 0
    for batch in dataset.scanner(columns=["id"], batch_size=ID_ROWS).to_batches():
        at = pc.index_in(batch["id"], value_set=found.ids)
        known = at.is_valid().to_numpy(zero_copy_only=False)
        offsets[at.drop_null().to_numpy()] = rows + np.flatnonzero(known)
        rows += batch.num_rows
    there = int((offsets >= 0).sum())
    if not there:
        raise _no_map(f"none of the rows on the map of {name!r} exists any more. {make}")
    current = vectorstore.map_is_current(collection.uri, name, found.info)
    return LoadedMap(found, dataset, rows, offsets, there, current)


def _no_map(message: str) -> RequestError:
    return RequestError(404, message, FieldError("map", message))


def _take(dataset: lance.LanceDataset, at: Offsets, columns: list[str]) -> pa.Table:
    return dataset.take(at, columns=columns)


def _kind(type: pa.DataType) -> str:
    """How a column is shown: as classes, or as values on a scale."""
    number = pa.types.is_integer(type) or pa.types.is_floating(type) or pa.types.is_decimal(type)
    return "values" if number else "classes"


def _values(column: pa.Array) -> tuple[dict[str, Any], NDArray[Any]]:
    """Numbers, and the ends of a scale that a few extreme ones do not stretch."""
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype("<f4")
    values[~np.isfinite(values)] = np.nan
    good = values[np.isfinite(values)].astype(np.float64)
    ends = np.percentile(good, [0, 2, 98, 100]).tolist() if len(good) else [None] * 4
    named = dict(zip(("min", "low", "high", "max"), ends, strict=True))
    return named | {"none": len(values) - len(good)}, values


def _classes(column: pa.Array) -> tuple[dict[str, Any], NDArray[Any]]:
    """Codes of values, and which value the codes from 2 on stand for, the most frequent first."""
    if pa.types.is_boolean(column.type) or pa.types.is_large_string(column.type) or pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    if not pa.types.is_string(column.type):
        texts = [None if value is None else _text(value) for value in python_values(pa.chunked_array([column]))]
        column = pa.array(texts, pa.string())
    counted = pc.value_counts(column.drop_null())
    pairs = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    order = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    named = order[:NAMED]
    at = pc.index_in(column, value_set=pa.array([name for name, _ in named], pa.string()))
    codes = pc.fill_null(pc.add(at, FIRST), OTHER).to_numpy(zero_copy_only=False).astype("<u2")
    codes[column.is_null().to_numpy(zero_copy_only=False)] = NONE
    return {
        "values": [{"name": name, "count": count} for name, count in named],
        "distinct": len(order),
        "other": sum(count for _, count in order[NAMED:]),
        "none": column.null_count,
    }, codes


def _text(value: Any) -> str:
    made = plain(value)
    return made if isinstance(made, str) else json.dumps(made)
