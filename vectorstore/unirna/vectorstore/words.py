"""An index of the 8-mers of a collection's sequences, in memory: which sequences share words with a query.

Mean vectors miss what two molecules share in one short stretch only; words find it. A sequence's score is the tf-idf cosine
over its distinct 8-mers (how often one occurs within a sequence does not count).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

K: Final = 8
"""Letters of a word: of 5 to 9, 7 and 8 find most on the retrieval benchmark (docs/log.md)."""
NUM_WORDS: Final = 4**K
_DIGITS: Final = np.full(256, 4, np.uint8)
_DIGITS[np.frombuffer(b"ACGU", np.uint8)] = np.arange(4)

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Text:
    """The sequences of one block: the `letters` of all, uint8 [T], and where each starts, int64 [n + 1]."""

    letters: NDArray[np.uint8]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, sequences: pa.ChunkedArray) -> Text:
        """From a column of normalised sequences."""
        whole = sequences.cast(pa.large_string()).combine_chunks()
        starts = np.frombuffer(whole.buffers()[1], np.int64, len(whole) + 1, 8 * whole.offset)
        data = whole.buffers()[2]
        letters = np.frombuffer(data, np.uint8)[starts[0] : starts[-1]] if data is not None else np.zeros(0, np.uint8)
        return cls(letters, starts - starts[0])

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> str:
        return self.letters[self.starts[row] : self.starts[row + 1]].tobytes().decode("ascii")


@dataclass(frozen=True)
class Postings:
    """The words of a block: `rows[starts[w] : starts[w + 1]]` are the rows in which word w occurs, ascending."""

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]

    @classmethod
    def of(cls, text: Text) -> Postings:
        """Index the sequences of a block."""
        words = _words(text.letters)
        row = np.repeat(np.arange(len(text)), np.diff(text.starts))[: len(words)]
        whole = (words >= 0) & (row == np.repeat(np.arange(len(text)), np.diff(text.starts))[K - 1 :][: len(words)])
        pairs = np.unique(words[whole] * len(text) + row[whole])
        counts = np.bincount(pairs // max(len(text), 1), minlength=NUM_WORDS)
        return cls(np.concatenate([[0], np.cumsum(counts)]), (pairs % max(len(text), 1)).astype(np.int32))


class Words:
    """The words of a collection: its blocks' postings, and what each word weighs.

    Args:
        texts: the sequences of each block. postings: their words.
    """

    def __init__(self, texts: Sequence[Text], postings: Sequence[Postings]) -> None:
        self.texts, self.postings = list(texts), list(postings)
        self.starts = np.cumsum([0, *(len(text) for text in texts)])
        holders = sum((np.diff(part.starts) for part in postings), np.zeros(NUM_WORDS, np.int64))
        self._weights = (np.log((1 + self.starts[-1]) / (1 + holders)) + 1) ** 2  # squared: it counts on both sides
        self._norms = [
            np.sqrt(np.bincount(part.rows, np.repeat(self._weights, np.diff(part.starts)), minlength=len(text)))
            for text, part in zip(self.texts, self.postings, strict=True)
        ]

    def sequence(self, place: int) -> str:
        """The sequence at a place."""
        block = int(np.searchsorted(self.starts, place, side="right")) - 1
        return self.texts[block][place - int(self.starts[block])]

    def cosines(self, sequence: str) -> NDArray[np.float32]:
        """What each row shares with a normalised sequence: tf-idf cosines, float32 [N]; 0 where it is no word."""
        words = _words(np.frombuffer(sequence.encode("ascii"), np.uint8))
        words = np.unique(words[words >= 0])
        scores = np.concatenate([np.zeros(0), *(self._scores(words, block) for block in range(len(self.texts)))])
        length = np.sqrt(self._weights[words].sum()) or 1.0
        return (scores / length).astype(np.float32)

    def _scores(self, words: NDArray[np.int64], block: int) -> NDArray[np.float64]:
        part = self.postings[block]
        first, counts = part.starts[words], part.starts[words + 1] - part.starts[words]
        ends = np.cumsum(counts)
        total = int(ends[-1]) if len(ends) else 0
        at = np.repeat(first - (ends - counts), counts) + np.arange(total)
        sums = np.bincount(part.rows[at], np.repeat(self._weights[words], counts), minlength=len(self.texts[block]))
        scores: NDArray[np.float64] = sums / np.maximum(self._norms[block], 1e-30)
        return scores


def _words(letters: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The word that starts at each letter, as a number; -1 where another letter than A C G U is in it. int64 [T - 7]."""
    digits = _DIGITS[letters].astype(np.int64)
    count = max(len(digits) - K + 1, 0)
    words, bad = np.zeros(count, np.int64), np.zeros(count, bool)
    for i in range(K):
        words = 4 * words + digits[i : i + count]
        bad |= digits[i : i + count] > 3
    words[bad] = -1
    return words
