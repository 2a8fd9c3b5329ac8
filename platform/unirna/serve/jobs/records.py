"""What there is to know of jobs, read from their folders and from the cluster that runs them. Changes nothing.

A job's folder holds `job.json` (what was asked, by whom, when), its inputs, `command.json`, `log.txt`, `summary.json` and
`results/`; and for each attempt when it was submitted, started, cancelled and ended (`unirna.job.submitted`). All replicas
read the same folder, so any of them may be asked.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from unirna.serve.api.job_schemas import KINDS
from unirna.serve.errors import bad_field
from unirna.serve.jobs.commands import JobEnvironment
from unirna.serve.jobs.inputs import neutral

ID: Final = re.compile(rf"({'|'.join(KINDS)})-[0-9]{{8}}-[0-9]{{6}}-[0-9a-f]{{8}}")
LOG_BYTES: Final = 1 << 18
"""The end of a log that is read for its reader, and"""
LAST_BYTES: Final = 1 << 14
"""for the state of its job, which is asked for all the time."""
OWN_FILES: Final = ("screen.json",)
"""Of the results, what a job keeps for itself: it names folders of this service, and the job's summary says the same."""
LINE: Final = 1_000
"""Characters of a line of the log that are shown."""
ALIVE_SECONDS: Final = 30.0
"""How long after its last sign of life a job counts as running although this cluster does not know it."""
GRACE_SECONDS: Final = 60.0
"""How long a job that the cluster does not know yet counts as pending."""
PROGRESS: Final = re.compile(r".+?  +(\d{1,3})%  [\d,]+/[\d,]+ ")
OF_RAY: Final = re.compile(
    r"\*{3} |PC: @|\s*@ |\[\d{4}-\d\d-\d\d [\d:,]+ [A-Z] |\d{4}-\d\d-\d\d [\d:,]+\s+[A-Z]+ |\(\S.* pid=\d+"
)
"""Lines that Ray writes into a job's log; they tell nothing of its progress."""


class ClusterError(RuntimeError):
    """A cluster that cannot be asked now."""


class Cluster(Protocol):
    """What runs the jobs."""

    def submit(self, id: str, words: list[str]) -> None:
        """Start a command, or do nothing if that id is known.

        Raises:
            ClusterError: it cannot.
        """

    def stop(self, id: str) -> None:
        """Ask a command to stop; nothing if it has ended or is not known."""

    def states(self) -> Mapping[str, tuple[str, str]]:
        """State (pending, running, succeeded, failed, stopped) and message of every command that is known."""


