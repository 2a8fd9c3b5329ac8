"""The folder of a run: which settings it belongs to, and who writes into it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import pyarrow.fs

from unirna.base.failures import JobError
from unirna.runs.storage import Folder

SETTINGS: Final = "job.json"
FILES: Final = "files"
"""The setting that lists the input files by their contents, each with its `path`."""
WITHOUT_LOCKS: Final = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of file systems that have no locks: there nothing is guaranteed."""
LEASES: Final = ".owners"
LEASE_SECONDS: Final = 60.0
"""How long a lease is valid. Its owner renews it three times as often."""
SETTLE_SECONDS: Final = 2.0
"""Longer than any one request to the store takes."""
SHOWN: Final = 80
"""Characters of a setting that a message shows."""


# ---- settings ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunFolder(Folder):
    """A folder that belongs to one set of settings, which stand in its `job.json`."""

    def claim(self, settings: Mapping[str, Any], *, finished: bool, start_over: Callable[[], None]) -> str:
        """Write the settings, or see that the run there has the same ones.

        Args:
            settings: all that decides the results, as JSON values.
            finished: whether the run there is finished.
            start_over: removes what a run wrote. It is called for one that was cut short and whose input has changed.

        Returns:
            The path of the input that changed, empty if none did.

        Raises:
            JobError: the folder holds a run with other settings, which are named, or a finished one of other input.
        """
        now = json.loads(json.dumps(settings))
        before = self.read_json(SETTINGS) if self.has(SETTINGS) else None
        differ = differing(before, now) if before is not None else []
        path = changed_file(before.get(FILES, []), now.get(FILES, [])) if before is not None else None
        if before is not None and differ and (finished or path is None or differ != [FILES]):
            other = f"an earlier content of {path}" if path else f"another command ({told(before, now, differ)})"
            raise JobError(f"{self.uri} holds the results of {other}: give another folder, or remove it")
        if differ:
            start_over()
        if differ or before is None:
            self.write_json(SETTINGS, now)
        return path or ""

    def clear(self) -> None:
        """Remove the folder; `job.json` goes first, so what a kill leaves is known to be no run (`tidy`)."""
        self.remove(SETTINGS)
        self.remove()

    def tidy(self) -> None:
        """Remove what a run that was killed in `clear`, or a worker that outlived its run, has left."""
        filesystem, path = self.at()
        there = filesystem.get_file_info(path).type == pyarrow.fs.FileType.Directory
        if there and not self.has(SETTINGS):
            self.remove()


def differing(before: Mapping[str, Any], now: Mapping[str, Any], free: Collection[str] = ()) -> list[str]:
    """Names of the settings, but those in `free`, that are others than before."""
    return [name for name in now if name not in free and now[name] != before.get(name)]


def told(before: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str]) -> str:
    """What differs, in words."""

    def short(value: object) -> str:
        text = repr(value)
        return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"

    return "; ".join(f"{name} was {short(before.get(name))}, is now {short(now[name])}" for name in names)


def changed_file(before: Iterable[dict[str, Any]], now: Iterable[dict[str, Any]]) -> str | None:
    """The first of the files of both runs whose content is another than before; None if there is none."""
    then = {entry["path"]: entry for entry in before}
    return next((entry["path"] for entry in now if then.get(entry["path"], entry) != entry), None)


# ---- ownership -----------------------------------------------------------------------------------------------------


@contextmanager
def owned(folder: Folder) -> Iterator[None]:
    """Own a folder for a block: no other process that asks does at the same time.

    On a disk the owner holds a lock (`flock`) on `.lock`, which ends with its process; a file system without locks
    guarantees nothing. In object storage it holds a lease, an object in `.owners/` with its id and the time until which it
    is valid, by this rule:

    1. Where there is a valid lease of another, the folder is taken.
    2. Write a lease, wait `SETTLE_SECONDS`, and look again. A lease that is marked as held wins, else the one with the
       least id. The others are removed by those who wrote them.
    3. Mark the own lease as held, and renew it until the block ends. Then remove it.

    So two processes never both own the folder, as long as each request takes less than `SETTLE_SECONDS`, the clocks agree
    to within a third of `LEASE_SECONDS`, and the owner reaches the store once in that time. An owner that is killed, or
    cannot renew, loses the folder after `LEASE_SECONDS`; it is not told. Arrow's file systems have no conditional put,
    which would need no waiting.

    Raises:
        JobError: another process owns the folder.
    """
    filesystem, path = folder.at()
    local = isinstance(filesystem, pyarrow.fs.LocalFileSystem)
    with _locked(folder, Path(path) / ".lock") if local else _leased(folder):
        yield


@contextmanager
def _locked(folder: Folder, path: Path) -> Iterator[None]:
    """Hold a lock on a file, which is there as long as it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise _taken(folder) from error
        if not _is_at(lock, path):  # another owner has just removed it
            raise _taken(folder)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _taken(folder: Folder) -> JobError:
    return JobError(f"another run is writing to {folder.uri}: wait until it ends, or give another folder")


@contextmanager
def _leased(folder: Folder) -> Iterator[None]:
    """Hold a lease, as `owned` says."""
    own, ended = uuid.uuid4().hex, threading.Event()

    def write(held: bool) -> None:
        folder.write_json(f"{LEASES}/{own}.json", {"held": held, "until": time.time() + LEASE_SECONDS})

    def renew() -> None:
        while not ended.wait(LEASE_SECONDS / 3):
            with suppress(OSError):  # the next time may go well
                write(held=True)

    if _leases(folder):
        raise _taken(folder)
    renewing = threading.Thread(target=renew, daemon=True)
    write(held=False)
    try:
        time.sleep(SETTLE_SECONDS)
        if any(held or other < own for other, held in _leases(folder).items() if other != own):
            raise _taken(folder)
        write(held=True)
        renewing.start()
        yield
    finally:
        ended.set()
        if renewing.ident is not None:
            renewing.join()
        folder.remove(f"{LEASES}/{own}.json")


def _leases(folder: Folder) -> dict[str, bool]:
    """The valid leases: id, and whether it is marked as held."""
    found = {}
    for name in folder.names(LEASES, "json"):
        with suppress(FileNotFoundError):  # it was removed just now
            lease = folder.read_json(f"{LEASES}/{name}.json")
            if lease["until"] > time.time():
                found[name] = bool(lease["held"])
    return found
