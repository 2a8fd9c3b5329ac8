"""Several labels for each sequence, each true, false or unknown: which proteins bind it, in which tissues it is found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import expit, logit
from torch import Tensor

from unirna.tasks.kinds.classification import HOTTEST, auc, bin_gaps
from unirna.tasks.kinds.task import OF_LABEL, Metric, Task, Truth
from unirna.tasks.models.head import PENALTIES, Features, Fit, LinearHead, fit_linear_head, logistic_path


def mean_auc(truth: Truth, probabilities: Truth) -> float:
    """Mean over the labels of the area under the ROC curve on the rows where a label is known: [N, C] both. Labels that are
    true or false everywhere do not count; 0.5 where none is left."""
    found = [auc(*_known(truth[:, c], probabilities[:, c])) for c in _varying(truth)]
    return float(np.mean(found)) if found else 0.5


def label_auc(name: str, c: int) -> Metric:
    """The AUC of label number c alone, on the rows where it is known."""

    def compute(truth: Truth, probabilities: Truth) -> float:
        return auc(*_known(truth[:, c], probabilities[:, c]))

    return Metric(
        OF_LABEL + name,
        compute,
        applies=lambda truth, probabilities: bool(_varying(truth[:, [c]])),
        rows=lambda truth: int(np.isfinite(truth[:, c]).sum()),
    )


def mean_precision(truth: Truth, probabilities: Truth) -> float:
    """Mean over the labels of the average precision on the rows where a label is known (as `mean_auc`; 0 for none)."""
    found = []
    for c in _varying(truth):
        is_true, chances = _known(truth[:, c], probabilities[:, c])
        found.append(average_precision(is_true, chances[:, 1]))
    return float(np.mean(found)) if found else 0.0


def average_precision(is_true: NDArray[np.int64], scores: Truth) -> float:
    """Sum over the thresholds of the precision times the gain in recall, equal scores at once: what scikit-learn gives, in
    a twentieth of the time."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    true = np.cumsum(is_true[order])[ends]
    return float((np.diff(true, prepend=0) / true[-1] * true / (ends + 1)).sum())


def label_accuracy(truth: Truth, probabilities: Truth) -> float:
    """Share of the known labels of all rows that are right, a label being said from .5 on."""
    known = np.isfinite(truth)
    return float(((probabilities > 0.5) == (truth > 0.5))[known].mean())


def calibration_error(truth: Truth, probabilities: Truth) -> float:
    """By how much the probabilities of labels differ from the share that is true, as for classes, over all known labels."""
    known = np.isfinite(truth)
    return bin_gaps(probabilities[known], truth[known])


def calibrate(outputs: NDArray[np.float64], truth: Truth) -> float:
    """The one temperature from .05 to 20 for the outputs [N, C] of all labels with the lowest log loss on known ones."""
    from scipy.optimize import minimize_scalar

    known = np.isfinite(truth)
    logits, target = outputs[known], softened(truth[known])

    def loss(log_temperature: float) -> float:
        z = logits / np.exp(log_temperature)
        return float((np.logaddexp(0, z) - target * z).mean())

    best = minimize_scalar(loss, bounds=(-np.log(HOTTEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(best.x))


def softened(truth: Truth) -> NDArray[np.float64]:
    """Truth with 1 / (N + 2) taken for the other side, so that weights stay finite where all is right (Platt 1999)."""
    doubt = 1 / (len(truth) + 2)
    soft: NDArray[np.float64] = np.where(truth > 0.5, 1 - doubt, doubt)
    return soft


def fit_label_heads(
    train: Features, train_truth: Truth, valid: Features, valid_truth: Truth, num_outputs: int, *, whiten: bool
) -> Fit:
    """One logistic regression for each label, on the rows where it is known, as one head; arguments as
    `fit_linear_head`, truth float64 [N, C] of 0, 1 and NaN, each label both 0 and 1 somewhere in training."""
    heads, stories = [], []
    for c in range(num_outputs):
        here, there = np.isfinite(train_truth[:, c]), np.isfinite(valid_truth[:, c])
        found = fit_linear_head(
            train[here],
            train_truth[here, c].astype(np.int64),
            valid[there],
            valid_truth[there, c].astype(np.int64),
            2,
            whiten=whiten,
        )
        heads.append(found.head)
        stories.append(f"{found.settings['inverse_penalty']:g}")
    return Fit(
        _joined(heads), f"A logistic regression for each label on standardised vectors, C = {', '.join(stories)}.", {}
    )


def label_path(
    train: Features,
    truth: Truth,
    num_outputs: int,
    *,
    whiten: bool,
    penalties: Sequence[float] = (0.001, *PENALTIES),
) -> Iterator[Fit]:
    """Fit a logistic regression for each label, with one penalty for all after the other; arguments as `logistic_path`,
    truth as `fit_label_heads`."""
    paths = []
    for c in range(num_outputs):
        here = np.isfinite(truth[:, c])
        paths.append(logistic_path(train[here], truth[here, c].astype(np.int64), 2, whiten=whiten, penalties=penalties))
    for penalty, fits in zip(penalties, zip(*paths, strict=True), strict=True):
        story = f"A logistic regression for each label on standardised vectors, C = {penalty:g}."
        yield Fit(_joined([fit.head for fit in fits]), story, {"inverse_penalty": penalty})


def _joined(heads: Sequence[LinearHead]) -> LinearHead:
    """Heads of two classes each, fitted on rows of their own, as one head with an output for each label."""
    scale = heads[0].scale  # of the first label's rows; the others' are brought to it
    slopes = [(head.weight[1] - head.weight[0]) / head.scale for head in heads]
    weight = np.stack([slope * scale for slope in slopes])
    shift = np.array([float(slope @ (heads[0].mean - head.mean)) for slope, head in zip(slopes, heads, strict=True)])
    bias = np.array([float(head.bias[1] - head.bias[0]) for head in heads]) + shift
    return LinearHead(weight.astype(np.float32), bias.astype(np.float32), heads[0].mean, scale)


def _varying(truth: Truth) -> list[int]:
    return [c for c in range(truth.shape[1]) if (truth[:, c] == 1).any() and (truth[:, c] == 0).any()]


def _known(truth: Truth, chances: Truth) -> tuple[NDArray[np.int64], Truth]:
    known = np.isfinite(truth)
    return truth[known].astype(np.int64), np.column_stack([1 - chances[known], chances[known]])


def _loss(outputs_NC: Tensor, truth_NC: Tensor) -> Tensor:
    known = truth_NC.isfinite()
    return F.binary_cross_entropy_with_logits(outputs_NC[known], truth_NC[known].to(outputs_NC.dtype), reduction="sum")


def _guess(truth: Truth) -> NDArray[np.float64]:
    logits: NDArray[np.float64] = logit(np.nanmean(truth, axis=0))
    return logits


SEQUENCE_LABELS = Task(
    name="sequence-labels",
    level="sequence",
    numeric=False,
    several=True,
    of_label=label_auc,
    metrics=(
        Metric("mean AUC", mean_auc),
        Metric("mean average precision", mean_precision),
        Metric("label accuracy", label_accuracy),
        Metric("calibration error", calibration_error, higher_is_better=False),
    ),
    fit=fit_label_heads,
    path=label_path,
    answer=expit,
    calibrate=calibrate,
    loss=_loss,
    guess=_guess,
    guess_name="most frequent value",
    kmer_name="4-mer logistic regression",
)
