"""Which process this is: what a client holds open does not survive a fork."""

from __future__ import annotations

import os

_forks = 0
"""Forks between the process that imported this module and this one: a process number alone may come again."""


def process_key() -> tuple[int, int]:
    """A key of this process that no process has from which it was forked."""
    return os.getpid(), _forks


def _count() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count)
