"""From a labelled table and an encoder to a predictor in the registry, measured on its test rows."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from torch import Tensor

from unirna.job import package_version, say
from unirna.model import SHIPPED, Model, Pooling, load
from unirna.model.adapter import BASE_FILE
from unirna.tasks.errors import TaskError
from unirna.tasks.finetuning.cross_validation import FOLDS, Folds, draw_folds, wants_folds
from unirna.tasks.finetuning.detection import detect
from unirna.tasks.finetuning.encoder_training import FullConfig
from unirna.tasks.finetuning.fitting import Fitted, fit_in_folds, fit_on_validation
from unirna.tasks.finetuning.publish import facts_of_classes, facts_of_values, publish
from unirna.tasks.finetuning.search_space import Report, Search, candidates
from unirna.tasks.finetuning.training import Launch, embed_rows, fit_head, train_encoder
from unirna.tasks.kinds.classification import SEQUENCE_CLASSIFICATION
from unirna.tasks.kinds.labels import SEQUENCE_LABELS
from unirna.tasks.kinds.regression import NUCLEOTIDE_REGRESSION, PAIR_REGRESSION, SEQUENCE_REGRESSION
from unirna.tasks.kinds.task import Task, Truth, measure
from unirna.tasks.models.baselines import SimpleModels
from unirna.tasks.models.cnn import NAME as CNN
from unirna.tasks.models.ensemble import ENCODER
from unirna.tasks.plot import predicted_against_true
from unirna.tasks.predictor import FORMAT, Predictor, base_rates_of, list_predictors, load_predictor
from unirna.tasks.requirements import InputRequirements, of_equal_lengths
from unirna.tasks.table import censoring
from unirna.tasks.table.data_config import DataConfig
from unirna.tasks.table.labelled import LabelledTable
from unirna.tasks.table.pairs import PAIR_MARK
from unirna.tasks.table.splits import sides
from unirna.tasks.table.summary import describe
from unirna.tasks.table.table import read_labelled
from unirna.tasks.table.units import Units
from unirna.tasks.verdict import Verdict, judge

MOST_NETWORKS = 50
"""Of one predictor, whose mean answers."""
NOT_TRAINED = {"blend", "cnn", "cnn_ensemble_size", "coding", "requirements", "threshold"}
"""Settings of a recipe that the trained encoder and head do not depend on."""
UNSEEN = "test, unseen sequences"
"""Test rows whose sequence stands neither in train nor in validation."""
CROSS = "cross-validation"
"""Training and validation rows, each as models say that were fitted without it."""
HELD_OUT = {"test, unseen families": "families", "test, new members of known families": "members"}
"""Subsets of the test rows of a table that says how each is held out -> what it says of them."""
KNOWN = "test, classes of training"
"""Test rows of a class that training saw, where some are not."""


@dataclass(frozen=True)
class FinetuneConfig:
    """What is made of what.

    Attributes:
        name: the predictor's name in the registry.
        model: a shipped name, a folder or a URI of the encoder.
        data: the labelled table.
        registry: the folder of predictors.
        about: the data's source and licence in words, for the card.
        unit: of the values, where values are predicted; shown beside them.
        mode: "frozen" leaves the encoder as it is and fits a head on its vectors; "lora" trains low-rank adapters on it
            and the head, "full" the encoder itself and the head.
        pooling: which nucleotides the head reads: all ("mean") or the middle one ("centre"), for what is true of that.
        full: settings of the full and the lora mode.
        seeds: trainings with seeds from that of `full` up; the one with the lowest validation loss is kept, all reported.
        num_trials: settings of training to try: those of `full` and random ones. The best on validation rows is kept.
        compact: keep the name of a shipped encoder (and the adapters), not a copy; not for the full mode.
        cnn: train a small convolutional network on the same rows, beside the regression on 4-mers.
        cnn_ensemble_size: number of them, from different random weights; the mean of their outputs is the answer.
        coding: the sequences are coding ones, from their first codon on: the linear model reads codons and length.
        requirements: what the sequences must be; training sequences that are all of one length require that length.
        threshold: probability above which a label is said to be true, where there are several.
        blend: answer with the weighted sum of the encoder's head and these simple models; weights suit validation rows.
        replace: whether a predictor of that name, made otherwise, may be replaced.
    """

    name: str
    model: str
    data: DataConfig
    registry: str
    about: str = ""
    unit: str = ""
    mode: Literal["frozen", "lora", "full"] = "frozen"
    pooling: Pooling = "mean"
    full: FullConfig = field(default_factory=FullConfig)
    seeds: int = 1
    num_trials: int = 0
    compact: bool = False
    cnn: bool = True
    cnn_ensemble_size: int = 1
    coding: bool = False
    requirements: InputRequirements = field(default_factory=InputRequirements)
    threshold: float = 0.5
    blend: bool = True
    replace: bool = False

    def __post_init__(self) -> None:
        if not self.name or self.name.startswith(".") or set(self.name) & set("/\\=:"):
            raise TaskError(
                f"task name {self.name!r}: it becomes a folder and part of a URL, so it may not start with a dot or "
                "contain any of / \\ = :"
            )
        if self.compact and (self.mode == "full" or not (SHIPPED / self.model / "config.json").is_file()):
            raise TaskError(
                f"compact keeps the name of a shipped encoder instead of a copy: expected mode frozen or lora on one, got "
                f"mode {self.mode} on {self.model}"
            )
        if self.data.level == "nucleotide" and self.pooling != "mean":
            raise TaskError(f"level nucleotide predicts every nucleotide: there is nothing to pool by {self.pooling!r}")
        if self.data.reference_column and self.mode != "frozen":
            raise TaskError(f"mode {self.mode} does not support a reference column: use mode frozen")
        if self.mode == "frozen" and (self.seeds > 1 or self.num_trials > 1):
            raise TaskError("mode frozen always fits the same head: several seeds or trials need mode lora or full")
        if self.coding and (self.data.level != "sequence" or self.data.reference_column):
            raise TaskError(
                "coding works for single sequences with one answer each: leave it out for nucleotides and pairs"
            )
        if not 1 <= self.cnn_ensemble_size <= MOST_NETWORKS:
            raise TaskError(f"cnn_ensemble_size={self.cnn_ensemble_size}: expected 1 to {MOST_NETWORKS}, or no cnn")
        if not 0 < self.threshold < 1:
            raise TaskError(f"threshold={self.threshold}: expected a probability between 0 and 1")
        candidates(self.full, self.seeds, self.num_trials)
        if (self.mode == "lora") != bool(self.full.rank):
            raise TaskError(
                f"mode {self.mode} with rank {self.full.rank}: adapters need a rank of 1 or more, other modes a rank of 0"
            )


def run_here(function: Callable[[dict[str, Any]], None], settings: dict[str, Any], folder: Path) -> None:
    """Run a worker's function in this process: the launcher of one worker."""
    function(settings)


