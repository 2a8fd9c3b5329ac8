"""One answer of several models: the weighted sum of their outputs, with weights that suit held-out rows best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from unirna.tasks.kinds.labels import softened
from unirna.tasks.kinds.task import Task, Truth

ENCODER: Final = "encoder alone"
"""The head on the encoder's vectors, among the models of a blend."""
FEWEST: Final = 20
"""Held-out rows that weights are fitted on, at least; with fewer the encoder's head answers alone."""
ALIKE: Final = 0.32
"""Standard deviation of the weights about their mean that is thought likely before any row is seen."""
Outputs = NDArray[np.float64]
Level = tuple[float, Mapping[str, float]]
"""Mean truth of some rows, and the mean output of each model for them."""


@dataclass(frozen=True)
class Blend:
    """Weights of models by their names, none negative, and what is added: their stacking, Breiman 1996.

    Attributes:
        weights: of the models, by their names.
        bias: what is added to the weighted sum: a number to values; to classes or labels a number each, float64 [C].
        guess: weight of the best guess that looks at no sequence, which `bias` holds already; 0 for values.
    """

    weights: Mapping[str, float]
    bias: float | NDArray[np.float64] = 0.0
    guess: float = 0.0

    @classmethod
    def fit(
        cls,
        task: Task,
        outputs: Mapping[str, Outputs],
        truth: Truth,
        level: Level | None = None,
        guess: NDArray[np.float64] | None = None,
    ) -> Blend:
        """The weights with the lowest loss on held-out rows (log loss of classes or labels, squared error of values) and
        prior: few rows tell little of which model is the better, so weights are taken to be alike within `ALIKE`.

        Args:
            task: classes, labels or values.
            outputs: of each model, float64 [N, C], encoder's first.
            truth: [N].
            level: of values, what the blend is to be right about on average: the training rows. Without it these rows,
                which may be few and of few genes.
            guess: of classes and labels, the outputs [C] that answer best without a sequence, which may enter the sum:
                where no model tells anything, they are the answer. Values have their mean for that.
        """
        parts = np.stack(list(outputs.values()))
        if task.numeric:
            values, about = parts[:, :, 0], parts[:, :, 0].mean(axis=1)
            weights = _lowest(_squared_error(values - about[:, None], truth - truth.mean()), len(parts))
            mean, means = (
                (float(truth.mean()), about) if level is None else (level[0], [level[1][name] for name in outputs])
            )
            bias = mean - float(np.dot(means, weights))
            return cls(dict(zip(outputs, weights, strict=True)), bias)
        if guess is not None:
            guess = guess - (0.0 if task.several else guess.mean())
            parts = np.concatenate([parts, np.broadcast_to(guess, (1, *parts.shape[1:]))])
        loss = _label_loss(parts, truth) if task.several else _class_loss(parts, truth)
        weights = _lowest(loss, len(parts), 0 if guess is None else 1)
        named = dict(zip(outputs, weights, strict=False))
        return cls(named) if guess is None else cls(named, weights[-1] * guess, weights[-1])

    @classmethod
    def held_out(
        cls,
        task: Task,
        outputs: Mapping[str, Outputs],
        truth: Truth,
        parts: NDArray[np.int64],
        level: Level | None = None,
        guess: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Blends of held-out rows by weights that were fitted on the other parts of them: float64 [N, C].

        Errors of these are as large as on new rows, those of the blend that was fitted on the same rows are smaller.

        Args:
            task, outputs, truth, level, guess: as for `fit`.
            parts: int64 [N], the part of each row: halves of validation rows, or folds.
        """
        found = np.empty_like(next(iter(outputs.values())))
        for part in np.unique(parts):
            own = parts == part
            other = cls.fit(task, {name: given[~own] for name, given in outputs.items()}, truth[~own], level, guess)
            found[own] = other.of({name: given[own] for name, given in outputs.items()})
        return found

    def of(self, outputs: Mapping[str, Outputs]) -> Outputs:
        """The blend of the outputs [N, C] of each model that it names."""
        mixed: Outputs = np.sum([weight * outputs[name] for name, weight in self.weights.items()], axis=0) + self.bias
        return mixed

    def of_each(self, outputs: Mapping[str, Sequence[Outputs]]) -> list[Outputs]:
        """The same for each sequence of lists, [L, C] of each."""
        rows = zip(*(outputs[name] for name in self.weights), strict=True)
        return [self.of(dict(zip(self.weights, row, strict=True))) for row in rows]

    def to_json(self) -> dict[str, Any]:
        """As it stands in `predictor.json`."""
        bias = self.bias.tolist() if isinstance(self.bias, np.ndarray) else self.bias
        return {"weights": dict(self.weights), "bias": bias, "guess": self.guess}

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> Blend:
        """As `to_json` gave it, or a version before it."""
        bias = found["bias"]
        return cls(found["weights"], np.array(bias) if isinstance(bias, list) else bias, found.get("guess", 0.0))


Loss = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
"""Weights [K] -> minus a log-likelihood of all rows, and its slope [K]."""


def _lowest(loss: Loss, count: int, guesses: int = 0) -> list[float]:
    """So many weights, none negative, with the lowest loss and prior.

    Args:
        loss: of all rows.
        count: how many weights.
        guesses: of them, at the end, the weights of what looks at no sequence: those are small before any row is seen.
    """
    from scipy.optimize import minimize

    models = count - guesses

    def with_prior(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = loss(weights)
        apart = np.concatenate([weights[:models] - weights[:models].mean(), weights[models:]])
        return value + float(apart @ apart) / (2 * ALIKE**2), slope + apart / ALIKE**2

    start = np.array([1 / models] * models + [0.0] * guesses)
    found = minimize(with_prior, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * count)
    weights: list[float] = found.x.tolist()
    return weights


def _squared_error(values: NDArray[np.float64], truth: Truth) -> Loss:
    """Of values [K, N] about their means; in units of the error of the mean of all."""
    unit = max(float(((truth - values.mean(axis=0)) ** 2).mean()), np.finfo(np.float64).tiny)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        error = weights @ values - truth
        return float(error @ error) / (2 * unit), values @ error / unit

    return loss


def _label_loss(parts: Outputs, truth: Truth) -> Loss:
    known = np.isfinite(truth)
    logits, wanted = parts[:, known], softened(truth[known])

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        mixed = weights @ logits
        return float((np.logaddexp(0, mixed) - wanted * mixed).sum()), logits @ (expit(mixed) - wanted)

    return loss


def _class_loss(parts: Outputs, truth: Truth) -> Loss:
    doubt = 1 / (len(truth) + 2)  # as in `calibrate`: where all rows are right, weights would grow for ever
    target = np.full(parts.shape[1:], doubt / (parts.shape[2] - 1))
    target[np.arange(len(truth)), truth] = 1 - doubt

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        mixed = np.tensordot(weights, parts, 1)
        shifted = mixed - mixed.max(axis=1, keepdims=True)
        log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return float(-(target * log_shares).sum()), (parts * (np.exp(log_shares) - target)).sum(axis=(1, 2))

    return loss