@dataclass(frozen=True)
class JobRecords:
    """The records of the jobs of a service.

    Attributes:
        folder: of all jobs. inputs_folder: that requests may name files of, may be empty.
        place: where commands work. cluster: runs them.
    """

    folder: Path
    inputs_folder: str
    place: JobEnvironment
    cluster: Cluster

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """The newest jobs, newest first."""
        states = self._states()
        found = []
        for name in self._names()[:limit]:
            with suppress(FileNotFoundError):  # it is being removed
                if not any((self.folder / name).glob("submitted-*.json")):
                    continue  # no cluster has it
                found.append(self._describe(name, states))
        return found

    def get(self, id: str) -> dict[str, Any]:
        """One job.

        Raises:
            RequestError: no such job (404).
        """
        self._folder(id)
        states = self._states()
        try:
            return self._describe(id, states)
        except FileNotFoundError as error:  # it is being removed
            raise bad_field("id", f"no job {id[:100]!r}", 404) from error

    def log(self, id: str, lines: int) -> list[str]:
        """The last lines that a job said, without control characters and the folders of this service.

        Raises:
            RequestError: no such job (404).
        """
        return self._log(self._folder(id))[-lines:]

    def results(self, id: str) -> list[dict[str, Any]]:
        """Name and bytes of each file that a job made, by name.

        Raises:
            RequestError: no such job (404).
        """
        return [{"name": path.name, "bytes": path.stat().st_size} for path in sorted(self._files(self._folder(id)))]

    def result(self, id: str, name: str) -> Path:
        """A file that `results` lists.

        Raises:
            RequestError: no such job or file (404).
        """
        for path in self._files(self._folder(id)):
            if path.name == name:  # never a path: only names that are listed are opened
                return path
        raise bad_field("name", f"no file {name[:200]!r} among the results of {id}", 404)

    def hidden(self, text: str) -> str:
        """Text without the folders of this service, which are nobody's business."""
        place = self.place
        for folder in (str(self.folder), self.inputs_folder, str(place.scripts)):
            if folder:
                text = text.replace(f"{Path(folder).resolve()!s}/", "").replace(f"{folder}/", "")
        for folder, name in ((place.store, "store"), (place.registry, "registry"), (place.model, "model")):
            if "/" in folder:
                text = text.replace(folder, name)
        return text

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _folder(self, id: str) -> Path:
        if not ID.fullmatch(id) or not (self.folder / id / "job.json").is_file():
            raise bad_field("id", f"no job {id[:100]!r}", 404)
        return self.folder / id

    def _files(self, folder: Path) -> Iterator[Path]:
        for path in (folder / "results").glob("[!.]*"):
            if path.is_file() and not path.is_symlink() and path.name not in OWN_FILES:
                yield path

    def _names(self) -> list[str]:
        """Ids of the jobs, newest first."""
        there = [path.parent.name for path in self.folder.glob("*-*-*-*/job.json") if ID.fullmatch(path.parent.name)]
        return sorted(there, key=lambda name: name.partition("-")[2], reverse=True)

    def _states(self) -> Mapping[str, tuple[str, str]] | None:
        try:
            return self.cluster.states()
        except ClusterError:
            return None

    def _describe(self, id: str, states: Mapping[str, tuple[str, str]] | None) -> dict[str, Any]:
        folder = self.folder / id
        facts = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        attempt = newest_attempt(folder)
        submitted, started, ended, cancelled = (
            read_note(folder / f"{what}-{attempt}.json") for what in ("submitted", "started", "ended", "cancelled")
        )
        lines = [] if started is None else self._log(folder, int(started["log_from"]), LAST_BYTES)
        alive = _seconds_since(folder / f"alive-{attempt}") < ALIVE_SECONDS
        state, message = _state(submitted, started, ended, cancelled, states, submission(id, attempt), alive)
        if state == "failed":
            errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
            message = neutral(errors[-1]) if errors else self.hidden(message)
        text = next((line for line in reversed(lines) if not OF_RAY.match(line)), "")
        share = PROGRESS.match(text)
        return {
            "id": id,
            "kind": facts["kind"],
            "name": facts["name"],
            "by": facts["by"],
            "state": state,
            "message": message,
            "submitted": facts["submitted"],
            "started": started and started["at"],
            "ended": ended and ended["at"],
            "progress": {"text": text, "share": int(share[1]) / 100 if share and state == "running" else None},
            "summary": self._summary(folder) if state == "succeeded" else None,
            "parameters": facts["parameters"],
            "input": {field: facts[field] for field in ("input", "references") if field in facts},
        }

    def _summary(self, folder: Path) -> dict[str, Any] | None:
        lines = (folder / "summary.json").read_text(encoding="utf-8").splitlines()
        try:
            found = json.loads(self.hidden(lines[-1]))
        except (IndexError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _log(self, folder: Path, start: int = 0, most: int = LOG_BYTES) -> list[str]:
        try:
            with (folder / "log.txt").open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                cut = size - most > start
                file.seek(max(start, size - most))
                raw = file.read(most)
        except FileNotFoundError:
            return []
        lines = self.hidden(raw.decode("utf-8", "replace")).split("\n")
        shown = ("".join(c if c.isprintable() else " " for c in line).rstrip()[:LINE] for line in lines[int(cut) :])
        return [line for line in shown if line]


def newest_attempt(folder: Path) -> int:
    """The number of the newest attempt, from 1."""
    return max((int(path.stem.partition("-")[2]) for path in folder.glob("submitted-*.json")), default=1)


def submission(id: str, attempt: int) -> str:
    """By what the cluster knows an attempt; it takes no name twice."""
    return id if attempt == 1 else f"{id}.{attempt}"


def _seconds_since(path: Path) -> float:
    """How long ago a file was written; without end where there is none."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return math.inf


def read_note(path: Path) -> dict[str, Any] | None:
    """What a file of a job's folder says; None if there is none, or it is being written."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found


def _state(
    submitted: dict[str, Any] | None,
    started: dict[str, Any] | None,
    ended: dict[str, Any] | None,
    cancelled: dict[str, Any] | None,
    states: Mapping[str, tuple[str, str]] | None,
    name: str,
    alive: bool,
) -> tuple[str, str]:
    """State and message of an attempt: what its folder says, then what the cluster says."""
    if ended is not None:
        code = int(ended["code"])
        if code == 0:
            return "succeeded", ""
        if cancelled is not None:
            return "stopped", ""
        died = f"it was ended by signal {-code}; 9 often means that the memory was full" if code < 0 else ""
        return "failed", died or f"it ended with exit code {code}; its log says more"
    if cancelled is not None and started is None:
        return "stopped", ""
    waiting = ("pending", "") if started is None else ("running", "" if cancelled is None else "it is being stopped")
    if states is None:  # the cluster cannot be asked: what is known stands
        return waiting
    if name not in states and alive:  # on the cluster of another service over this folder
        return waiting
    if name not in states:
        age = datetime.now(UTC) - datetime.fromisoformat(submitted["at"]) if submitted else None
        if age is None or (age.total_seconds() < GRACE_SECONDS and started is None):
            return "pending", ""
        if cancelled is not None:
            return "stopped", ""
        return "lost", "the cluster that ran it is gone. Resume it: it goes on where it was"
    state, message = states[name]
    if state == "stopped" or (state == "failed" and cancelled is not None):
        return "stopped", ""
    return ("failed", message) if state == "failed" else waiting
