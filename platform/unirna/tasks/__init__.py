"""Downstream tasks: from a labelled table and an encoder to a predictor, its card and its row in the results table."""

from unirna.base.job_settings import FinetuneSettings
from unirna.tasks.definition import Definition, definitions, find_definition, prepare
from unirna.tasks.errors import TaskError
from unirna.tasks.evaluation import EvaluateConfig, evaluate, read_results
from unirna.tasks.finetuning.encoder_training import FullConfig
from unirna.tasks.finetuning.finetune import FinetuneConfig, finetune
from unirna.tasks.finetuning.job import finetune_job, plan_finetuning
from unirna.tasks.kinds.by_name import TASKS
from unirna.tasks.kinds.classification import SEQUENCE_CLASSIFICATION
from unirna.tasks.kinds.labels import SEQUENCE_LABELS
from unirna.tasks.kinds.regression import NUCLEOTIDE_REGRESSION, PAIR_REGRESSION, SEQUENCE_REGRESSION
from unirna.tasks.kinds.task import Metric, Task
from unirna.tasks.predictor import (
    Estimates,
    LabelSets,
    Predictions,
    Predictor,
    Profiles,
    find_predictor,
    list_predictors,
    load_predictor,
)
from unirna.tasks.requirements import Applicability, InputRequirements, Motif
from unirna.tasks.table.data_config import DataConfig
from unirna.tasks.table.labelled import LabelledTable
from unirna.tasks.table.pairs import PAIR_MARK, split_pairs
from unirna.tasks.table.table import read_labelled
from unirna.tasks.verdict import Verdict

__all__ = [
    "NUCLEOTIDE_REGRESSION",
    "PAIR_MARK",
    "PAIR_REGRESSION",
    "SEQUENCE_CLASSIFICATION",
    "SEQUENCE_LABELS",
    "SEQUENCE_REGRESSION",
    "TASKS",
    "Applicability",
    "DataConfig",
    "Definition",
    "Estimates",
    "EvaluateConfig",
    "FinetuneConfig",
    "FinetuneSettings",
    "FullConfig",
    "InputRequirements",
    "LabelSets",
    "LabelledTable",
    "Metric",
    "Motif",
    "Predictions",
    "Predictor",
    "Profiles",
    "Task",
    "TaskError",
    "Verdict",
    "definitions",
    "evaluate",
    "find_definition",
    "find_predictor",
    "finetune",
    "finetune_job",
    "list_predictors",
    "load_predictor",
    "plan_finetuning",
    "prepare",
    "read_labelled",
    "read_results",
    "split_pairs",
]
