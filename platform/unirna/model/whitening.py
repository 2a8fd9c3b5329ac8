"""Whitening of vectors: an affine map after the mean over nucleotides, fitted once on training sequences.

Mean vectors of a masked language model point almost all the same way, and the few directions in which they differ most
are the nucleotide composition; the cosine sees little else. After whitening every principal direction counts alike
(Su et al. 2021, arXiv:2103.15316). Where the sequences come in groups, such as Rfam families, the map whitens the scatter
within the groups instead and keeps the directions that tell groups apart best: Fisher's linear discriminants.

The map may take the states of several layers side by side, of which each knows a sequence's words at another length, and
give a vector of another size than theirs. It is affine, so a sequence's vector stays the mean of its nucleotides' rows. It
lives in a file of its own beside the released tensors, which it does not change: other code that reads the checkpoint
sees none of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unirna.model.config import EncoderConfig

FLOOR = 3e-5
"""Directions with less than this share of the largest variance are not raised to the others: they are noise, and with it
float32 rounding (1e-6, where a short sequence stands in other company) would be raised above 1e-5."""


WITHIN_SHRINK = 0.1
"""Share of the total scatter that is mixed into the scatter within groups, which has seen few members of each."""


MAX_FEATURES = 2048
"""Most features that are averaged for one vector: the map is fitted by eigenvalues of matrices of this size."""


def pooled_layers(config: EncoderConfig) -> tuple[int, ...]:
    """The layers whose states make a vector: all of them, or evenly spread ones up to the last, `MAX_FEATURES` in all."""
    count = max(1, min(config.num_layers, MAX_FEATURES // config.hidden_size))
    return tuple(round(config.num_layers * (i + 1) / count) for i in range(count))


class Whitening(nn.Module):
    """The affine map x -> (x - mean) @ matrix.

    Attributes:
        layers: numbers of the layers whose outputs, side by side, are x: 1 for the first. Empty for the final hidden state.
        mean: float32 [F], F = H for each of the layers. matrix: float32 [F, D]; D is the size of a vector.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, mean: Tensor, matrix: Tensor, layers: Sequence[int] = ()) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.register_buffer("mean", mean.float())
        self.register_buffer("matrix", matrix.float())

    @classmethod
    def identity(cls, config: EncoderConfig, layers: Sequence[int]) -> Whitening:
        """The map that changes nothing: vectors are then the states of these layers, side by side, [N, F]."""
        width = config.hidden_size * max(1, len(layers))
        return cls(torch.zeros(width), torch.eye(width), layers)

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors [N, F] -> float32 [N, D].

        In float64: in float32 the order of the sum, which depends on N, would show in the fifth decimal.
        """
        return ((vectors.double() - self.mean) @ self.matrix.double()).float()


def fit_whitening(
    vectors: NDArray[np.float32],
    size: int | None = None,
    groups: NDArray[np.int64] | None = None,
    layers: Sequence[int] = (),
) -> Whitening | None:
    """The map that gives these vectors mean zero and lets all directions count alike.

    Args:
        vectors: float32 [N, F], finite, of many different sequences, several for each of the F directions.
        size: of the vectors that the map gives, at most F; F if None. The directions with most variance are kept, with
            groups those in which the groups differ most.
        groups: int [N], equal for sequences of one group. Groups count by the root of their size.
        layers: of `Whitening`; the map is fitted to whatever `vectors` are.

    Returns:
        Without groups, a map after which every kept direction above `FLOOR` has variance 1/D, D = `size`; with groups, one
        after which the scatter within groups is about 1/D in all directions. None if no more than F of the vectors are
        distinct: some direction then has no variance at all, and the map would raise what a new sequence has there by
        orders of magnitude.

    Raises:
        ValueError: vectors with NaN or infinite values.
    """
    if not np.isfinite(vectors).all():
        raise ValueError("vectors to whiten hold NaN or infinite values: the model that made them is damaged")
    if len(np.unique(vectors, axis=0)) <= vectors.shape[1]:
        return None
    exact = vectors.astype(np.float64)
    mean = exact.mean(axis=0)
    exact -= mean
    size = min(size or exact.shape[1], exact.shape[1])
    if groups is None:
        variance, axes = np.linalg.eigh(np.cov(exact, rowvar=False))
        matrix = axes / np.sqrt(np.maximum(variance, 0) + FLOOR * variance.max() + 1e-30)
    else:
        within, total = _scatter(exact, groups)
        spread, axes = np.linalg.eigh((1 - WITHIN_SHRINK) * within + WITHIN_SHRINK * total)
        white = axes / np.sqrt(np.maximum(spread, 0) + 10 * FLOOR * spread.mean() + 1e-30)
        _, best = np.linalg.eigh(white.T @ total @ white)
        matrix = white @ best
    matrix = matrix[:, -size:] / np.sqrt(size)
    return Whitening(torch.from_numpy(mean), torch.from_numpy(np.ascontiguousarray(matrix)), layers)


def _scatter(centred: NDArray[np.float64], groups: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scatter within groups and in all, [F, F] each; a sequence counts by one over the root of its group's size."""
    _, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), centred.shape[1]))
    np.add.at(means, codes, centred)
    weight = 1 / np.sqrt(counts[codes])
    inside = centred - (means / counts[:, None])[codes]
    shared = weight * (counts[codes] > 1)
    within = (inside * shared[:, None]).T @ inside / max(shared.sum(), 1e-30)
    total = (centred * weight[:, None]).T @ centred / weight.sum()
    return within, total
