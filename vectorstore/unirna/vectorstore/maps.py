"""The map of a collection: a place on a plane for each of its rows, in a table beside it. Who makes it, and how, is no
matter of this module."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Final

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna.vectorstore.collection import MAP, exists, table_uri
from unirna.vectorstore.errors import StoreError
from unirna.vectorstore.ingest import same_rows, table_version, version_name

MAP_KEY: Final = b"unirna.map"
MAP_SCHEMA: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("x", pa.float32(), nullable=False),
        pa.field("y", pa.float32(), nullable=False),
    ]
)
KEPT: Final = timedelta(days=1)
"""How long a map that was replaced is left in place, for those who are reading it."""
MapPositions = NDArray[np.float32]


@dataclass(frozen=True)
class MapInfo:
    """What a map was made of.

    Attributes:
        of: the version of the collection (`version_name`). fingerprint: of the model whose vectors they were.
        rows: that the collection had. points: those of them that are on the map.
        method: "umap" or "pca". seed: of what is drawn at random. seconds: that it took.
    """

    of: str
    fingerprint: str
    rows: int
    points: int
    method: str
    seed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Map:
    """A map: `ids` [N] of rows, their `places` float32 [N, 2], what it was made of, and a name that no other map has."""

    ids: pa.Array
    places: MapPositions
    info: MapInfo
    name: str


def map_name(name: str) -> str:
    """The table with a collection's map; `list_collections` does not show it."""
    return name + MAP


def write_map(uri: str, name: str, ids: pa.Array, places: MapPositions, info: MapInfo) -> None:
    """Store the map of a collection, replacing any map that is there, in one commit.

    Raises:
        StoreError: no such collection.
    """
    if not exists(uri, name):
        raise StoreError(f"{name!r} is no longer there: it was dropped or renamed while its map was made")
    schema = MAP_SCHEMA.with_metadata({MAP_KEY: json.dumps(asdict(info)).encode()})
    x, y = (pa.array(np.ascontiguousarray(column, np.float32)) for column in places.T)
    table = pa.Table.from_arrays([ids, x, y], schema=schema)
    mode = "overwrite" if exists(uri, map_name(name)) else "create"
    dataset = lance.write_dataset(table, table_uri(uri, map_name(name)), mode=mode)
    dataset.cleanup_old_versions(older_than=KEPT)


def map_info(uri: str, name: str) -> MapInfo | None:
    """What a collection's map was made of; None if it has none."""
    table = map_name(name)
    return _info(lance.dataset(table_uri(uri, table)).schema, table) if exists(uri, table) else None


def read_map(uri: str, name: str) -> Map | None:
    """A collection's map, None if it has none."""
    table = map_name(name)
    if not exists(uri, table):
        return None
    dataset = lance.dataset(table_uri(uri, table))
    rows = dataset.to_table()
    places = np.stack([rows["x"].to_numpy(), rows["y"].to_numpy()], axis=1)
    called = version_name(uri, table, int(dataset.version))
    return Map(rows["id"].combine_chunks(), places, _info(dataset.schema, table), called)


def name_of_map(uri: str, name: str) -> str:
    """The name of a collection's map as it is now (`Map.name`); "0" where it has none."""
    table = map_name(name)
    return version_name(uri, table, table_version(uri, table))


def map_is_current(uri: str, name: str, info: MapInfo) -> bool:
    """Whether the collection's rows are still those that a map was made of: compaction and indexes do not count as
    changes."""
    return same_rows(uri, name, info.of)


def place_among(places: MapPositions, similarities: NDArray[np.float32]) -> MapPositions:
    """Where something belongs whose neighbours have places: their mean, the nearest weighing most.

    A neighbour's weight falls by two thirds with each quarter of their mean distance beyond the nearest one, so what equals
    one of them, and no other, lies close to it.

    Args:
        places: of its neighbours, float32 [..., k, 2]. similarities: cosines, [..., k].

    Returns:
        Places float32 [..., 2].
    """
    distances = similarities.max(axis=-1, keepdims=True).astype(np.float64) - similarities
    mean = np.maximum(distances.mean(axis=-1, keepdims=True), 1e-9)
    weights = np.exp(-4 * distances / mean)
    weights /= weights.sum(axis=-1, keepdims=True)
    placed: MapPositions = (places * weights[..., None]).sum(axis=-2).astype(np.float32)
    return placed


def _info(schema: pa.Schema, table: str) -> MapInfo:
    raw = (schema.metadata or {}).get(MAP_KEY)
    if raw is None:
        raise StoreError(f"table {table!r} does not say what it was made of, so unirna did not make it")
    return MapInfo(**{key: value for key, value in json.loads(raw).items() if key in MapInfo.__dataclass_fields__})
