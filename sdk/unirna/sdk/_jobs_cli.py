"""`unirna jobs …`: submit jobs to a service, see how far they are, stop them, fetch what they made."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

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
    id_column: str = field(default="id", kw_only=True)
    """Of a table: the column of identifiers."""
    sequence_column: str = field(default="sequence", kw_only=True)
    """Of a table: the column of sequences."""

    def submit(self, kind: Literal["embed", "screen", "finetune"], given: str, **parameters: Any) -> None:
        """Submit it, and print its id or wait; what it will reject is said on stderr."""
        with warnings.catch_warnings(record=True) as rejected:
            warnings.simplefilter("always", RejectedRecordWarning)
            job = getattr(self.at.jobs(), kind)(
                given or None,
                file=self.file or None,
                name=self.name,
                id_column=self.id_column,
                sequence_column=self.sequence_column,
                **parameters,
            )
        for warning in rejected:
            say(f"note: {warning.message}")
        if self.wait:
            _show(job.wait(), as_json=True)
        else:
            say(f"{job.kind} job is {job.state}. How far it is: unirna jobs show {job.id}")
            print(job.id)


@dataclass(frozen=True)
class SubmitEmbed(Submission):
    """Embed sequences into a collection of the service's store."""

    sequences: tyro.conf.Positional[str] = ""
    """A FASTA, FASTQ, CSV, TSV or Parquet file; or - for FASTA or FASTQ on standard input."""
    collection: str = field(kw_only=True)
    """The collection; created if it does not exist, otherwise extended."""
    level: Literal["sequence", "nucleotide"] = "sequence"
    """One vector per sequence, or one per nucleotide."""
    drop_labels: tuple[str, ...] = ()
    """Label columns to leave out."""
    index: Literal["auto", "none", "hnsw", "ivf_flat", "ivf_sq", "ivf_pq", "ivf_rq"] = "auto"
    """Kind of index; auto builds one if vectors do not fit in memory."""
    map: bool = False
    """Build the map of the collection when all is stored."""

    def run(self) -> None:
        """Submit it."""
        self.submit(
            "embed",
            self.sequences,
            collection=self.collection,
            level=self.level,
            drop_labels=list(self.drop_labels),
            index=self.index,
            map=self.map,
        )


@dataclass(frozen=True)
class SubmitScreen(Submission):
    """Rank a library; the report is among the results."""

    library: tyro.conf.Positional[str] = ""
    """A FASTA, FASTQ, CSV, TSV or Parquet file; or - for FASTA or FASTQ on standard input."""
    similar_to: str = ""
    """A file of references."""
    predict: tuple[str, ...] = ()
    """Target labels, as task=label."""
    prior: tuple[str, ...] = ()
    """Prevalence of labels, as task=label=0.05 or task=0.05; by default as in training."""
    top: int = 100
    """Length of the shortlist."""

    def run(self) -> None:
        """Submit it."""
        self.submit(
            "screen",
            self.library,
            similar_to=self.similar_to or None,
            predict=self.predict,
            prior=list(self.prior),
            top=self.top,
        )


@dataclass(frozen=True)
class SubmitFinetune(Submission):
    """Train a predictor on a labelled table."""

    table: tyro.conf.Positional[str] = ""
    """A CSV, TSV or Parquet file with a column of sequences."""
    task: str = field(kw_only=True)
    """Name of the predictor."""
    label_column: str = ""
    """Column of the class, to predict classes."""
    label_columns: tuple[str, ...] = ()
    """Columns of labels that are each true or false."""
    target_column: str = ""
    """Column of a measured value, to predict values."""
    level: Literal["sequence", "nucleotide"] = "sequence"
    """Whether each sequence has a value, or each nucleotide."""
    mode: Literal["frozen", "lora", "full"] = "frozen"
    """Whether the encoder is trained too."""
    pooling: Literal["mean", "centre"] = "mean"
    """Which nucleotides the head uses: all, or the middle one."""
    split_column: str = ""
    """Column that says train, valid or test."""
    split_by: Literal["sequence", "similarity"] = "sequence"
    """What a random split keeps together: identical or similar sequences."""
    unit: str = ""
    """Unit of the values."""
    about: str = ""
    """Source and licence of the data."""
    takes: str = ""
    """Description of valid sequences, shown to users."""
    min_length: int | None = None
    """Minimum length in nucleotides; shorter sequences get no answer."""
    max_length: int | None = None
    """Maximum length in nucleotides; longer sequences get no answer."""
    require: tuple[str, ...] = ()
    """Nucleotides that a sequence must have, such as A@centre."""
    report: tuple[str, ...] = ()
    """Motifs to report in answers, such as DRACH=DRACH@centre-2."""
    seed: int = 0
    """Random seed of the split and of training."""
    seeds: int = 1
    """Number of trainings; the best is kept (lora, full)."""
    epochs: int | None = None
    """Maximum number of passes over the training rows (lora, full)."""
    cnn: bool = True
    """Train a small convolutional network on the same rows, to compare with."""

    def run(self) -> None:
        """Submit it."""
        own = [one.name for one in fields(self) if one.name not in {base.name for base in fields(Submission)}]
        given = {name: getattr(self, name) for name in own if name != "table"}
        parameters = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        self.submit("finetune", self.table, **parameters)


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
