"""What a predictor is worth, in plain words: how well it predicts unseen rows, and whether the language model helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from unirna.base import percent
from unirna.tasks.kinds.classification import auc
from unirna.tasks.kinds.labels import mean_auc
from unirna.tasks.kinds.regression import r2
from unirna.tasks.kinds.task import Task, Truth, resamples_of

Level = Literal["strong", "moderate", "weak", "none"]
BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "R2": (0.3, 0.6),
    "AUC": (0.7, 0.85),
    "mean AUC": (0.7, 0.85),
    "kappa": (0.4, 0.6),
    "accuracy above chance": (0.4, 0.6),
}
"""Measure -> from where a predictor is called moderate, and strong. Those of kappa are Landis & Koch's (1977, Biometrics
33:159), who call .4 to .6 moderate and more substantial; the others are our choice."""
CHANCE: Final[Mapping[str, float]] = {"AUC": 0.5, "mean AUC": 0.5}
"""The measure of answers that tell nothing, where it is not 0."""
VALUES_OF_DRAWS: Final = 4_000_000
"""Rows of all bootstrap draws together; of many rows fewer draws are made, at least 200."""


@dataclass(frozen=True)
class Verdict:
    """What a predictor is worth.

    Attributes:
        level: "strong", "moderate", "weak", or "none" where unseen rows are predicted no better than by a constant answer.
        text: the verdict in words, one to three sentences.
        measure: what `value` is: R2 of values, AUC of two classes, mean AUC of labels, Cohen's kappa of several classes.
        value: on rows that the models never saw.
        low, high: its bootstrap 95 % interval.
        num_rows: how many rows (or nucleotides) it was measured on.
        rows: which: "test", or "test and cross-validation" where rows are few and the split is random.
        baseline: name of the best simple model.
        baseline_value: its value of the measure on the same rows.
        gain: the predictor's value less that of the simple models without the language model; None if not known.
        gain_low, gain_high: its paired bootstrap 95 % interval.
    """

    level: Level
    text: str
    measure: str
    value: float
    low: float
    high: float
    num_rows: int
    rows: str
    baseline: str = ""
    baseline_value: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in `predictor.json`."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}

    @classmethod
    def of_info(cls, info: Mapping[str, Any]) -> Verdict:
        """The verdict in a `predictor.json`, or of its metrics if an earlier version wrote it."""
        return cls(**info["verdict"]) if "verdict" in info else _of_metrics(info)


def kappa(truth: Truth, probabilities: Truth) -> float:
    """Cohen's kappa of the most probable classes: agreement with the truth [N] beyond that of chance; 0 is none."""
    said = probabilities.argmax(axis=1)
    size = int(max(truth.max(), said.max())) + 1
    chance = float((np.bincount(truth, minlength=size) * np.bincount(said, minlength=size)).sum()) / len(truth) ** 2
    return 0.0 if chance == 1 else (float((truth == said).mean()) - chance) / (1 - chance)


def judge(
    task: Task,
    truth: Truth,
    answers: Mapping[str, Truth],
    name: str,
    letters: Truth | None,
    guess: Truth,
    *,
    rows: str,
    classes: list[str],
    groups: NDArray[np.int64] | None = None,
) -> Verdict:
    """Compare a predictor with the simple models and the best constant answer on rows that none of them saw.

    Args:
        task: what is predicted.
        truth: of N units.
        answers: of the predictor and of each simple model, by their names, as the task's `answer` gives them.
        name: the predictor's.
        letters: answers of the ensemble of the baselines without the language model; None to compare with the best one.
        guess: answers that look at no sequence.
        rows: which rows these are, as `Verdict.rows`.
        classes: names of classes or labels.
        groups: int64 [N], ascending, of units that are drawn together.
    """
    measure, compute = _measure(task, len(classes))
    ours = answers[name]
    scores = {who: compute(truth, said) for who, said in answers.items() if who != name}
    baseline = max(scores, key=lambda who: scores[who]) if scores else ""
    rival = letters if letters is not None else answers.get(baseline)
    drawn = np.array(
        [
            (
                compute(truth[rows_], ours[rows_]),
                float("nan") if rival is None else compute(truth[rows_], ours[rows_]) - compute(truth[rows_], rival[rows_]),
                _error(truth[rows_], guess[rows_]) - _error(truth[rows_], ours[rows_]) if task.numeric else 0.0,
            )
            for rows_ in resamples_of(len(truth), groups, _num_draws(len(truth)))
        ]
    )
    low, high = np.percentile(drawn[:, 0], [2.5, 97.5]).tolist()
    value = compute(truth, ours)
    chance = CHANCE.get(measure, 0.0)
    useless = value <= chance or (np.percentile(drawn[:, 2], 2.5) <= 0 if task.numeric else low <= chance)
    level: Level = "none" if useless else _level(measure, value)
    gain, gain_low, gain_high = None, None, None
    if rival is not None:
        gain = value - compute(truth, rival)
        gain_low, gain_high = np.percentile(drawn[:, 1], [2.5, 97.5]).tolist()
    facts = {
        "right": None if task.numeric or task.several else float((truth == ours.argmax(axis=1)).mean()),
        "guessed": None if task.numeric or task.several else float((truth == guess.argmax(axis=1)).mean()),
    }
    what = "nucleotides of unseen sequences" if groups is not None else "unseen rows"
    text = _words(level, measure, value, low, high, f"{len(truth):,} {what}", facts)
    if scores:
        text += " " + _comparison(measure, level, value, baseline, scores[baseline], (gain, gain_low, gain_high))
    return Verdict(
        level,
        text,
        measure,
        value,
        low,
        high,
        len(truth),
        rows,
        baseline,
        scores.get(baseline),
        gain,
        gain_low,
        gain_high,
    )