def search_here(function: Callable[[dict[str, Any], Report], None], settings: list[dict[str, Any]], folder: Path) -> None:
    """Run each in this process to its end."""
    for each in settings:
        function(each, lambda loss: None)


def finetune(config: FinetuneConfig, launch: Launch = run_here, search: Search = search_here) -> dict[str, Any]:
    """Make a predictor, or return the summary of the one that is there and was made from the same.

    Args:
        config: what is made of what.
        launch: runs the training loop of the full mode, here or on a cluster. search: runs it with several settings.

    Returns:
        The summary, which also stands in `predictor.json`.

    Raises:
        InputError, TaskError, CheckpointError: data, settings or model that cannot be used.
    """
    # ---- the model and the registry: a wrong one is refused before the table is read
    model = load(config.model)
    registry = Path(config.registry).absolute()  # workers on this machine may stand in another folder
    registry.mkdir(parents=True, exist_ok=True)

    # ---- the settings, and whether the predictor is there already
    table = read_labelled(config.data)
    for line in describe(table):
        say(line)
    _check_copies(table, config.data)
    task = _task_of(table)
    units = Units.of(table)
    classes = [] if task.numeric else list(table.label_names) or sorted(table.classes_in("train"))
    _check_labels(table, units, classes)
    requirements = _requirements(config, table)
    if config.threshold != 0.5 and not task.several:
        raise TaskError("a threshold is for several labels (--label-columns): of classes the most probable one is given")
    recipe = _recipe(config, table, model)
    folder = registry / config.name
    trained: Predictor | None = None
    if config.name in list_predictors(registry, shipped=False):
        there = load_predictor(folder)
        was = there.info["recipe"]
        lacks = config.cnn and CNN not in there.metrics["test"]
        if was == recipe and not (config.replace and lacks):
            say(f"{folder} was made from the same data, model and settings: nothing to do")
            return dict(there.info["summary"])
        if not config.replace:
            differ = [
                f"{key} was {was.get(key)!r}, is now {recipe.get(key)!r}"
                for key in dict.fromkeys([*recipe, *was])
                if was.get(key) != recipe.get(key)
            ]
            raise TaskError(
                f"{folder} holds a predictor with other settings ({'; '.join(differ)}). Give another --task name, or "
                "--replace"
            )
        alike = (there.folder / "encoder" / BASE_FILE).exists() == config.compact
        if (
            config.mode != "frozen"
            and alike
            and all(was.get(key) == recipe.get(key) for key in {*was, *recipe} - NOT_TRAINED)
        ):
            trained = there
            say(f"{folder} was trained with the same settings: keeping its encoder and head, refitting the baselines")

    # ---- train
    started = time.monotonic()
    rows = {split: table.rows(split) for split in ("train", "valid", "test")}
    truth: Truth
    if task.numeric:
        truth = table.values
    elif task.several:
        truth = table.flags
    else:
        index = {name: i for i, name in enumerate(classes)}
        truth = np.array([index.get(label, len(classes)) for label in table.labels], np.int64)  # C: training never saw it
        rows["valid"] = rows["valid"][truth[rows["valid"]] < len(classes)]
    at = {split: units.within(chosen) for split, chosen in rows.items()}
    num_outputs = len(classes) or 1
    details: dict[str, Any]
    base, adapters = model.fingerprint, dict[str, Tensor]()
    model = model.pooled(config.pooling)
    if "bounds" in table.counts:
        features = embed_rows(model, table, units, registry)
        truth = censoring.expected(table.values, table.sides, features, at["train"], at["valid"])
    folds = _folds(config, table, truth, rows, len(classes))
    ensemble_size = config.cnn_ensemble_size if config.cnn else 0
    profiles = table.profiles if task.level == "nucleotide" else None
    if config.mode == "frozen":
        vectors = embed_rows(model, table, units, registry)
    elif trained is not None:
        model, details = trained.encoder, dict(trained.info["training"])
        vectors = embed_rows(model, table, units, registry)
    else:
        if not len(rows["valid"]):
            raise TaskError(
                f"mode {config.mode} stops by the validation loss, and there is no validation row (of a training class)"
            )
        work = registry / f".work-{hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]}"
        model, head, adapters, details = train_encoder(
            config, work, model, table, units, task, truth, rows, num_outputs, launch, search
        )
        vectors = embed_rows(model, table, units, registry)
    calibration = None if trained is None else trained.info.get("calibration")
    if folds is not None:
        say(
            f"{len(folds.train):,} rows for training and validation are few: all are used for both, in "
            f"{folds.count}-fold cross-validation"
        )
        fitted = fit_in_folds(
            task, vectors, table.sequences, profiles, truth, folds, units, num_outputs,
            ensemble_size=ensemble_size, coding=config.coding,
        )  # fmt: skip
        details = dict(fitted.story or {})
        rows |= {"train": folds.train, "valid": folds.train[:0]}
        at = {split: units.within(chosen) for split, chosen in rows.items()}
    else:
        if config.mode == "frozen":
            fit = fit_head(task, vectors, truth, at, num_outputs, whiten=True)
            head, details = fit.head, {"head": fit.story, **fit.settings}
        elif trained is not None:
            head = trained.head
        say("fitting the simple models on the same rows")
        simple = SimpleModels.fit(
            task,
            table.sequences,
            profiles,
            truth,
            rows,
            units,
            num_outputs,
            ensemble_size=ensemble_size,
            coding=config.coding,
        )
        letters = {name: units.gather(simple.outputs(name, table.sequences)) for name in simple.names}
        calibrated = calibration is not None
        fitted = fit_on_validation(task, head, calibrated, simple, vectors, letters, truth, units, at["valid"])

    # ---- measure, beside the simple models
    guess = task.guess(truth[at["train"]])
    blended = fitted.blended(task, truth, at["train"], guess) if config.blend else None
    blend = None if blended is None else blended.blend
    if blend is not None:
        say("answers blend " + ", ".join(f"{weight:.2f} {name}" for name, weight in blend.weights.items()))
    alone = list(fitted.simple.names) if blended is None else list(fitted.outputs)
    of_all = {config.name: fitted.outputs[ENCODER] if blended is None else blended.outputs}
    of_all |= {name: fitted.outputs[name] for name in alone}
    held = {config.name: fitted.held_outputs[ENCODER] if blended is None else blended.held_out}
    held |= {name: fitted.held_outputs[name] for name in alone}
    seconds = time.monotonic() - started + (0.0 if trained is None else trained.info["training"]["seconds"])
    answers = {name: task.answer(outputs) for name, outputs in of_all.items()}
    held_answers = {name: task.answer(outputs) for name, outputs in held.items()}
    training = {table.shas[i] for split in ("train", "valid") for i in rows[split]}
    metrics = _measured(task, table, units, truth, rows, training, classes, answers, guess)
    if folds is not None:
        groups = units.rows[fitted.held] if task.level == "nucleotide" else None
        metrics = {CROSS: _scores(task, truth[fitted.held], held_answers, guess, classes, groups), **metrics}

    verdict = _verdict(
        config, task, table, units, truth, at, guess, fitted, blended is not None, answers, held_answers, classes
    )

    # ---- write it beside, rename
    primary, measured_by = task.primary.name, {metric.name for metric in task.metrics}
    plot, detector = "", None
    if task.numeric:
        ours = answers[config.name]
        facts = facts_of_values(truth, ours, fitted.held, held_answers[config.name], at, config.unit)
        plot = predicted_against_true(truth[at["test"]], ours[at["test"]], facts)
    else:
        facts = {"classes": classes}
        if not task.several:
            facts = facts_of_classes(table, classes, int(np.argmax(guess)), answers[config.name].argmax(axis=1))
            found = detect(table, model, registry, vectors, fitted, blended, rows, truth, len(classes))
            if found is not None:
                detector, facts["out_of_distribution"] = found
        if calibration is None and len(fitted.held):
            error = next(metric for metric in task.metrics if metric.name == "calibration error")
            before = error.compute(truth[rows["test"]], task.answers(fitted.raw, vectors[rows["test"]]))
            calibration = {"temperature": fitted.temperature, "test_error_before": before}
        if calibration is not None:
            facts["calibration"] = calibration
    summary = {
        "predictor": str(folder),
        "task": task.name,
        "mode": config.mode,
        **({"test_rows_in_interval": facts["interval"]["test_coverage"]} if task.numeric else {"classes": len(classes)}),
        **{key: table.counts[key] for key in ("read", "kept", "rejected", "splits")},
        **{s["metric"]: round(s["value"], 4) for s in metrics["test"][config.name].values() if s["metric"] in measured_by},
        **{f"{primary}, {who}": round(metrics["test"][who][primary]["value"], 4) for who in [*alone, task.guess_name]},
        "verdict": verdict.text,
        "level": verdict.level,
        "seconds": round(seconds, 1),
    }
    say(f"verdict: {verdict.text}")
    info = {
        "format": FORMAT,
        "name": config.name,
        "about": config.about,
        "task": task.name,
        "mode": config.mode,
        **facts,
        "requirements": requirements.to_json(),
        **({} if blend is None else {"blend": blend.to_json()}),
        "encoder": {
            "name": model.name,
            "fingerprint": model.fingerprint,
            "pooling": model.pooling,
            "dimension": model.dimension,
            "parameters": model.config.num_parameters,
            "context": model.context,
        },
        "data": {
            **asdict(config.data),
            "data": [Path(item).name for item in config.data.data],
            "digest": table.digest,
            "split": table.split,
            **table.counts,
        },
        "metrics": metrics,
        "guess": guess.tolist(),
        "verdict": verdict.to_json(),
        "training": details | {"seconds": round(seconds, 1)},
        "versions": {
            "unirna": package_version(),
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
            "python": platform.python_version(),
        },
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": recipe,
        "summary": summary,
    }
    if not task.numeric:
        info["base_rates"] = base_rates_of(info)
    if task.several:
        info["thresholds"] = dict.fromkeys(classes, config.threshold)
    whitened = config.mode == "lora" and config.full.head_input == "vector"
    compact = (config.model, base, adapters, whitened) if config.compact else None
    kept = None if trained is None else folder / "encoder"
    publish(folder, info, model, compact, kept, fitted.head, fitted.simple, detector, training, plot)
    if config.mode != "frozen" and trained is None:
        shutil.rmtree(work, ignore_errors=True)
    return summary


