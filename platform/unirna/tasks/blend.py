"""One answer of several models: the weighted sum of their outputs, with weights that suit held-out rows best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from unirna.tasks.labels import softened
from unirna.tasks.task import Task, Truth

ENCODER: Final = "encoder alone"
"""The head on the encoder's vectors, among the models of a blend."""
FEWEST: Final = 100
"""Held-out rows that weights are fitted on, at least."""
Outputs = NDArray[np.float64]


@dataclass(frozen=True)
class Blend:
    """Weights of models by their names, none negative, and what is added (to values): their stacking, Breiman 1996."""

    weights: Mapping[str, float]
    bias: float = 0.0

    @classmethod
    def fit(cls, task: Task, outputs: Mapping[str, Outputs], truth: Truth) -> Blend:
        """The weights with the lowest loss on held-out rows: log loss of classes or labels, squared error of values.

        Args:
            task: classes or values. outputs: of each model, float64 [N, C], encoder's first. truth: [N].
        """
        parts = np.stack(list(outputs.values()))
        if task.numeric:
            from scipy.optimize import nnls

            known, about = parts[:, :, 0].T, parts[:, :, 0].mean(axis=1)
            weights, _ = nnls(known - about, truth - truth.mean())
            return cls(dict(zip(outputs, weights.tolist(), strict=True)), float(truth.mean() - about @ weights))
        if task.several:
            known = np.isfinite(truth)
            logits, wanted = parts[:, known], softened(truth[known])

            def label_loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
                mixed = weights @ logits
                slope = logits @ (expit(mixed) - wanted) / len(wanted)
                return float((np.logaddexp(0, mixed) - wanted * mixed).mean()), slope

            return cls(dict(zip(outputs, _lowest(label_loss, len(parts)), strict=True)))
        classes = parts.shape[2]
        doubt = 1 / (len(truth) + 2)  # as in `calibrate`: where all rows are right, weights would grow for ever
        target = np.full(parts.shape[1:], doubt / (classes - 1))
        target[np.arange(len(truth)), truth] = 1 - doubt

        def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            mixed = np.tensordot(weights, parts, 1)
            shifted = mixed - mixed.max(axis=1, keepdims=True)
            log_shares = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            slope = (parts * (np.exp(log_shares) - target)).sum(axis=(1, 2)) / len(truth)
            return float(-(target * log_shares).sum() / len(truth)), slope

        return cls(dict(zip(outputs, _lowest(loss, len(parts)), strict=True)))

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
        return {"weights": dict(self.weights), "bias": self.bias}


def _lowest(loss: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]], count: int) -> list[float]:
    """So many weights, none negative, with the lowest loss, of which the slope is given too."""
    from scipy.optimize import minimize

    found = minimize(loss, np.full(count, 1 / count), jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * count)
    weights: list[float] = found.x.tolist()
    return weights
