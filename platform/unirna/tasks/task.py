"""What a downstream task is: the level it predicts at, its head, and how a prediction is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


class TaskError(ValueError):
    """Data, settings or a predictor that a task cannot use; the message says what to do."""


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are.

    Attributes:
        name: as it stands in tables.
        compute: truth [N] and prediction [N] -> the number.
        higher_is_better: the direction.
    """

    name: str
    compute: Callable[[NDArray[np.int64], NDArray[np.int64]], float]
    higher_is_better: bool = True


@dataclass(frozen=True)
class Task:
    """A kind of prediction.

    Attributes:
        name: as it stands in `predictor.json`.
        level: what one prediction is made for.
        head: what stands on the encoder.
        metrics: all that are reported, the primary one first.
    """

    name: str
    level: Literal["sequence", "nucleotide", "pair"]
    head: Literal["linear"]
    metrics: tuple[Metric, ...]

    @property
    def primary(self) -> Metric:
        """The metric by which predictors are compared."""
        return self.metrics[0]


@dataclass(frozen=True)
class Score:
    """A metric's value on a split, with its bootstrap 95 % interval."""

    metric: str
    value: float
    low: float
    high: float
    n: int


def measure(
    task: Task, truth: NDArray[np.int64], prediction: NDArray[np.int64], *, resamples: int = 1000, seed: int = 0
) -> list[Score]:
    """Every metric of a task with a percentile bootstrap interval over rows (Efron 1979).

    Args:
        task: whose metrics.
        truth, prediction: [N] each.
        resamples: draws of N rows with replacement.
        seed: of the draws.

    Raises:
        TaskError: no rows.
    """
    if not len(truth):
        raise TaskError("there is no row to measure on")
    random = np.random.default_rng(seed)
    draws = [random.integers(len(truth), size=len(truth)) for _ in range(resamples)]
    scores = []
    for metric in task.metrics:
        resampled = [metric.compute(truth[rows], prediction[rows]) for rows in draws]
        low, high = np.percentile(resampled, [2.5, 97.5])
        value = metric.compute(truth, prediction)
        scores.append(Score(metric.name, float(value), float(low), float(high), len(truth)))
    return scores