def _folds(
    config: FinetuneConfig, table: LabelledTable, truth: Truth, rows: dict[str, NDArray[np.int64]], num_classes: int
) -> Folds | None:
    """How few training and validation rows are divided for cross-validation; None if validation rows are to choose."""
    if not _is_small(config, table):
        return None
    together = np.sort(np.concatenate([rows["train"], rows["valid"]]))
    tried = np.ones(len(table.labels), bool)
    if "bounds" in table.counts:
        tried = table.sides == 0
    groups = sides(table.sequences, table.shas, config.data)
    return draw_folds(together, groups, truth, tried, classes=num_classes > 0, seed=config.data.seed)


def _measured(
    task: Task,
    table: LabelledTable,
    units: Units,
    truth: Truth,
    rows: dict[str, NDArray[np.int64]],
    training: set[str],
    classes: list[str],
    answers: dict[str, Truth],
    guess: NDArray[np.float64],
) -> dict[str, dict[str, Any]]:
    """The metrics of each model on validation and test rows, and on those of the test that training tells nothing of."""
    unseen = rows["test"][table.unseen(rows["test"], training)]
    subsets = {"valid": rows["valid"], "test": rows["test"], UNSEEN: unseen}
    if classes and not task.several:
        subsets[KNOWN] = rows["test"][truth[rows["test"]] < len(classes)]
    subsets |= {title: table.held_out_as(rows["test"], kind) for title, kind in HELD_OUT.items()}
    metrics = {}
    for subset, measured in subsets.items():
        if len(measured) and (subset in ("valid", "test") or len(measured) < len(rows["test"])):
            chosen = units.within(measured)
            groups = units.rows[chosen] if task.level == "nucleotide" else None
            said = {who: found[chosen] for who, found in answers.items()}
            metrics[subset] = _scores(task, truth[chosen], said, guess, classes, groups)
    return metrics


