"""Regression: one measured number for each sequence, from its vector (ribosome load, half-life, efficacy), for each
nucleotide, from its row (reactivity), or for a pair, from what its vectors differ by (effects of variants)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unirna.tasks.kinds.task import Metric, Task, Truth
from unirna.tasks.models.head import fit_ridge_head, ridge_path

COVERAGE = 0.9
"""Share of new values that a prediction's interval is made to hold."""


def r2(truth: Truth, prediction: Truth) -> float:
    """1 - (sum of squared errors) / (sum of squares about the mean of these rows); 0 where all values are equal."""
    about = float(((truth - truth.mean()) ** 2).sum())
    return 1.0 - float(((truth - prediction) ** 2).sum()) / about if about else 0.0


def pearson(truth: Truth, prediction: Truth) -> float:
    """Correlation of the values; 0 where either does not vary."""
    if truth.std() == 0 or prediction.std() == 0:
        return 0.0
    return float(np.corrcoef(truth, prediction)[0, 1])


def spearman(truth: Truth, prediction: Truth) -> float:
    """Correlation of the ranks, ties at their mean rank."""
    from scipy.stats import rankdata

    return pearson(rankdata(truth), rankdata(prediction))


def rmse(truth: Truth, prediction: Truth) -> float:
    """Root of the mean squared error, in the unit of the values."""
    return float(np.sqrt(((truth - prediction) ** 2).mean()))


def half_width(truth: Truth, prediction: Truth, coverage: float = COVERAGE) -> float:
    """Half the width of split-conformal intervals: the ceil((n + 1) coverage)-th smallest error of n held-out rows.

    A new row of the same kind lies in prediction ± this with at least that probability (Vovk et al. 2005; Lei et al. 2018).
    Infinite where the rows are too few to promise it.
    """
    errors = np.sort(np.abs(truth - prediction))
    place = int(np.ceil((len(errors) + 1) * coverage))
    return float(errors[place - 1]) if place <= len(errors) else float("inf")


def _value(outputs: NDArray[np.float64]) -> Truth:
    return outputs[:, 0]


def _loss(outputs_N1: Tensor, truth_N: Tensor) -> Tensor:
    known = truth_N.isfinite()
    return F.mse_loss(outputs_N1[known, 0], truth_N[known].float(), reduction="sum")


def _mean(truth: Truth) -> NDArray[np.float64]:
    return np.array([truth.mean()])


SEQUENCE_REGRESSION = Task(
    name="sequence-regression",
    level="sequence",
    numeric=True,
    metrics=(Metric("R2", r2), Metric("Pearson", pearson), Metric("Spearman", spearman), Metric("RMSE", rmse, False)),
    fit=fit_ridge_head,
    path=ridge_path,
    answer=_value,
    loss=_loss,
    guess=_mean,
    guess_name="mean",
    kmer_name="4-mer ridge regression",
)

PAIR_REGRESSION = replace(
    SEQUENCE_REGRESSION, name="pair-regression", level="sequence-pair", kmer_name="4-mer differences, ridge regression"
)

NUCLEOTIDE_REGRESSION = replace(
    SEQUENCE_REGRESSION, name="nucleotide-regression", level="nucleotide", kmer_name="letters within 7 nt, ridge regression"
)
