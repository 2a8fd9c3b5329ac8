"""A run that is asked to stop: SIGTERM makes a file in its folder, and the workers, wherever they are, look for it.

So the request reaches them the same way in one process, under torchrun, and from the driver of a Ray job, which alone gets
the signal. They finish the step, write a checkpoint and leave.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def stop_requested(run: Path) -> bool:
    """Whether the run has been asked to stop."""
    return (run / "stop").exists()


def clear_stop(run: Path) -> None:
    """Forget a request, as at the start of a job."""
    (run / "stop").unlink(missing_ok=True)


@contextmanager
def stop_on_sigterm(run: Path) -> Iterator[None]:
    """While the body runs, SIGTERM asks the run to stop. Outside the main thread, where Python forbids it, nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: (run / "stop").touch())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
