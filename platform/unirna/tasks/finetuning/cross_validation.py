"""Cross-validation of the models of a predictor where rows are few: every row is predicted by models that never saw it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from unirna.job import say
from unirna.tasks.kinds.task import Task, Truth
from unirna.tasks.models.baselines import Outputs, SimpleModels, linear_features
from unirna.tasks.models.cnn import NAME as CNN_NAME
from unirna.tasks.models.cnn import FoldNetworks
from unirna.tasks.models.head import Features, Fit, LinearHead
from unirna.tasks.table.units import Units

FEW_ROWS: Final = 1000
"""With fewer training and validation rows together, cross-validation replaces the single validation split."""
FEW_VALID: Final = 100
MOST_ROWS: Final = 10_000
"""With fewer validation rows too, up to so many rows: above, fitting all models several times takes long."""
FOLDS: Final = 5
FEWEST_ROWS: Final = 20
"""Fewer rows cannot be divided usefully: penalties stay at their defaults, and the encoder's head answers alone."""
FEWEST_FOR_CNN: Final = 100
"""With fewer units no network is trained: it would tell nothing, and takes most of the time."""
WHITEN_FROM: Final = 4
"""Units for each feature from which whitened features are tried too; with fewer, whitening blows up noise."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Folds:
    """How rows are divided for cross-validation.

    Attributes:
        train: int64 [N], all rows that models may be fitted on.
        numbers: int64 [N], the fold in which each of them is held out, from 0; -1 for rows that are never held out.
        tried: bool [N], whether models are tried on it when it is held out; not where only a bound is known.
    """

    train: Rows
    numbers: Rows
    tried: NDArray[np.bool_]

    @property
    def count(self) -> int:
        """How many folds there are."""
        return int(self.numbers.max()) + 1

    def fitted(self, fold: int) -> Rows:
        """Rows that the models of a fold are fitted on."""
        rows: Rows = self.train[self.numbers != fold]
        return rows

    def held(self, fold: int) -> Rows:
        """Rows that they are tried on."""
        rows: Rows = self.train[(self.numbers == fold) & self.tried]
        return rows


def wants_folds(num_train: int, num_valid: int) -> bool:
    """Whether rows are so few that cross-validation is to be used."""
    few = num_train + num_valid < FEW_ROWS or (num_valid < FEW_VALID and num_train + num_valid < MOST_ROWS)
    return few and num_train + num_valid >= FEWEST_ROWS


def draw_folds(
    rows: Rows, groups: Sequence[str], truth: Truth, tried: NDArray[np.bool_], *, classes: bool, seed: int
) -> Folds | None:
    """Divide rows into folds with whole groups in one fold, each class spread evenly; None if they cannot be divided.

    A row is never held out if what it shows would then be missing in training: the only rows of a class, the only ones
    where a label is true.

    Args:
        rows: int64 [N], to divide.
        groups: of all rows of the table, what stays together.
        truth: of all rows of the table: classes, labels, or anything for values.
        tried: bool, of all rows of the table: on which models can be tried.
        classes: whether `truth` is classes or labels.
        seed: of the order.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows.tolist():
        members[groups[row]].append(row)
    strata: defaultdict[str, list[str]] = defaultdict(list)
    for group, inside in members.items():
        strata[str(truth[inside[0]].tolist()) if classes else ""].append(group)
    count = min(FOLDS, len(members))
    if count < 2:
        return None
    fold_of: dict[int, int] = {}
    place = 0
    for name in sorted(strata):
        order = sorted(strata[name], key=lambda group: hashlib.sha256(f"{seed} {group}".encode()).digest())
        for group in order:
            fold_of |= dict.fromkeys(members[group], place % count)
            place += 1
    numbers = np.array([fold_of[row] for row in rows.tolist()], np.int64)
    if classes:
        _keep_rare(numbers, truth[rows], np.array([groups[row] for row in rows.tolist()]))
    used = np.unique(numbers[(numbers >= 0) & tried[rows]])
    if len(used) < 2:
        return None
    renumbered = np.where(np.isin(numbers, used), np.searchsorted(used, numbers), -1)
    return Folds(rows, renumbered, tried[rows])


def _keep_rare(numbers: Rows, truth: Truth, groups: NDArray[np.str_]) -> None:
    """Take out of the folds the groups that hold all rows of a class, or of a label's value, that a fold would hold out."""
    shown = [truth == value for value in np.unique(truth)] if truth.ndim == 1 else []
    shown += [truth[:, c] == value for c in range(truth.shape[1] if truth.ndim == 2 else 0) for value in (0.0, 1.0)]
    for has in shown:
        folds = np.unique(numbers[has])
        if len(folds) == 1 and folds[0] >= 0:
            numbers[np.isin(groups, groups[has])] = -1


@dataclass(frozen=True)
class CrossFit:
    """The models of a predictor, fitted on all rows, and what models like them say of rows that they never saw.

    Attributes:
        head: on the encoder's vectors.
        simple: the simple models.
        held: int64 [M], the units that were held out in some fold, ascending.
        parts: int64 [M], the fold of each.
        encoder: outputs of the head for them, float64 [M, C].
        outputs: of the simple models, by their names.
        story: how the head was fitted, for the card.
    """

    head: LinearHead
    simple: SimpleModels
    held: Rows
    parts: Rows
    encoder: Outputs
    outputs: dict[str, Outputs]
    story: dict[str, Any]


