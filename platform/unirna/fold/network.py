"""Scores of pairs of nucleotides from the encoder's states, on top of the loops', from a small network of two dimensions.

Shape suffixes: L nucleotides, F features of a nucleotide, W width, C channels of a pair.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NEAR = 20
"""Distances below this have an embedding of their own; longer ones share it by quarters of an octave."""
DISTANCES = 44
BLOCK_ROWS = 72
"""Rows of pairs that are worked out at once without gradients, at most: from the diagonal on, as the rest means nothing."""


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the network.

    Attributes:
        features: F, of a nucleotide. parts: pieces of F that are normalised by themselves (one for each layer's states).
        width: W. channels: C. blocks: residual blocks of two 3 x 3 convolutions.
        products: scalar products of 8 numbers each. dropout: of features, while it is trained.
    """

    features: int
    parts: int = 1
    width: int = 64
    channels: int = 16
    blocks: int = 2
    products: int = 8
    dropout: float = 0.2

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


class PairNetwork(nn.Module):
    """States of the nucleotides -> a score of each pair. Its output is 0 before it is trained."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        width, channels = config.width, config.channels
        self.enter = nn.Linear(config.features, width)
        self.letter = nn.Embedding(5, width)
        self.neighbours = nn.Conv1d(width, width, 5, padding=2)
        self.first, self.second = nn.Linear(width, channels), nn.Linear(width, channels)
        self.query, self.key = nn.Linear(width, config.products * 8), nn.Linear(width, config.products * 8)
        self.mix = nn.Linear(config.products, channels, bias=False)
        self.distance, self.kind = nn.Embedding(DISTANCES, channels), nn.Embedding(7, channels)
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2 * config.blocks))
        self.leave = nn.Linear(channels, 1)
        self.dropout = nn.Dropout(config.dropout)
        for layer in (self.leave, *self.convolutions[1::2]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, states_LF: Tensor, codes_L: Tensor, kinds_LL: Tensor) -> Tensor:
        """Scores of the pairs.

        Args:
            states_LF: of the nucleotides. codes_L: their codes, int64 (`codes_of`). kinds_LL: of the pairs, -1 for none.

        Returns:
            float32 [L, L]; what is below the diagonal means nothing.
        """
        x_LW = self._nucleotides(states_LF, codes_L)
        right = self._columns(x_LW)
        if torch.is_grad_enabled() or len(codes_L) <= 2 * BLOCK_ROWS:
            return self._pairs(x_LW, right, kinds_LL, 0, len(codes_L))
        margin = 2 * self.config.blocks
        scores_LL = x_LW.new_zeros(len(codes_L), len(codes_L))
        cuts = torch.linspace(0, len(codes_L), -(-len(codes_L) // BLOCK_ROWS) + 1).long().tolist()
        for start, end in itertools.pairwise(cuts):
            low, high = max(start - margin, 0), min(end + margin, len(codes_L))
            scores = self._pairs(x_LW, right, kinds_LL, low, high)
            scores_LL[start:end, start:] = scores[start - low : end - low, start - low :]
        return scores_LL

    def _nucleotides(self, states_LF: Tensor, codes_L: Tensor) -> Tensor:
        parts = states_LF.unflatten(1, (self.config.parts, -1))
        states_LF = F.layer_norm(parts, parts.shape[-1:]).flatten(1)
        x_LW = self.enter(self.dropout(states_LF)) + self.letter(codes_L)
        x_LW = x_LW + F.gelu(self.neighbours(x_LW.T[None])[0].T)
        normed_LW: Tensor = self.dropout(F.layer_norm(x_LW, x_LW.shape[-1:]))
        return normed_LW

    def _columns(self, x_LW: Tensor) -> Tensor:
        """Right side [8 · products, L · C] of one product of matrices: that of queries and keys, mixed to channels."""
        key = self.key(x_LW).view(-1, self.config.products, 1, 8) * (self.mix.weight.T[:, :, None] / 8**0.5)
        right: Tensor = key.permute(1, 3, 0, 2).reshape(-1, len(x_LW) * self.config.channels)
        return right

    def _pairs(self, x_LW: Tensor, right: Tensor, kinds_LL: Tensor, low: int, high: int) -> Tensor:
        """Scores of the rows from `low` to `high` and the columns from `low` on; right but for those next to a cut."""
        rows, columns = x_LW[low:high], x_LW[low:]
        right = right[:, low * self.config.channels :]
        h = torch.addmm(self.second(columns).flatten(), self.query(rows), right).unflatten(1, (len(columns), -1))
        h += self.first(rows)[:, None]
        place = torch.arange(len(columns), device=x_LW.device)
        far = NEAR + (torch.log2(place.clamp(min=NEAR) / NEAR) * 4).long()
        bucket = torch.where(place < NEAR, place, far).clamp(max=DISTANCES - 1) * self.kind.num_embeddings
        number = bucket[(place - place[: len(rows), None]).abs()] + (kinds_LL[low:high, low:] + 1)
        h += F.embedding(number, (self.distance.weight[:, None] + self.kind.weight).flatten(0, 1))
        h = h.permute(2, 0, 1)[None]
        for one, two in zip(self.convolutions[::2], self.convolutions[1::2], strict=True):
            h = h + two(F.gelu(one(F.gelu(h))))
        scores: Tensor = self.leave(F.gelu(h[0].permute(1, 2, 0)))[:, :, 0]
        return scores
