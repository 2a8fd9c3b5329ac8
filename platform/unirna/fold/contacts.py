"""Contacts: which nucleotides are close in space, as far as base pairs and their neighbourhood tell.

Two nucleotides of one helix, or beside it, are close whether or not they pair. The probability of a contact is a logistic
function of the pair probabilities in the neighbourhood of a pair, of how unpaired its nucleotides are, and of how far apart
they stand in the sequence. It knows of tertiary contacts only what these tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy.special import expit

from unirna.model.tensors import save_tensors

Matrix = NDArray[np.float32]
FILE: Final = "contacts.safetensors"
APART: Final = 6
"""Nucleotides nearer than this in the sequence are not asked about: they are always close."""
REACH: Final = 4
OFFSETS: Final = tuple(
    (d, e) for d in range(-REACH, REACH + 1) for e in range(-REACH, REACH + 1) if abs(d) + abs(e) <= REACH + 1
)
"""Neighbours of a pair (i, j) whose probabilities are read: those of (i + d, j + e)."""
CROSSING: Final = 0.5
"""Probability that is taken for pairs of crossing helices, which nested structures do not have."""


@dataclass(frozen=True)
class ContactHead:
    """The weights.

    Attributes:
        weight: float32 [F], one for each feature of `features`. bias: float32 [1].
    """

    weight: Matrix
    bias: Matrix

    def probabilities(self, matrix: Matrix, crossing: NDArray[np.int64]) -> Matrix:
        """Probability of a contact of each two nucleotides: float32 [L, L], symmetric, 0 for those nearer than six.

        Args:
            matrix, crossing: of a `Fold`.
        """
        score = np.full(matrix.shape, self.bias[0], np.float32)
        for weight, feature in zip(self.weight, features(matrix, crossing), strict=True):
            score += weight * feature
        upper = np.triu(expit(score), APART)
        both: Matrix = upper + upper.T
        return both

    def save(self, folder: str | Path) -> None:
        """Write it into a structure predictor's folder."""
        arrays = {"weight": torch.from_numpy(self.weight), "bias": torch.from_numpy(self.bias)}
        save_tensors(arrays, Path(folder) / FILE)

    @classmethod
    def load(cls, folder: str | Path) -> ContactHead:
        """Read what `save` wrote.

        Raises:
            ValueError: a missing or damaged file.
        """
        try:
            return cls(**load_file(Path(folder) / FILE))
        except (OSError, SafetensorError, TypeError) as error:
            raise ValueError(f"{folder}: no valid {FILE} ({error}). Make it with recipes/contacts.py") from error


def features(matrix: Matrix, crossing: NDArray[np.int64]) -> Iterator[Matrix]:
    """What the head reads, one float32 [L, L] (or what broadcasts to it) after the other; its upper triangle counts."""
    length = len(matrix)
    pairs = np.maximum(matrix, matrix.T)
    for i, j in crossing.tolist():
        pairs[i, j] = pairs[j, i] = max(CROSSING, float(pairs[i, j]))
    padded = np.pad(pairs, REACH)
    for d, e in OFFSETS:
        yield padded[REACH + d : REACH + d + length, REACH + e : REACH + e + length]
    unpaired = np.pad(1 - pairs.sum(axis=0).clip(0, 1), 1, constant_values=1.0)
    for d in range(3):
        yield unpaired[d : d + length, None]
        yield unpaired[None, d : d + length]
    places = np.arange(length)
    apart = np.abs(places[None, :] - places[:, None]).clip(1).astype(np.float32)
    yield 1 / apart
    yield np.log(apart)
    yield np.full((1, 1), np.log(length), np.float32)


def fit_contacts(
    folds: Sequence[tuple[Matrix, NDArray[np.int64]]], contacts: Sequence[NDArray[np.bool_]], *, most: int = 6_000
) -> ContactHead:
    """Fit the head to known contacts by logistic regression.

    Args:
        folds: `matrix` and `crossing` of N sequences. contacts: bool [L, L] of each, symmetric.
        most: pairs of a sequence that are used, drawn at random, so that long ones do not outweigh the others.
    """
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    rows, truth = [], []
    for (matrix, crossing), known in zip(folds, contacts, strict=True):
        i, j = np.triu_indices(len(matrix), APART)
        taken = random.permutation(len(i))[:most]
        i, j = i[taken], j[taken]
        columns = [np.broadcast_to(f, matrix.shape)[i, j] for f in features(matrix, crossing)]
        rows.append(np.stack(columns, axis=1))
        truth.append(known[i, j])
    read = np.concatenate(rows).astype(np.float64)
    mean, scale = read.mean(axis=0), read.std(axis=0)
    scale[scale < 1e-6] = 1.0  # a constant feature, as the length where all are equally long
    model = LogisticRegression(max_iter=500).fit((read - mean) / scale, np.concatenate(truth))
    weight = model.coef_[0] / scale
    bias = model.intercept_ - weight @ mean
    return ContactHead(weight.astype(np.float32), bias.astype(np.float32))


def precision_at_length(scores: Matrix, contacts: NDArray[np.bool_]) -> float:
    """Share of the L best pairs, six apart and more, that are contacts: the field's precision at L."""
    i, j = np.triu_indices(len(scores), APART)
    best = np.argsort(-scores[i, j], kind="stable")[: len(scores)]
    return float(contacts[i, j][best].mean())
