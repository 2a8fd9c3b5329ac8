"""What a command of the embedding job asks for, read and checked before any work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from unirna import vectorstore
from unirna.base.job_settings import EmbedConfig
from unirna.embed.labels import OURS, check_labels, plan_labels
from unirna.embed.projection import check_method
from unirna.embed.scan import UNIT_BYTES, FileInput
from unirna.embed.state import SPOOL, job_key
from unirna.job import JobError, package_version, say
from unirna.runs import absolute
from unirna.sequence import (
    InputError,
    InputPiece,
    contents_of,
    parse_types,
    plan_pieces,
    stamps_of,
    table_columns,
    unnamed_columns,
)
from unirna.vectorstore import tell_renamed

if TYPE_CHECKING:
    from unirna.model import Model

STATE_FORMAT: Final = 3
"""Format of the files of a job's state: a job that a version with another format began starts over."""
CHUNK_NUCLEOTIDES: Final = {"sequence": 4_000_000, "nucleotide": 500_000}
"""Most nucleotides of a chunk, for the memory of the process that holds it, or for the size of its file."""


@dataclass(frozen=True)
class Request:
    """What is to be embedded, by which model, into which collection.

    Attributes:
        config: settings. store: its URI. name: of the collection, or of that of its nucleotides.
        encoder: the model, on the CPU. collection: as it is now, None if there is none.
        source: how the files are read; None where the collection is switched to another model, and its rows are the input.
        pieces: of the files. stamps: of the files, to see whether one changes.
        labels: names of the label columns in the files -> in the collection, empty for those that are left out.
        identity: what makes it the same job.
    """

    config: EmbedConfig
    store: str
    name: str
    encoder: Model
    collection: vectorstore.Collection | None
    source: FileInput | None
    pieces: list[InputPiece]
    stamps: list[tuple[str, int, int]]
    labels: dict[str, str]
    identity: dict[str, Any]

    @property
    def key(self) -> str:
        """The name of its state."""
        return job_key(self.identity)

    @property
    def switched_before(self) -> bool:
        """Whether the collection is to be switched to the model that it has."""
        collection = self.collection if self.config.switch_model else None
        return collection is not None and collection.provenance.fingerprint == self.encoder.fingerprint

    @property
    def provenance(self) -> vectorstore.Provenance:
        """What the collection records of its origin."""
        config = self.config
        pooling = "mean" if config.level == "sequence" else "none"
        return vectorstore.Provenance(
            config.model, self.encoder.fingerprint, pooling=pooling, layer=config.layer, unirna=package_version()
        )


def check_settings(config: EmbedConfig) -> None:
    """See that the settings agree, and that what they need is installed.

    Raises:
        JobError: they do not.
    """
    if config.level not in CHUNK_NUCLEOTIDES:
        raise JobError(f"--level {config.level}: expected {' or '.join(CHUNK_NUCLEOTIDES)}")
    if config.index not in ("auto", "none", *vectorstore.KINDS):
        raise JobError(f"--index {config.index}: expected auto, none, {', '.join(vectorstore.KINDS)}")
    if config.map and config.level != "sequence":
        raise JobError("--map is of the vectors of sequences: give it without --level nucleotide")
    if config.map:
        check_method("umap")  # before the work, not after it
    if config.switch_model and (config.inputs or config.level != "sequence"):
        raise JobError("--switch-model embeds what the collection holds: give no input with it, and no --level nucleotide")
    if not (config.switch_model or config.inputs):
        raise JobError("no input: give files, folders, globs or URIs of sequences")


def read_request(config: EmbedConfig) -> Request:
    """Load the model, open the collection, look at the files.

    Raises:
        CheckpointError: no such model. ModelMismatchError: the collection was made with another one.
        InputError: input that cannot be read. StoreError: labels that do not fit.
    """
    from unirna import model  # here, and not above: workers that only read import this module without torch

    store, path = absolute(config.store), absolute(config.model, if_there=True)
    vectorstore.check_name(config.collection)
    name = config.collection if config.level == "sequence" else vectorstore.nucleotides_name(config.collection)
    encoder = model.load(path, device="cpu", layer=config.layer)
    collection = vectorstore.open(store, name) if config.switch_model or vectorstore.exists(store, name) else None
    identity: dict[str, Any] = {"format": STATE_FORMAT, "collection": name, "fingerprint": encoder.fingerprint}
    if config.switch_model:
        return Request(config, store, name, encoder, collection, None, [], [], {}, identity | {"switch": True})
    if collection is not None:
        collection.check_model(encoder.fingerprint, config.model)
    inputs = [absolute(item) for item in config.inputs]
    spool = None if "://" in store else f"{store}/{SPOOL}"
    pieces = plan_pieces(inputs, piece_bytes=UNIT_BYTES, spool=spool, encoding=config.encoding)
    labels = _label_names(config, pieces, collection)
    types = parse_types(config.column_type)
    source = FileInput(config.id_column, config.sequence_column, tuple(labels.items()), tuple(types.items()))
    stamps = stamps_of(piece.path for piece in pieces)  # before the contents: a change in between is found
    identity |= {
        "pieces": [[p.path, p.start, p.end, p.encoding] for p in pieces],
        "files": contents_of(piece.path for piece in pieces),
        "source": asdict(source),
    }
    return Request(config, store, name, encoder, collection, source, pieces, stamps, labels, identity)


def _label_names(
    config: EmbedConfig, pieces: list[InputPiece], collection: vectorstore.Collection | None
) -> dict[str, str]:
    """Names of the label columns in the files -> in the collection, checked and told before any work.

    Raises:
        InputError: a declared type for a column that no file has. StoreError: a label that the collection lacks.
    """
    files = list({piece.path: piece for piece in pieces}.values())
    with ThreadPoolExecutor(16) as pool:
        headers = list(pool.map(table_columns, files))
    given = list(dict.fromkeys(name for header in headers for name in header))
    if any(piece.format in ("fasta", "fastq") for piece in files):
        given.append("description")
    labels = plan_labels(given, config.drop_labels, config.id_column, config.sequence_column)
    for flag, names, known in (
        ("--column-type", parse_types(config.column_type), given),
        ("--drop-labels", config.drop_labels, [*given, *labels.values()]),
    ):
        for name in names:
            if name not in known:
                have = ", ".join(given) or "none"
                raise InputError(f"{flag} {name}", f"no input has a column of that name. They have: {have}")
    unnamed = [name for piece in files if piece.format not in ("fasta", "fastq") for name in unnamed_columns(piece)]
    if told := tell_renamed({old: new for old, new in labels.items() if new}, unnamed):
        say(told)
    if replaced := [old for old, new in labels.items() if not new and old in OURS and old not in config.drop_labels]:
        say(f"columns of an export, computed again: {', '.join(replaced)}")
    if collection is not None:
        check_labels([name for name in labels.values() if name], collection)
    return labels
