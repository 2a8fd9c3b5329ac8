"""Vectors of collections held in memory, so that an exact search is one matrix product.

LanceDB's own exact scan reads the vectors from the files at each query. A collection whose vectors fit the budget is read
once instead, at its first search, and after a commit only what is new. Every search still sees the newest version.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import lance
import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from unirna.vectorstore.kmers import KmerBlock, Kmers, pieces_of

BUDGET: Final = int(float(os.environ.get("UNIRNA_SEARCH_MEMORY_GB", "1")) * (1 << 30))
"""Most bytes of vectors and k-mers that a process holds; the collection searched longest ago goes first."""
BLOCK_ROWS: Final = 65_536
"""Rows of a block, at least, but for the last: few large products, and a commit reads no more than this again."""
SCORES: Final = 1 << 24
"""Most similarities at once: 64 MB."""
ROUNDING: Final = 1e-5
"""By how much a similarity from float32 products may be off: what is closer than this is compared again in float64."""

FEW: Final = 8
"""Rows that a filter lets pass are gathered where they are less than an eighth of all."""
ROWS: Final = 8192
"""Rows compared in float64 at once."""
KMER_BYTES: Final = 7
"""Memory of the k-mers of a sequence, in bytes per nucleotide: its text, its id, and four bytes for each k-mer."""

Floats = NDArray[np.float32]
RowNumbers = NDArray[np.int64]


@dataclass
class Block:
    """Whole fragments of a table: `key` says which; `vectors` float32 [n, D], lengths `norms` [n], row ids `rows` [n].

    `kmers` are read when they are first needed.
    """

    key: tuple[str, ...]
    vectors: Floats
    norms: NDArray[np.float64]
    rows: NDArray[np.uint64]
    kmers: list[KmerBlock] | None = None


class Matrix:
    """The vectors of one version of a collection, in the table's order.

    Attributes:
        dataset: the version. blocks: its rows. starts: place of each block's first row, and the number of rows last.
        norms: length of each vector, float64 [N].
    """

    def __init__(self, dataset: lance.LanceDataset, blocks: Sequence[Block]) -> None:
        self.dataset, self.blocks = dataset, list(blocks)
        self.starts = np.cumsum([0, *(len(block.rows) for block in blocks)])
        self.norms = np.concatenate([np.zeros(0), *(block.norms for block in blocks)])
        rows = np.concatenate([np.zeros(0, np.uint64), *(block.rows for block in blocks)])
        self._order = np.argsort(rows, kind="stable")
        self._rows = rows[self._order]
        self._lock = threading.Lock()
        self._kmers: Kmers | None = None

    def __len__(self) -> int:
        return int(self.starts[-1])

    @classmethod
    def load(cls, dataset: lance.LanceDataset, before: Matrix | None = None) -> Matrix:
        """Read a version; blocks of an earlier one are taken over as long as their fragments have not changed."""
        fragments = dataset.get_fragments()
        keys = _keys(dataset)
        held = {block.key[0]: block for block in before.blocks} if before is not None else {}
        blocks: list[Block] = []
        done = 0
        while done < len(keys):
            block = held.get(keys[done])
            whole = block is not None and tuple(keys[done : done + len(block.key)]) == block.key
            # A short block is joined with what came after it.
            if block is None or not whole or (len(block.rows) < BLOCK_ROWS and done + len(block.key) < len(keys)):
                end, rows = done, 0
                while end < len(keys) and rows < BLOCK_ROWS and (end == done or keys[end] not in held):
                    rows += fragments[end].count_rows()
                    end += 1
                block = _read(dataset, fragments[done:end], tuple(keys[done:end]))
            blocks.append(block)
            done += len(block.key)
        return cls(dataset, blocks)

    @property
    def kmers(self) -> Kmers:
        """The k-mers of the sequences; read at the first call, and after a commit only what is new."""
        with self._lock:
            if self._kmers is None:
                fragments = self.dataset.get_fragments()
                done = 0
                for block in self.blocks:
                    end = done + len(block.key)
                    if block.kmers is None:
                        block.kmers = pieces_of(
                            self.dataset.scanner(columns=["id", "sequence"], fragments=fragments[done:end])
                        )
                    done = end
                self._kmers = Kmers([piece for block in self.blocks for piece in block.kmers or []])
            return self._kmers

    @cached_property
    def kmers_bytes(self) -> int:
        """About what the k-mers take in memory, read or not; counted from the lengths."""
        return _kmers_bytes(self.dataset)

    @property
    def bytes(self) -> int:
        """About what is held: the vectors, and the k-mers once they were read."""
        return _bytes(self.dataset) + (self.kmers_bytes if self._kmers is not None else 0)

    def places(self, where: str) -> RowNumbers:
        """Positions of the rows that pass a filter, ascending."""
        found = self.dataset.scanner(columns=[], filter=where, with_row_id=True).to_table()["_rowid"].to_numpy()
        return np.sort(self._order[np.searchsorted(self._rows, found)])

    def take(self, places: RowNumbers) -> Floats:
        """Vectors at some ascending places: float32 [n, D]."""
        cuts = np.searchsorted(places, self.starts)
        parts = [b.vectors[places[i:j] - s] for b, s, i, j in zip(self.blocks, self.starts, cuts, cuts[1:], strict=False)]
        return np.concatenate([np.zeros((0, self.dimension), np.float32), *parts])

    def cosines(self, places: RowNumbers, query: Floats) -> Floats:
        """Cosines of the vectors at some ascending places and a query, as `cosines_of` has them."""
        parts = (places[i : i + ROWS] for i in range(0, len(places), ROWS))
        exact = [cosines_of(self.take(part), query, self.norms[part]) for part in parts]
        return np.concatenate([np.zeros(0, np.float32), *exact])

    @cached_property
    def dimension(self) -> int:
        """D, the length of a vector."""
        return int(self.dataset.schema.field("vector").type.list_size)

    def nearest(self, queries: Floats, limit: int, places: RowNumbers | None) -> list[tuple[RowNumbers, Floats]]:
        """The nearest rows to each query, and what is as near as the last of them.

        Args:
            queries: float32 [Q, D].
            limit: rows for each.
            places: the rows to compare with, ascending; None for all.

        Returns:
            For each query the places of `limit` rows or more (fewer where there are no more), ascending, and their cosines
            (`cosines_of`).
        """
        few = places is not None and FEW * len(places) < len(self)  # else rows are cheaper to multiply than to gather
        rows = [self.take(places)] if few and places is not None else [block.vectors for block in self.blocks]
        norms = (self.norms[places] if few else self.norms).astype(np.float32)
        at_once = max(1, SCORES // max(len(norms), 1))
        found: list[tuple[RowNumbers, Floats]] = []
        for first in range(0, len(queries), at_once):
            part = queries[first : first + at_once]
            directions = (part / _norms(part)[:, None]).astype(np.float32)
            products = [_products(x, directions) for x in rows]
            cosines = np.concatenate([np.zeros((0, len(part)), np.float32), *products]) / norms[:, None]
            if places is not None and not few:
                cosines = cosines[places]
            for query, column in zip(part, cosines.T, strict=True):
                near = nearly_nearest(column, limit)
                at = near if places is None else places[near]
                found.append((at, self.cosines(at, query)))
        return found


def cosines_of(vectors: Floats, query: Floats, norms: NDArray[np.float64] | None = None) -> Floats:
    """Cosine of each vector [n, D] and a query [D], float32 [n]: from float64 sums, so equal vectors have equal ones."""
    products: NDArray[np.float64] = (vectors.astype(np.float64) * query).sum(axis=1)
    cosines: NDArray[np.float64] = products / ((_norms(vectors) if norms is None else norms) * _norms(query[None]))
    return cosines.astype(np.float32)


def _norms(vectors: Floats) -> NDArray[np.float64]:
    """Lengths of vectors, float64 [n]; a zero vector's is the smallest number, so that its cosines are 0."""
    lengths: NDArray[np.float64] = np.linalg.norm(vectors.astype(np.float64), axis=1)
    return np.maximum(lengths, np.finfo(np.float32).tiny)


