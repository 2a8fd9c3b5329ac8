"""An index of the 8-mers of a collection's sequences, in memory: which sequences share k-mers with a query.

Mean vectors miss molecules that share only one short stretch; k-mers find them. The score of a sequence is the tf-idf
cosine of its distinct 8-mers (how often an 8-mer occurs within a sequence does not count).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

K: Final = 8
"""k: of 5 to 9, 7 and 8 find most on the retrieval benchmark (docs/log.md)."""
NUM_KMERS: Final = 4**K
_DIGITS: Final = np.full(256, 4, np.uint8)
_DIGITS[np.frombuffer(b"ACGU", np.uint8)] = np.arange(4)


PIECE_NUCLEOTIDES: Final = 8_000_000
"""Nucleotides whose k-mers are sorted at once: about 300 MB."""


@dataclass(frozen=True)
class KmerBlock:
    """Some neighbouring rows of a collection and their k-mers.

    Attributes:
        ids: of the rows. nucleotides: all their sequences end to end, uint8 [T]. starts: where each begins, int64 [n + 1].
        kmer_starts, kmer_rows: k-mer w occurs in the rows `kmer_rows[kmer_starts[w] : kmer_starts[w + 1]]`.
    """

    ids: pa.Array
    nucleotides: NDArray[np.uint8]
    starts: NDArray[np.int64]
    kmer_starts: NDArray[np.int64]
    kmer_rows: NDArray[np.int32]

    @classmethod
    def of(cls, ids: pa.ChunkedArray, sequences: pa.ChunkedArray) -> KmerBlock:
        """Index normalised sequences."""
        texts = sequences.cast(pa.large_string()).combine_chunks()
        starts = np.frombuffer(texts.buffers()[1], np.int64, len(texts) + 1, 8 * texts.offset)
        data = texts.buffers()[2]
        nucleotides = np.frombuffer(data, np.uint8)[starts[0] : starts[-1]] if data is not None else np.zeros(0, np.uint8)
        starts = starts - starts[0]
        kmers = _kmers(nucleotides)
        row = np.repeat(np.arange(len(texts)), np.diff(starts))
        whole = (kmers >= 0) & (row[: len(kmers)] == row[K - 1 :][: len(kmers)])  # not across two sequences
        pairs = np.unique(kmers[whole] * len(texts) + row[: len(kmers)][whole])
        counts = np.bincount(pairs // max(len(texts), 1), minlength=NUM_KMERS)
        rows = (pairs % max(len(texts), 1)).astype(np.int32)
        return cls(ids.combine_chunks(), nucleotides, starts, np.concatenate([[0], np.cumsum(counts)]), rows)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def sequences(self, rows: NDArray[np.int64]) -> list[str]:
        """The sequences of some rows."""
        starts, ends = self.starts[rows].tolist(), self.starts[rows + 1].tolist()
        return [self.nucleotides[start:end].tobytes().decode("ascii") for start, end in zip(starts, ends, strict=True)]


def pieces_of(scanner: Any) -> list[KmerBlock]:
    """Index the rows of a scan of `id` and `sequence`, about `PIECE_NUCLEOTIDES` at a time."""
    pieces: list[KmerBlock] = []
    waiting: list[pa.RecordBatch] = []
    nucleotides = 0
    for batch in [*scanner.to_batches(), None]:
        if batch is not None:
            waiting.append(batch)
            nucleotides += batch["sequence"].nbytes
        if waiting and (batch is None or nucleotides >= PIECE_NUCLEOTIDES):
            table = pa.Table.from_batches(waiting)
            pieces.append(KmerBlock.of(table["id"], table["sequence"]))
            waiting, nucleotides = [], 0
    return pieces


class Kmers:
    """The k-mers of a collection: its pieces, in the table's order, and what each k-mer weighs."""

    def __init__(self, pieces: Sequence[KmerBlock]) -> None:
        self.pieces = list(pieces)
        self.starts = np.cumsum([0, *(len(piece) for piece in pieces)])
        holders = sum((np.diff(piece.kmer_starts) for piece in pieces), np.zeros(NUM_KMERS, np.int64))
        self._weights = (np.log((1 + self.starts[-1]) / (1 + holders)) + 1) ** 2  # squared: it counts on both sides
        self._norms = [
            np.sqrt(
                np.bincount(piece.kmer_rows, np.repeat(self._weights, np.diff(piece.kmer_starts)), minlength=len(piece))
            )
            for piece in self.pieces
        ]

    def ids(self, places: NDArray[np.int64]) -> pa.ChunkedArray:
        """The ids at ascending places."""
        return pa.chunked_array([piece.ids.take(pa.array(rows)) for piece, rows in self._at(places)], pa.string())

    def sequences(self, places: NDArray[np.int64]) -> list[str]:
        """The sequences at ascending places."""
        return [text for piece, rows in self._at(places) for text in piece.sequences(rows)]

    def _at(self, places: NDArray[np.int64]) -> Iterator[tuple[KmerBlock, NDArray[np.int64]]]:
        cuts = np.searchsorted(places, self.starts)
        for piece, start, first, end in zip(self.pieces, self.starts, cuts, cuts[1:], strict=False):
            yield piece, places[first:end] - start

    def cosines(self, sequence: str) -> NDArray[np.float32]:
        """What each row shares with a normalised sequence: tf-idf cosines, float32 [N]; 0 if it is no k-mer."""
        kmers = distinct_kmers(sequence)
        scores = np.concatenate([np.zeros(0), *(self._scores(kmers, number) for number in range(len(self.pieces)))])
        length = np.sqrt(self._weights[kmers].sum()) or 1.0
        return (scores / length).astype(np.float32)

    def _scores(self, kmers: NDArray[np.int64], number: int) -> NDArray[np.float64]:
        piece = self.pieces[number]
        first, counts = piece.kmer_starts[kmers], piece.kmer_starts[kmers + 1] - piece.kmer_starts[kmers]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        at = np.repeat(first - (ends - counts), counts) + np.arange(total)
        sums = np.bincount(piece.kmer_rows[at], np.repeat(self._weights[kmers], counts), minlength=len(piece))
        scores: NDArray[np.float64] = sums / np.maximum(self._norms[number], 1e-30)
        return scores


def distinct_kmers(sequence: str) -> NDArray[np.int64]:
    """The k-mers of a normalised sequence as numbers, each once, ascending."""
    kmers = _kmers(np.frombuffer(sequence.encode("ascii"), np.uint8))
    return np.unique(kmers[kmers >= 0])


def _kmers(nucleotides: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The k-mer that starts at each nucleotide, as a number; -1 if it has an ambiguity code. int64 [T - 7]."""
    digits = _DIGITS[nucleotides].astype(np.int64)
    count = max(len(digits) - K + 1, 0)
    kmers, bad = np.zeros(count, np.int64), np.zeros(count, bool)
    for i in range(K):
        kmers = 4 * kmers + digits[i : i + count]
        bad |= digits[i : i + count] > 3
    kmers[bad] = -1
    return kmers
