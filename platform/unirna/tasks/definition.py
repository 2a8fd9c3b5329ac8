"""A downstream task on public data, in one short file of `unirna/tasks/datasets/`.

It says what is predicted, how its file is read and divided, how a predictor is trained on it, and what others reach.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from unirna.runs import new_file
from unirna.sequence import InputError
from unirna.tasks.errors import TaskError
from unirna.tasks.requirements import InputRequirements
from unirna.tasks.table.data_config import DataConfig


@dataclass(frozen=True)
class Published:
    """A figure of others: who, the metric, its value, and in `protocol` in what the rows or the splits differ from ours."""

    who: str
    metric: str
    value: float
    protocol: str = "the same rows"


@dataclass(frozen=True)
class Definition:
    """A task on public data.

    Attributes:
        name: of the task, and of the predictor that is made.
        predicts: what an answer says, in words.
        level: what one answer is given for. each: whether a label is a list with a value for each nucleotide.
        labels: columns of several labels (1, 0 or null), which `read` then returns instead of `label`.
        numeric: whether the answers are measured values rather than classes. unit: theirs.
        about: source, paper and licence of the data, for the card.
        get: where the data are to be had. file: where they lie in a folder of such data; empty if no copy is kept.
        copies: whether the published test rows hold copies of training rows; they are measured with and without them.
        read: the file -> columns `sequence`, `label` (text or numbers) and `split` (train, valid, test), `id` if it has
            names, and `reference` where a sequence is compared with another; `held_out` ("families" or "members") where
            some test rows are of families that training does not have and others new members of those that it has. Without
            `split` a random split is taken; without rows of valid a tenth of the training rows.
        metric: by which predictors of this task are compared. goal: what it should reach; none was set where it is None.
        goals: what the AUC of one of several labels should reach, by the label.
        published: figures of others.
        requires: what a sequence must be that is asked of the predictor.
        training: settings of `jobs/finetune.py` by their flags' names, as mode, head_input, pooling, epochs.
    """

    name: str
    predicts: str
    about: str
    get: str
    read: Callable[[Path], pa.Table]
    metric: str
    file: str = ""
    level: Literal["sequence", "nucleotide"] = "sequence"
    each: bool = False
    labels: tuple[str, ...] = ()
    numeric: bool = False
    unit: str = ""
    copies: bool = False
    goal: float | None = None
    goals: Mapping[str, float] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    requires: InputRequirements = field(default_factory=InputRequirements)
    training: Mapping[str, Any] = field(default_factory=dict)


@cache
def definitions() -> dict[str, Definition]:
    """All that are defined, by name: each module in `unirna/tasks/datasets/` has a tuple `DEFINITIONS`."""
    package = importlib.import_module("unirna.tasks.datasets")
    modules = [
        importlib.import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)
    ]
    return {definition.name: definition for module in modules for definition in module.DEFINITIONS}


def find_definition(name: str) -> Definition:
    """The definition of a name.

    Raises:
        TaskError: none of that name; the message lists those that exist.
    """
    have = definitions()
    if name not in have:
        raise TaskError(f"no data set {name!r}. There are: {', '.join(have)}")
    return have[name]


def prepare(definition: Definition, path: str | Path, folder: Path) -> DataConfig:
    """Read a definition's file and write it, divided, as the labelled table `<folder>/<name>.parquet`.

    The seed of the random split, where one is taken, is 0: every seed of training sees the same rows.

    Raises:
        InputError: a file that is not there or has not the columns that this definition reads.
    """
    try:
        table = definition.read(Path(path))
    except InputError:
        raise
    except (OSError, ValueError, LookupError, pa.ArrowException) as error:
        cause = str(error).partition("\n")[0]
        raise InputError(str(path), f"is not what {definition.name} reads ({cause}). Expected {definition.get}") from error
    if not table.num_rows:
        raise InputError(str(path), f"has no row for {definition.name}. Expected {definition.get}")
    out = folder / f"{definition.name}.parquet"
    with new_file(out) as part:
        pq.write_table(table, part)
    return DataConfig(
        (str(out),),
        "" if definition.labels else "label",
        split_column="split" if "split" in table.column_names else "",
        numeric=definition.numeric,
        level="nucleotide" if definition.each else "sequence",
        allow_copies=definition.copies,
        label_columns=definition.labels,
        held_out_column="held_out" if "held_out" in table.column_names else "",
        reference_column="reference" if "reference" in table.column_names else "",
    )


def grouped_split(groups: Sequence[str], *, valid: float = 0.1, test: float = 0.2, seed: int = 0) -> list[str]:
    """A split that puts all rows of a group (a gene, a family) on one side: train, valid or test of each row.

    A group's side depends on its name and the seed alone; the shares are of the groups, not of the rows.
    """

    def side(group: str) -> str:
        place = int.from_bytes(hashlib.sha256(f"{seed} {group}".encode()).digest()[:8]) / 2**64
        return "test" if place < test else "valid" if place < test + valid else "train"

    return [side(group) for group in groups]