def _products(rows: Floats, queries: Floats) -> Floats:
    """[n, D] and [Q, D] -> [n, Q]; for one query the product of a matrix and a vector is twice as fast.

    By torch where a model has loaded it: the threads of numpy's OpenBLAS go on waiting busily for some 25 ms after a
    product and slow the next embedding down to a third of its speed. The process's `torch.set_float32_matmul_precision`
    must be the usual "highest", or similarities are off by more than `ROUNDING` on some processors.
    """
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "from_numpy"):  # not loaded, or another thread is just loading it
        return (rows @ queries[0])[:, None] if len(queries) == 1 else rows @ queries.T
    matrix, asked = torch.from_numpy(rows), torch.from_numpy(queries)
    products: Floats = ((matrix @ asked[0])[:, None] if len(queries) == 1 else matrix @ asked.T).numpy()
    return products


def nearly_nearest(scores: Floats, limit: int) -> RowNumbers:
    """Where the `limit` largest stand, and all that may be as large as the last of them, ascending."""
    if len(scores) <= limit:
        return np.arange(len(scores))
    last = np.partition(scores, len(scores) - limit)[len(scores) - limit]
    return np.flatnonzero(scores >= last - ROUNDING)


def _read(dataset: lance.LanceDataset, fragments: list[Any], key: tuple[str, ...]) -> Block:
    """The rows of some fragments."""
    batches = list(dataset.scanner(columns=["vector"], fragments=fragments, with_row_id=True).to_batches())
    dimension = dataset.schema.field("vector").type.list_size
    rows = np.concatenate([np.zeros(0, np.uint64), *(batch["_rowid"].to_numpy() for batch in batches)])
    vectors = np.empty((len(rows), dimension), np.float32)
    norms = np.empty(len(rows))
    place = 0
    for batch in batches:
        end = place + batch.num_rows
        vectors[place:end] = batch["vector"].flatten().to_numpy().reshape(-1, dimension)
        norms[place:end] = _norms(vectors[place:end])
        place = end
    return Block(key, vectors, norms, rows)


