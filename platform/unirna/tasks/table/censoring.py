"""Values of which only a bound is known, such as an affinity beyond the range of an assay: ">1000" in a table of values."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from unirna.tasks.models.head import Features, fit_ridge_head

BOUND: Final = re.compile(r"\s*([<>]=?|≤|≥)\s*")
"""What stands before a bound."""
TURNS: Final = 20
"""Most turns of `expected`."""
CLOSE: Final = 1e-3
"""Deviations of the values by which a turn changes them at least, or it is the last one."""


def parse(label: str) -> tuple[str, int]:
    """The number of a label, as text, and 1 if the value is at least that, -1 if at most, 0 if it is that."""
    found = BOUND.match(label)
    if found is None:
        return label, 0
    return label[found.end() :], 1 if found[1] in (">", ">=", "≥") else -1


def expected(
    values: NDArray[np.float64],
    sides: NDArray[np.int8],
    features: Features,
    train: NDArray[np.int64],
    valid: NDArray[np.int64],
) -> NDArray[np.float64]:
    """The values, with each bound among the training rows replaced by the expected value beyond it.

    Ridge regression on the features and these expectations, with normal errors, are worked out in turns until they agree
    (Schmee & Hahn 1979, Technometrics 21:417).

    Args:
        values: float64 [N], a value or a bound each. sides: int8 [N], as `parse` gives them.
        features: float32 [N, F]. train, valid: rows; valid ones are values.
    """
    filled = values.copy()
    exact, bounded = train[sides[train] == 0], train[sides[train] != 0]
    side, spread = sides[bounded].astype(float), max(float(values[exact].std()), np.finfo(np.float64).tiny)
    for _ in range(TURNS):
        head = fit_ridge_head(features[train], filled[train], features[valid], values[valid], whiten=True).head
        said = head.outputs(features)[:, 0]
        seen = valid if len(valid) else exact
        error = max(float(np.sqrt(((values[seen] - said[seen]) ** 2).mean())), CLOSE * spread)
        beyond = side * (values[bounded] - said[bounded]) / error
        turn = said[bounded] + side * error * np.exp(norm.logpdf(beyond) - norm.logsf(beyond))
        change = float(np.abs(turn - filled[bounded]).max()) / spread
        filled[bounded] = turn
        if change < CLOSE:
            break
    return filled
