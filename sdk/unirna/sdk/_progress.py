"""How far a call of many requests is, on one line of stderr."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Final, Self

PATIENCE: Final = 2.0
"""Seconds before the line is first shown."""
PAUSE: Final = 0.2


class Progress:
    """Counts sequences. Use it as a context; the line is wiped at the end.

    Args:
        total: sequences in all.
        shown: whether to write at all; None to write to a terminal or a notebook alone.
    """

    def __init__(self, total: int, shown: bool | None) -> None:
        self._total, self._done, self._width = total, 0, 0
        self._shown = _watched() if shown is None else shown
        self._start = self._last = time.monotonic()
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """So many more are done."""
        with self._lock:  # several requests end at once
            self._done += count
            self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if not self._shown or now - self._start < PATIENCE or now - self._last < PAUSE:
            return
        self._last = now
        left = (now - self._start) / max(self._done, 1) * (self._total - self._done)
        self._write(f"{self._done:,} of {self._total:,} sequences, {_time(left)} left")

    def _write(self, text: str) -> None:
        print(f"\r{text.ljust(self._width)}", end="", file=sys.stderr, flush=True)
        self._width = len(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._width:
            self._write("")
            print("\r", end="", file=sys.stderr, flush=True)


def _watched() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
