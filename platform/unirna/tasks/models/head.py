"""The linear head: standardised features -> probabilities of classes, or a value; fitted with a penalty on its weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from unirna.model.tensors import save_tensors
from unirna.tasks.errors import TaskError

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Inverse penalties C, tried in this order until the validation loss rises."""
STRENGTHS = tuple(10.0**power for power in range(-1, 7))
"""Ridge penalties, of which the one with the lowest validation error is taken."""
MAX_ITERATIONS = 300
FLOOR = 0.01
"""Least standard deviation, in standardised units, that a principal axis is divided by: keeps noise from being blown up."""

Features = NDArray[np.float32]


@dataclass(frozen=True)
class LinearHead:
    """weight · (x − mean) / scale + bias, and the softmax of that where the outputs are classes.

    Attributes:
        weight: float32 [C, F]. bias: float32 [C]; C is 1 for a value.
        mean, scale: float32 [F], the standardisation of the features.
    """

    weight: Features
    bias: Features
    mean: Features
    scale: Features

    def outputs(self, features: Features) -> NDArray[np.float64]:
        """The C numbers of each of features float32 [N, F]: float64 [N, C].

        Raises:
            TaskError: features of another width, or that are not finite.
        """
        features = np.asarray(features, np.float32)
        if features.ndim != 2 or features.shape[1] != self.weight.shape[1]:
            raise TaskError(f"features of shape {list(features.shape)}: this head expects [N, {self.weight.shape[1]}]")
        if not np.isfinite(features).all():
            raise TaskError("the features hold a value that is not finite")
        standard = ((features - self.mean) / self.scale).astype(np.float64)
        numbers: NDArray[np.float64] = standard @ self.weight.T.astype(np.float64) + self.bias
        return numbers

    def probabilities(self, features: Features) -> Features:
        """Class probabilities float32 [N, C] of features float32 [N, F]; errors as for `outputs`."""
        logits = self.outputs(features)
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        shares: Features = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares

    def rescaled(self, centre: float, spread: float) -> LinearHead:
        """The head whose outputs are spread · (these) + centre."""
        return LinearHead(
            self.weight * np.float32(spread), (self.bias * spread + centre).astype(np.float32), self.mean, self.scale
        )

    def save(self, path: Path) -> None:
        """Write the four arrays as safetensors."""
        arrays = {"weight": self.weight, "bias": self.bias, "mean": self.mean, "scale": self.scale}
        save_tensors({name: torch.from_numpy(np.ascontiguousarray(a, np.float32)) for name, a in arrays.items()}, path)

    @classmethod
    def load(cls, path: Path) -> LinearHead:
        """Read what `save` wrote.

        Raises:
            TaskError: a missing or damaged file.
        """
        try:
            return cls(**load_file(path))
        except (SafetensorError, OSError, TypeError) as error:
            raise TaskError(f"{path}: no valid head ({error}). Fine-tune again") from error


@dataclass(frozen=True)
class Fit:
    """A fitted head and how it came about.

    Attributes:
        head: the head. story: how it was fitted, in words. settings: the penalty that was chosen, and whether it converged.
    """

    head: LinearHead
    story: str
    settings: dict[str, float | bool]

    @property
    def penalty(self) -> float:
        """The penalty, or its inverse, as the path that it is of names it."""
        return float(self.settings.get("penalty", self.settings.get("inverse_penalty", 1.0)))


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
        whiten: as for `logistic_path`.
    """
    best: tuple[float, Fit] | None = None
    for fit in logistic_path(
        train, train_classes, num_classes, whiten=whiten, penalties=PENALTIES if len(valid) else (1.0,)
    ):
        loss = _log_loss(fit.head, valid, valid_classes) if len(valid) else 0.0
        if best is not None and loss >= best[0]:
            break
        best = loss, fit
    assert best is not None
    return best[1]


def logistic_path(
    train: Features,
    classes: NDArray[np.int64],
    num_classes: int,
    *,
    whiten: bool,
    penalties: Sequence[float] = (0.001, *PENALTIES),
) -> Iterator[Fit]:
    """Fit multinomial logistic regression with one penalty after the other.

    Args:
        train: features [N, F].
        classes: int64 [N], 0 up to C - 1; every class occurs.
        num_classes: C, at least 2.
        whiten: penalise along the principal axes of the training rows, each scaled to variance 1. Right for an encoder's
            vectors where rows are many more than axes; the head stays a linear function of the features.
        penalties: inverse penalties, the strongest one first.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, scale, standard = _standardised(train)
    axes = _principal_axes(standard) if whiten else np.eye(train.shape[1])
    turned = standard @ axes
    model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    for penalty in penalties:
        model.C = penalty
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # reported by `converged`
            model.fit(turned, classes)
        weight, bias = model.coef_ @ axes.T, model.intercept_
        if num_classes == 2:  # scikit-learn keeps one row for two classes: softmax([0, z]) is its sigmoid(z)
            weight, bias = np.vstack([np.zeros_like(weight), weight]), np.concatenate([[0.0], bias])
        head = LinearHead(weight.astype(np.float32), bias.astype(np.float32), mean, scale)
        converged = bool(model.n_iter_.max() < MAX_ITERATIONS)
        end = "converged" if converged else "stopped at the limit of iterations"
        story = f"Logistic regression on standardised vectors, C = {penalty:g}; {end}."
        yield Fit(head, story, {"inverse_penalty": penalty, "converged": converged})


