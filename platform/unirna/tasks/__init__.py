"""Downstream tasks: from a labelled table and an encoder to a predictor, its card and its row in the results table."""

from unirna.tasks.classification import SEQUENCE_CLASSIFICATION
from unirna.tasks.predictor import Predictions, Predictor, find_predictor, list_predictors, load_predictor
from unirna.tasks.task import Metric, Task, TaskError

__all__ = [
    "SEQUENCE_CLASSIFICATION",
    "Metric",
    "Predictions",
    "Predictor",
    "Task",
    "TaskError",
    "find_predictor",
    "list_predictors",
    "load_predictor",
]