def _scores(
    task: Task,
    truth: Truth,
    answers: dict[str, Truth],
    guess: NDArray[np.float64],
    classes: list[str],
    groups: NDArray[np.int64] | None,
) -> dict[str, dict[str, Any]]:
    """The metrics of each model and of the best guess on the same units."""
    said = answers | {task.guess_name: task.guesses(guess, len(truth))}
    return {
        who: {s.metric: asdict(s) for s in measure(task, truth, answer, labels=classes, groups=groups)}
        for who, answer in said.items()
    }


def _verdict(
    config: FinetuneConfig,
    task: Task,
    table: LabelledTable,
    units: Units,
    truth: Truth,
    at: dict[str, NDArray[np.int64]],
    guess: NDArray[np.float64],
    fitted: Fitted,
    blends: bool,
    answers: dict[str, Truth],
    held_answers: dict[str, Truth],
    classes: list[str],
) -> Verdict:
    """What the predictor is worth on its test rows; where those are few and random, with the rows of cross-validation."""
    letters = fitted.blended(task, truth, at["train"], guess, fitted.simple.names) if blends else None
    simple = (config.name, *fitted.simple.names)
    chosen = at["test"]
    known = np.ones(len(chosen), bool)
    if not task.numeric and not task.several:
        known = truth[chosen] < len(classes)  # others cannot be right, whoever answers
    chosen = chosen[known] if known.any() else chosen
    ours = {name: answers[name][chosen] for name in simple}
    rival = None if letters is None else task.answer(letters.outputs)[chosen]
    rows = "test"
    if fitted.story is not None and not config.data.split_column:
        rows = "test and cross-validation"
        ours = {name: np.concatenate([found, held_answers[name]]) for name, found in ours.items()}
        if letters is not None and rival is not None:
            rival = np.concatenate([rival, task.answer(letters.held_out)])
        chosen = np.concatenate([chosen, fitted.held])
    groups = None
    if task.level == "nucleotide":
        order = np.argsort(units.rows[chosen], kind="stable")
        chosen, ours = chosen[order], {name: found[order] for name, found in ours.items()}
        rival = None if rival is None else rival[order]
        groups = units.rows[chosen]
    said = task.guesses(guess, len(chosen))
    return judge(task, truth[chosen], ours, config.name, rival, said, rows=rows, classes=classes, groups=groups)


