"""Vectors of collections held in memory, so that an exact search is one matrix product.

LanceDB's own exact scan reads the vectors from the files at each query. A collection whose vectors fit the budget is read
once instead, at its first search, and after a commit only what is new. Every search still sees the newest version.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import lance
import numpy as np
from numpy.typing import NDArray

from unirna.vectorstore.words import Postings, Text, Words

BUDGET: Final = int(float(os.environ.get("UNIRNA_SEARCH_MEMORY_GB", "1")) * (1 << 30))
"""Most bytes of vectors that a process holds; the collection searched longest ago goes first."""
BLOCK_ROWS: Final = 65_536
"""Rows of a block, at least, but for the last: few large products, and a commit reads no more than this again."""
SCORES: Final = 1 << 24
"""Most similarities at once: 64 MB."""
ROUNDING: Final = 1e-5
"""By how much a similarity from float32 products may be off: what is closer than this is compared again in float64."""

Floats = NDArray[np.float32]
Places = NDArray[np.int64]


@dataclass
class Block:
    """Whole fragments of a table: `key` says which; `vectors` float32 [n, D], lengths `norms` [n], row ids `rows` [n].

    `words` are read when they are first wanted.
    """

    key: tuple[str, ...]
    vectors: Floats
    norms: NDArray[np.float64]
    rows: NDArray[np.uint64]
    words: tuple[Text, Postings] | None = None


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
        self._words: Words | None = None

    def __len__(self) -> int:
        return int(self.starts[-1])

    @classmethod
    def load(cls, dataset: lance.LanceDataset, before: Matrix | None = None) -> Matrix:
        """Read a version; blocks of an earlier one are taken over as long as their fragments have not changed."""
        fragments = dataset.get_fragments()
        keys = [str(fragment.metadata.to_json()) for fragment in fragments]
        blocks: list[Block] = []
        done = 0
        for block in before.blocks if before is not None else ():
            if tuple(keys[done : done + len(block.key)]) != block.key:
                break
            if len(block.rows) < BLOCK_ROWS and done + len(block.key) < len(keys):
                break  # the last, short one: joined with what is new
            blocks.append(block)
            done += len(block.key)
        while done < len(keys):
            end, rows = done, 0
            while end < len(keys) and rows < BLOCK_ROWS:
                rows += fragments[end].count_rows()
                end += 1
            blocks.append(_read(dataset, fragments[done:end], tuple(keys[done:end])))
            done = end
        return cls(dataset, blocks)

    @property
    def words(self) -> Words:
        """The words of the sequences; read at the first call, and after a commit only what is new."""
        with self._lock:
            if self._words is None:
                fragments = self.dataset.get_fragments()
                done = 0
                for block in self.blocks:
                    end = done + len(block.key)
                    if block.words is None:
                        text = Text.of(
                            self.dataset.scanner(columns=["sequence"], fragments=fragments[done:end]).to_table()["sequence"]
                        )
                        block.words = (text, Postings.of(text))
                    done = end
                parts = [block.words for block in self.blocks if block.words is not None]
                self._words = Words([text for text, _ in parts], [postings for _, postings in parts])
            return self._words

    def places(self, where: str) -> Places:
        """Places of the rows that pass a filter, ascending."""
        found = self.dataset.scanner(columns=[], filter=where, with_row_id=True).to_table()["_rowid"].to_numpy()
        return np.sort(self._order[np.searchsorted(self._rows, found)])

    def take(self, places: Places) -> Floats:
        """Vectors at some ascending places: float32 [n, D]."""
        cuts = np.searchsorted(places, self.starts)
        parts = [b.vectors[places[i:j] - s] for b, s, i, j in zip(self.blocks, self.starts, cuts, cuts[1:], strict=False)]
        return np.concatenate(parts)

    def nearest(self, queries: Floats, limit: int, places: Places | None) -> list[tuple[Places, Floats]]:
        """The nearest rows to each query, and what is as near as the last of them.

        Args:
            queries: float32 [Q, D].
            limit: rows for each.
            places: the rows to compare with, ascending; None for all.

        Returns:
            For each query the places of `limit` rows or more (fewer where there are no more), ascending, and their cosines
            (`cosines_of`).
        """
        rows = None if places is None else self.take(places)
        norms = self.norms if places is None else self.norms[places]
        at_once = max(1, SCORES // max(len(norms), 1))
        found: list[tuple[Places, Floats]] = []
        for first in range(0, len(queries), at_once):
            part = queries[first : first + at_once]
            directions = (part / _norms(part)[:, None]).astype(np.float32)
            products = [_products(x, directions) for x in ([b.vectors for b in self.blocks] if rows is None else [rows])]
            cosines = np.concatenate([np.zeros((0, len(part)), np.float32), *products]) / norms.astype(np.float32)[:, None]
            for query, column in zip(part, cosines.T, strict=True):
                near = _near(column, limit)
                vectors = self.take(near) if rows is None else rows[near]
                found.append((near if places is None else places[near], cosines_of(vectors, query)))
        return found


def cosines_of(vectors: Floats, query: Floats) -> Floats:
    """Cosine of each vector [n, D] and a query [D], float32 [n]: from float64 sums, so equal vectors have equal ones."""
    products: NDArray[np.float64] = (vectors.astype(np.float64) * query).sum(axis=1)
    cosines: NDArray[np.float64] = products / (_norms(vectors) * _norms(query[None]))
    return cosines.astype(np.float32)


def _norms(vectors: Floats) -> NDArray[np.float64]:
    """Lengths of vectors, float64 [n]; a zero vector's is the smallest number, so that its cosines are 0."""
    lengths: NDArray[np.float64] = np.linalg.norm(vectors.astype(np.float64), axis=1)
    return np.maximum(lengths, np.finfo(np.float32).tiny)