def cross_fit(
    task: Task,
    vectors: Features,
    sequences: Sequence[str],
    profiles: list[Truth] | None,
    truth: Truth,
    folds: Folds,
    units: Units,
    num_outputs: int,
    *,
    ensemble_size: int,
    coding: bool = False,
) -> CrossFit:
    """Fit the head and the simple models with settings that suit rows which were held out in turn.

    The setting of a fold's outputs is the one with the lowest loss on the other folds.
    Linear models are then fitted on all rows; the networks of the folds are kept and their mean answers.

    Args:
        task: classes, labels or values.
        vectors: float32 [U, H], of all units.
        sequences: all N, normalised.
        profiles: values of the nucleotides of each, for a task of nucleotides.
        truth: of all U units.
        folds: how rows are divided.
        units: what is predicted one by one.
        num_outputs: C.
        ensemble_size: number of networks of the CNN, in each fold; 0 for none, as with fewer than `FEWEST_FOR_CNN` units.
        coding: the sequences are coding ones, from their first codon on.
    """
    held_of = [units.within(folds.held(fold)) for fold in range(folds.count)]
    held = np.concatenate(held_of)
    order = np.argsort(held, kind="stable")
    parts = np.repeat(np.arange(folds.count), [len(each) for each in held_of])
    features = units.gather(linear_features(task, sequences, coding=coding))
    head, encoder = _linear(task, vectors, truth, folds, units, held_of, num_outputs, whiten=True)
    linear, outputs = _linear(task, features, truth, folds, units, held_of, num_outputs, whiten=False)
    simple = SimpleModels(task, linear.head, None)
    found = {simple.names[0]: outputs}
    if ensemble_size and len(units.within(folds.train)) >= FEWEST_FOR_CNN:
        known = truth if profiles is None else profiles
        fitting = FoldNetworks(task, sequences, known, folds.train, num_outputs, ensemble_size, folds.count)
        checked = []
        for fold in range(folds.count):
            checked.append(fitting.train(fold, folds.fitted(fold), folds.held(fold)))
            say(f"trained the small network of fold {fold + 1} of {folds.count}")
        at_times = []
        for check in range(len(fitting.checks)):
            each = [one.outputs[check] for one in checked]
            if units.places is not None:
                each = [_of_units(rows, folds.held(fold), held_of[fold], units) for fold, rows in enumerate(each)]
            at_times.append(np.concatenate(each))
        best, outputs = _choose(task, np.stack(at_times), truth[held], parts)
        simple = SimpleModels(task, linear.head, fitting.chosen(checked, best))
        found[CNN_NAME] = outputs
    story = {"head": f"{head.story} Chosen in cross-validation.", **head.settings, "folds": folds.count}
    return CrossFit(
        head.head,
        simple,
        held[order],
        parts[order],
        encoder[order],
        {name: rows[order] for name, rows in found.items()},
        story | {"rows": len(folds.train)},
    )


def _of_units(profiles: list[Outputs], rows: Rows, chosen: Rows, units: Units) -> Outputs:
    """What stands for some units in the profiles [L, C] of some sequences."""
    assert units.places is not None
    place_of = {row: place for place, row in enumerate(rows.tolist())}
    return np.stack([profiles[place_of[int(units.rows[unit])]][units.places[unit]] for unit in chosen])


def _linear(
    task: Task,
    features: Features,
    truth: Truth,
    folds: Folds,
    units: Units,
    held_of: list[Rows],
    num_outputs: int,
    *,
    whiten: bool,
) -> tuple[Fit, Outputs]:
    """A linear model on all rows, and its outputs for the held-out units, fold after fold."""
    train = units.within(folds.train)
    tried = (False, True) if whiten and len(train) >= WHITEN_FROM * features.shape[1] else (False,)
    fitted_of = [units.within(folds.fitted(fold)) for fold in range(folds.count)]
    held = np.concatenate(held_of)
    parts = np.repeat(np.arange(folds.count), [len(each) for each in held_of])
    outputs: list[Outputs] = []
    settings: list[tuple[bool, float]] = []
    for whitened in tried:
        paths = [task.path(features[rows], truth[rows], num_outputs, whiten=whitened) for rows in fitted_of]
        losses: list[float] = []
        for fits in zip(*paths, strict=True):
            said = np.concatenate([fit.head.outputs(features[rows]) for fit, rows in zip(fits, held_of, strict=True)])
            outputs.append(said)
            settings.append((whitened, fits[0].penalty))
            losses.append(task.loss_of(said, truth[held]))
            if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
                break  # a weaker penalty makes it worse still
    best, chosen = _choose(task, np.stack(outputs), truth[held], parts)
    whitened, penalty = settings[best]
    final = next(iter(task.path(features[train], truth[train], num_outputs, whiten=whitened, penalties=(penalty,))))
    return final, chosen


def _choose(task: Task, outputs: Outputs, truth: Truth, parts: Rows) -> tuple[int, Outputs]:
    """The best of several settings, and the outputs for each fold by the setting that is best in the others.

    Args:
        task: whose loss counts.
        outputs: float64 [S, M, C], of S settings for held-out units.
        truth: [M].
        parts: int64 [M], their folds.

    Returns:
        The number of the setting with the lowest loss, and float64 [M, C].
    """
    count = int(parts.max()) + 1
    losses = np.array(
        [[task.loss_of(said[parts == part], truth[parts == part]) for part in range(count)] for said in outputs]
    )
    chosen = np.empty_like(outputs[0])
    for part in range(count):
        others = losses.sum(axis=1) - losses[:, part]
        chosen[parts == part] = outputs[int(others.argmin())][parts == part]
    return int(losses.sum(axis=1).argmin()), chosen