def _check_copies(table: LabelledTable, data: DataConfig) -> None:
    """See that no test row stands in training.

    Raises:
        TaskError: some do, and it was not said that they may.
    """
    seen, tested = table.counts["test_rows_seen"], table.counts["splits"]["test"]
    if seen and not data.allow_copies:
        raise TaskError(
            f"{seen:,} of {tested:,} test rows have a sequence that also stands in train or validation, so the test "
            "figures would be too good. Remove them, or give --allow-copies for results with and without them"
        )


def _requirements(config: FinetuneConfig, table: LabelledTable) -> InputRequirements:
    """What the predictor takes: as declared, and the one length of all training sequences where they have only one.

    A value for each nucleotide is not bound to a length, which is then that of an assay.

    Raises:
        TaskError: rows that are not as declared.
    """
    sequences, declared = table.sequences, config.requirements
    checks = [declared.check(text) for text in sequences]
    wrong = [i for i, check in enumerate(checks) if not check.applicable]
    if wrong:
        raise TaskError(
            f"{len(wrong):,} of {len(sequences):,} rows do not meet the declared requirements, the first is "
            f"{table.ids[wrong[0]]}: {checks[wrong[0]].reason}. Remove them, or declare other requirements"
        )
    if table.level == "nucleotide":
        return declared
    return of_equal_lengths(declared, [len(part) for text in sequences for part in text.split(PAIR_MARK)])