def _num_draws(count: int) -> int:
    return min(1000, max(200, VALUES_OF_DRAWS // count))


def _error(truth: Truth, said: Truth) -> float:
    return float(((truth - said) ** 2).mean())


def _measure(task: Task, num_classes: int) -> tuple[str, Callable[[Truth, Truth], float]]:
    if task.numeric:
        return "R2", r2
    if task.several:
        return "mean AUC", mean_auc
    return ("AUC", auc) if num_classes == 2 else ("kappa", kappa)


def _level(measure: str, value: float) -> Level:
    moderate, strong = BOUNDS[measure]
    return "strong" if value >= strong else "moderate" if value >= moderate else "weak"


def _words(
    level: Level, measure: str, value: float, low: float, high: float, rows: str, facts: Mapping[str, float | None]
) -> str:
    """The first sentence: how well unseen rows are predicted."""
    interval = f"95% interval {_short(measure, low)} to {_short(measure, high)}"
    if measure == "R2":
        if level == "none":
            return (
                f"none: on {rows} it is no better than the mean, beyond chance (R2 {value:.2f}, 95% interval {low:.2f} to "
                f"{high:.2f})."
            )
        return f"{level}: explains {_short(measure, value)} of the variance of {rows} ({interval})."
    what = {
        "AUC": "tells the two classes of {rows} apart with an AUC of {value}",
        "mean AUC": "tells the labels of {rows} with a mean AUC of {value}",
    }.get(measure, "tells the classes of {rows} with a kappa of {value}")
    if level == "none":
        what = "on {rows} it is no better than chance (" + measure + " {value}"
        return f"none: {what.format(rows=rows, value=f'{value:.2f}')}, {interval})."
    right = ""
    if facts["right"] is not None:
        right = (
            f"; {_share(facts['right'])} are right, {_share(facts['guessed'] or 0.0)} with the most frequent class alone"
        )
    return f"{level}: {what.format(rows=rows, value=f'{value:.2f}')} ({interval}{right})."


def _short(measure: str, value: float) -> str:
    return _share(value) if measure == "R2" else f"{round(value, 2) + 0.0:.2f}"


def _share(value: float) -> str:
    return percent(value) if 0 <= value <= 1 else f"{100 * value:.0f}%"


def _comparison(
    measure: str,
    level: Level,
    value: float,
    baseline: str,
    reached: float,
    gain: tuple[float | None, float | None, float | None],
) -> str:
    """The second sentence: what the simple models reach, and what the language model adds to them."""
    best = f"The best simple model, {baseline}, reaches {_short(measure, reached)}"
    found, low, high = gain
    assert found is not None and low is not None and high is not None
    interval = f"{_short(measure, found)}, 95% interval {_short(measure, low)} to {_short(measure, high)}"
    if high < 0:
        return f"{best}: it is better than this predictor (by {_short(measure, -found)}, beyond chance)."
    if level == "none":
        return f"{best}; neither finds what holds for unseen rows." if reached <= CHANCE.get(measure, 0.0) else f"{best}."
    if low > 0:
        return f"{best}; the language model adds to the simple models ({interval})."
    return f"{best}; the language model adds nothing beyond chance to the simple models ({interval})."


def _of_metrics(info: Mapping[str, Any]) -> Verdict:
    """The verdict on a predictor that a version without verdicts made, as far as its metrics tell."""
    test = info["metrics"]["test"]
    ours = test[info["name"]]
    measure = next(name for name in ("R2", "AUC", "mean AUC", "accuracy") if name in ours)
    guess, chance, unit = "", 0.0, measure
    if measure == "accuracy":  # to what share it closes the gap between the most frequent class and all
        guess = next((who for who in test if who.startswith("most frequent")), "")
        chance, unit = (test[guess]["accuracy"]["value"] if guess else 0.0), "accuracy above chance"
    found = {key: float(ours[measure][key]) for key in ("value", "low", "high")}
    if measure == "accuracy":
        found = {key: (value - chance) / (1 - chance) if chance < 1 else 0.0 for key, value in found.items()}
    level: Level = "none" if found["low"] <= CHANCE.get(unit, 0.0) else _level(unit, found["value"])
    constant = ("mean", "most frequent class", "most frequent value")
    simple = {who: s[measure] for who, s in test.items() if who not in (info["name"], "encoder alone", *constant)}
    rows = f"{ours[measure]['n']:,} unseen rows"
    if measure == "accuracy":
        text = (
            f"{level}: {_share(ours[measure]['value'])} of {rows} are right, {_share(chance)} with the most frequent class "
            f"alone (95% interval {_share(ours[measure]['low'])} to {_share(ours[measure]['high'])})."
        )
    else:
        text = _words(level, unit, found["value"], found["low"], found["high"], rows, {"right": None})
    baseline = max(simple, key=lambda who: simple[who]["value"]) if simple else ""
    if baseline:
        other = simple[baseline]
        shown = _share(other["value"]) if measure in ("accuracy", "R2") else f"{other['value']:.2f}"
        text += f" The best simple model, {baseline}, reaches {shown}"
        if other["high"] < ours[measure]["low"]:
            text += ", less than this predictor beyond chance"
        elif other["low"] > ours[measure]["high"]:
            text += ", more than this predictor beyond chance"
        text += "."
    return Verdict(
        level,
        text,
        unit,
        found["value"],
        found["low"],
        found["high"],
        int(ours[measure]["n"]),
        "test",
        baseline,
        float(simple[baseline]["value"]) if baseline else None,
    )