class VectorCache:
    """The matrices that a process holds, within a budget. Safe to use from several threads.

    Args:
        budget: most bytes of vectors and k-mers that are kept; 0 for none. While a matrix is read, twice as much.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = budget
        self._held: OrderedDict[tuple[str, int | None], Matrix] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[tuple[str, int | None], threading.Lock] = {}

    def matrix(self, dataset: lance.LanceDataset, pinned: int | None = None) -> Matrix | None:
        """The matrix of a version, read if it is not held; None if it does not fit the budget.

        Args:
            dataset: the version. pinned: its number, if it is not simply the newest: older ones are held apart.
        """
        if not self.fits(dataset):
            return None
        key = (dataset.uri, pinned)
        with self._lock:
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:
            with self._lock:
                before = self._held.get(key)
                if (
                    before is not None
                    and before.dataset.version == dataset.version
                    and _keys(before.dataset) == _keys(dataset)
                ):
                    self._held.move_to_end(key)
                    return before
            matrix = Matrix.load(dataset, before)
            with self._lock:
                there = self._held.get(key)
                if there is None or (there is before and not _older(dataset, there.dataset)):
                    self._held[key] = matrix
                    self._held.move_to_end(key)
                    self._shrink()
        return matrix

    def fits(self, dataset: lance.LanceDataset, *, kmers: bool = False) -> bool:
        """Whether the vectors of a collection, and its k-mers, fit the budget."""
        return _bytes(dataset) <= self.budget and (not kmers or _bytes(dataset) + _kmers_bytes(dataset) <= self.budget)

    def kmers(self, matrix: Matrix) -> Kmers | None:
        """The k-mers of a matrix, read if they are not held; None if they do not fit the budget beside its vectors."""
        if _bytes(matrix.dataset) + matrix.kmers_bytes > self.budget:
            return None
        kmers = matrix.kmers
        with self._lock:
            self._shrink()
        return kmers

    def _shrink(self) -> None:
        while sum(matrix.bytes for matrix in self._held.values()) > self.budget:
            self._held.popitem(last=False)


def _keys(dataset: lance.LanceDataset) -> list[str]:
    """Keys that identify the rows of a version, even if a table was dropped and created again under the same name."""
    return [str(fragment.metadata.to_json()) for fragment in dataset.get_fragments()]


def _older(dataset: lance.LanceDataset, other: lance.LanceDataset) -> bool:
    """Whether a search that began before a commit comes after one that began later."""
    return bool(dataset.version < other.version and dataset.latest_version >= other.version)


def _bytes(dataset: lance.LanceDataset) -> int:
    return int(dataset.count_rows()) * int(dataset.schema.field("vector").type.list_size) * 4


def _kmers_bytes(dataset: lance.LanceDataset) -> int:
    """About what the k-mers of a version take; its lengths are read once."""
    key = (dataset.uri, int(dataset.version), int(dataset.count_rows()))
    if key not in _KMERS_BYTES:
        while len(_KMERS_BYTES) >= SIZES:
            _KMERS_BYTES.pop(next(iter(_KMERS_BYTES)), None)
        _KMERS_BYTES[key] = KMER_BYTES * int(pc.sum(dataset.to_table(columns=["length"])["length"]).as_py() or 0)
    return _KMERS_BYTES[key]


SIZES: Final = 64
_KMERS_BYTES: Final[dict[tuple[str, int, int], int]] = {}
"""What the k-mers of some versions take: the last `SIZES` that were asked about."""


VECTOR_CACHE: Final = VectorCache()
"""What all open collections of a process share."""
