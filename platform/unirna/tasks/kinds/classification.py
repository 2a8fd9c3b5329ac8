"""Sequence classification: one label per sequence, from its vector (ncRNA family, RNA type, any column of a table)."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unirna.tasks.kinds.task import Metric, Task, Truth
from unirna.tasks.models.head import fit_linear_head, logistic_path

BINS = 15
"""Of the calibration error."""
HOTTEST = 20.0
"""Highest temperature that is tried; the lowest is one over it."""


def accuracy(truth: Truth, probabilities: Truth) -> float:
    """Share of the N rows whose most probable class, of [N, C], is right."""
    return float((truth == probabilities.argmax(axis=1)).mean())


def macro_f1(truth: Truth, probabilities: Truth) -> float:
    """Mean of the classes' F1 over the classes that occur in `truth`: a rare class counts as much as a frequent one."""
    prediction = probabilities.argmax(axis=1)
    size = int(max(truth.max(), prediction.max())) + 1
    have = np.bincount(truth, minlength=size)
    said = np.bincount(prediction, minlength=size)
    right = np.bincount(truth[truth == prediction], minlength=size)
    occurs = have > 0
    return float((2 * right[occurs] / (have[occurs] + said[occurs])).mean())


def auc(truth: Truth, probabilities: Truth) -> float:
    """Area under the ROC curve of the second of two classes: the chance that a row of it has a higher probability of it
    than a row of the first, ties half. 0.5 where one of them does not occur."""
    from scipy.stats import rankdata

    positive, known = truth == 1, truth <= 1
    many, few = int(positive.sum()), int((truth == 0).sum())
    if not many or not few:
        return 0.5
    ranks = rankdata(probabilities[known, 1])
    return float((ranks[positive[known]].sum() - many * (many + 1) / 2) / (many * few))


def known_auroc(truth: Truth, probabilities: Truth) -> float:
    """The chance that a row of a class of training is more surely of its most probable class than a row of another class
    (numbered C or more), ties half; 0.5 where one of them does not occur."""
    known = (truth < probabilities.shape[1]).astype(np.int64)
    return auc(known, np.column_stack([known, probabilities.max(axis=1)]))


def sureness(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds of the most probable class, float64 [N], of outputs [N, C]: does not saturate as its probability does."""
    ordered = np.sort(outputs, axis=1)
    top, rest = ordered[:, -1:], ordered[:, :-1]
    odds: NDArray[np.float64] = (top - rest[:, -1:])[:, 0] - np.log(np.exp(rest - rest[:, -1:]).sum(axis=1))
    return odds


def calibration_error(truth: Truth, probabilities: Truth) -> float:
    """By how much the most probable class's probability differs from the share that is right: the mean over 15 bins of
    equal width, weighted by their rows (expected calibration error, Guo et al. 2017, arXiv:1706.04599)."""
    return bin_gaps(probabilities.max(axis=1), truth == probabilities.argmax(axis=1))


def bin_gaps(chances: Truth, came_true: Truth) -> float:
    """How far chances [N] are from the share that came true: the mean over 15 bins of equal width, weighted by rows."""
    bins = np.minimum((chances * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, chances, BINS) - np.bincount(bins, came_true, BINS)
    return float(np.abs(gaps).sum() / len(chances))


def calibrate(outputs: NDArray[np.float64], truth: Truth) -> float:
    """The temperature from .05 to 20 that held-out outputs [N, C] have to be divided by for the lowest log loss.

    As Platt (1999) did, 1 / (N + 2) of each row's truth is taken to be of the other classes: where few rows are all right,
    the loss would fall for ever as the probabilities go to 1.
    """
    from scipy.optimize import minimize_scalar

    count, classes = outputs.shape
    doubt = 1 / (count + 2)
    target = np.full((count, classes), doubt / (classes - 1))
    target[np.arange(count), truth] = 1 - doubt

    def loss(log_temperature: float) -> float:
        chances = _probabilities(outputs / np.exp(log_temperature))
        return float(-(target * np.log(np.maximum(chances, 1e-300))).sum() / count)

    best = minimize_scalar(loss, bounds=(-np.log(HOTTEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(best.x))


def _probabilities(outputs: NDArray[np.float64]) -> Truth:
    odds = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares: Truth = odds / odds.sum(axis=1, keepdims=True)
    return shares


def has_unknown(truth: Truth, num_classes: int) -> bool:
    """Whether some rows, and not all, are of classes that training never saw."""
    known = truth < num_classes
    return bool(known.any() and not known.all())


def _loss(outputs_NC: Tensor, truth_N: Tensor) -> Tensor:
    return F.cross_entropy(outputs_NC, truth_N, reduction="sum")


def _shares(truth: Truth) -> NDArray[np.float64]:
    logits: NDArray[np.float64] = np.log(np.bincount(truth) / len(truth))
    return logits


CALIBRATION = Metric("calibration error", calibration_error, higher_is_better=False)
AUC = Metric("AUC", auc, applies=lambda truth, probabilities: probabilities.shape[1] == 2)
KNOWN = Metric(
    "AUROC of known", known_auroc, applies=lambda truth, probabilities: has_unknown(truth, probabilities.shape[1])
)
SEQUENCE_CLASSIFICATION = Task(
    name="sequence-classification",
    level="sequence",
    numeric=False,
    metrics=(Metric("accuracy", accuracy), Metric("macro F1", macro_f1), AUC, KNOWN, CALIBRATION),
    fit=fit_linear_head,
    path=logistic_path,
    answer=_probabilities,
    calibrate=calibrate,
    loss=_loss,
    guess=_shares,
    guess_name="most frequent class",
    kmer_name="4-mer logistic regression",
)
