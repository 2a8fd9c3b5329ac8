"""Settings of the jobs that a service runs too: one class for the script, the HTTP request and `unirna jobs submit-…`.

A setting is declared once here, with its type, its default and its text. The scripts in `jobs/` parse the classes.
A request and a submission have the same settings, less those of `NOT_OVER_HTTP`.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, get_type_hints

import tyro

NOT_OVER_HTTP: Final[Mapping[str, str]] = {
    "inputs": "the request carries the input, or names a file of the service's folder of inputs",
    "library": "the request carries the library, or names a file of the service's folder of inputs",
    "similar_to": "the request carries the references",
    "data": "the request carries the table, or names a file of the service's folder of inputs",
    "out": "the results go into the job's folder on the server",
    "store": "a path on the server: the service's store",
    "registry": "a path on the server: the service's registry",
    "model": "the encoder that the service holds, so that its searches and predictors fit together",
    "layer": "the layer that the service reads",
    "workers": "the service divides its machine among jobs",
    "cpus_per_worker": "the service divides its machine among jobs",
    "batch_tokens": "the service's device decides",
    "switch_model": "it would switch a collection away from the service's model",
    "dataset": "a published file is read by the rules of its data set, not as a table of sequences and labels",
    "replace": "whoever may write must not replace the predictor of somebody else",
    "piece_bytes": "not a setting of the user",
}
"""Settings that make no sense over HTTP, each with the reason."""
VALUED: Final = frozenset({"coding"})
"""Settings that are true, false or not given: tyro reads them with a value, such as --coding=True."""


@dataclass(frozen=True)
class EmbedConfig:
    """Embed a collection of sequences into a vector store."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Sequence files (FASTA, FASTQ, Parquet, CSV, TSV; plain, gz, zst), folders, globs or URIs."""
    collection: str
    """Name of the collection. It is made if it is absent, added to if it is there."""
    store: str = "store"
    """Folder or URI (s3://, gs://) of the store."""
    model: str = "unirna-mini"
    """Shipped name, folder or URI of the model."""
    id_column: str = "id"
    """Column of table input with the identifiers."""
    sequence_column: str = "sequence"
    """Column of table input with the sequences."""
    drop_labels: tuple[str, ...] = ()
    """Label columns to leave out; all others go into the collection."""
    encoding: str = ""
    """Encoding of the text, such as latin-1. By default UTF-8, or what a file's byte-order mark says."""
    column_type: tuple[str, ...] = ()
    """Types of label columns of CSV and TSV, as chrom=text: text, integer, number, boolean, date or time. By default the
    type that fits all values of a column."""
    level: Literal["sequence", "nucleotide"] = "sequence"
    """Store a vector of each sequence, or of each nucleotide (in half precision, in a table <collection>.nucleotides)."""
    layer: int = -1
    """Layer to read: -1 for the model's own vectors, -2 for the states of the last layer but one, 1 for the first layer."""
    index: Literal["auto", "none", "hnsw", "ivf_flat", "ivf_sq", "ivf_pq", "ivf_rq"] = "auto"
    """Index to build. auto builds one if the vectors, or the k-mers, do not fit in memory."""
    min_recall: float = 0.95
    """Least recall@10 of the index against exact search. An index with less is not kept."""
    map: bool = False
    """Compute a map of the collection for the page when all is stored; needs umap-learn (unirna[map])."""
    switch_model: bool = False
    """Embed what the collection holds, instead of an input, with this model. It is switched in one step at the end."""
    batch_tokens: int | None = None
    """Tokens of one forward pass. By default what suits the device."""
    workers: int | None = None
    """Processes that hold the model. By default one for each GPU, or one for each core."""
    cpus_per_worker: int = 1
    """Cores, and threads, of each worker."""


