"""Console commands: `--version`, and an end without a trace where the reader of a pipe has gone."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable
from importlib import metadata
from typing import IO

GONE = 141
"""Exit code of a command whose output nobody reads any more: that of a program which SIGPIPE ends."""


def command(main: Callable[[], int]) -> int:
    """Run a command's main function and give its exit code; `--version` is answered here.

    Args:
        main: parses `sys.argv` and returns the exit code, or raises SystemExit.

    Returns:
        The exit code, 141 where the reader of its output has gone (`… --help | head -1`).
    """
    open_closed_streams()
    speak_utf8()
    try:
        if sys.argv[1:2] in (["--version"], ["-V"]):
            print(f"unirna {metadata.version('unirna')}")
            code = 0
        else:
            code = _code_of(main)
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        if not reader_gone():
            raise
        code = GONE
    _silence()
    return code


def open_closed_streams() -> None:
    """Open standard streams that came closed (`… >&-`) on nothing: the next file opened would take their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = ("stdin", "stdout", "stderr").index(name)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def speak_utf8() -> None:
    """Write UTF-8 to standard output and error, whatever the locale; a name that is not text is written as it came."""
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(encoding="utf-8", errors=errors)


def reader_gone() -> bool:
    """Whether nobody reads standard output, or standard error, any more."""
    return any(_closed(stream) for stream in (sys.stdout, sys.stderr))


def _code_of(main: Callable[[], int]) -> int:
    try:
        return main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _closed(stream: IO[str] | None) -> bool:
    try:
        if stream is None or not hasattr(select, "poll"):
            return False
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):  # it has no file, as under pytest
        return False


def _silence() -> None:
    """Let what is left in the buffers go nowhere, so that the interpreter's end has nothing to say."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if _closed(stream):
            os.dup2(nowhere, stream.fileno())
