"""Approximate search: an index whose recall is measured on the collection's own rows before anyone relies on it.

Collections whose vectors fit in memory need none (`unirna.vectorstore.vector_cache`): there an exact search is one matrix
product. Rows added after an index was built are compared one by one; `compact` adds them to the index.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from unirna.vectorstore.collection import Collection, has_index, open
from unirna.vectorstore.errors import StoreError
from unirna.vectorstore.schema import INDEX_KEY, VECTOR_INDEX, Index, Measurement
from unirna.vectorstore.vector_cache import ROUNDING

KINDS: Final[Mapping[str, Index]] = MappingProxyType(
    {
        "hnsw": Index("hnsw", ef=100, refine=3),
        "ivf_flat": Index("ivf_flat", nprobes=20),
        "ivf_sq": Index("ivf_sq", nprobes=20, refine=3),
        "ivf_pq": Index("ivf_pq", nprobes=20, refine=10),
        "ivf_rq": Index("ivf_rq", nprobes=20, refine=10),
    }
)
"""The kinds, each with the settings of a search that are tried first."""
LANCE: Final = MappingProxyType(
    {"hnsw": "IVF_HNSW_SQ", "ivf_flat": "IVF_FLAT", "ivf_sq": "IVF_SQ", "ivf_pq": "IVF_PQ", "ivf_rq": "IVF_RQ"}
)
PER_PARTITION: Final = 1_000_000
"""Rows of a graph: one graph is searched fastest as long as it fits in memory while it is built."""
LEAST_ROWS: Final = 1_000
"""Fewer are not worth an index, and too few to measure one."""
NEIGHBOURS: Final = 10
DOUBLINGS: Final = 4


def build_index(
    uri: str, name: str, *, kind: str = "hnsw", min_recall: float = 0.95, queries: int = 200, seed: int = 0
) -> Index:
    """Build an index over a collection's vectors, measure it, and keep it if it finds enough.

    Where the first settings of a search find too little, twice and up to 16 times the effort is tried. An index that was
    there before is replaced, and is gone too if the new one is refused. What is measured holds for the rows of now, without
    a filter; a filter that few rows pass is searched exactly in any case.

    Args:
        uri: the store. name: the collection.
        kind: a name in `KINDS`.
        min_recall: the least recall@10 against exact search.
        queries: rows on which it is measured, drawn at random; each looks for its neighbours and does not count itself.
        seed: of the choice.

    Returns:
        The index with the settings that are used from now on and what was measured with them, as it is kept with the
        collection (`Collection.index`).

    Raises:
        StoreError: an unknown kind; a collection of fewer than 1,000 rows; or recall below `min_recall` with most effort:
            the figure is in the message and the index is gone again.
    """
    if kind not in KINDS:
        raise StoreError(f"no kind of index {kind!r}. Kinds: {', '.join(KINDS)}")
    collection = open(uri, name)
    rows = len(collection)
    if rows < LEAST_ROWS:
        raise StoreError(
            f"collection {name!r} has {rows:,} rows: an index needs {LEAST_ROWS:,} or more. Exact search is fast"
        )
    probes = _probes(collection, queries, seed)
    if not probes:
        raise StoreError(f"collection {name!r} has only zero vectors: an index cannot be measured on them")
    dataset = collection.dataset
    if INDEX_KEY in dataset.config():  # till the new one is measured searches are exact
        dataset.delete_config_keys([INDEX_KEY])
    started = time.monotonic()
    settings: dict[str, Any] = {"num_partitions": round(rows**0.5)}
    if kind == "hnsw":
        settings = {"num_partitions": -(-rows // PER_PARTITION), "m": 20, "ef_construction": 300}
    if kind == "ivf_pq":
        dimension = collection.info.dimension
        settings["num_sub_vectors"] = next(dimension // size for size in (8, 4, 2, 1) if dimension % size == 0)
    dataset.create_index("vector", LANCE[kind], name=VECTOR_INDEX, metric="cosine", replace=True, **settings)
    seconds = round(time.monotonic() - started, 1)
    index = replace(KINDS[kind], rows=rows, seconds=seconds)
    for _ in range(DOUBLINGS + 1):
        measured = _measure(collection, index, probes)
        if measured.recall >= min_recall:
            index = replace(index, measured=measured)
            collection.dataset.update_config({INDEX_KEY: index.to_json()})
            return index
        index = replace(index, nprobes=2 * index.nprobes, ef=2 * index.ef, refine=2 * index.refine)
    drop_index(uri, name)
    raise StoreError(
        f"the {kind} index of {name!r} finds {measured.recall:.3f} of the {NEIGHBOURS} nearest rows where {min_recall} was "
        "asked for: it is not used. Try another kind, or a lower min_recall"
    )


def drop_index(uri: str, name: str) -> None:
    """Remove a collection's index; searches are exact again."""
    dataset = open(uri, name).dataset
    if has_index(dataset, VECTOR_INDEX):
        dataset.drop_index(VECTOR_INDEX)
    if INDEX_KEY in dataset.config():
        dataset.delete_config_keys([INDEX_KEY])


