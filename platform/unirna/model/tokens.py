"""Tokens of the released vocabulary, and packing: many sequences in one row of tokens, with no padding between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

VOCABULARY: Final = ("<pad>", "<eos>", "N", "<cls>", "<mask>", "A", "T", "C", "G", "U")
NUM_TOKENS: Final = len(VOCABULARY)
PAD: Final = 0
EOS: Final = 1
UNKNOWN: Final = 2
CLS: Final = 3
MASK: Final = 4

_IDS = np.full(256, UNKNOWN, np.uint8)
for _letter, _id in (("A", 5), ("C", 7), ("G", 8), ("U", 9), ("T", 9)):  # T is read as U: one molecule, one vector
    _IDS[ord(_letter)] = _IDS[ord(_letter.lower())] = _id

NUCLEOTIDES = np.array([5, 7, 8, 9], np.uint8)
"""Tokens of A, C, G and U: what is predicted. `N` and the special tokens never are."""

Tokens = NDArray[np.uint8]
Boundaries = NDArray[np.int32]


@dataclass(frozen=True)
class Packed:
    """Sequences laid end to end.

    Attributes:
        tokens: uint8 [T], each sequence as `<cls> s1 … sL <eos>`.
        boundaries: int32 [N + 1]; sequence i is `tokens[boundaries[i]:boundaries[i + 1]]`.
    """

    tokens: Tokens
    boundaries: Boundaries

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each sequence, special tokens included: int32 [N]."""
        return np.diff(self.boundaries)

    def __len__(self) -> int:
        return len(self.boundaries) - 1


def tokenise(sequence: str) -> Tokens:
    """Token ids of the L nucleotides alone, uint8 [L]: T as U, every other code as `N`."""
    return _IDS[np.frombuffer(sequence.encode("latin-1", "replace"), np.uint8)]


def pack(sequences: Sequence[str]) -> Packed:
    """Pack normalised sequences, each between `<cls>` and `<eos>`."""
    return pack_tokens([tokenise(sequence) for sequence in sequences])


def pack_tokens(sequences: Sequence[Tokens]) -> Packed:
    """Pack token arrays, uint8 [L] each without special tokens, each between `<cls>` and `<eos>`."""
    lengths = np.fromiter((len(s) + 2 for s in sequences), np.int64, len(sequences))
    boundaries = np.zeros(len(sequences) + 1, np.int32)
    np.cumsum(lengths, out=boundaries[1:])
    tokens = np.empty(int(boundaries[-1]), np.uint8)
    for start, end, ids in zip(boundaries[:-1], boundaries[1:], sequences, strict=True):
        tokens[start] = CLS
        tokens[start + 1 : end - 1] = ids
        tokens[end - 1] = EOS
    return Packed(tokens, boundaries)
