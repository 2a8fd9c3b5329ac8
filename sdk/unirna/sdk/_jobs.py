"""Jobs of a service: submit them, see how far they are, fetch what they made."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from unirna.sdk import _job_calls
from unirna.sdk._calls import Steps
from unirna.sdk._exceptions import ServiceTimeoutError, UniRNAError
from unirna.sdk._job_calls import Facts, Records

if TYPE_CHECKING:
    from unirna.sdk._client import Client

POLL_SECONDS: Final = 1.0
ENDED: Final = ("succeeded", "failed", "stopped", "lost")
Lines = list[str]
Listed = list["Job"]


class JobFailedError(UniRNAError, RuntimeError):
    """A job that ended without success; `job` is what is known of it."""

    job: JobFacts


class Service(Protocol):
    """What jobs need of the way to a service, besides its answers."""

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
class JobFacts:
    """What is known of a job.

    Attributes:
        id: by which the service knows it. kind: "embed", "screen" or "finetune". name: what you called it.
        by: name of the key that submitted it.
        state: "pending", "running", "succeeded", "failed", "stopped", or "lost" with its cluster.
        message: why it failed, in its own words, or that it is being stopped.
        submitted, started, ended: times in UTC, ISO 8601, None if they are still to come.
        progress: the last line that it said. share: share of its present step that is done, None if it is not known.
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


@dataclass(frozen=True)
class Job(JobFacts):
    """A job as it was when it was asked for; `refresh` asks again."""

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
        steps = waiting(self.id, timeout, progress)
        pause = next(steps)
        try:
            while True:
                time.sleep(pause)
                job = self.refresh()
                pause = steps.send(job)
        except StopIteration:
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

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

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
            records: the path of a FASTA, FASTQ, CSV, TSV or Parquet file, or pairs of identifier and sequence. Format,
                columns and first records are looked at before they are sent. Or instead
            file: the path of a file within the service's folder of inputs.
            collection: made if it is absent, added to if it is there.
            name: what you call the job.
            parameters: further settings, as `unirna jobs submit-embed --help` and /docs list them, such as drop_labels,
                level, index, map, id_column, sequence_column, encoding and column_type.

        Raises:
            InvalidRequestError: an argument that is not valid; `field` names it.
            AuthenticationError: a key that does not allow it.
            UniRNAError: a service that takes no jobs, or any other failure.
        """
        return self._job(_job_calls.embed(records, collection, file, name, parameters))

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
            similar_to: references, as the records of `embed`. predict: target labels, as "task=label".
            top: length of the shortlist.
            file, name, parameters: as of `embed`.

        Raises:
            UniRNAError: as `embed`.
        """
        return self._job(_job_calls.screen(library, similar_to, predict, top, file, name, parameters))

    def finetune(
        self, table: Records | None = None, *, task: str, file: str | None = None, name: str = "", **parameters: Any
    ) -> Job:
        """Make a predictor from a labelled table.

        Args:
            table: the path of a CSV, TSV or Parquet file with a column of sequences; or instead `file`.
            task: name of the predictor.
            file, name: as of `embed`.
            parameters: one of label_column, label_columns and target_column; and further settings, as
                `unirna jobs submit-finetune --help` and /docs list them.

        Raises:
            UniRNAError: as `embed`.
        """
        return self._job(_job_calls.finetune(table, task, file, name, parameters))

    def list(self, limit: int = 50) -> Listed:
        """The newest jobs, newest first, at most 500."""
        return [Job(**facts, _jobs=self) for facts in self._client()._run(_job_calls.listed(limit))]

    def get(self, id: str) -> Job:
        """One job.

        Raises:
            NotFoundError: none of that id.
        """
        return self._job(_job_calls.one(id))

    def log(self, id: str, lines: int = 100) -> Lines:
        """See `Job.log`."""
        return self._client()._run(_job_calls.log(id, lines))

    def cancel(self, id: str) -> Job:
        """See `Job.cancel`."""
        return self._job(_job_calls.one(id, "cancel"))

    def resume(self, id: str) -> Job:
        """See `Job.resume`."""
        return self._job(_job_calls.one(id, "resume"))

    def results(self, id: str) -> Files:
        """See `Job.results`."""
        return [JobFile(**facts) for facts in self._client()._run(_job_calls.results(id))]

    def download(self, id: str, name: str, to: str | os.PathLike[str] = ".") -> Path:
        """See `Job.download`."""
        path, target = _job_calls.download(id, name, to)
        self._client()._transport.service().save(path, target)
        return target

    def _job(self, steps: Steps[Facts]) -> Job:
        return Job(**self._client()._run(steps), _jobs=self)


def waiting(id: str, timeout: float | None, progress: bool) -> Generator[float, JobFacts, None]:
    """Wait until a job has succeeded: yields seconds after which to ask again, is sent the job as it is then, and ends.

    Raises:
        JobFailedError, ServiceTimeoutError: as `Job.wait`.
    """
    end = None if timeout is None else time.monotonic() + timeout
    said, job = "", (yield 0.0)
    while job.state not in ENDED:
        if end is not None and time.monotonic() >= end:
            raise ServiceTimeoutError(f"{id} is still {job.state} after {timeout:g} s, and goes on. Wait again")
        if progress and (line := f"{id}  {job.state}  {job.progress}".rstrip()) != said:
            print(line, file=sys.stderr, flush=True)
            said = line
        job = yield POLL_SECONDS if end is None else max(0.0, min(POLL_SECONDS, end - time.monotonic()))
    if job.state != "succeeded":
        error = JobFailedError(f"{id} {job.state}" + (f": {job.message}" if job.message else ""))
        error.job = job
        raise error
