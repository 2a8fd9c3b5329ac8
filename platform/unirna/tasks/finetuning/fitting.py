"""Fits the models of a predictor and collects their outputs for rows that they never saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirna.tasks.finetuning.cross_validation import FEW_VALID, Folds, cross_fit
from unirna.tasks.kinds.task import Task, Truth
from unirna.tasks.models.baselines import Outputs, SimpleModels
from unirna.tasks.models.cnn import CNN
from unirna.tasks.models.cnn import NAME as CNN_NAME
from unirna.tasks.models.ensemble import ENCODER, FEWEST, Blend, Level
from unirna.tasks.models.head import Features, LinearHead
from unirna.tasks.table.units import Units

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Fitted:
    """A head and simple models, and the held-out units on which their weights and intervals are decided.

    Attributes:
        head: on the encoder's vectors, calibrated.
        simple: the simple models, calibrated.
        outputs: of each model for all U units, float64 [U, C], by its name; the encoder's first.
        held: int64 [M], units that were held out: the validation ones, or those of all folds.
        held_outputs: of each model for them, by versions of it that never saw them, float64 [M, C].
        parts: int64 [M], the fold (or half) of each; weights for a part are fitted on the others.
        raw: the head before its calibration.
        temperature: that the head's outputs are divided by.
        story: how the head was fitted in cross-validation, for the card; None if validation rows chose.
    """

    head: LinearHead
    simple: SimpleModels
    outputs: dict[str, Outputs]
    held: Rows
    held_outputs: dict[str, Outputs]
    parts: NDArray[Any]
    raw: LinearHead
    temperature: float
    story: dict[str, Any] | None = None

    def blended(
        self, task: Task, truth: Truth, train: Rows, guess: NDArray[np.float64], names: tuple[str, ...] = ()
    ) -> Blended | None:
        """The weighted sum of the models, or of some of them; None if too few rows were held out to fit weights.

        Args:
            task: what is predicted.
            truth: of all U units.
            train: units of training.
            guess: outputs [C] that answer best without a sequence.
            names: of the models; all by default.
        """
        if len(self.held) < FEWEST:
            return None
        names = names or tuple(self.outputs)
        level: Level | None = None
        if task.numeric and self.story is None:
            level = (
                float(truth[train].mean()),
                {name: float(self.outputs[name][train].mean()) for name in names},
            )
        offered = None if task.numeric or (self.story is None and len(self.held) >= FEW_VALID) else guess
        held = {name: self.held_outputs[name] for name in names}
        blend = Blend.fit(task, held, truth[self.held], level, offered)
        return Blended(
            blend,
            blend.of(self.outputs),
            Blend.held_out(task, held, truth[self.held], self.parts, level, offered),
        )


@dataclass(frozen=True)
class Blended:
    """A blend, its outputs for all U units, and for the held-out ones with weights from the other parts of them."""

    blend: Blend
    outputs: Outputs
    held_out: Outputs


def fit_on_validation(
    task: Task,
    head: LinearHead,
    calibrated: bool,
    simple: SimpleModels,
    vectors: Features,
    letters: Mapping[str, Outputs],
    truth: Truth,
    units: Units,
    valid: Rows,
) -> Fitted:
    """Models that were fitted on training rows, with validation units as the held-out ones.

    Args:
        task: what is predicted.
        head: on the encoder's vectors. calibrated: whether it is already.
        simple: the simple models. letters: their outputs for all U units.
        vectors: float32 [U, H].
        truth: of all U units.
        units: what is predicted one by one.
        valid: int64 [M], the validation units.
    """
    raw, temperature = head, 1.0
    if not calibrated:
        head, temperature = task.calibrated(head, vectors[valid], truth[valid])
    outputs = {ENCODER: head.outputs(vectors), **letters}
    halves = np.searchsorted(np.unique(units.rows[valid]), units.rows[valid]) % 2  # all nucleotides of a sequence in one
    held = {name: found[valid] for name, found in outputs.items()}
    return Fitted(head, simple, outputs, valid, held, halves, raw, temperature)


def fit_in_folds(
    task: Task,
    vectors: Features,
    sequences: list[str],
    profiles: list[Truth] | None,
    truth: Truth,
    folds: Folds,
    units: Units,
    num_outputs: int,
    *,
    ensemble_size: int,
    coding: bool,
) -> Fitted:
    """Models that were fitted on all rows, with the units of all folds as the held-out ones; arguments as `cross_fit`."""
    found = cross_fit(
        task, vectors, sequences, profiles, truth, folds, units, num_outputs, ensemble_size=ensemble_size, coding=coding
    )
    held_outputs = {ENCODER: found.encoder, **found.outputs}
    scales = dict.fromkeys(held_outputs, 1.0)
    if task.calibrate is not None:
        scales = {name: task.calibrate(said, truth[found.held]) for name, said in held_outputs.items()}
        held_outputs = {name: said / scales[name] for name, said in held_outputs.items()}
    head = found.head.rescaled(0.0, 1 / scales[ENCODER])
    linear = found.simple.linear.rescaled(0.0, 1 / scales[found.simple.names[0]])
    cnn = found.simple.cnn
    if cnn is not None:
        cnn = CNN(cnn.networks, cnn.centre, cnn.spread, scales[CNN_NAME])
    simple = SimpleModels(task, linear, cnn)
    outputs = {ENCODER: head.outputs(vectors)}
    outputs |= {name: units.gather(simple.outputs(name, sequences)) for name in simple.names}
    return Fitted(head, simple, outputs, found.held, held_outputs, found.parts, found.head, scales[ENCODER], found.story)
