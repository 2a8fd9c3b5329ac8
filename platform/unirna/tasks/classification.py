"""Sequence classification: one label per sequence, from its vector (ncRNA family, RNA type, any column of a table)."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unirna.tasks.head import fit_linear_head
from unirna.tasks.task import Metric, Task, Truth


def accuracy(truth: Truth, prediction: Truth) -> float:
    """Share of the N rows whose class is right."""
    return float((truth == prediction).mean())


def macro_f1(truth: Truth, prediction: Truth) -> float:
    """Mean of the classes' F1 over the classes that occur in `truth`: a rare class counts as much as a frequent one."""
    size = int(max(truth.max(), prediction.max())) + 1
    have = np.bincount(truth, minlength=size)
    said = np.bincount(prediction, minlength=size)
    right = np.bincount(truth[truth == prediction], minlength=size)
    occurs = have > 0
    return float((2 * right[occurs] / (have[occurs] + said[occurs])).mean())


def _most_probable(outputs: NDArray[np.float64]) -> Truth:
    chosen: Truth = outputs.argmax(axis=1)
    return chosen


def _loss(outputs_NC: Tensor, truth_N: Tensor) -> Tensor:
    return F.cross_entropy(outputs_NC, truth_N, reduction="sum")


def _most_frequent(truth: Truth) -> float:
    return float(np.bincount(truth).argmax())


SEQUENCE_CLASSIFICATION = Task(
    name="sequence-classification",
    level="sequence",
    numeric=False,
    metrics=(Metric("accuracy", accuracy), Metric("macro F1", macro_f1)),
    fit=fit_linear_head,
    answer=_most_probable,
    loss=_loss,
    guess=_most_frequent,
    guess_name="most frequent class",
    kmer_name="4-mer logistic regression",
)
