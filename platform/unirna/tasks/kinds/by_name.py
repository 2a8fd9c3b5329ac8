"""All kinds of prediction, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from unirna.tasks.kinds.classification import SEQUENCE_CLASSIFICATION
from unirna.tasks.kinds.labels import SEQUENCE_LABELS
from unirna.tasks.kinds.regression import NUCLEOTIDE_REGRESSION, PAIR_REGRESSION, SEQUENCE_REGRESSION
from unirna.tasks.kinds.task import Task

TASKS: Final[Mapping[str, Task]] = {
    task.name: task
    for task in (SEQUENCE_CLASSIFICATION, SEQUENCE_LABELS, SEQUENCE_REGRESSION, NUCLEOTIDE_REGRESSION, PAIR_REGRESSION)
}
