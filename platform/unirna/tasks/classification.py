"""Sequence classification: one label per sequence, from its vector (ncRNA family, RNA type, any column of a table)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unirna.tasks.task import Metric, Task

Classes = NDArray[np.int64]


def accuracy(truth: Classes, prediction: Classes) -> float:
    """Share of the N rows whose class is right."""
    return float((truth == prediction).mean())


def macro_f1(truth: Classes, prediction: Classes) -> float:
    """Mean of the classes' F1 over the classes that occur in `truth`: a rare class counts as much as a frequent one."""
    size = int(max(truth.max(), prediction.max())) + 1
    have = np.bincount(truth, minlength=size)
    said = np.bincount(prediction, minlength=size)
    right = np.bincount(truth[truth == prediction], minlength=size)
    occurs = have > 0
    return float((2 * right[occurs] / (have[occurs] + said[occurs])).mean())


SEQUENCE_CLASSIFICATION = Task(
    name="sequence-classification",
    level="sequence",
    head="linear",
    metrics=(Metric("accuracy", accuracy), Metric("macro F1", macro_f1)),
)
