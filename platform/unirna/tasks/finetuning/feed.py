"""Rows of training and validation, on disk and packed into forward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unirna.model import Pooling, Window, pack_tokens, pooling_weights, tokenise
from unirna.tasks.kinds.task import Truth

Reading = Pooling | Literal["each"]
"""What a head reads: a sequence's vector by its pooling, or each nucleotide's row."""


@dataclass(frozen=True)
class Rows:
    """Training or validation rows: token arrays, and what is true of them (`Truth`), [N], or of all their nucleotides."""

    tokens: list[NDArray[np.uint8]]
    truth: Truth

    @property
    def known(self) -> int:
        """How much is known: rows, labels, or nucleotides with a value."""
        return int(np.isfinite(self.truth).sum())

    def units(self, row: int) -> slice:
        """Where a row stands in `truth`."""
        if len(self.truth) == len(self.tokens):
            return slice(row, row + 1)
        return slice(int(self.starts[row]), int(self.starts[row + 1]))

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Nucleotides before each row, and of all."""
        return np.cumsum([0, *map(len, self.tokens)])


def write_rows(path: Path, sequences: list[str], truth: Truth) -> None:
    """Write rows as one array file that any worker reads; the truth as for `Rows`."""
    tokens = [tokenise(sequence) for sequence in sequences]
    offsets = np.cumsum([0, *map(len, tokens)])
    with path.open("wb") as file:
        np.savez(file, tokens=np.concatenate([np.empty(0, np.uint8), *tokens]), offsets=offsets, truth=truth)


def read_rows(path: Path) -> Rows:
    """Read what `write_rows` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return Rows(np.split(arrays["tokens"], arrays["offsets"][1:-1]), arrays["truth"])


@dataclass(frozen=True)
class Part:
    """One forward pass: the arguments of `EncoderWithHead.forward`, what is true of its sequences or their nucleotides, and
    where that stands in `Rows.truth`."""

    inputs: tuple[Tensor, Tensor, Tensor, Tensor, int]
    truth: Tensor
    units: NDArray[np.int64]


class Feed:
    """Packs rows into forward passes of about `budget` tokens; a longer sequence goes alone, in windows."""

    def __init__(
        self, windows: Callable[[int], list[Window]], budget: int, device: torch.device, pooling: Reading = "mean"
    ) -> None:
        self.windows, self.budget, self.device, self.pooling = windows, budget, device, pooling

    def parts(self, rows: Rows, chosen: NDArray[np.int64]) -> Iterator[Part]:
        """The chosen rows in forward passes, shortest first: neighbours of one length share one attention call."""
        group: list[int] = []
        size = 0
        for row in sorted(chosen.tolist(), key=lambda i: (len(rows.tokens[i]), i)):
            tokens = len(rows.tokens[row]) + 2
            if group and size + tokens > self.budget:
                yield self._pack(rows, group)
                group, size = [], 0
            group.append(row)
            size += tokens
        if group:
            yield self._pack(rows, group)

    def _pack(self, rows: Rows, group: list[int]) -> Part:
        pieces: list[NDArray[np.uint8]] = []
        weights: list[NDArray[np.float32]] = []
        owner: list[int] = []
        zero = np.zeros(1, np.float32)
        count = 0
        for row in group:
            tokens = rows.tokens[row]
            for window in self.windows(len(tokens)):
                pieces.append(tokens[window.start : window.end])
                if self.pooling == "each":
                    weights += [zero, window.weights, zero]
                    owner += [count, *range(count + window.start, count + window.end), count]
                else:
                    weights += [zero, pooling_weights(window, len(tokens), self.pooling), zero]
                    owner += [count] * (window.end - window.start + 2)
            count += len(tokens) if self.pooling == "each" else 1
        packed = pack_tokens(pieces)
        arrays = (packed.tokens.astype(np.int32), packed.boundaries, np.concatenate(weights), np.array(owner))
        tokens_T, boundaries, weights_T, owner_T = (torch.from_numpy(a).to(self.device) for a in arrays)
        units = np.concatenate([np.arange(len(rows.truth))[rows.units(row)] for row in group])
        truth = torch.from_numpy(rows.truth[units]).to(self.device)
        return Part((tokens_T, boundaries, weights_T, owner_T, count), truth, units)
