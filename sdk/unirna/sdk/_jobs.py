"""Jobs of a service: submit them, see how far they are, fetch what they made."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from unirna.sdk._exceptions import InvalidRequestError, ServiceTimeoutError, UniRNAError

POLL_SECONDS: Final = 1.0
ENDED: Final = ("succeeded", "failed", "stopped", "lost")
Records = str | os.PathLike[str] | Mapping[str, str] | Iterable[tuple[str, str]]
"""Sequences: the path of a FASTA or CSV file, or pairs of id and letters."""
Lines = list[str]
Listed = list["Job"]


class JobFailedError(UniRNAError, RuntimeError):
    """A job that ended without success; `job` is what is known of it."""

    job: Job


class Service(Protocol):
    """What jobs need of a client."""

    def call(self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> dict[str, Any]:
        """A request's answer."""

    def save(self, path: str, to: Path) -> None:
        """Write an answer's bytes to a file."""


@dataclass(frozen=True)
class JobFile:
    """A file that a job made.

    Attributes:
        name: by which it is downloaded. bytes: its size.
    """

    name: str
    bytes: int


Files = list[JobFile]


@dataclass(frozen=True)
class Job:
    """A job as it was when it was asked for; `refresh` asks again.

    Attributes:
        id: by which the service knows it. kind: "embed", "screen" or "finetune". name: what you called it.
        by: name of the key that submitted it.
        state: "pending", "running", "succeeded", "failed", "stopped", or "lost" with its cluster.
        message: why it failed, in its own words, or that it is being stopped.
        submitted, started, ended: times in UTC, ISO 8601, None where they are still to come.
        progress: the last line that it said. share: share of its present step that is done, None where it is not known.
        summary: what it says of its work when it has succeeded.
        parameters: as they were submitted.
    """

    id: str
    kind: str
    name: str
    by: str
    state: str
    message: str
    submitted: str
    started: str | None
    ended: str | None
    progress: str
    share: float | None
    summary: Mapping[str, Any] | None = field(repr=False)
    parameters: Mapping[str, Any] = field(repr=False)
    _jobs: Jobs = field(repr=False, compare=False)

    def refresh(self) -> Job:
        """The job as it is now."""
        return self._jobs.get(self.id)

    def wait(self, *, timeout: float | None = None, progress: bool = True) -> Job:
        """Wait until it has succeeded.

        Args:
            timeout: seconds after which to stop waiting; the job goes on.
            progress: say on stderr how far it is.

        Returns:
            The job with its summary.

        Raises:
            JobFailedError: it failed, was stopped, or is lost.
            ServiceTimeoutError: it is still at work.
        """
        end = None if timeout is None else time.monotonic() + timeout
        said, job = "", self.refresh()
        while job.state not in ENDED:
            if end is not None and time.monotonic() >= end:
                raise ServiceTimeoutError(f"{job.id} is still {job.state} after {timeout:g} s, and goes on. Wait again")
            if progress and (line := f"{job.id}  {job.state}  {job.progress}".rstrip()) != said:
                print(line, file=sys.stderr, flush=True)
                said = line
            time.sleep(POLL_SECONDS if end is None else max(0.0, min(POLL_SECONDS, end - time.monotonic())))
            job = job.refresh()
        if job.state != "succeeded":
            error = JobFailedError(f"{job.id} {job.state}" + (f": {job.message}" if job.message else ""))
            error.job = job
            raise error
        return job

    def log(self, lines: int = 100) -> list[str]:
        """The last lines that it said, at most 1,000."""
        return self._jobs.log(self.id, lines)

    def cancel(self) -> Job:
        """Stop it; what it has saved stays."""
        return self._jobs.cancel(self.id)

    def resume(self) -> Job:
        """Go on with it, if it failed, was stopped or is lost."""
        return self._jobs.resume(self.id)

    def results(self) -> list[JobFile]:
        """The files that it made."""
        return self._jobs.results(self.id)

    def download(self, name: str, to: str | os.PathLike[str] = ".") -> Path:
        """Save a file that it made; `to` is a folder, or the file to write."""
        return self._jobs.download(self.id, name, to)


