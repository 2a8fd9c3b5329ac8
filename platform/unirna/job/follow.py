"""Following what workers write, on any machine that shares the folder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def followed(look: Callable[[], None], every: float = 0.5) -> Iterator[None]:
    """Call `look` while the body runs, every so many seconds, and once more at its end."""
    stop = threading.Event()

    def follow() -> None:
        last = False
        while not last:
            last = stop.wait(every)
            look()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
