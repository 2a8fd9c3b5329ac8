"""What a downstream task is: what it predicts, how its head is fitted and trained, and how a prediction is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unirna.tasks.errors import TaskError
from unirna.tasks.models.head import Features, Fit, LinearHead

Truth = NDArray[Any]
"""What is true of N rows: numbers of classes int64 [N], measured values float64 [N], or labels float64 [N, C] of 1, 0 and,
where it is not known, NaN."""

OF_LABEL: Final = "AUC, "
"""Begins the name of the metric of one of several labels."""


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are.

    Attributes:
        name: as it stands in tables.
        compute: truth [N] and what the task's `answer` gives -> the number.
        higher_is_better: the direction.
        applies: whether it is defined for such truth [N] and predictions; where not, it is not reported.
        rows: truth [N] -> of how many rows it is, where not of all.
    """

    name: str
    compute: Callable[[Truth, Truth], float]
    higher_is_better: bool = True
    applies: Callable[[Truth, Truth], bool] = lambda truth, prediction: True
    rows: Callable[[Truth], int] | None = None


FitHead = Callable[..., Fit]
"""(train [N, F], its truth, validation [M, F], its truth, outputs, whiten=bool) -> a fitted head."""
HeadPath = Callable[..., Iterator[Fit]]
"""(train [N, F], its truth, outputs, whiten=bool, penalties=…) -> a fitted head for each penalty."""


@dataclass(frozen=True)
class Task:
    """A kind of prediction. A new one is a file with one of these, and a line in `TASKS`.

    Attributes:
        name: as it stands in `predictor.json`.
        level: what one prediction is made for; a pair is one of nucleotides.
        numeric: whether the truth is measured values rather than names of classes.
        several: whether the truth is several labels, each true, false or unknown.
        metrics: all that are reported, the primary one first.
        fit: fits a linear head on vectors, with the penalty that suits validation rows.
        path: fits linear heads on vectors, one for each penalty.
        answer: a head's outputs [N, C] -> predictions that the metrics compare with the truth: [N], or [N, C].
        loss: outputs [N, C] and truth [N] -> the summed loss that full fine-tuning lowers.
        guess: the training rows' truth -> outputs [C] that answer best without looking at a sequence.
        guess_name, kmer_name: names of the two simple models in tables.
        calibrate: outputs [N, C] and truth [N] of held-out rows -> the temperature that the outputs are divided by.
        of_label: a label's name and number -> the metric of it alone, where there are several.
    """

    name: str
    level: Literal["sequence", "nucleotide", "pair", "sequence-pair"]
    numeric: bool
    metrics: tuple[Metric, ...]
    fit: FitHead
    path: HeadPath
    answer: Callable[[NDArray[np.float64]], Truth]
    loss: Callable[[Tensor, Tensor], Tensor]
    guess: Callable[[Truth], NDArray[np.float64]]
    guess_name: str
    kmer_name: str
    calibrate: Callable[[NDArray[np.float64], Truth], float] | None = None
    several: bool = False
    of_label: Callable[[str, int], Metric] | None = None

    @property
    def primary(self) -> Metric:
        """The metric by which predictors are compared."""
        return self.metrics[0]

    def answers(self, head: LinearHead, features: Features) -> Truth:
        """What a head says of features [N, F]."""
        return self.answer(head.outputs(features))

    def calibrated(self, head: LinearHead, features: Features, truth: Truth) -> tuple[LinearHead, float]:
        """A head whose outputs are divided by a temperature fitted on held-out rows, and that; 1 where there are none."""
        if self.calibrate is None or not len(truth):
            return head, 1.0
        temperature = self.calibrate(head.outputs(features), truth)
        return head.rescaled(0.0, 1 / temperature), temperature

    def loss_of(self, outputs: NDArray[np.float64], truth: Truth) -> float:
        """The summed loss of outputs [N, C]."""
        return float(self.loss(torch.from_numpy(outputs), torch.from_numpy(truth)))

    def guesses(self, outputs: NDArray[np.float64], count: int) -> Truth:
        """What outputs [C] say of so many rows."""
        return self.answer(np.tile(outputs, (count, 1)))


@dataclass(frozen=True)
class Score:
    """A metric's value on a split, with its bootstrap 95 % interval."""

    metric: str
    value: float
    low: float
    high: float
    n: int


def measure(
    task: Task,
    truth: Truth,
    prediction: Truth,
    *,
    labels: Sequence[str] = (),
    groups: NDArray[np.int64] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Score]:
    """Every metric of a task with a percentile bootstrap interval over rows, or groups of them (Efron 1979).

    Args:
        task: whose metrics.
        truth: [N]. prediction: as the task's `answer` gives it.
        labels: names of several labels, each of which is measured alone too.
        groups: [N], ascending, the group of each row: groups are drawn whole, as the nucleotides of a sequence.
        resamples: draws with replacement; at most 200 where there are groups.
        seed: of the draws.

    Raises:
        TaskError: no rows.
    """
    if not len(truth):
        raise TaskError("there is no row to measure on")
    alone = [] if task.of_label is None else [task.of_label(name, c) for c, name in enumerate(labels)]
    metrics = [metric for metric in (*task.metrics, *alone) if metric.applies(truth, prediction)]
    resampled = []
    for rows in resamples_of(len(truth), groups, resamples, seed):
        drawn, said = truth[rows], prediction[rows]
        resampled.append([metric.compute(drawn, said) for metric in metrics])
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    return [
        Score(
            metric.name,
            float(metric.compute(truth, prediction)),
            float(low[i]),
            float(high[i]),
            len(truth) if metric.rows is None else metric.rows(truth),
        )
        for i, metric in enumerate(metrics)
    ]


def resamples_of(
    count: int, groups: NDArray[np.int64] | None, resamples: int, seed: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Bootstrap draws of rows with replacement, int64 [N] each (Efron 1979).

    Args:
        count: how many rows there are.
        groups: [N], ascending, the group of each row: groups are drawn whole, as the nucleotides of a sequence.
        resamples: how many draws; at most 200 where there are groups.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    if groups is None:
        for _ in range(resamples):
            yield random.integers(count, size=count)
        return
    members = np.split(np.arange(count), np.flatnonzero(np.diff(groups)) + 1)
    for _ in range(min(resamples, 200)):
        yield np.concatenate([members[i] for i in random.integers(len(members), size=len(members))])