class Jobs:
    """The jobs of a service. A submission carries a key of its own, so that it may be sent again and starts one job."""

    def __init__(self, service: Callable[[], Service]) -> None:
        self._service = service

    def embed(
        self,
        records: Records | None = None,
        *,
        collection: str,
        file: str | None = None,
        name: str = "",
        **parameters: Any,
    ) -> Job:
        """Embed sequences into a collection of the service's store.

        Args:
            records: the path of a FASTA or CSV file, or pairs of id and letters; or instead
            file: the path of a file within the service's folder of inputs.
            collection: made if it is absent, added to if it is there.
            name: what you call the job.
            parameters: further ones, as /docs lists them: drop_labels, level, index, id_column, sequence_column.

        Raises:
            InvalidRequestError: an argument that is not valid; `field` names it.
            AuthenticationError: a key that does not allow it.
            UniRNAError: a service that takes no jobs, or any other failure.
        """
        return self._submit("embed", name, {"collection": collection, **parameters}, {"input": _input(records, file)})

    def screen(
        self,
        library: Records | None = None,
        *,
        similar_to: Records | None = None,
        predict: Sequence[str] = (),
        top: int = 100,
        file: str | None = None,
        name: str = "",
        **parameters: Any,
    ) -> Job:
        """Rank a library by likeness to references and by predicted labels; the report is among the job's results.

        Args:
            library: as the records of `embed`; or instead `file`.
            similar_to: references, as the records of `embed`. predict: labels that are wanted, as "task=label".
            top: length of the shortlist.
            file, name, parameters: as of `embed`.

        Raises:
            UniRNAError: as `embed`.
        """
        given: dict[str, Any] = {"input": _input(library, file)}
        if similar_to is not None:
            given["references"] = _input(similar_to, None)
        return self._submit("screen", name, {"predict": list(predict), "top": top, **parameters}, given)

    def finetune(
        self, table: Records | None = None, *, task: str, file: str | None = None, name: str = "", **parameters: Any
    ) -> Job:
        """Make a predictor from a labelled table.

        Args:
            table: the path of a CSV file with a column of letters; or instead `file`.
            task: name of the predictor.
            file, name: as of `embed`.
            parameters: one of label_column, label_columns and target_column; and further ones, as /docs lists them.

        Raises:
            UniRNAError: as `embed`.
        """
        return self._submit("finetune", name, {"task": task, **parameters}, {"input": _input(table, file)})

    def list(self, limit: int = 50) -> Listed:
        """The newest jobs, newest first, at most 500."""
        answer = self._service().call("GET", f"/v1/jobs?limit={int(limit)}", None, {})
        return [self._job(entry) for entry in answer["jobs"]]

    def get(self, id: str) -> Job:
        """One job.

        Raises:
            NotFoundError: none of that id.
        """
        return self._job(self._service().call("GET", _path(id), None, {}))

    def log(self, id: str, lines: int = 100) -> Lines:
        """See `Job.log`."""
        answer = self._service().call("GET", f"{_path(id)}/log?lines={int(lines)}", None, {})
        return [str(line) for line in answer["lines"]]

    def cancel(self, id: str) -> Job:
        """See `Job.cancel`."""
        return self._job(self._service().call("POST", f"{_path(id)}/cancel", {}, {}))

    def resume(self, id: str) -> Job:
        """See `Job.resume`."""
        return self._job(self._service().call("POST", f"{_path(id)}/resume", {}, {}))

    def results(self, id: str) -> Files:
        """See `Job.results`."""
        answer = self._service().call("GET", f"{_path(id)}/results", None, {})
        return [JobFile(entry["name"], entry["bytes"]) for entry in answer["files"]]

    def download(self, id: str, name: str, to: str | os.PathLike[str] = ".") -> Path:
        """See `Job.download`."""
        target = Path(to)
        if target.is_dir():
            if Path(name).name != name:
                raise InvalidRequestError.of("name", f"wanted the name of a file, got {name!r}")
            target = target / name
        self._service().save(f"{_path(id)}/results/{quote(name, safe='')}", target)
        return target

    def _submit(self, kind: str, name: str, parameters: Mapping[str, Any], given: Mapping[str, Any]) -> Job:
        body = {"kind": kind, "name": name, "parameters": parameters, **given}
        return self._job(self._service().call("POST", "/v1/jobs", body, {"idempotency-key": uuid.uuid4().hex}))

    def _job(self, entry: Mapping[str, Any]) -> Job:
        known = ("id", "kind", "name", "by", "state", "message", "submitted", "started", "ended", "summary", "parameters")
        progress = entry["progress"]
        return Job(**{key: entry[key] for key in known}, progress=progress["text"], share=progress["share"], _jobs=self)


def _path(id: str) -> str:
    return f"/v1/jobs/{quote(id, safe='')}"


def _input(records: Records | None, file: str | None) -> dict[str, str]:
    """The input of a job as the service wants it."""
    if (records is None) == (file is None):
        raise InvalidRequestError("wanted the sequences, or file=… for one of the service's folder of inputs: one of them")
    if file is not None:
        return {"file": file}
    if isinstance(records, (str, os.PathLike)):
        path = Path(records)
        kind = Path(path.stem if path.suffix == ".gz" else path.name).suffix
        if kind in (".parquet", ".tsv", ".fastq", ".fq"):
            raise InvalidRequestError(f"{path}: wanted a FASTA or CSV file; others go into the service's folder of inputs")
        return {"csv" if kind == ".csv" else "fasta": _text(path)}
    pairs = records.items() if isinstance(records, Mapping) else records
    return {"fasta": "".join(f">{name}\n{letters}\n" for name, letters in pairs or ())}


def _text(path: Path) -> str:
    import gzip

    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig", "replace")
    except (OSError, EOFError) as error:
        shown = f"{str(path)[:100]!r} cannot be read ({type(error).__name__})"
        raise InvalidRequestError(f"{shown}: wanted the path of a FASTA or CSV file, or pairs of id and letters") from error