@dataclass(frozen=True)
class ScreenConfig:
    """Rank a library by similarity to references, by predicted labels, or by both."""

    library: tyro.conf.Positional[tuple[str, ...]]
    """Files, folders, globs or URIs, or - for standard input."""
    out: str
    """Folder of the outputs."""
    similar_to: tuple[str, ...] = ()
    """Files of reference sequences."""
    predict: tuple[str, ...] = ()
    """Labels to look for, as task=label. The task names a predictor."""
    prior: tuple[str, ...] = ()
    """Prevalence of a label, as task=label=0.05, or task=0.05 for all labels of a task. By default that of the training
    data."""
    model: str = "unirna-mini"
    """Encoder for the similarity: a shipped name, a checkpoint's folder, or a URI."""
    registry: str = "predictors"
    """Folder of the predictors."""
    top: int = 100
    """Length of the shortlist."""
    id_column: str = "id"
    """Column of table input with the identifiers."""
    sequence_column: str = "sequence"
    """Column of table input with the sequences."""
    encoding: str = ""
    """Encoding of the text, such as latin-1. By default UTF-8, or what a file's byte-order mark says."""
    column_type: tuple[str, ...] = ()
    """Types of columns of CSV and TSV, as chrom=text: text, integer, number, boolean, date or time. By default the type
    that fits all values of a column."""
    workers: int | None = None
    """Processes that hold the model. By default one for each GPU, or one for each core."""
    piece_bytes: Annotated[int, tyro.conf.Suppress] = 64 << 20
    """Size of the pieces into which plain FASTA files are cut."""


