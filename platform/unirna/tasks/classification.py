"""Sequence classification: one label per sequence, from its vector (ncRNA family, RNA type, any column of a table)."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unirna.tasks.head import fit_linear_head
from unirna.tasks.task import Metric, Task, Truth


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


def _probabilities(outputs: NDArray[np.float64]) -> Truth:
    odds = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares: Truth = odds / odds.sum(axis=1, keepdims=True)
    return shares


def _loss(outputs_NC: Tensor, truth_N: Tensor) -> Tensor:
    return F.cross_entropy(outputs_NC, truth_N, reduction="sum")


def _shares(truth: Truth) -> NDArray[np.float64]:
    logits: NDArray[np.float64] = np.log(np.bincount(truth) / len(truth))
    return logits


SEQUENCE_CLASSIFICATION = Task(
    name="sequence-classification",
    level="sequence",
    numeric=False,
    metrics=(Metric("accuracy", accuracy), Metric("macro F1", macro_f1), Metric("AUC", auc, outputs=2)),
    fit=fit_linear_head,
    answer=_probabilities,
    loss=_loss,
    guess=_shares,
    guess_name="most frequent class",
    kmer_name="4-mer logistic regression",
)
