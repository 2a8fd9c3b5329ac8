"""Functions compiled by Numba, kept on disk where there is a place for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Any], Any]:
    """A decorator that compiles a function at its first call; it lets go of Python's lock while it runs.

    What was compiled is kept for later processes, beside the module or in the user's cache; where neither can be written,
    each process compiles again.

    Args:
        options: further ones of `numba.njit`.
    """

    def decorate(function: Any) -> Any:
        try:
            return numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # no folder for the cache
            return numba.njit(nogil=True, **options)(function)

    return decorate
