"""The map of a collection: its vectors laid out on a plane, so that what is similar lies together.

The layout is UMAP's, of cosine distances; neighbours are exact, by blocks of one matrix product, so nothing is drawn at
random but the layout's own steps, and the same collection and seed give the same map. Up to 20,000 rows are laid out; of
a larger collection these are a random sample, and each further row is placed among its nearest neighbours of the sample
(`unirna.vectorstore.place_among`). A map has at most 200,000 points: of a collection with more rows it shows a random
sample. Held at a time are the vectors laid out and one block of the others, whatever the size of the collection. Fewer than
15 rows have too few neighbours for a layout: they are projected on the two directions in which they differ most (PCA).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unirna import vectorstore
from unirna.job import JobError, say
from unirna.vectorstore import MapInfo

POINTS: Final = 200_000
"""Most points of a map."""
FITTED: Final = 20_000
"""Most rows that are laid out; the others are placed among them."""
NEIGHBOURS: Final = 15
"""Of each row in the layout, itself among them."""
MIN_DISTANCE: Final = 0.5
"""UMAP's min_dist: with less the members of a family lie upon one another."""
PLACED_BY: Final = 10
"""Neighbours among which a further row is placed."""
READ: Final = 4096
"""Rows read at once."""
BLOCK: Final = 1024
"""Rows compared with all that are laid out at once: 80 MB of similarities."""
METHODS: Final = ("umap", "pca")

Floats = NDArray[np.float32]
RowNumbers = NDArray[np.int64]


def check_method(method: str) -> None:
    """See that a map can be made in this way here.

    Raises:
        JobError: no such method, or umap-learn is not installed.
    """
    if method not in METHODS:
        raise JobError(f"method {method!r}: expected {' or '.join(METHODS)}")
    if method == "umap" and find_spec("umap") is None:
        raise JobError('a map needs umap-learn, which is not installed: pip install "unirna[map]"')


def make_map(store: str, name: str, *, method: str = "umap", seed: int = 0, rebuild: bool = False) -> dict[str, Any]:
    """Make the map of a collection, and put it beside it.

    Args:
        store: its URI. name: the collection.
        method: "umap", or "pca", which is quick, needs no umap-learn, and shows less.
        seed: of what is drawn at random.
        rebuild: make it even if there is a map of these rows by this method and with this seed.

    Returns:
        What it was made of (`MapInfo`), and whether it was `made` now.

    Raises:
        StoreError: no such collection. JobError: a method that is none, or that needs umap-learn.
    """
    check_method(method)
    collection = vectorstore.open(store, name)
    dataset, fingerprint = collection.dataset, collection.provenance.fingerprint
    there = vectorstore.map_info(store, name)
    alike = there is not None and (there.method, there.seed, there.fingerprint) == (method, seed, fingerprint)
    if there is not None and alike and not rebuild and vectorstore.map_is_current(store, name, there):
        return _told(there, made=False)
    started = time.monotonic()
    rows = int(dataset.count_rows())
    random = np.random.default_rng(seed)
    at = _sample(random, rows, POINTS)
    fitted = _sample(random, len(at), FITTED)
    more = f", {len(at) - len(fitted):,} placed among them" if len(at) > len(fitted) else ""
    say(f"a map of {name}: {len(fitted):,} of {rows:,} rows laid out{more}")
    vectors = np.concatenate([np.zeros((0, collection.info.dimension), np.float32), *_read(dataset, at[fitted])])
    layout = project(vectors, method=method, seed=seed)
    places = np.empty((len(at), 2), np.float32)
    places[fitted] = layout
    others = np.setdiff1d(np.arange(len(at)), fitted, assume_unique=True)
    done = 0
    for block in _read(dataset, at[others]):
        places[others[done : done + len(block)]] = _placed(block, vectors, layout)
        done += len(block)
    ids = _ids(dataset, at)
    of = vectorstore.version_name(store, name, int(dataset.version))
    seconds = round(time.monotonic() - started, 2)
    info = MapInfo(of, fingerprint, rows, len(at), method, seed, seconds)
    vectorstore.write_map(store, name, ids, places, info)
    return _told(info, made=True)


def project(vectors: Floats, *, method: str = "umap", seed: int = 0) -> Floats:
    """Positions of vectors on a plane by their cosine distances.

    Args:
        vectors: float32 [N, D]; they are brought to length 1, in place.
        method: "umap" (below 15 vectors "pca" all the same) or "pca".
        seed: of what is drawn at random.

    Returns:
        float32 [N, 2], the mean at 0.
    """
    _normalise(vectors)
    places = _umap(vectors, seed) if method == "umap" and len(vectors) >= NEIGHBOURS else _pca(vectors)
    centred: Floats = places - places.mean(axis=0, keepdims=True) if len(places) else places
    return centred


