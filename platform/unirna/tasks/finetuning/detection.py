"""The out-of-distribution detector of a classifier that was just fitted, and what it reaches on rows that it never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirna.job import say
from unirna.model import Model
from unirna.tasks.finetuning.fitting import Blended, Fitted
from unirna.tasks.finetuning.training import embed_sequences
from unirna.tasks.kinds.task import Truth
from unirna.tasks.models.ensemble import ENCODER
from unirna.tasks.models.out_of_distribution import FEWEST, Detector, Reading, facts_of_detector, fit_detector
from unirna.tasks.table.labelled import LabelledTable

OTHER_CLASSES = "test rows of other classes"
"""Test rows of classes that training did not see."""
OTHER_FAMILIES = "members of families that training did not see"
Rows = NDArray[np.int64]


def detect(
    table: LabelledTable,
    model: Model,
    registry: Path,
    vectors: NDArray[np.float32],
    fitted: Fitted,
    blended: Blended | None,
    rows: dict[str, Rows],
    truth: Truth,
    num_classes: int,
) -> tuple[Detector, dict[str, Any]] | None:
    """A detector and what is said of it; None if fewer than 50 rows were held out.

    Args:
        table: the labelled table, of N sequences. model: the classifier's encoder. registry: folder of kept vectors.
        vectors: float32 [N, H]. fitted, blended: the classifier's models and their blend.
        rows: split -> rows; with cross-validation all but the test rows are training rows.
        truth: number of each row's class, `num_classes` or more for one that training did not see.
        num_classes: C.
    """
    used = (ENCODER,) if blended is None else tuple(fitted.outputs)

    def reading(chosen: Rows) -> Reading:
        parts = tuple(fitted.outputs[name][chosen] for name in used)
        outputs = fitted.outputs[ENCODER] if blended is None else blended.outputs
        return Reading([table.sequences[i] for i in chosen.tolist()], vectors[chosen], parts, outputs[chosen])

    def held_out(places: Rows) -> Reading:
        chosen = fitted.held[places]
        parts = tuple(fitted.held_outputs[name][places] for name in used)
        outputs = fitted.held_outputs[ENCODER] if blended is None else blended.held_out
        return Reading([table.sequences[i] for i in chosen.tolist()], vectors[chosen], parts, outputs[places])

    def read(sequences: list[str]) -> Reading:
        embedded = embed_sequences(model, sequences, registry)
        parts = {
            name: fitted.head.outputs(embedded) if name == ENCODER else np.asarray(fitted.simple.outputs(name, sequences))
            for name in used
        }
        outputs = parts[ENCODER] if blended is None else blended.blend.of(parts)
        return Reading(sequences, embedded, tuple(parts.values()), outputs)

    train, valid = rows["train"], rows["valid"]
    if fitted.story is not None:  # cross-validation: two folds of five, which then count as no training rows here
        folds = np.unique(fitted.parts)
        places = np.flatnonzero(np.isin(fitted.parts, folds[: max(1, len(folds) * 2 // 5)]))
        like_training, number = held_out(places), len(places)
        train = np.setdiff1d(train, fitted.held[places])
    else:
        valid = table.held_out_as(valid, "members") if table.held_out else valid
        like_training, number = reading(valid), len(valid)
    if number < FEWEST or not len(train):
        return None
    say("fitting the out-of-distribution detector")
    detector = fit_detector(reading(train), like_training, read)
    training = {table.shas[i] for split in ("train", "valid") for i in rows[split]}
    known = truth[rows["test"]] < num_classes
    members = rows["test"][known & table.unseen(rows["test"], training)]
    others = {OTHER_CLASSES: [table.sequences[i] for i in rows["test"][~known].tolist()]}
    if table.held_out:
        others[OTHER_FAMILIES] = [table.sequences[i] for i in table.held_out_as(members, "families").tolist()]
        members = table.held_out_as(members, "members")
    return detector, facts_of_detector(detector, reading(members if len(members) else rows["test"]), read, others)
