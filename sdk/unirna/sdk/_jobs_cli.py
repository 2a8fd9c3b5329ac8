"""`unirna jobs …`: submit jobs to a service, see how far they are, stop them, fetch what they made."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import tyro

from unirna.base.job_settings import EmbedConfig, FinetuneSettings, ScreenConfig, shared_settings
from unirna.sdk._connect import TIMEOUT, connect
from unirna.sdk._job_inputs import RejectedRecordWarning
from unirna.sdk._jobs import Job, Jobs
from unirna.sdk._output import Output, say

Id = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ID")]


@dataclass(frozen=True)
class At:
    """The service that runs the jobs."""

    url: str = ""
    """Address of the service; by default UNIRNA_URL, else http://127.0.0.1:8000."""
    timeout: float = TIMEOUT
    """Seconds to wait for an answer."""

    def jobs(self) -> Jobs:
        """Its jobs."""
        return connect(self.url or None, timeout=self.timeout).jobs


@dataclass(frozen=True)
class OfService:
    """Options of every command."""

    at: tyro.conf.OmitArgPrefixes[At] = field(default_factory=At, kw_only=True)


@dataclass(frozen=True)
class List(OfService):
    """List the newest jobs, newest first."""

    limit: int = 50
    """Maximum number of jobs."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    def run(self) -> None:
        """List them."""
        rows = [
            {
                "id": job.id,
                "name": job.name,
                "by": job.by,
                "state": job.state,
                "submitted": job.submitted,
                "progress": job.message or job.progress,
            }
            for job in self.at.jobs().list(self.limit)
        ]
        self.output.show(rows, columns=("id", "name", "by", "state", "submitted", "progress"))


@dataclass(frozen=True)
class Show(OfService):
    """Show all details of a job."""

    id: Id
    """The job."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        """Show it."""
        _show(self.at.jobs().get(self.id), self.json)


@dataclass(frozen=True)
class Wait(OfService):
    """Wait until a job has ended, with its progress on stderr. Exit code 1 if it failed."""

    id: Id
    """The job."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        """Wait."""
        _show(self.at.jobs().get(self.id).wait(), self.json)


@dataclass(frozen=True)
class Log(OfService):
    """Print the last lines of a job's log."""

    id: Id
    """The job."""
    lines: int = 100
    """Number of lines, at most 1,000."""

    def run(self) -> None:
        """Print them."""
        for line in self.at.jobs().log(self.id, self.lines):
            print(line)


@dataclass(frozen=True)
class Cancel(OfService):
    """Stop a job; its saved work is kept."""

    id: Id
    """The job."""

    def run(self) -> None:
        """Stop it."""
        job = self.at.jobs().cancel(self.id)
        say(f"{job.id} is {job.state}" + (", and is being stopped" if job.state == "running" else ""))


@dataclass(frozen=True)
class Resume(OfService):
    """Resume a job that failed, was stopped or is lost."""

    id: Id
    """The job."""

    def run(self) -> None:
        """Go on."""
        job = self.at.jobs().resume(self.id)
        say(f"{job.id} is {job.state}")


@dataclass(frozen=True)
class Results(OfService):
    """List the result files of a job."""

    id: Id
    """The job."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    def run(self) -> None:
        """List them."""
        self.output.show([{"name": file.name, "bytes": file.bytes} for file in self.at.jobs().results(self.id)])


@dataclass(frozen=True)
class Download(OfService):
    """Download the result files of a job."""

    id: Id
    """The job."""
    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME")] = ()
    """Names of the files; by default all."""
    to: Path = Path()
    """Folder to save them in."""

    def run(self) -> None:
        """Save them."""
        jobs = self.at.jobs()
        self.to.mkdir(parents=True, exist_ok=True)
        for name in self.names or [file.name for file in jobs.results(self.id)]:
            print(jobs.download(self.id, name, self.to))


@dataclass(frozen=True)
class Submission(OfService):
    """Options of every submission."""

    file: str = field(default="", kw_only=True)
    """A file in the service's folder of inputs, by its path within it, instead of an upload."""
    name: str = field(default="", kw_only=True)
    """Your name for the job."""
    wait: bool = field(default=False, kw_only=True)
    """Wait until it has ended, with its progress on stderr."""

    def settings(self) -> dict[str, Any]:
        """The settings of the job: the fields that its class has (`_with_settings`)."""
        own = {one.name for kind in type(self).__mro__[1:] if is_dataclass(kind) for one in fields(kind)}
        given = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in own}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

    def submit(self, kind: Literal["embed", "screen", "finetune"], given: str, **parameters: Any) -> None:
        """Submit it, and print its id or wait; what it will reject is said on stderr."""
        with warnings.catch_warnings(record=True) as rejected:
            warnings.simplefilter("always", RejectedRecordWarning)
            job = getattr(self.at.jobs(), kind)(
                given or None,
                file=self.file or None,
                name=self.name,
                **self.settings(),
                **parameters,
            )
        for warning in rejected:
            say(f"note: {warning.message}")
        if self.wait:
            _show(job.wait(), as_json=True)
        else:
            say(f"{job.kind} job is {job.state}. How far it is: unirna jobs show {job.id}")
            print(job.id)


