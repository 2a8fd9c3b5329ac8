"""Messages that Ray writes to standard error and that are false alarms for what we do are left out; all else passes."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Final

FALSE_ALARMS: Final = (
    # Of every pool of actors: their arguments are held by this process for as long as they run, so none goes out of scope.
    b"has constructor arguments in the object store and max_restarts > 0",
)


def leave_out_false_alarms() -> None:
    """Have what Ray's own code writes to this process's standard error go through a filter, from now on; once.

    Python's `sys.stderr` writes past it, to where standard error went before. Nothing is done where something else has
    taken `sys.stderr`'s place, as a notebook or pytest does.
    """
    if sys.stderr is not sys.__stderr__ or sys.stderr is None or sys.stderr.fileno() != 2:
        return
    sys.stderr.flush()
    before = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    sys.stderr = open(before, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")  # noqa: PTH123, SIM115
    thread = threading.Thread(target=_pass_on, args=(reading, before), name="stderr", daemon=True)
    thread.start()

    def restore() -> None:
        os.dup2(before, 2)  # closes the pipe's last end here, so that the thread comes to its end
        thread.join(1)

    atexit.register(restore)


def _pass_on(reading: int, to: int) -> None:
    held = b""
    while chunk := os.read(reading, 1 << 16):
        *lines, held = (held + chunk).split(b"\n")
        kept = b"".join(line + b"\n" for line in lines if not any(text in line for text in FALSE_ALARMS))
        if not held.startswith(b"["):  # no line of Ray's log: it need not be whole
            kept, held = kept + held, b""
        if kept:
            _write(to, kept)
    if held:
        _write(to, held)


def _write(to: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(to, data) :]
    except OSError:  # nobody reads any more
        pass
