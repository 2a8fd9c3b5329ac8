"""Whitening of vectors: an affine map after the mean over nucleotides, fitted once on the training sequences.

Mean vectors of a masked language model point almost all the same way, and the few directions in which they differ most
are the composition of the letters; the cosine sees little else. After whitening every principal direction counts alike
(Su et al. 2021, arXiv:2103.15316). The map is affine, so a sequence's vector stays the mean of its nucleotides' rows.
It lives in a file of its own beside the released tensors, which it does not change: other code that reads the
checkpoint sees none of it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

FLOOR = 1e-5
"""Directions with less than this share of the largest variance are not raised to the others: they are noise."""


class Whitening(nn.Module):
    """The affine map x -> (x - mean) @ matrix.

    Attributes:
        mean: float32 [H]. matrix: float32 [H, H].
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, mean: Tensor, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("matrix", matrix.float())

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors [N, H] -> [N, H]."""
        return (vectors - self.mean) @ self.matrix


def fit_whitening(vectors: NDArray[np.float32]) -> Whitening | None:
    """The map that gives these vectors mean zero, and in every direction above `FLOOR` the variance 1/H.

    Args:
        vectors: float32 [N, H], finite, of many different sequences, several for each of the H directions.

    Returns:
        None where no more than H of the vectors are distinct. H + 1 is the least that spans all H directions; with fewer,
        some direction has no variance at all, and the map would raise what a new sequence has there by orders of magnitude.

    Raises:
        ValueError: vectors with NaN or infinite values.
    """
    if not np.isfinite(vectors).all():
        raise ValueError("vectors to whiten hold NaN or infinite values: the model that made them is damaged")
    if len(np.unique(vectors, axis=0)) <= vectors.shape[1]:
        return None
    exact = vectors.astype(np.float64)
    mean = exact.mean(axis=0)
    variance, axes = np.linalg.eigh(np.cov(exact - mean, rowvar=False))
    scale = 1 / np.sqrt((np.maximum(variance, 0) + FLOOR * variance.max() + 1e-30) * len(mean))
    return Whitening(torch.from_numpy(mean), torch.from_numpy(axes * scale))