@dataclass(frozen=True)
class Probe:
    """A row that looks for its neighbours: `id`, `vector` [D], `last` the similarity of its 10th nearest other row."""

    id: str
    vector: NDArray[np.float32]
    last: float

    def others(self, found: pa.Table) -> NDArray[np.float32]:
        """Similarities of the nearest rows found, less its own."""
        keep = pc.not_equal(found["id"], self.id)
        nearest: NDArray[np.float32] = found["similarity"].filter(keep).to_numpy()[:NEIGHBOURS]
        return nearest


def _probes(collection: Collection, count: int, seed: int) -> list[Probe]:
    """Rows drawn at random, with what exact search finds for them."""
    dataset = collection.dataset
    total = dataset.count_rows()
    places = np.sort(np.random.default_rng(seed).choice(total, min(count, total), replace=False))
    rows = dataset.take(places.tolist(), columns=["id", "vector"])
    vectors = np.stack(rows["vector"].to_numpy(zero_copy_only=False)).astype(np.float32)
    moving = np.linalg.norm(vectors, axis=1) > 0  # a vector without direction has no neighbours
    probes = [Probe(own, vector, 0.0) for own, vector in zip(rows["id"].to_pylist(), vectors, strict=True)]
    probes = [probe for probe, moves in zip(probes, moving, strict=True) if moves]
    found = collection.search(vectors[moving], k=NEIGHBOURS + 1, columns=["id"], exact=True)
    parts = [found.filter(pc.equal(found["query"], i)) for i in range(len(probes))]
    return [replace(probe, last=float(probe.others(part).min())) for probe, part in zip(probes, parts, strict=True)]


def _measure(collection: Collection, index: Index, probes: Sequence[Probe]) -> Measurement:
    times: list[float] = []
    hits = 0
    for probe in probes:
        started = time.perf_counter()
        found = collection.search_index(index, probe.vector, k=NEIGHBOURS + 1, columns=["id"])
        times.append(time.perf_counter() - started)
        # By similarity, not by id: of equal sequences each is as good a hit as the others.
        hits += int((probe.others(found) >= probe.last - ROUNDING).sum())
    exact: list[float] = []
    for probe in probes[:20]:
        started = time.perf_counter()
        collection.search(probe.vector, k=NEIGHBOURS + 1, columns=["id"], exact=True)
        exact.append(time.perf_counter() - started)
    p50, p99 = (round(1e3 * float(np.percentile(times, share)), 2) for share in (50, 99))
    recall = round(hits / (NEIGHBOURS * len(probes)), 4)
    return Measurement(recall, p50, p99, round(1e3 * float(np.median(exact)), 2), len(probes))