def _task_of(table: LabelledTable) -> Task:
    if table.label_names:
        return SEQUENCE_LABELS
    if not table.numeric:
        return SEQUENCE_CLASSIFICATION
    if table.pairs:
        return PAIR_REGRESSION
    return NUCLEOTIDE_REGRESSION if table.level == "nucleotide" else SEQUENCE_REGRESSION


def _check_labels(table: LabelledTable, units: Units, classes: list[str]) -> None:
    """See that there is something to learn.

    Raises:
        TaskError: one class, or one value.
    """
    if table.numeric:
        trained = units.within(table.rows("train"))
        values = table.values[trained]
        if "bounds" in table.counts:
            values = values[table.sides[trained] == 0]
            if not len(values):
                raise TaskError("all values of the training rows are bounds: expected some measured values")
        if values.min() == values.max():
            raise TaskError(f"all {len(values):,} values of the training rows are {values[0]:g}: there is nothing to learn")
    elif table.label_names:
        for name, found in table.counts["per_label"]["train"].items():
            if not 0 < found["true"] < found["known"]:
                raise TaskError(
                    f"label {name!r} is true in {found['true']:,} of the {found['known']:,} training rows where it is "
                    "known: expected both true and false ones"
                )
    elif len(classes) < 2:
        raise TaskError(f"the training rows have one class, {classes[0]!r}: expected at least two")


def _is_small(config: FinetuneConfig, table: LabelledTable) -> bool:
    return config.mode == "frozen" and wants_folds(len(table.rows("train")), len(table.rows("valid")))


def _recipe(config: FinetuneConfig, table: LabelledTable, model: Model) -> dict[str, Any]:
    """Everything that decides a predictor, as plain JSON values."""
    full = asdict(config.full)
    if config.full.head_input == "state":  # as all did before there was a choice
        del full["head_input"]
    recipe = {
        "mode": config.mode,
        "encoder": model.fingerprint,
        "content": table.digest,
        "split": table.split,
        "label_column": config.data.label_column or " ".join(config.data.label_columns),
        **({"numeric": True, "unit": config.unit} if config.data.numeric else {}),
        **({"full": full} if config.mode != "frozen" else {}),
        **({"pooling": config.pooling} if config.pooling != "mean" else {}),
        **({"blend": True, "cnn": config.cnn} if config.blend else {}),
        **({"coding": True} if config.coding else {}),
        **({"cnn_ensemble_size": config.cnn_ensemble_size} if config.cnn and config.cnn_ensemble_size > 1 else {}),
        **({"requirements": config.requirements.to_json()} if config.requirements != InputRequirements() else {}),
        **({"threshold": config.threshold} if config.threshold != 0.5 else {}),
        **({"seeds": config.seeds} if config.seeds > 1 else {}),
        **({"num_trials": config.num_trials} if config.num_trials > 1 else {}),
        **({"folds": FOLDS} if _is_small(config, table) else {}),
    }
    plain: dict[str, Any] = json.loads(json.dumps(recipe))
    return plain