def nearest(vectors: Floats, among: Floats, k: int) -> Iterator[tuple[RowNumbers, Floats]]:
    """The k nearest of some vectors of length 1 to each of others, by blocks: places and cosines [n, k], the best first."""
    for first in range(0, len(vectors), BLOCK):
        cosines = vectors[first : first + BLOCK] @ among.T
        near = np.argpartition(cosines, cosines.shape[1] - k, axis=1)[:, -k:]
        found = np.take_along_axis(cosines, near, axis=1)
        order = np.lexsort((near, -found), axis=1)
        yield np.take_along_axis(near, order, axis=1), np.take_along_axis(found, order, axis=1)


# ---- inside --------------------------------------------------------------------------------------------------------


def _told(info: MapInfo, *, made: bool) -> dict[str, Any]:
    return {"points": info.points, "rows": info.rows, "method": info.method, "seconds": info.seconds, "made": made}


def _sample(random: np.random.Generator, count: int, most: int) -> RowNumbers:
    """At most so many of `count` rows, ascending."""
    if count <= most:
        return np.arange(count)
    return np.sort(random.choice(count, most, replace=False, shuffle=False))


def _read(dataset: lance.LanceDataset, at: RowNumbers) -> Iterator[Floats]:
    """Vectors of rows, [n, D] at a time."""
    dimension = dataset.schema.field("vector").type.list_size
    for first in range(0, len(at), READ):
        column = dataset.take(at[first : first + READ], columns=["vector"])["vector"]
        yield np.concatenate([part.flatten().to_numpy().reshape(-1, dimension) for part in column.chunks])


def _ids(dataset: lance.LanceDataset, at: RowNumbers) -> pa.Array:
    parts = [dataset.take(at[i : i + POINTS // 10], columns=["id"])["id"] for i in range(0, len(at), POINTS // 10)]
    return pa.concat_arrays([chunk for part in parts for chunk in part.chunks] or [pa.array([], pa.string())])


def _normalise(vectors: Floats) -> None:
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _placed(vectors: Floats, among: Floats, layout: Floats) -> Floats:
    """Positions of further vectors by their neighbours among those laid out, which have length 1."""
    _normalise(vectors)
    found = nearest(vectors, among, min(PLACED_BY, len(among)))
    return np.concatenate([vectorstore.place_among(layout[near], cosines) for near, cosines in found])


def _pca(vectors: Floats) -> Floats:
    """The two directions in which vectors differ most; each points to where its largest entry is positive."""
    places = np.zeros((len(vectors), 2), np.float32)
    if len(vectors) > 1:
        centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
        _, directions = np.linalg.eigh(centred.T @ centred)
        two = directions[:, :-3:-1]
        two = two * np.sign(two[np.abs(two).argmax(axis=0), np.arange(two.shape[1])])
        places[:, : two.shape[1]] = centred @ two
    return places


def _umap(vectors: Floats, seed: int) -> Floats:
    with warnings.catch_warnings():  # that there is no Tensorflow
        warnings.simplefilter("ignore")
        from umap.umap_ import find_ab_params, fuzzy_simplicial_set, simplicial_set_embedding  # here: it takes seconds

    blocks = list(nearest(vectors, vectors, NEIGHBOURS))
    near = np.concatenate([near for near, _ in blocks])
    distances = np.maximum(1 - np.concatenate([cosines for _, cosines in blocks]), 0).astype(np.float32)
    random = np.random.RandomState(seed)
    a, b = find_ab_params(1.0, MIN_DISTANCE)
    with warnings.catch_warnings():  # of what it thinks of many equal vectors
        warnings.simplefilter("ignore")
        graph, _, _ = fuzzy_simplicial_set(
            vectors, NEIGHBOURS, random, "cosine", knn_indices=near.astype(np.int32), knn_dists=distances
        )
        places, _ = simplicial_set_embedding(
            vectors,
            graph,
            n_components=2,
            initial_alpha=1.0,
            a=a,
            b=b,
            gamma=1.0,
            negative_sample_rate=5,
            n_epochs=500 if len(vectors) <= 10_000 else 200,
            init=_start(vectors, random),
            random_state=random,
            metric="euclidean",
            metric_kwds={},
            densmap=False,
            densmap_kwds={},
            output_dens=False,
            parallel=False,
        )
    laid: Floats = np.asarray(places, np.float32)
    return laid


def _start(vectors: Floats, random: np.random.RandomState) -> Floats:
    """Where the layout starts: the principal directions, 20 wide, a little shaken so that equal vectors part."""
    places = _pca(vectors)
    places *= 10 / max(float(np.abs(places).max()), 1e-12)
    start: Floats = (places + random.normal(scale=1e-3, size=places.shape)).astype(np.float32)
    return start
