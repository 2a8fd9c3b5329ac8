"""What may be asked of `/v1/jobs`, and what it answers. Nothing that is not named here reaches a job's command."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

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


class EmbedParameters(_Request):
    """What to embed into."""

    collection: str = Field(description="Made if it is absent, added to if it is there.", examples=["my_rna"])
    drop_labels: list[Item] = Field([], description="Label columns to leave out.", max_length=100)
    level: Literal["sequence", "nucleotide"] = Field("sequence", description="A vector of each.")
    index: Literal["auto", "none", "hnsw", "ivf_flat", "ivf_sq", "ivf_pq", "ivf_rq"] = Field(
        "auto", description="Kind of index; auto builds one if vectors do not fit in memory."
    )
    map: bool = Field(False, description="Lay the collection out for the page's map when all is stored.")
    id_column: Word = Field("id", description="Of a table: the column of identifiers.")
    sequence_column: Word = Field("sequence", description="Of a table: the column of sequences.")


class ScreenParameters(_Request):
    """What to rank by: likeness to `references`, labels in `predict`, or both."""

    predict: list[Item] = Field([], description="Target labels, as 'task=label'.", max_length=100)
    prior: list[Item] = Field(
        [],
        description="Prevalence of labels, as 'task=label=0.05' or 'task=0.05'; by default as in training.",
        max_length=100,
    )
    top: int = Field(100, description="Length of the shortlist.", ge=1, le=100_000)
    id_column: Word = Field("id", description="Of a table: the column of identifiers.")
    sequence_column: Word = Field("sequence", description="Of a table: the column of sequences.")


class FinetuneParameters(_Request):
    """A predictor to make. Give one of `label_column`, `label_columns` and `target_column`."""

    task: str = Field(description="Name of the new predictor.", examples=["family"])
    label_column: Word = Field("", description="Column of the class, to predict classes.")
    label_columns: list[Item] = Field([], description="Columns of labels that are each true or false.", max_length=1_000)
    target_column: Word = Field("", description="Column of a measured value, to predict values.")
    level: Literal["sequence", "nucleotide"] = Field(
        "sequence", description="Whether each sequence has a value, or each nucleotide."
    )
    mode: Literal["frozen", "lora", "full"] = Field("frozen", description="Whether the encoder is trained too.")
    pooling: Literal["mean", "centre"] = Field(
        "mean", description="Which nucleotides the head uses: all, or the middle one."
    )
    split_column: Word = Field("", description="Column that says train, valid or test.")
    split_by: Literal["sequence", "similarity"] = Field(
        "sequence", description="What a random split keeps together: identical or similar sequences."
    )
    id_column: Word = Field("id", description="Column of the identifiers.")
    sequence_column: Word = Field("sequence", description="Column of the sequences.")
    unit: Word = Field("", description="Unit of the values.")
    about: Word = Field("", description="Source and licence of the data.")
    takes: Word = Field("", description="Description of valid sequences, shown to users.")
    min_length: int | None = Field(
        None, description="Minimum length in nucleotides; shorter sequences get no answer.", ge=1
    )
    max_length: int | None = Field(None, description="Maximum length in nucleotides; longer sequences get no answer.", ge=1)
    require: list[Item] = Field(
        [], description="Nucleotides that a sequence must have, such as 'A@centre'.", max_length=100
    )
    report: list[Item] = Field(
        [], description="Motifs to report in answers, such as 'DRACH=DRACH@centre-2'.", max_length=100
    )
    seed: int = Field(0, description="Random seed of the split and of training.", ge=0, lt=2**31)
    seeds: int = Field(1, description="Number of trainings; the best is kept (lora, full).", ge=1, le=20)
    epochs: int | None = Field(
        None, description="Maximum number of passes over the training rows (lora, full).", ge=1, le=1_000
    )
    cnn: bool = Field(True, description="Train a small convolutional network on the same rows, to compare with.")


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
