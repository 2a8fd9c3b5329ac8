"""Probabilities for another prevalence than that of the training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from unirna.tasks.errors import TaskError

Prior = float | Mapping[str, float]
POSITIVE: Final = frozenset({"1", "yes", "true", "positive", "pos", "y", "t", "+"})
"""Names of the class that a single number means where there are two classes."""


def prior_of(
    prior: Prior, classes: Sequence[str], base_rates: Mapping[str, float] | None, *, several: bool
) -> NDArray[np.float64]:
    """The stated prevalence of each class or label, float64 [C].

    Args:
        prior: a share between 0 and 1 for all labels, or a share for each label or class that it names. Labels that it does
            not name keep their base rate; classes that it does not name share what is left as in training.
        classes: the C names.
        base_rates: name -> share in the training data; None if it is not known.
        several: whether each is a label that is true or not by itself, rather than one class of several.

    Raises:
        TaskError: no base rate, an unknown name, a share that is not between 0 and 1, or a single number for classes.
    """
    if base_rates is None:
        raise TaskError("prior: the base rate of the training data is not known, so probabilities cannot be rescaled")
    base = np.array([base_rates[name] for name in classes], np.float64)
    if not isinstance(prior, Mapping):
        if several:
            return np.full(len(classes), _share(prior, "prior"))
        positive = [name for name in classes if name.lower() in POSITIVE]
        if len(classes) != 2 or len(positive) != 1:
            raise TaskError(
                f"prior: one number does not say which class it is for. Name the class, as in {classes[0]}=0.05"
            )
        prior = {positive[0]: prior}
    if not prior:
        raise TaskError("prior: expected a share for at least one class or label, got none")
    if unknown := [str(name) for name in prior if name not in base_rates]:
        raise TaskError(f"prior: no class or label {unknown[0]!r}. There are: {', '.join(classes)}")
    shares = np.array([_share(prior[name], f"prior of {name}") if name in prior else np.nan for name in classes])
    named = ~np.isnan(shares)
    if several:
        return np.where(named, shares, base)
    left = 1 - shares[named].sum()
    if named.all():
        if abs(left) > 1e-6:
            raise TaskError(f"prior: the shares of all classes sum to {shares.sum():g}, expected 1")
        return shares
    if left <= 0:
        raise TaskError(f"prior: the named classes sum to {shares[named].sum():g}, which leaves nothing for the others")
    shares[~named] = left * base[~named] / base[~named].sum()
    return shares


def rescale(
    probabilities: NDArray[np.float64],
    base: NDArray[np.float64],
    prior: NDArray[np.float64],
    *,
    several: bool,
) -> NDArray[np.float64]:
    """Probabilities [N, C] for a stated prevalence: odds times prior odds over base odds.

    Exact where only the shares of the classes differ from the training data, not what members of a class look like (Elkan
    2001, IJCAI 17:973; Saerens et al. 2002, Neural Comput 14:21).

    Args:
        probabilities: float64 [N, C], for the base rates.
        base, prior: float64 [C], shares of the training data and stated ones.
        several: whether each column is a probability by itself; else rows sum to 1.
    """
    tiny = np.finfo(np.float64).tiny
    with_it = probabilities * (prior / np.maximum(base, tiny))
    if several:
        without = (1 - probabilities) * ((1 - prior) / np.maximum(1 - base, tiny))
        total = with_it + without
    else:
        total = with_it.sum(axis=1, keepdims=True)
    scaled: NDArray[np.float64] = with_it / np.maximum(total, tiny)
    return scaled


def _share(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise TaskError(f"{what}: expected a share between 0 and 1, got {value!r}")
    return float(value)