@dataclass(frozen=True)
class FinetuneSettings:
    """Fine-tune a predictor on a labelled table."""

    data: tuple[str, ...]
    """The labelled table: files, folders, globs or URIs (CSV, TSV, Parquet; FASTA with the label as its description)."""
    task: str = ""
    """Name of the predictor; by default that of the defined task."""
    dataset: str = ""
    """A public data set that the package defines."""
    label_column: str = ""
    """Column of the class, to predict classes."""
    label_columns: tuple[str, ...] = ()
    """Columns of several labels, each 1 or 0 (true or false, yes or no), or empty where it is not known."""
    target_column: str = ""
    """Column of a measured value, to predict values."""
    level: Literal["sequence", "nucleotide"] = "sequence"
    """What a value is given for. For nucleotides the column holds lists, with null where none was measured."""
    about: str = ""
    """Source and licence of the data, for the card."""
    unit: str = ""
    """Unit of the values, shown beside predictions."""
    model: str = "unirna-mini"
    """Encoder: a shipped name, a checkpoint's folder, or a URI."""
    registry: str = "predictors"
    """Folder of the predictors."""
    mode: Literal["frozen", "lora", "full"] | None = None
    """Whether the encoder stays as it is (the default), gets low-rank adapters, or is trained itself."""
    pooling: Literal["mean", "centre"] | None = None
    """Which nucleotides the head reads: all (the default), or the middle one, for a property of that nucleotide."""
    rank: int = 8
    """Rank of the adapters (lora)."""
    head_input: Literal["vector", "state"] | None = None
    """What the head reads (lora, full): the model's own vector, starting from the frozen mode's head, or the mean of the
    last layer's states, starting from scratch (the default)."""
    compact: bool = False
    """Keep the name of a shipped encoder, and the adapters, instead of a copy of it (frozen, lora)."""
    sequence_column: str = "sequence"
    """Column of the sequences."""
    id_column: str = "id"
    """Column of the identifiers; rows of a table without it are named by their number."""
    encoding: str = ""
    """Encoding of the text, such as latin-1. By default UTF-8, or what the table's byte-order mark says."""
    column_type: tuple[str, ...] = ()
    """Types of columns of CSV and TSV, as chrom=text: text, integer, number, boolean, date or time. By default the type
    that fits all values of a column."""
    split_column: str = ""
    """Column that says train, valid or test (heldout); without it the split is random."""
    reference_column: str = ""
    """Column of what each sequence is compared with, as the wild type of a variant: the target is what they differ by."""
    split_names: tuple[str, ...] = ()
    """Other names of splits, as test=test13 train=train; rows of further names are then left out."""
    split_by: Literal["sequence", "similarity"] = "sequence"
    """What a random split keeps on one side: copies of a sequence, or all that share a quarter of their 10-mers."""
    allow_copies: bool = False
    """Keep test rows whose sequence stands in training too; results are given with and without them."""
    valid_share: float = 0.1
    """Share of each class for validation, where no column says."""
    test_share: float = 0.2
    """Share of each class for the test, where no column says."""
    seeds: int = 1
    """Trainings with seeds from `--seed` up (lora, full): the best on validation rows is kept, the card shows all."""
    num_trials: int = 0
    """Settings of training to try (lora, full), the given ones and random ones, side by side on Ray Tune: learning rates,
    batch size and rank. The best on validation rows is kept, the card shows all."""
    seed: int = 0
    """Seed of the random split and of the order of training."""
    epochs: int | None = None
    """Most passes over the training rows (lora, full); by default 10."""
    patience: int | None = None
    """Epochs without a lower validation loss after which training stops (lora, full); by default 3."""
    batch_size: int | None = None
    """Sequences of one optimiser step, over all workers (lora, full); by default 32."""
    learning_rate: float | None = None
    """Peak learning rate of the encoder or its adapters; by default 3e-4 (full) or 2e-3 (lora)."""
    workers: int = 1
    """Ray Train workers (lora, full); 0 trains in this process, without Ray."""
    cnn: bool = True
    """Train a small convolutional network on the same rows, to compare with."""
    cnn_ensemble_size: int | None = None
    """Number of these networks (at most 50), each from other random weights. Their mean answers. By default 1."""
    coding: bool | None = None
    """The sequences are coding sequences that start with a codon: the linear model reads codons and length, not 4-mers."""
    takes: str = ""
    """What a sequence must be, in words, such as "the last 50 nt of a 5'UTR"; shown to users."""
    min_length: int | None = None
    """Least length of a sequence in nucleotides; shorter ones get no answer. Training sequences that all have one length
    require that length."""
    max_length: int | None = None
    """Greatest length of a sequence in nucleotides; longer ones get no answer."""
    require: tuple[str, ...] = ()
    """Nucleotides that a sequence must have: IUPAC codes, @start, @centre or @end, and an offset if it is not 0, such as
    A@centre or AUG@end-2."""
    report: tuple[str, ...] = ()
    """Motifs that answers report, as NAME=PATTERN@centre-2, such as DRACH=DRACH@centre-2."""
    threshold: float = 0.5
    """Probability above which one of several labels counts as true."""
    blend: bool = True
    """Answer with the weighted sum of the encoder's head and the baselines. The weights fit validation rows best."""
    replace: bool = False
    """Replace a predictor of the same name that was made with other data or settings."""


@cache
def setting_texts(settings: type) -> dict[str, str]:
    """The text of each setting of a class: the string below its declaration, in one line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    assert isinstance(body, ast.ClassDef)
    return {
        declared.target.id: " ".join(str(text.value.value).split())
        for declared, text in pairwise(body.body)
        if isinstance(declared, ast.AnnAssign) and isinstance(declared.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def shared_settings(settings: type) -> dict[str, tuple[Any, Any, str]]:
    """The settings of a class that make sense over HTTP: name -> type, default (`dataclasses.MISSING` for none), text."""
    types, texts = get_type_hints(settings), setting_texts(settings)
    return {
        one.name: (types[one.name], one.default, texts[one.name])
        for one in fields(settings)
        if one.name not in NOT_OVER_HTTP
    }


def flags(values: Mapping[str, Any]) -> list[str]:
    """Arguments for a script of `jobs/` that stand for settings, each as tyro reads it back; None is left out."""
    words: list[str] = []
    for name, value in values.items():
        flag = f"--{name.replace('_', '-')}"
        if name in VALUED and value is not None:
            words.append(f"{flag}={value}")
        elif isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, (list, tuple)):
            words += [flag, *map(str, value)] if value else []
        elif value is not None:
            words.append(f"{flag}={value}")
    return words
