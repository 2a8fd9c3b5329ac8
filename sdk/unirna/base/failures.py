"""Errors that the user can fix, and how a worker tells them to the process that speaks with the user."""

from __future__ import annotations

import json
from typing import Final


class JobError(RuntimeError):
    """A job that cannot go on, for a reason that the user can fix; the message says how."""


TOLD: Final = (JobError, ValueError, FileNotFoundError, PermissionError)
"""Kinds of errors that `tell` keeps apart; what else it tells is an OSError."""


def is_io_failure(error: BaseException) -> bool:
    """Whether a disk, a store or a path failed. What else Lance refuses, as a schema, is no such failure."""
    if "LanceError(" in str(error):
        return isinstance(error, (OSError, RuntimeError)) and "LanceError(IO)" in str(error)
    return isinstance(error, OSError)


def tell(error: Exception) -> str:
    """A failure of a disk or a store, or a `JobError`, as text for the driver; others are raised again.

    Ray Data keeps only the traceback of an error in a worker, so errors that the user can fix are returned as results.
    """
    if isinstance(error, (JobError, ValueError)) or is_io_failure(error):
        kind = next((kind for kind in TOLD if isinstance(error, kind)), OSError)
        return json.dumps([kind.__name__, str(error)])
    raise error


def raise_told(text: str) -> None:
    """Raise what `tell` told; nothing for the empty text."""
    if text:
        name, message = json.loads(text)
        raise next((kind for kind in TOLD if kind.__name__ == name), OSError)(message)