S = TypeVar("S", bound=Submission)


def _with_settings(settings: type, required: str = "") -> Callable[[type[S]], type[S]]:
    """Give a submission the settings of a job's class that make sense over HTTP, as flags with the class's texts."""
    chosen: list[Any] = []
    for name, (kind, default, text) in shared_settings(settings).items():
        default = MISSING if name == required else default
        flag: Any = Annotated[kind, tyro.conf.arg(help=text)]  # made at run time
        chosen.append((name, flag, field(kw_only=True) if default is MISSING else field(default=default, kw_only=True)))

    def derive(command: type[S]) -> type[S]:
        made = make_dataclass(command.__name__, chosen, bases=(command,), frozen=True)
        made.__doc__ = command.__doc__
        return made

    return derive


@_with_settings(EmbedConfig)
@dataclass(frozen=True)
class SubmitEmbed(Submission):
    """Embed sequences into a collection of the service's store."""

    sequences: tyro.conf.Positional[str] = ""
    """A FASTA, FASTQ, CSV, TSV or Parquet file; or - for FASTA or FASTQ on standard input."""

    def run(self) -> None:
        """Submit it."""
        self.submit("embed", self.sequences)


@_with_settings(ScreenConfig)
@dataclass(frozen=True)
class SubmitScreen(Submission):
    """Rank a library; the report is among the results."""

    library: tyro.conf.Positional[str] = ""
    """A FASTA, FASTQ, CSV, TSV or Parquet file; or - for FASTA or FASTQ on standard input."""
    similar_to: str = ""
    """A file of references."""

    def run(self) -> None:
        """Submit it."""
        self.submit("screen", self.library, similar_to=self.similar_to or None)


@_with_settings(FinetuneSettings, required="task")
@dataclass(frozen=True)
class SubmitFinetune(Submission):
    """Train a predictor on a labelled table."""

    table: tyro.conf.Positional[str] = ""
    """A CSV, TSV or Parquet file with a column of sequences."""

    def run(self) -> None:
        """Submit it."""
        self.submit("finetune", self.table)


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Wait, tyro.conf.subcommand("wait")]
    | Annotated[Log, tyro.conf.subcommand("log")]
    | Annotated[Cancel, tyro.conf.subcommand("cancel")]
    | Annotated[Resume, tyro.conf.subcommand("resume")]
    | Annotated[Results, tyro.conf.subcommand("results")]
    | Annotated[Download, tyro.conf.subcommand("download")]
    | Annotated[SubmitEmbed, tyro.conf.subcommand("submit-embed")]
    | Annotated[SubmitScreen, tyro.conf.subcommand("submit-screen")]
    | Annotated[SubmitFinetune, tyro.conf.subcommand("submit-finetune")]
)
ACTIONS = tuple(get_args(part)[1].name for part in get_args(Command))


@dataclass(frozen=True)
class JobsCommand:
    """Submit jobs to a service, follow their progress, and download their results."""

    action: tyro.conf.OmitSubcommandPrefixes[Command]

    def run(self) -> None:
        """Do it."""
        self.action.run()


def _show(job: Job, as_json: bool) -> None:
    facts: dict[str, Any] = {
        name: getattr(job, name)
        for name in ("id", "kind", "name", "by", "state", "message", "submitted", "started", "ended", "progress", "share")
    }
    facts |= {"parameters": job.parameters, "summary": job.summary}
    if as_json:
        print(json.dumps(facts))
        return
    for key, value in facts.items():
        if value not in ("", None):
            print(f"{key:10} {json.dumps(value) if isinstance(value, (dict, float)) else value}")