def _products(rows: Floats, queries: Floats) -> Floats:
    """[n, D] and [Q, D] -> [n, Q]. For one query numpy's product of a matrix and a vector is twice as fast."""
    return (rows @ queries[0])[:, None] if len(queries) == 1 else rows @ queries.T


def _near(scores: Floats, limit: int) -> Places:
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


class Memory:
    """The matrices that a process holds, within a budget. Safe to use from several threads.

    Args:
        budget: most bytes of vectors; 0 for none.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = budget
        self._held: OrderedDict[str, Matrix] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}

    def matrix(self, dataset: lance.LanceDataset) -> Matrix | None:
        """The matrix of a version, read if it is not held; None where it does not fit the budget."""
        size = _bytes(dataset)
        if size > self.budget:
            return None
        with self._lock:
            loading = self._loading.setdefault(dataset.uri, threading.Lock())
        with loading:
            with self._lock:
                before = self._held.get(dataset.uri)
                if before is not None and _identity(before.dataset) == _identity(dataset):
                    self._held.move_to_end(dataset.uri)
                    return before
            matrix = Matrix.load(dataset, before)
            with self._lock:
                self._held[dataset.uri] = matrix
                self._held.move_to_end(dataset.uri)
                while sum(_bytes(held.dataset) for held in self._held.values()) > self.budget:
                    self._held.popitem(last=False)
        return matrix


def _identity(dataset: lance.LanceDataset) -> tuple[object, ...]:
    """Tells versions apart, also those of tables that were made one after the other in one place."""
    fragments = dataset.get_fragments()
    ends = [fragments[i].metadata.files[0].path for i in (0, -1)] if fragments else []
    return (dataset.version, len(fragments), *ends)


def _bytes(dataset: lance.LanceDataset) -> int:
    return int(dataset.count_rows()) * int(dataset.schema.field("vector").type.list_size) * 4


MEMORY: Final = Memory()
"""What all open collections of a process share."""
