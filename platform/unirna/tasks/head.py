"""The linear head: standardised features -> class probabilities, fitted by penalised maximum likelihood."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from unirna.tasks.task import TaskError

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Inverse penalties C, tried in this order until the validation loss rises."""
MAX_ITERATIONS = 300
FLOOR = 0.01
"""Least standard deviation, in standardised units, that a principal axis is divided by: keeps noise from being blown up."""

Features = NDArray[np.float32]


@dataclass(frozen=True)
class LinearHead:
    """softmax(weight · (x − mean) / scale + bias).

    Attributes:
        weight: float32 [C, F]. bias: float32 [C].
        mean, scale: float32 [F], the standardisation of the features.
    """

    weight: Features
    bias: Features
    mean: Features
    scale: Features

    def probabilities(self, features: Features) -> Features:
        """Class probabilities float32 [N, C] of features float32 [N, F].

        Raises:
            TaskError: features of another width, or that are not finite.
        """
        features = np.asarray(features, np.float32)
        if features.ndim != 2 or features.shape[1] != self.weight.shape[1]:
            raise TaskError(f"features of shape {list(features.shape)}: this head wants [N, {self.weight.shape[1]}]")
        if not np.isfinite(features).all():
            raise TaskError("the features hold a value that is not finite")
        logits = ((features - self.mean) / self.scale).astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        shares: Features = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares

    def save(self, path: Path) -> None:
        """Write the four arrays as safetensors."""
        arrays = {"weight": self.weight, "bias": self.bias, "mean": self.mean, "scale": self.scale}
        save_file({name: np.ascontiguousarray(a, np.float32) for name, a in arrays.items()}, path)

    @classmethod
    def load(cls, path: Path) -> LinearHead:
        """Read what `save` wrote.

        Raises:
            TaskError: a missing or damaged file.
        """
        try:
            return cls(**load_file(path))
        except (SafetensorError, OSError, TypeError) as error:
            raise TaskError(f"{path}: no sound head ({error}). Fine-tune again") from error


@dataclass(frozen=True)
class Fit:
    """A fitted head and how it came about.

    Attributes:
        head: the head. inverse_penalty: the C that was chosen. converged: within `MAX_ITERATIONS` steps.
    """

    head: LinearHead
    inverse_penalty: float
    converged: bool


def fit_linear_head(
    train: Features,
    train_classes: NDArray[np.int64],
    valid: Features,
    valid_classes: NDArray[np.int64],
    num_classes: int,
    *,
    whiten: bool,
) -> Fit:
    """Fit multinomial logistic regression; the penalty is the one with the lowest log loss on the validation rows.

    The standardisation comes from the training rows alone. With no validation rows C is 1. The head that is returned is
    fitted on the training rows only, so that validation rows never enter the weights.

    Args:
        train, valid: features [N, F].
        train_classes, valid_classes: int64 [N], 0 up to C - 1; every class occurs in training. A validation row of another
            class is the caller's to leave out.
        num_classes: C, at least 2.
        whiten: penalise along the principal axes of the training rows, each scaled to variance 1. Right for an encoder's
            vectors, whose variance lies on a few axes; the head stays a linear function of the features.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = train.std(axis=0, dtype=np.float64).astype(np.float32)
    scale[scale < 1e-6] = 1.0  # a constant feature says nothing and may not be blown up
    standard = ((train - mean) / scale).astype(np.float64)
    axes = _principal_axes(standard) if whiten else np.eye(train.shape[1])
    turned = standard @ axes
    best: tuple[float, Fit] | None = None
    model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    for penalty in PENALTIES if len(valid) else (1.0,):
        model.C = penalty
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # reported by `converged`
            model.fit(turned, train_classes)
        weight, bias = model.coef_ @ axes.T, model.intercept_
        if num_classes == 2:  # scikit-learn keeps one row for two classes: softmax([0, z]) is its sigmoid(z)
            weight, bias = np.vstack([np.zeros_like(weight), weight]), np.concatenate([[0.0], bias])
        head = LinearHead(weight.astype(np.float32), bias.astype(np.float32), mean, scale)
        fit = Fit(head, penalty, bool(model.n_iter_.max() < MAX_ITERATIONS))
        loss = _log_loss(head, valid, valid_classes) if len(valid) else 0.0
        if best is not None and loss >= best[0]:
            break
        best = loss, fit
    assert best is not None
    return best[1]


def _principal_axes(standard: NDArray[np.float64]) -> NDArray[np.float64]:
    """[F, F]: the principal axes as columns, each divided by the rows' standard deviation along it."""
    variances, axes = np.linalg.eigh(standard.T @ standard / len(standard))
    whitening: NDArray[np.float64] = axes / np.maximum(np.sqrt(np.maximum(variances, 0.0)), FLOOR)
    return whitening


def _log_loss(head: LinearHead, features: Features, classes: NDArray[np.int64]) -> float:
    chosen = head.probabilities(features)[np.arange(len(classes)), classes]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())
