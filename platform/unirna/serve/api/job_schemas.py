"""What may be asked of `/v1/jobs`, and what it answers. Nothing that is not named here reaches a job's command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from unirna.base.job_settings import EmbedConfig, FinetuneSettings, ScreenConfig, shared_settings

KINDS: Final = ("embed", "screen", "finetune")
FASTA: Final = ">my_rna a description\nGGGAAACCC\n"


def _word(text: str) -> str:
    if len(text) > 200 or not text.isprintable():
        raise ValueError("expected at most 200 characters, all of them printable")
    return text


def _no_flag(text: str) -> str:
    if not text or text.startswith("-"):
        raise ValueError("expected a name that is not empty and does not start with '-'")
    return _word(text)


Word = Annotated[str, AfterValidator(_word)]
"""Text that stands behind `--flag=`."""
Item = Annotated[str, AfterValidator(_no_flag)]
"""Text of a list, whose words stand behind a flag each by itself."""


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Response(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Nothing(_Request):
    """An object without fields."""


class JobInput(_Request):
    """Give exactly one."""

    fasta: str | None = Field(None, description="FASTA as text.", examples=[FASTA])
    fastq: str | None = Field(None, description="FASTQ as text.")
    csv: str | None = Field(None, description="A table as text: CSV with a header.")
    tsv: str | None = Field(None, description="The same, separated by tabs.")
    file: str | None = Field(None, description="A file in the service's folder of inputs, by its path within it.")


class Parameters(_Request):
    """Settings of a job, derived from the class that its script parses (`unirna.base.job_settings`)."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A setting: the fields are those of the job's own class."""


P = TypeVar("P", bound=Parameters)
LIMITS: Final[Mapping[str, Mapping[str, float]]] = {
    "top": {"ge": 1, "le": 100_000},
    "min_recall": {"ge": 0, "le": 1},
    "min_length": {"ge": 1},
    "max_length": {"ge": 1},
    "seed": {"ge": 0, "lt": 2**31},
    "seeds": {"ge": 1, "le": 20},
    "num_trials": {"ge": 0, "le": 20},
    "epochs": {"ge": 1, "le": 1_000},
    "patience": {"ge": 1, "le": 1_000},
    "batch_size": {"ge": 1, "le": 4_096},
    "rank": {"ge": 1, "le": 1_024},
    "learning_rate": {"gt": 0, "le": 1},
    "cnn_ensemble_size": {"ge": 1, "le": 50},
    "threshold": {"gt": 0, "lt": 1},
    "valid_share": {"gt": 0, "lt": 1},
    "test_share": {"gt": 0, "lt": 1},
    "label_columns": {"max_length": 1_000},
}
"""What a service allows of a setting, besides its type; other lists have at most 100 items."""
EXAMPLES: Final = {"collection": "my_rna", "task": "family"}


def _derived(settings: type, required: str = "") -> Callable[[type[P]], type[P]]:
    """Give a model the settings of a job's class: their names, types, defaults and texts.

    Args:
        settings: the class that the job's script parses.
        required: a setting that a request must have, though the script has a default.
    """
    chosen: dict[str, Any] = {}
    for setting, (kind, default, text) in shared_settings(settings).items():
        limits: dict[str, Any] = dict(LIMITS.get(setting, {}))
        if kind == tuple[str, ...]:
            kind, default, limits = list[Item], list(default), {"max_length": 100, **limits}
        elif kind is str and setting not in EXAMPLES:  # names are checked where it is known what they name
            kind = Word
        if default is MISSING or setting == required:
            default = ...
        if setting in EXAMPLES:
            limits["examples"] = [EXAMPLES[setting]]
        chosen[setting] = (kind, Field(default, description=text, **limits))
    return lambda model: create_model(model.__name__, __base__=model, __doc__=model.__doc__, __module__=__name__, **chosen)


@_derived(EmbedConfig)
class EmbedParameters(Parameters):
    """What to embed into."""


@_derived(ScreenConfig)
class ScreenParameters(Parameters):
    """What to rank by: similarity to `references`, labels in `predict`, or both."""


@_derived(FinetuneSettings, required="task")
class FinetuneParameters(Parameters):
    """A predictor to make. Give one of `label_column`, `label_columns` and `target_column`."""


class EmbedJob(_Request):
    """Embed sequences into a collection of the service's store."""

    kind: Literal["embed"]
    name: Word = Field("", description="Your name for the job.")
    parameters: EmbedParameters
    input: JobInput


class ScreenJob(_Request):
    """Rank a library into a shortlist with a report."""

    kind: Literal["screen"]
    name: Word = Field("", description="Your name for the job.")
    parameters: ScreenParameters
    input: JobInput = Field(description="The library.")
    references: JobInput | None = Field(None, description="Reference sequences that the hits should resemble.")


class FinetuneJob(_Request):
    """Train a predictor of the service's registry on a labelled table."""

    kind: Literal["finetune"]
    name: Word = Field("", description="Your name for the job.")
    parameters: FinetuneParameters
    input: JobInput


JobRequest = Annotated[EmbedJob | ScreenJob | FinetuneJob, Field(discriminator="kind")]


class JobProgress(_Response):
    """How far a job is."""

    text: str = Field(description="The last line that it said.")
    share: float | None = Field(description="Share of its present step that is done, 0 to 1, or null.")


class Job(_Response):
    """A job."""

    id: str
    kind: Literal["embed", "screen", "finetune"]
    name: str
    by: str = Field(description="Name of the key that submitted it.")
    state: Literal["pending", "running", "succeeded", "failed", "stopped", "lost"] = Field(
        description="lost: the cluster that ran it is gone. A job that failed, was stopped or is lost may be resumed."
    )
    message: str = Field(description="Why it failed, or that it is being stopped; else empty.")
    submitted: str
    started: str | None
    ended: str | None
    progress: JobProgress
    summary: dict[str, Any] | None = Field(description="What it says of its work when it has succeeded.")
    parameters: dict[str, Any]
    input: dict[str, Any] = Field(description="Kind of input, and its bytes or file.")


class JobsResponse(_Response):
    """Jobs, newest first."""

    jobs: list[Job]


class JobLog(_Response):
    """The last lines that a job said."""

    lines: list[str]


class JobFile(_Response):
    """A file that a job made."""

    name: str
    bytes: int


class JobResults(_Response):
    """Files that a job made. A collection or a predictor stands in the service itself."""

    files: list[JobFile]


class ServiceLimits(_Response):
    """The largest request that is answered."""

    max_k: int = Field(description="Hits of one search, those that are passed over included.")
    max_sequences: int = Field(description="Sequences of one request.")
    max_sequence_length: int = Field(description="Nucleotides of one sequence.")
    max_fold_length: int = Field(description="Nucleotides of a sequence that is folded.")
    max_variant_nucleotides: int = Field(description="Nucleotides that are read to score the variants of one request.")
    max_body_bytes: int = Field(description="Bytes of the body of one request.")


class Service(_Response):
    """What this service does for this caller."""

    version: str
    jobs: bool = Field(description="Whether it takes jobs.")
    scope: str = Field(description="What the caller's key allows: read, write or admin.")
    limits: ServiceLimits
