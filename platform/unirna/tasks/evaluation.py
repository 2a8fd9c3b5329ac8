"""The results table: a row per model x data x split x metric, with the simple models beside every predictor."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import logit

from unirna.job import package_version, say
from unirna.runs import new_file, write_text
from unirna.tasks.definition import definitions
from unirna.tasks.errors import TaskError
from unirna.tasks.kinds.by_name import TASKS
from unirna.tasks.kinds.task import Task, Truth, measure
from unirna.tasks.predictor import Predictor, find_predictor, load_predictor
from unirna.tasks.table.data_config import DataConfig
from unirna.tasks.table.labelled import LabelledTable
from unirna.tasks.table.summary import describe
from unirna.tasks.table.table import read_labelled
from unirna.tasks.table.units import Units

SCHEMA: Final = pa.schema(
    [
        ("predictor", pa.string()),
        ("model", pa.string()),
        ("data", pa.string()),
        ("content", pa.string()),
        ("split", pa.string()),
        ("rows", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("seeds", pa.int64()),
        ("seconds", pa.float64()),
        ("measured", pa.string()),
        ("unirna", pa.string()),
    ]
)
"""Columns of the results. `content` names the data by what is in it, `low` and `high` are a bootstrap 95 % interval,
`seeds` the trainings of the predictor, of which the one with the lowest validation loss answers, `seconds` the time from
sequences to predictions. Figures of others, where the predictor is of a defined task and the rows are its test rows, have
their protocol in `rows` and neither interval nor `n`."""

KEY: Final = ("predictor", "content", "split")
"""Rows that are equal in these are replaced when they are measured again."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a predictor on labelled data."""

    predictor: str
    """Name of the predictor."""
    data: tuple[str, ...]
    """The labelled table: files, folders, globs or URIs."""
    registry: str = "predictors"
    """Folder of the predictors."""
    split: Literal["test", "valid", "train", "all"] = "test"
    """Which rows to measure on; all takes the whole table."""
    label_column: str = ""
    """Column of the class. By default the one that the predictor was made with, as for the other columns."""
    label_columns: tuple[str, ...] = ()
    """Columns of several labels, in the order of the predictor's."""
    sequence_column: str = ""
    """Column of the RNA or DNA sequences."""
    id_column: str = ""
    """Column of the identifiers."""
    split_column: str = ""
    """Column that says train, valid or test (heldout)."""
    split_names: tuple[str, ...] = ()
    """Other names of splits, as test=test13."""
    reference_column: str = ""
    """Column of the sequence that each one is compared with."""
    encoding: str = ""
    """Encoding of the text, such as latin-1. By default UTF-8, or what the table's byte-order mark says."""
    column_type: tuple[str, ...] = ()
    """Types of columns of CSV and TSV, as chrom=text: text, integer, number, boolean, date or time."""
    out: str = ""
    """Folder of the results table. By default the registry."""

    def __post_init__(self) -> None:
        if self.split not in ("train", "valid", "test", "all"):
            raise TaskError(f"split {self.split!r}: expected train, valid, test or all")


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Measure a predictor and the simple models on labelled data and enter them in the results table.

    Returns:
        The summary: model, rows, metric and value of all that was measured.

    Raises:
        TaskError: no such predictor, one that applies to no row, or a split that the data does not have.
        InputError: data that cannot be read.
    """
    predictor = load_predictor(find_predictor(config.registry, config.predictor))
    table = _read(config, predictor)
    for line in describe(table):
        say(line)
    rows = table.rows(config.split)
    if "bounds" in table.counts:
        rows = rows[table.sides[rows] == 0]
        if not len(rows):
            raise TaskError(f"all labels of {config.split} are bounds, so nothing can be measured on them")
    checks = predictor.check([table.sequences[i] for i in rows])
    refused = [(table.ids[i], check.reason) for i, check in zip(rows, checks, strict=True) if not check.applicable]
    if refused:
        rows = rows[[check.applicable for check in checks]]
        first = "{}: {}".format(*refused[0])
        what = f"{predictor.name} does not apply to {len(refused):,} of {len(checks):,} rows ({first})"
        if not len(rows):
            raise TaskError(what)
        say(f"note: {what}: they are left out")
    task, classes = TASKS[predictor.task], predictor.labels
    index = {name: i for i, name in enumerate(classes)}
    foreign = 0 if task.numeric or task.several else sum(table.labels[i] not in index for i in rows)
    truth: Truth
    units = Units.of(table)
    at = units.within(rows)
    if task.numeric:
        truth = table.values[at]
    elif task.several:
        truth = table.flags[at]
    else:
        truth = np.array([index.get(table.labels[i], len(classes)) for i in rows], np.int64)
    if foreign:
        say(f"note: {foreign:,} of {len(rows):,} rows have a class unknown to {predictor.name}: they count as wrong")
    training = set(pq.read_table(predictor.folder / "training_sequences.parquet")["sha"].to_pylist())
    unseen = table.unseen(rows, training)
    subsets = {"all": np.ones(len(at), bool), "unseen sequences": np.isin(units.rows[at], rows[unseen])}
    if unseen.all() or not unseen.any():
        del subsets["unseen sequences"]

    # ---- measure
    fixed = {
        "predictor": predictor.name,
        "data": ", ".join(Path(item).name for item in config.data),
        "content": table.digest,
        "split": config.split,
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "unirna": package_version(),
    }
    sequences = [table.sequences[i] for i in rows]
    each = task.level == "nucleotide"
    those = Units(np.searchsorted(rows, units.rows[at]), None if units.places is None else units.places[at])
    fresh: list[dict[str, Any]] = []
    models = _models(predictor, task)
    recipe = predictor.info["recipe"]
    seeds = {next(iter(models)): max(recipe.get("seeds", 1), recipe.get("num_trials", 1))}
    for model, answer in models.items():
        started = time.monotonic()
        predicted = those.gather(answer(sequences))
        seconds = time.monotonic() - started
        for subset, chosen in subsets.items():
            groups = those.rows[chosen] if each else None
            for score in measure(task, truth[chosen], predicted[chosen], labels=classes, groups=groups):
                numbers = {
                    "value": score.value,
                    "low": score.low,
                    "high": score.high,
                    "n": score.n,
                    "seeds": seeds.get(model),
                }
                row = {"model": model, "rows": subset, "metric": score.metric, "seconds": round(seconds, 3)}
                fresh.append(fixed | row | numbers)
    fresh += [fixed | row for row in _published(predictor, table, config.split)]
    out = Path(config.out or config.registry)
    total = _enter(out, fresh)
    return {
        "predictor": predictor.name,
        "results": str(out / "results.md"),
        "rows_of_results": total,
        "n": len(rows),
        "not_applicable": len(refused),
        "scores": [_rounded(row) for row in fresh if row["n"] is not None],
    }


def _published(predictor: Predictor, table: LabelledTable, split: str) -> list[dict[str, Any]]:
    """Figures of others for the rows that were measured: the test rows of the defined task that the predictor was made of,
    which its words about the data tell."""
    about = predictor.info.get("about")
    task = next((task for task in definitions().values() if task.about == about), None)
    if task is None or split != "test" or table.digest != predictor.info["data"]["digest"]:
        return []
    return [
        {"model": row.who, "rows": row.protocol, "metric": row.metric, "value": row.value}
        | dict.fromkeys(("low", "high", "n", "seeds", "seconds"))
        for row in task.published
    ]


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    numbers = {key: round(row[key], 4) for key in ("value", "low", "high")}
    return {key: row[key] for key in ("model", "rows", "metric", "n")} | numbers


def _read(config: EvaluateConfig, predictor: Predictor) -> LabelledTable:
    made = predictor.info["data"]
    several = len(made.get("label_columns", ()))
    if (several and config.label_column) or len(config.label_columns) not in (0, several):
        wanted = f"--label-columns with {several} columns, in the order of {', '.join(predictor.labels)}"
        raise TaskError(f"predictor {predictor.name!r}: name {wanted if several else 'one column with --label-column'}")
    if config.reference_column and not predictor.pairs:
        raise TaskError(f"predictor {predictor.name!r} reads one sequence: leave out --reference-column")
    data = DataConfig(
        data=config.data,
        label_column=config.label_column or made["label_column"],
        label_columns=config.label_columns or tuple(made.get("label_columns", ())),
        sequence_column=config.sequence_column or made["sequence_column"],
        id_column=config.id_column or made["id_column"],
        split_column=config.split_column or made["split_column"],
        split_names=config.split_names or (() if config.split_column else tuple(made["split_names"])),
        valid_share=made["valid_share"],
        test_share=made["test_share"],
        seed=made["seed"],
        numeric=TASKS[predictor.task].numeric,
        level="nucleotide" if predictor.level == "nucleotide" else "sequence",
        split_by=made.get("split_by", "sequence"),
        reference_column=config.reference_column or made.get("reference_column", ""),
        encoding=config.encoding,
        column_type=config.column_type,
    )
    if config.split == "all":
        return read_labelled(replace(data, split_column="", split_names=()), whole=True)
    table = read_labelled(data)
    if not data.split_column and table.digest != made["digest"]:
        raise TaskError(
            f"{', '.join(config.data)} is not the table that {predictor.name} was made from, so its random split "
            "cannot be repeated. Name its --split-column, or measure on all rows with --split all"
        )
    if config.split == "valid" and "folds" in predictor.info["training"]:
        raise TaskError(
            f"{predictor.name} was also fitted on its validation rows, as they were few. Its card and predictor.json have "
            "the results of cross-validation; measure on other rows with --split test"
        )
    if not len(table.rows(config.split)):
        raise TaskError(f"no row in split {config.split!r}: {table.counts['splits']}")
    return table


def _models(predictor: Predictor, task: Task) -> dict[str, Callable[[list[str]], Truth | list[Truth]]]:
    """The predictor and the simple models that were fitted with it: sequences -> answers [N], or [L] for each of them."""
    if "guess" in predictor.info:
        guess = np.array(predictor.info["guess"])
    elif task.numeric:  # of earlier versions
        guess = np.array([predictor.info["mean"]])
    elif task.several:
        tally = [predictor.info["data"]["per_label"]["train"][name] for name in predictor.labels]
        guess = logit(np.array([found["true"] / found["known"] for found in tally]))
    else:
        counts = (predictor.info.get("per_class") or predictor.info["data"]["per_class"])["train"]
        have = np.array([counts[label] for label in predictor.labels])
        guess = np.log(have / have.sum())
    named = f"{predictor.info['encoder']['name']}, {predictor.mode}"
    each = task.level == "nucleotide"

    def ours(sequences: list[str]) -> Truth | list[Truth]:
        if not each:
            return task.answer(predictor.outputs(predictor.vectors(sequences), sequences))
        rows = [predictor.encoder.nucleotides(letters) for letters in sequences]
        return [task.answer(outputs) for outputs in predictor.outputs_of_nucleotides(rows, sequences)]

    def letters_alone(name: str, sequences: list[str]) -> Truth | list[Truth]:
        found = predictor.simple.outputs(name, sequences)
        return [task.answer(outputs) for outputs in found] if isinstance(found, list) else task.answer(found)

    def guesses(sequences: list[str]) -> Truth | list[Truth]:
        if each:
            return [task.guesses(guess, len(letters)) for letters in sequences]
        return task.guesses(guess, len(sequences))

    simple = {name: partial(letters_alone, name) for name in predictor.simple.names}
    return {named: ours, **simple, task.guess_name: guesses}


def read_results(folder: str | Path) -> pa.Table:
    """All rows of the results table in a folder (`SCHEMA`); empty if there is none."""
    path = Path(folder) / "results.parquet"
    if not path.exists():
        return SCHEMA.empty_table()
    return pa.Table.from_pylist(pq.read_table(path).to_pylist(), SCHEMA)  # older ones have fewer columns


def _enter(folder: Path, fresh: list[dict[str, Any]]) -> int:
    """Replace the rows of the same key and write both files; returns the number of all rows."""
    replaced = {tuple(row[key] for key in KEY) for row in fresh}
    kept = [row for row in read_results(folder).to_pylist() if tuple(row[key] for key in KEY) not in replaced]
    rows = sorted(kept + fresh, key=lambda row: [row[key] for key in ("data", "content", "split", "predictor")])
    with new_file(folder / "results.parquet") as part:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), part)
    write_text(folder / "results.md", _markdown(rows))
    return len(rows)


def _markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Results",
        "",
        "Measured by `jobs/evaluate.py`; intervals are bootstrap 95 % over rows. Unseen sequences stand neither in the "
        "training nor in the validation rows of the predictor. Rows without an interval are published figures of others; "
        "the protocol stands instead of the number of rows.",
        "",
        "| data | split | rows | n | predictor | model | seeds | metric | value | 95 % interval | seconds |",
        "|---|---|---|--:|---|---|--:|---|--:|---|--:|",
    ]
    for row in rows:
        cells = (
            f"{row['data']} `{row['content'][:8]}`",
            row["split"],
            row["rows"],
            "" if row["n"] is None else f"{row['n']:,}",
            row["predictor"],
            row["model"],
            "" if row.get("seeds") is None else row["seeds"],
            row["metric"],
            f"{row['value']:.3f}",
            "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}",
            "" if row["seconds"] is None else f"{row['seconds']:.1f}",
        )
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
