"""Jobs that callers submit: each gets a folder, which is its record, and a cluster runs it. Knows no HTTP and no Ray."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from unirna.job.submitted import note
from unirna.serve.api.job_schemas import EmbedJob, FinetuneJob, ScreenJob
from unirna.serve.errors import RequestError, bad_field, raise_if_full
from unirna.serve.jobs.commands import check_job, command, find_input
from unirna.serve.jobs.inputs import look_at
from unirna.serve.jobs.records import ClusterError, JobRecords, newest_attempt, read_note, submission

IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,200}")
LOOKED_AT: Final = 1_000
"""Newest jobs among which those of a caller are counted."""
FREE_BYTES: Final = 1 << 30
"""That must be left on the disk of the folder for a job to be taken."""


@dataclass(frozen=True)
class Jobs(JobRecords):
    """The jobs of a service. Safe to use from several threads and replicas.

    Attributes:
        max_jobs: of one caller that may wait or run at once; two requests in the same moment may find room for one each.
    """

    max_jobs: int = 20

    def submit(
        self, request: EmbedJob | ScreenJob | FinetuneJob, tasks: list[str], *, by: str = "", key: str | None = None
    ) -> dict[str, Any]:
        """Start a job, or give the one that was started with the same key.

        Args:
            request: what was asked. tasks: predictors that there are.
            by: the caller. key: of the caller's own choosing; the same one starts no second job.

        Raises:
            RequestError: a field that is not valid, an input that the job could not read, or a key that was used for
                another job (422); a file that is not there (404), too many jobs that have not ended (429), an almost full
                disk (507), or a cluster that does not answer (503).
        """
        check_job(request, self.place.registry, tasks)
        given = [("input", request.input)]
        if isinstance(request, ScreenJob) and request.references is not None:
            given.append(("references", request.references))
        found = [find_input(one, self.inputs_folder, field) for field, one in given]
        for (field, _), (kind, value) in zip(given, found, strict=True):
            look_at(request, field, kind, value)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        id = f"{request.kind}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
        if key is not None:
            id = self._reserved(id, by, key, request.model_dump_json())
        if not any((self.folder / id).glob("submitted-*.json")):
            try:
                self._check_room(by)
            except RequestError:
                if key is not None and not (self.folder / id).exists():
                    self._reservation(by, key).unlink(missing_ok=True)
                raise
        if not (self.folder / id).exists():
            self._write(id, request, by, [field for field, _ in given], found)
        self._start(id, _first_attempt(self.folder / id), by)
        return self.get(id)

    def cancel(self, id: str, *, by: str = "") -> dict[str, Any]:
        """Stop a job; one that has ended stays as it is.

        Raises:
            RequestError: no such job (404), or a cluster that does not answer (503).
        """
        folder = self._folder(id)
        attempt = newest_attempt(folder)
        if self.get(id)["state"] in ("pending", "running"):
            mark = folder / f"cancelled-{attempt}.json"
            note(mark, {"by": by})
            try:
                self.cluster.stop(submission(id, attempt))
            except ClusterError as error:
                mark.unlink(missing_ok=True)  # it goes on, and may be stopped later
                raise RequestError(503, f"{error}. Send the same request again") from error
        return self.get(id)

    def resume(self, id: str, *, by: str = "") -> dict[str, Any]:
        """Run the command of a job that failed, was stopped or is lost again: jobs go on where they were.

        Raises:
            RequestError: no such job (404), too many that have not ended (429), an almost full disk (507), or a
                cluster that does not answer (503).
        """
        # Before its state is read: of two requests at once one then finds that it has been done.
        attempt = newest_attempt(self._folder(id))
        job = self.get(id)
        if job["state"] in ("failed", "stopped", "lost"):
            self._check_room(job["by"])
            self._start(id, attempt + 1, by)
        return self.get(id)

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _check_room(self, by: str) -> None:
        """See that a caller may have one more job.

        Raises:
            RequestError: too many of theirs have not ended (429), or the disk of the folder is almost full (507).
        """
        if (left := shutil.disk_usage(self.folder).free) < FREE_BYTES:
            raise RequestError(
                507,
                f"the disk for jobs has {left / 1e6:,.0f} MB left; {FREE_BYTES / 1e6:,.0f} are needed. Whoever runs "
                "this service may remove folders of jobs that have ended, or use a larger disk (--jobs-folder)",
            )
        states, unended = self._states(), list[str]()
        for name in self._names()[:LOOKED_AT]:
            folder = self.folder / name
            ended = (folder / f"ended-{newest_attempt(folder)}.json").exists()
            if ended or (read_note(folder / "job.json") or {}).get("by") != by:
                continue
            with suppress(FileNotFoundError):  # it is being removed
                if any(folder.glob("submitted-*.json")) and self._describe(name, states)["state"] in ("pending", "running"):
                    unended.append(name)
        if len(unended) >= self.max_jobs:
            raise RequestError(
                429,
                f"{len(unended)} of your jobs have not ended; this service takes {self.max_jobs} at once (max_jobs). "
                f"Wait, or cancel one, such as {unended[-1]}",
            )

    def _reserved(self, id: str, by: str, key: str, body: str) -> str:
        """The id that belongs to a caller's key: the one that was given it first."""
        if not IDEMPOTENCY_KEY.fullmatch(key):
            raise bad_field("Idempotency-Key", "expected 1 to 200 visible ASCII characters")
        place = self._reservation(by, key)
        keys = place.parent
        keys.mkdir(exist_ok=True)
        ours = {"id": id, "body": hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()}
        beside = keys / f".{secrets.token_hex(8)}"
        try:
            beside.write_text(json.dumps(ours), encoding="utf-8")
            os.link(beside, place)  # whole or not at all, and one of two at once
        except FileExistsError:
            first: dict[str, str] = json.loads(place.read_text(encoding="utf-8"))
            if first["body"] != ours["body"]:
                raise bad_field(
                    "Idempotency-Key", f"it was already used for another request, which created {first['id']}"
                ) from None
            return first["id"]
        except OSError as error:
            raise_if_full(error)
            raise
        finally:
            beside.unlink(missing_ok=True)
        return id

    def _reservation(self, by: str, key: str) -> Path:
        return self.folder / ".keys" / hashlib.sha256(f"{by}\0{key}".encode()).hexdigest()

    def _write(
        self,
        id: str,
        request: EmbedJob | ScreenJob | FinetuneJob,
        by: str,
        fields: list[str],
        found: list[tuple[str, str | Path]],
    ) -> None:
        """Make a job's folder: beside its place, and renamed."""
        beside, folder = self.folder / f".{id}-{secrets.token_hex(4)}", self.folder / id
        beside.mkdir(mode=0o700)
        paths: list[Path] = []
        described: dict[str, Any] = {}
        for field, (kind, value) in zip(fields, found, strict=True):
            if isinstance(value, Path):
                paths.append(value)
                described[field] = {"kind": kind, "file": getattr(request, field).file}
            else:
                raw = value.encode()
                (beside / f"{field}.{kind}").write_bytes(raw)
                paths.append(folder / f"{field}.{kind}")
                described[field] = {"kind": kind, "bytes": len(raw)}
        facts = {
            "id": id,
            "kind": request.kind,
            "name": request.name,
            "by": by,
            "submitted": datetime.now(UTC).isoformat(timespec="seconds"),
            "parameters": request.parameters.model_dump(),
            **described,
        }
        (beside / "command.json").write_text(json.dumps(command(request, self.place, paths, folder)), encoding="utf-8")
        (beside / "job.json").write_text(json.dumps(facts), encoding="utf-8")
        try:
            beside.rename(folder)
        except OSError:  # the same request came twice at once, and the other was first
            shutil.rmtree(beside)
            if not (folder / "job.json").exists():
                raise

    def _start(self, id: str, attempt: int, by: str) -> None:
        """Hand an attempt over to the cluster, unless that has been done."""
        folder = self.folder / id
        mark = folder / f"submitted-{attempt}.json"
        try:
            with mark.open("x", encoding="utf-8") as file:
                json.dump({"at": datetime.now(UTC).isoformat(timespec="seconds"), "by": by}, file)
        except FileExistsError:
            return
        words = [self.place.python, "-m", "unirna.job.submitted", str(folder), str(attempt)]
        try:
            self.cluster.submit(submission(id, attempt), words)
        except ClusterError as error:
            # The cluster may have taken it all the same: without its mark it does not begin, and the next has a new name.
            mark.rename(folder / f"unsent-{attempt}.json")
            raise RequestError(503, f"{error}. Send the same request again") from error


def _first_attempt(folder: Path) -> int:
    """The number of a job's first attempt that the cluster is to take: those before reached none."""
    return 1 + len(list(folder.glob("unsent-*.json")))
