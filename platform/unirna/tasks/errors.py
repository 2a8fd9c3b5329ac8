"""The error of this package."""

from __future__ import annotations


class TaskError(ValueError):
    """Data, settings or a predictor that a task cannot use; the message says what to do."""
