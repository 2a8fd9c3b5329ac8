"""The predictors of a registry, loaded when they are asked for, and their answers as the service gives them."""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirna.model import CheckpointError, Model
from unirna.serve.errors import RequestError, bad_field
from unirna.tasks import (
    Estimates,
    LabelSets,
    Predictions,
    Predictor,
    Profiles,
    TaskError,
    list_predictors,
    load_predictor,
)

log = logging.getLogger(__name__)


class Predictors:
    """The predictors of a registry. Safe to use from several threads.

    Args:
        registry: folder of predictors, or None for those alone that come with the package.
        model: of the service; frozen predictors may read its vectors.
        own_encoders: how many predictors with an encoder of their own stay loaded. Heads are small and all stay.
    """

    def __init__(self, registry: Path | None, model: Model, own_encoders: int) -> None:
        self.registry, self.model = registry, model
        self._own_encoders = own_encoders
        self._loaded: OrderedDict[tuple[str, int], Predictor] = OrderedDict()
        self._loading = threading.Lock()

    def get(self, task: str, field: str = "task") -> Predictor:
        """A predictor by name, which stands in a field of the request; one that was made again is read again.

        Raises:
            RequestError: none of that name (404), or one that cannot be loaded (500, the log says why).
        """
        there = list_predictors(self.registry)
        folder = there.get(task) if isinstance(task, str) else None
        if folder is None:
            raise bad_field(field, f"no predictor {task!r}. There are: {', '.join(there) or 'none'}", 404)
        try:
            return self._load(folder)
        except (TaskError, CheckpointError, OSError, KeyError) as error:
            log.warning("predictor %s cannot be loaded: %s", task, error)
            message = f"predictor {task!r} cannot be loaded; the service's log says why"
            raise bad_field(field, message, 500) from error

    def all(self) -> list[Predictor]:
        """All predictors that can be loaded, by name."""
        found = []
        for name in list_predictors(self.registry):
            try:
                found.append(self.get(name))
            except RequestError as error:
                log.warning("predictor %s is left out: %s", name, error)
        return found

    def share_encoder(self, predictor: Predictor) -> bool:
        """Whether a predictor reads the vectors of the service's model, or the rows of nucleotides that it makes."""
        return predictor.mode == "frozen" and predictor.encoder_fingerprint == self.model.fingerprint

    def _load(self, folder: Path) -> Predictor:
        key = (folder.name, (folder / "predictor.json").stat().st_mtime_ns)
        with self._loading:
            if key not in self._loaded:
                for old in [k for k in self._loaded if k[0] == folder.name]:
                    del self._loaded[old]
                made = load_predictor(folder, self.model.device)
                _ = made.detector  # a damaged one is told now, rather than with the first request
                self._loaded[key] = made
            self._loaded.move_to_end(key)
            own = [k for k, p in self._loaded.items() if p.encoder_loaded and not self.share_encoder(p)]
            for old in own[: -self._own_encoders]:
                del self._loaded[old]
            return self._loaded[key]


ALL_SHOWN = 20
"""Labels or classes of which all are given by default; of more the `FEW_SHOWN` most probable ones."""
FEW_SHOWN = 5


def check_options(predictor: Predictor, top: object, prior: object) -> None:
    """See that `top` is a number of classes, and `prior` one that the predictor can use.

    Raises:
        RequestError: it is not.
    """
    if top is not None and (isinstance(top, bool) or not isinstance(top, int) or top < 0):
        raise bad_field("top", f"expected a whole number of classes, 0 for all, got {top!r}")
    try:
        predictor.check_prior(prior)  # type: ignore[arg-type]
    except TaskError as error:
        raise bad_field("prior", str(error).removeprefix("prior: ")) from error


def about(predictor: Predictor, prior: Any = None) -> dict[str, Any]:
    """What holds for all answers of a request: base_rates of the training data, thresholds of labels, and the prior."""
    return {"base_rates": predictor.base_rates, "thresholds": predictor.thresholds(prior) or None, "prior": prior}


def answers_of(predictions: Predictions | LabelSets | Estimates | Profiles, top: int | None = None) -> list[dict[str, Any]]:
    """Predictions as the service gives them.

    All: applicable, reason (None if applicable), in_training_length_range, and motifs, those that the predictor reports.
    Classes: label, probability, the `top` most probable classes, conformal_p_value and out_of_distribution (None if they
    were not measured).
    Of several labels: labels, and probabilities as above. Values: value, low, high (None if the interval has no
    bounds), unit. Of nucleotides: values, half_width (None, as above), unit. Where the predictor does not apply, these are
    None or empty.

    Args:
        predictions: of N sequences.
        top: how many classes or labels have their probability given, 0 for all; None for all of up to 20, else 5.
    """
    return [
        answer
        | {
            "applicable": check.applicable,
            "reason": check.reason or None,
            "in_training_length_range": check.in_training_length_range,
            "motifs": dict(check.motifs),
        }
        for answer, check in zip(_answers(predictions, top), predictions.checks, strict=True)
    ]


def _answers(predictions: Predictions | LabelSets | Estimates | Profiles, top: int | None) -> list[dict[str, Any]]:
    if isinstance(predictions, Profiles):
        width = _finite(predictions.half_width)
        return [{"values": v.tolist(), "half_width": width, "unit": predictions.unit} for v in predictions.values]
    if isinstance(predictions, Estimates):
        columns = (predictions.values.tolist(), predictions.low.tolist(), predictions.high.tolist())
        return [
            {"value": _finite(v), "low": _finite(low), "high": _finite(high), "unit": predictions.unit}
            for v, low, high in zip(*columns, strict=True)
        ]
    most = (0 if len(predictions.classes) <= ALL_SHOWN else FEW_SHOWN) if top is None else top
    shares = [_best(predictions.classes, row, most) for row in predictions.probabilities]
    if isinstance(predictions, LabelSets):
        return [{"labels": labels, "probabilities": best} for labels, best in zip(predictions.labels, shares, strict=True)]
    answers = []
    p_values, outside = predictions.conformal_p_value, predictions.out_of_distribution
    for i, (label, row, best) in enumerate(zip(predictions.labels, predictions.probabilities, shares, strict=True)):
        answers.append(
            {
                "label": label,
                "probability": None if label is None else float(row.max()),
                "probabilities": best,
                "conformal_p_value": None if p_values is None or label is None else float(p_values[i]),
                "out_of_distribution": None if outside is None or label is None else bool(outside[i]),
            }
        )
    return answers


def _best(classes: list[str], row: NDArray[np.float32], top: int) -> dict[str, float]:
    if np.isnan(row).any():
        return {}
    return {classes[i]: float(row[i]) for i in np.argsort(-row, kind="stable")[: top or None].tolist()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
