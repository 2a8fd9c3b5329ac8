"""The fine-tuning job: from the settings of its script to a predictor, on Ray Train workers or in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from unirna.base.job_settings import FinetuneSettings
from unirna.job import connect_ray
from unirna.tasks.definition import Definition, find_definition, prepare
from unirna.tasks.errors import TaskError
from unirna.tasks.finetuning.encoder_training import FullConfig
from unirna.tasks.finetuning.finetune import FinetuneConfig, finetune
from unirna.tasks.requirements import InputRequirements, Motif
from unirna.tasks.table.data_config import DataConfig
from unirna.train import run_trials, run_workers

TRAINING = (
    "mode",
    "pooling",
    "head_input",
    "epochs",
    "patience",
    "batch_size",
    "learning_rate",
    "cnn_ensemble_size",
    "coding",
)
"""Flags that a defined task has settings of its own for."""
OF_THE_FILE = (
    *(
        "label_column",
        "label_columns",
        "target_column",
        "level",
        "sequence_column",
        "id_column",
        "split_column",
        "split_names",
        "reference_column",
        "encoding",
        "column_type",
    ),
    *("split_by", "valid_share", "test_share"),
)
"""Flags that say what the file is made of."""


def finetune_job(config: FinetuneSettings) -> dict[str, Any]:
    """Make a predictor; see `finetune`. Training and trials run on Ray, or with `workers=0` in this process."""
    plan = plan_finetuning(config)
    if not config.workers:
        return finetune(plan)

    def launch(function: Callable[[dict[str, Any]], None], settings: dict[str, Any], folder: Path) -> None:
        connect_ray()
        run_workers(function, settings, workers=config.workers, folder=folder)

    def search(
        function: Callable[[dict[str, Any], Callable[[float], None]], None], settings: list[dict[str, Any]], folder: Path
    ) -> None:
        connect_ray()
        run_trials(function, settings, longest=max(each["full"]["epochs"] for each in settings), folder=folder)

    return finetune(plan, launch, search)


def plan_finetuning(config: FinetuneSettings) -> FinetuneConfig:
    """What is to be made: of the flags, and of the defined task where one is named."""
    defined = find_definition(config.dataset) if config.dataset else None
    training: dict[str, Any] = {
        name: value if value is not None else (defined.training if defined else {}).get(name)
        for name, value in ((name, getattr(config, name)) for name in TRAINING)
    }
    training = {name: value for name, value in training.items() if value is not None}
    mode, pooling = training.pop("mode", "frozen"), training.pop("pooling", "mean")
    cnn_ensemble_size, coding = training.pop("cnn_ensemble_size", 1), training.pop("coding", False)
    if defined is None:
        if [bool(config.label_column), bool(config.label_columns), bool(config.target_column)].count(True) != 1:
            raise TaskError(
                "name what is predicted: --label-column for classes, --label-columns for several labels that are true or "
                "false, or --target-column for a measured value"
            )
        if not config.task:
            raise TaskError("name the predictor with --task, or a task on public data with --dataset")
        data = DataConfig(
            config.data,
            config.label_column or config.target_column,
            config.sequence_column,
            config.id_column,
            config.split_column,
            config.split_names,
            config.valid_share,
            config.test_share,
            config.seed,
            numeric=bool(config.target_column),
            level=config.level,
            split_by=config.split_by,
            allow_copies=config.allow_copies,
            label_columns=config.label_columns,
            reference_column=config.reference_column,
            encoding=config.encoding,
            column_type=config.column_type,
        )
    else:
        given = [name for name in OF_THE_FILE if getattr(config, name) != getattr(FinetuneSettings, name)]
        if given or len(config.data) != 1:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given) or "several files"
            raise TaskError(f"--dataset {config.dataset} defines the contents of its one file: leave out {flags}")
        data = prepare(defined, config.data[0], Path(config.registry) / ".data")
        data = replace(data, allow_copies=data.allow_copies or config.allow_copies)
    full = FullConfig(rank=config.rank if mode == "lora" else 0, seed=config.seed, **training)
    return FinetuneConfig(
        name=config.task or config.dataset,
        model=config.model,
        data=data,
        registry=config.registry,
        about=config.about or (defined.about if defined else ""),
        unit=config.unit or (defined.unit if defined else ""),
        mode=mode,
        pooling=pooling,
        full=full,
        seeds=config.seeds,
        num_trials=config.num_trials,
        compact=config.compact,
        cnn=config.cnn,
        cnn_ensemble_size=cnn_ensemble_size,
        coding=coding,
        requirements=_requirements(config, defined),
        threshold=config.threshold,
        blend=config.blend,
        replace=config.replace,
    )


def _requirements(config: FinetuneSettings, defined: Definition | None) -> InputRequirements:
    """What the predictor takes: of the flags, and where none is given of the defined task."""
    given = (config.takes, config.min_length, config.max_length, config.require, config.report)
    if defined is not None and given == ("", None, None, (), ()):
        return defined.requires
    reported = {}
    for text in config.report:
        name, equals, motif = text.partition("=")
        if not name or not equals:
            raise TaskError(f"--report {text!r}: expected NAME=PATTERN@centre-2, such as DRACH=DRACH@centre-2")
        reported[name] = Motif.parse(motif)
    required = tuple(Motif.parse(text) for text in config.require)
    return InputRequirements(config.takes, config.min_length, config.max_length, required, reported)
