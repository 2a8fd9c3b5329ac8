"""Progress, the summary line and exit codes of a job. Progress goes to stderr; stdout carries one JSON line."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

from unirna.base.command import reader_gone
from unirna.base.failures import JobError, is_io_failure

EXIT_CODES: Final[Mapping[int, str]] = {
    0: "done; the summary is on stdout",
    1: "an unexpected error; run the same command again to go on",
    2: "wrong usage or input that cannot be read; the message names it",
    74: "a disk is full, or a store or an input cannot be reached; fix it and run the same command again to go on",
    75: "stopped on request (SIGTERM) with its work saved; run the same command again to go on",
    130: "interrupted; run the same command again to go on",
}


class JobStopped(Exception):  # noqa: N818 - it is no error
    """A job that was asked to stop, saved its work and can go on."""


def say(message: str) -> None:
    """Print one line to stderr."""
    print(message, file=sys.stderr, flush=True)


def emit_summary(summary: Mapping[str, Any]) -> None:
    """Print a job's summary as the one JSON line on stdout."""
    print(json.dumps(summary, sort_keys=False, default=str), flush=True)


def run_job(job: Callable[[], Mapping[str, Any]]) -> int:
    """Run a job's main function, print its summary, and give the exit code (`EXIT_CODES`).

    Errors that the user can fix are shown as one line: a `ValueError`, a `JobError`, a path that is missing, taken or not
    allowed, a disk or store that fails. Any other error is shown with its traceback.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Ray prints what its workers say to standard output
            summary = job()
        emit_summary(summary)
        return 0
    except KeyboardInterrupt:
        say("interrupted. Run the same command again to go on")
        return 130
    except JobStopped as stopped:
        say(f"{stopped}. Run the same command again to go on")
        return 75
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        say(f"error: {error.filename or error}: a file where a folder is expected, or the reverse. Give another path")
        return 2
    except (FileNotFoundError, PermissionError) as error:
        say(f"error: {_in_words(error)}")
        return 2
    except (ValueError, JobError) as error:
        say(f"error: {error}")
        return 2
    except Exception as error:
        if isinstance(error, BrokenPipeError) and reader_gone():
            raise  # `unirna.base.command` ends it: nobody reads what it says
        cause = _known_cause(error)
        if isinstance(cause, (ValueError, JobError)):
            say(f"error: {cause}")
            return 2
        if cause is not None and is_outage(cause):
            text = " ".join(str(cause).split())
            say(f"error: {text}. {_remedy(text)}, then run the same command again: it goes on with what is saved")
            return 74
        if cause is not None:
            say(f"error: {_in_words(cause)}")
            return 2
        traceback.print_exc()
        say("error: unexpected, see above. Run the same command again to go on")
        return 1


WRONG_PATHS: Final = (errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.EROFS, errno.ENOTEMPTY, errno.EXDEV)
"""Errors of the operating system that a retry does not fix: the path itself is the problem, and the message says why."""


def is_outage(error: BaseException) -> bool:
    """Whether the same command can go on later: the disk is full, or something cannot be reached."""
    return is_io_failure(error) and getattr(error, "errno", None) not in WRONG_PATHS


def _in_words(error: BaseException) -> str:
    """An error of the operating system by its file, what is wrong with it and the way out; others as they are."""
    if not isinstance(error, OSError) or not error.filename or not error.strerror:
        return " ".join(str(error).split())
    refused = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
    return f"{error.filename}: {error.strerror}" + (". Give another path, or change its mode" if refused else "")


def _remedy(text: str) -> str:
    full = ("No space left", "StorageFull", "Disk quota exceeded", "disk full")
    if any(words.lower() in text.lower() for words in full):
        return "The disk is full: make room"
    return "See that the store and the input can be reached and that there is room"


def _known_cause(error: BaseException) -> BaseException | None:
    """The user's mistake, or a disk or store that failed, inside an error that Ray may have wrapped, if there is one."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            return None
        if (is_io_failure(seen) or isinstance(seen, (ValueError, JobError))) and not type(seen).__module__.startswith(
            "ray."
        ):
            # Ray re-raises a task's error as a class made on the fly from its own and the original.
            cause = getattr(seen, "cause", None)
            return cause if isinstance(cause, BaseException) else seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None


class Progress:
    """A progress line with rate and time left: a bar on a terminal, a line every ten seconds (`UNIRNA_PROGRESS_SECONDS`)
    elsewhere.

    Args:
        what: the step's name.
        total: how much there is to do, None if unknown.
        unit: what is counted.
    """

    def __init__(self, what: str, total: float | None, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0.0
        self._start = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._every = 0.2 if self._terminal else float(os.environ.get("UNIRNA_PROGRESS_SECONDS") or 10)
        self._first: float | None = None

    def update(self, done: float, note: str = "") -> None:
        """Say that `done` units are finished; `note` is added to the line."""
        if self._first is None:
            self._first = done  # work of an earlier run does not count towards the rate
        self.done = done
        now = time.monotonic()
        if self.total and done >= self.total:
            return  # `close` says so
        if now - self._shown >= self._every:
            self._shown = now
            self._print(note)

    def add(self, units: float) -> None:
        """Say that `units` more are finished; first those of an earlier run, if there are any."""
        self.update(self.done + units)

    def close(self, note: str = "") -> None:
        """Print the last state and end the line."""
        self._print(note, end="\n")

    def _print(self, note: str, end: str = "") -> None:
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = (self.done - (self._first or 0.0)) / seconds
        text = f"{self.what}  {self.done:,.0f}"
        if self.total:
            share = min(self.done / self.total, 1.0)
            left = (self.total - self.done) / rate if rate > 0 else float("inf")
            bar = "█" * round(20 * share) + "░" * (20 - round(20 * share)) if self._terminal else f"{int(100 * share):3}%"
            text = f"{self.what}  {bar}  {self.done:,.0f}/{self.total:,.0f}"
            note = f"{note}  left {_clock(left)}" if share < 1 else f"{note}  took {_clock(seconds)}"
        text += f" {self.unit}  {rate:,.0f}/s  {note}".rstrip()
        print(
            f"\r\x1b[K{text}" if self._terminal else text, file=sys.stderr, end=end if self._terminal else "\n", flush=True
        )


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
