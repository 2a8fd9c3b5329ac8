"""Fine-tune a predictor: a labelled table and an encoder in, a predictor with its card in the registry out.

    python jobs/finetune.py --data jobs/demo/rfam_sample.parquet \
        --label-column rna_type --split-column split --task rfam_type --registry predictors
    python jobs/finetune.py --data table.csv --sequence-column rna --label-column family \
        --task family --registry predictors --mode full --workers 2
    python jobs/finetune.py --data utr.csv --target-column load --unit ribosomes --task load --registry predictors
    python jobs/finetune.py --dataset m6a --data m6a.parquet --registry predictors

It says how the table was understood: rows, classes or values, lengths, what was left out and why, and the split. Without
`--split-column` a fifth (of each class) is held out for the test and a tenth for validation, copies of a sequence on one
side. Values get an interval that holds nine of ten new ones, and a plot of predicted against true ones.

`--dataset` names a public data set that `unirna/tasks/datasets/` defines: columns, split, unit, source and training
settings. Flags override its training settings; an unknown name is answered with the list.

`--mode frozen` fits a linear head on the encoder's vectors; `--mode full` trains the encoder with it, `--mode lora` small
adapters on the encoder, on Ray Train workers that share the registry's folder.

An answer is the weighted sum of what the encoder's head says and what two simple models say that read letters alone (linear
on 4-mers, and a small CNN); with `--no-blend` the head answers alone. With fewer than 1,000 rows (or
100 validation rows) the frozen mode uses training and validation rows together, in 5-fold cross-validation.

It ends in a verdict in plain words: how much of unseen rows is explained, and whether the language model adds to the simple
models.

Killed and started again, the same command goes on: no vector is computed twice, and full training resumes after its last
epoch. When the predictor is there and was made from the same, nothing is done and its summary is printed again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro

from unirna.base import command
from unirna.job import connect_ray, run_job
from unirna.tasks import (
    DataConfig,
    Definition,
    FinetuneConfig,
    FullConfig,
    InputRequirements,
    Motif,
    TaskError,
    find_definition,
    finetune,
    prepare,
)
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


@dataclass(frozen=True)
class Config:
    """Fine-tune a predictor on a labelled table."""

    data: tuple[str, ...]
    """The labelled table: files, folders, globs or URIs (CSV, TSV, Parquet; FASTA with the label as its description)."""
    task: str = ""
    """Name of the predictor; by default that of the defined task."""
    dataset: str = ""
    """A public data set that the package defines."""
    label_column: str = ""
    """Column of the class, to predict classes."""
    label_columns: tuple[str, ...] = ()
    """Columns of several labels, each 1 or 0 (true or false, yes or no), or empty where it is not known."""
    target_column: str = ""
    """Column of a measured value, to predict values."""
    level: Literal["sequence", "nucleotide"] = "sequence"
    """What a value is given for; of nucleotides the column holds lists, null where none was measured."""
    about: str = ""
    """Source and licence of the data, for the card."""
    unit: str = ""
    """Unit of the values, shown beside predictions."""
    model: str = "unirna-mini"
    """Encoder: a shipped name, a checkpoint's folder, or a URI."""
    registry: str = "predictors"
    """Folder of the predictors."""
    mode: Literal["frozen", "lora", "full"] | None = None
    """Whether the encoder stays as it is (the default), gets low-rank adapters, or is trained itself."""
    pooling: Literal["mean", "centre"] | None = None
    """Which nucleotides the head reads: all (the default), or the middle one, for what is true of that."""
    rank: int = 8
    """Rank of the adapters (lora)."""
    head_input: Literal["vector", "state"] | None = None
    """What the head reads (lora, full): the model's own vector, beginning with the frozen mode's head, or the mean of the
    last layer's states, beginning with nothing (the default)."""
    compact: bool = False
    """Keep the name of a shipped encoder, and the adapters, instead of a copy of it (frozen, lora)."""
    sequence_column: str = "sequence"
    """Column of the RNA or DNA letters."""
    id_column: str = "id"
    """Column of the names; rows of a table without it are named by their number."""
    encoding: str = ""
    """Of the text of the table, such as latin-1; by default UTF-8, or what its byte-order mark says."""
    column_type: tuple[str, ...] = ()
    """Types of columns of CSV and TSV, as chrom=text: text, integer, number, boolean, date or time. By default what all
    values of a column are."""
    split_column: str = ""
    """Column that says train, valid or test (heldout); without it the split is random."""
    reference_column: str = ""
    """Column of what each sequence is compared with, as the wild type of a variant: the target is what they differ by."""
    split_names: tuple[str, ...] = ()
    """Other names of splits, as test=test13 train=train; rows of further names are then left out."""
    split_by: Literal["sequence", "similarity"] = "sequence"
    """What a random split keeps on one side: copies of a sequence, or all that share a quarter of their 10-mers."""
    allow_copies: bool = False
    """Keep test rows whose sequence stands in training too; results are given with and without them."""
    valid_share: float = 0.1
    """Share of each class for validation, where no column says."""
    test_share: float = 0.2
    """Share of each class for the test, where no column says."""
    seeds: int = 1
    """Trainings with seeds from `--seed` up (lora, full): the best on validation rows is kept, the card shows all."""
    num_trials: int = 0
    """Settings of training to try (lora, full), the given ones and random ones, side by side on Ray Tune: learning rates,
    batch size and rank. The best on validation rows is kept, the card shows all."""
    seed: int = 0
    """Seed of the random split and of the order of training."""
    epochs: int | None = None
    """Most passes over the training rows (lora, full); by default 10."""
    patience: int | None = None
    """Epochs without a lower validation loss after which training stops (lora, full); by default 3."""
    batch_size: int | None = None
    """Sequences of one optimiser step, over all workers (lora, full); by default 32."""
    learning_rate: float | None = None
    """Peak learning rate of the encoder or its adapters; by default 3e-4 (full) or 2e-3 (lora)."""
    workers: int = 1
    """Ray Train workers (lora, full); 0 trains in this process, without Ray."""
    cnn: bool = True
    """Train a small convolutional network on the same rows, to compare with."""
    cnn_ensemble_size: int | None = None
    """How many of them (at most 50), which differ in their random weights and whose mean answers; by default 1."""
    coding: bool | None = None
    """The sequences are coding ones, from their first codon on: the linear model reads codons and length, not 4-mers."""
    takes: str = ""
    """What a sequence must be, in words, such as "the last 50 nt of a 5'UTR"; shown to users."""
    min_length: int | None = None
    """Least length of a sequence in nucleotides; shorter ones get no answer. Training sequences that are all of one length
    require that length."""
    max_length: int | None = None
    """Greatest length of a sequence in nucleotides; longer ones get no answer."""
    require: tuple[str, ...] = ()
    """Nucleotides that a sequence must have: IUPAC codes, @start, @centre or @end, and an offset if it is not 0, such as
    A@centre or AUG@end-2."""
    report: tuple[str, ...] = ()
    """Motifs that answers tell of, as NAME=PATTERN@centre-2, such as DRACH=DRACH@centre-2."""
    threshold: float = 0.5
    """Probability above which one of several labels is said to be true."""
    blend: bool = True
    """Answer with the weighted sum of the encoder's head and the simple models, with weights that suit validation best."""
    replace: bool = False
    """Replace a predictor of the same name that was made otherwise."""


def main() -> int:
    """Run the job."""
    config = tyro.cli(Config, description=__doc__)

    def on_workers(function: Callable[[dict[str, Any]], None], settings: dict[str, Any], folder: Path) -> None:
        connect_ray()
        run_workers(function, settings, workers=config.workers, folder=folder)

    def tried(
        function: Callable[[dict[str, Any], Callable[[float], None]], None], settings: list[dict[str, Any]], folder: Path
    ) -> None:
        connect_ray()
        run_trials(function, settings, longest=max(each["full"]["epochs"] for each in settings), folder=folder)

    def job() -> dict[str, Any]:
        wanted = _wanted(config)
        return finetune(wanted, on_workers, tried) if config.workers else finetune(wanted)

    return run_job(job)


def _wanted(config: Config) -> FinetuneConfig:
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
        given = [name for name in OF_THE_FILE if getattr(config, name) != getattr(Config, name)]
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


def _requirements(config: Config, defined: Definition | None) -> InputRequirements:
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


if __name__ == "__main__":
    sys.exit(command(main))
