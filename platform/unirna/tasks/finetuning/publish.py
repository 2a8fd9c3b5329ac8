"""What is written of a predictor, and how: its folder appears whole or not at all."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from unirna.model import Model, save_adapted, save_checkpoint
from unirna.runs import new_folder
from unirna.tasks.card import write_card
from unirna.tasks.kinds.regression import COVERAGE, half_width
from unirna.tasks.kinds.task import Truth
from unirna.tasks.models.baselines import SimpleModels
from unirna.tasks.models.head import LinearHead
from unirna.tasks.models.out_of_distribution import Detector
from unirna.tasks.table.labelled import LabelledTable


def facts_of_classes(
    table: LabelledTable, classes: list[str], most_frequent: int, predicted: NDArray[np.int64]
) -> dict[str, Any]:
    """What `predictor.json` says of classes: rows of each, and the share of its test rows that is right, of all or of those
    that are held out as families and as members. `predicted`: number of the class of every row."""
    per_class = {
        split: dict(sorted(table.classes_in(split).items(), key=lambda item: (-item[1], item[0])))
        for split in ("train", "valid", "test")
    }
    recall: dict[str, dict[str, dict[str, float]]] = {}
    tested = table.rows("test")
    kinds = {kind: table.held_out_as(tested, kind) for kind in ("families", "members")} if table.held_out else {"": tested}
    for kind, rows in kinds.items():
        for c, name in enumerate(classes):
            mine = [i for i in rows.tolist() if table.labels[i] == name]
            if mine:
                right = float((predicted[mine] == c).mean())
                recall.setdefault(name, {})[kind] = {"n": len(mine), "recall": round(right, 4)}
    facts = {"classes": classes, "most_frequent_class": classes[most_frequent], "per_class": per_class}
    return facts | {"test_recall": recall}


def facts_of_values(
    truth: Truth,
    answers: Truth,
    held: NDArray[np.int64],
    held_out: Truth,
    rows: dict[str, NDArray[np.int64]],
    unit: str,
) -> dict[str, Any]:
    """What `predictor.json` says of values: unit, mean, and the interval with its coverage of the test rows.

    Args:
        truth, answers: of all units, float64 [U].
        held: int64 [M], validation units, or those of cross-validation. held_out: answers for them that are as good as for
            new ones, float64 [M].
        rows: split -> its units.
        unit: of the values.
    """
    test = rows["test"]
    width = half_width(truth[held], held_out)
    inside = np.abs(truth[test] - answers[test]) <= width
    interval = {
        "coverage": COVERAGE,
        "half_width": width if math.isfinite(width) else None,
        "test_coverage": round(float(inside.mean()), 4),
    }
    return {"classes": [], "unit": unit, "mean": float(truth[rows["train"]].mean()), "interval": interval}


def publish(
    folder: Path,
    info: dict[str, Any],
    model: Model,
    compact: tuple[str, str, dict[str, Tensor], bool] | None,
    kept: Path | None,
    head: LinearHead,
    simple: SimpleModels,
    detector: Detector | None,
    training: set[str],
    plot: str,
) -> None:
    """Write the predictor's folder, which takes the place of one that is there.

    The encoder is copied from `kept`, or written; `compact` is what `save_adapted` needs.
    """
    with new_folder(folder) as beside:
        if kept is not None:
            shutil.copytree(kept, beside / "encoder")
        elif compact is None:
            save_checkpoint(model.encoder, beside / "encoder")
        else:
            base, fingerprint, adapters, whitened = compact
            save_adapted(beside / "encoder", base, fingerprint, adapters, whitened=whitened)
        head.save(beside / "head.safetensors")
        simple.save(beside)
        if detector is not None:
            detector.save(beside)
        pq.write_table(pa.table({"sha": sorted(training)}), beside / "training_sequences.parquet")
        (beside / "card.md").write_text(write_card(info), encoding="utf-8")
        if plot:
            (beside / "predicted.svg").write_text(plot, encoding="utf-8")
        (beside / "predictor.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