def fit_ridge_head(
    train: Features,
    train_values: NDArray[np.float64],
    valid: Features,
    valid_values: NDArray[np.float64],
    num_outputs: int = 1,
    *,
    whiten: bool,
) -> Fit:
    """Fit ridge regression; the penalty is the one with the lowest squared error on the validation rows (1 without any).

    Args:
        train, valid: features [N, F].
        train_values, valid_values: float64 [N], finite.
        num_outputs: 1.
        whiten: as for `logistic_path`.
    """
    best: tuple[float, Fit] | None = None
    for fit in ridge_path(train, train_values, whiten=whiten, penalties=STRENGTHS if len(valid) else (1.0,)):
        error = float(((fit.head.outputs(valid)[:, 0] - valid_values) ** 2).mean()) if len(valid) else 0.0
        if best is None or error < best[0]:
            best = error, fit
    assert best is not None
    return best[1]


def ridge_path(
    train: Features,
    values: NDArray[np.float64],
    num_outputs: int = 1,
    *,
    whiten: bool,
    penalties: Sequence[float] = STRENGTHS,
) -> Iterator[Fit]:
    """Fit ridge regression with one penalty after the other.

    Args:
        train: features [N, F].
        values: float64 [N], finite.
        num_outputs: 1.
        whiten: as for `logistic_path`.
        penalties: weights of the penalty.
    """
    mean, scale, standard = _standardised(train)
    axes = _principal_axes(standard) if whiten else np.eye(train.shape[1])
    turned = standard @ axes
    centre = float(values.mean())
    variance, directions = np.linalg.eigh(turned.T @ turned)  # once for all penalties
    target = directions.T @ (turned.T @ (values - centre))
    for strength in penalties:
        weight = axes @ (directions @ (target / (np.maximum(variance, 0.0) + strength)))
        head = LinearHead(weight[None].astype(np.float32), np.array([centre], np.float32), mean, scale)
        story = f"Ridge regression on standardised vectors, penalty {strength:g}."
        yield Fit(head, story, {"penalty": strength})


def _standardised(train: Features) -> tuple[Features, Features, NDArray[np.float64]]:
    """Mean and standard deviation of the features, float32 [F], and the features in these units, [N, F]."""
    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = train.std(axis=0, dtype=np.float64).astype(np.float32)
    scale[scale < 1e-6] = 1.0  # a constant feature says nothing and may not be blown up
    return mean, scale, ((train - mean) / scale).astype(np.float64)


def _principal_axes(standard: NDArray[np.float64]) -> NDArray[np.float64]:
    """[F, F]: the principal axes as columns, each divided by the rows' standard deviation along it."""
    variances, axes = np.linalg.eigh(standard.T @ standard / len(standard))
    whitening: NDArray[np.float64] = axes / np.maximum(np.sqrt(np.maximum(variances, 0.0)), FLOOR)
    return whitening


def _log_loss(head: LinearHead, features: Features, classes: NDArray[np.int64]) -> float:
    chosen = head.probabilities(features)[np.arange(len(classes)), classes]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())
