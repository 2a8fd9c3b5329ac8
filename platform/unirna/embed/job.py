"""The embedding job: scan, resolve, embed, commit.

1. Scan: each unit of the input is read once; bad records are set aside, the good ones spread over parts by their sequence,
   their ids noted.
2. Resolve: duplicate ids, and records that the collection holds already, are found bucket by bucket.
3. Embed: the others stream, part by part, through an actor pool that holds the model, each distinct sequence once; each
   chunk is written beside the collection.
4. Commit: when the counts add up, all files become part of the collection in one step. Where somebody else was faster, the
   rows are compared with what they have put there, and what is not in it is committed.

The driver sees counts, never rows. What is finished is noted in `State`, so the same command goes on after a kill.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from unirna import vectorstore
from unirna.base.job_settings import EmbedConfig
from unirna.embed.finishing import finish, switched_before
from unirna.embed.labels import OURS, pack_schema, settle_schema
from unirna.embed.plan import COUNTS, Plan, Recipe, read_record
from unirna.embed.rejects import DUPLICATE
from unirna.embed.request import CHUNK_NUCLEOTIDES, Request, check_settings, read_request
from unirna.embed.scan import UNIT_BYTES, CollectionInput, FileInput, plan_units
from unirna.embed.state import State
from unirna.embed.steps import HELD_ROWS, embed, num_gpus, resolve, scan, still_good
from unirna.job import JobError, connect_ray, plan_workers, say
from unirna.sequence import InputPiece, check_unchanged, remove_copies
from unirna.vectorstore import renamed

BUCKET_BYTES: Final = 64 << 20
"""Input for each bucket of ids: a million short records, so a few hundred MB in the process that compares them."""
PART_BYTES: Final = 32 << 20
"""Input for each part, within which equal sequences are found."""
MOST_PARTS: Final = 1000
"""Most buckets and parts: each is read from the files of all units."""
SWITCH_ROWS: Final = 200_000
"""Rows of the collection for each unit that is read where a collection is switched to another model."""
TRIES: Final = 10
"""How often the rows are compared again if others keep changing the collection."""
CHUNK_FLOPS: Final = {"cpu": (1e11, 3e12), "cuda": (1e13, 3e14)}
"""Least and most work of a chunk: about 1 s and 30 s. A killed job loses the chunks it was at; files are one to a chunk."""
CHUNKS_PER_WORKER: Final = 32
"""Chunks that each worker should get, so that none waits long for the last one."""
RECORDS_AT_ONCE: Final = 16
"""Records that are read at once: each is a small file, in object storage a request."""


@dataclass(frozen=True)
class Basis:
    """What the rows are prepared against.

    Attributes:
        label: the version of the collection when the job began (`version_name`). source: how the input is read.
        pieces: of the input. against: the version whose ids count as taken, "0" for none.
        buckets: of ids. parts: of records.
    """

    label: str
    source: FileInput | CollectionInput
    pieces: list[InputPiece]
    against: str
    buckets: int
    parts: int

    @property
    def version(self) -> int:
        """The number of the version, 0 where there is no collection."""
        return vectorstore.number_of(self.label)


@dataclass(frozen=True)
class Found:
    """What the input holds.

    Attributes:
        read, new, unchanged: records. reasons: rejected records by reason. nucleotides: of the new records.
        parts: good records of each part. schema: of the collection with these rows.
    """

    read: int
    new: int
    unchanged: int
    reasons: Mapping[str, int]
    nucleotides: int
    parts: list[int]
    schema: pa.Schema


@dataclass(frozen=True)
class Embedded:
    """What was embedded.

    Attributes:
        totals: `COUNTS`. here: distinct nucleotides that this run embedded. fragments: the files of the rows.
        seconds: that it took.
    """

    totals: dict[str, int]
    here: int
    fragments: list[str]
    seconds: float


def embed_collection(config: EmbedConfig) -> dict[str, Any]:
    """Embed sequence files into a collection, created if it is absent; run again, it goes on or adds nothing.

    Returns:
        The summary: `read` = `stored` + `rejected`, `stored` = `new` + `unchanged` (id and sequence are
        there; the labels stored first stay, new ones for a known id are not taken up). Of the new: `windowed` sequences,
        `nucleotides`, and how many sequences and nucleotides are `distinct`, since a sequence is embedded once. The rate of
        this run, in distinct nucleotides a second; names of collection, store, model and rejects; `index`, what was
        measured of one that was built, or why it was refused; `chance`, how many random sequences were searched for; `map`,
        what it was made of, and whether that was done now.

    Raises:
        InputError: input that cannot be read. StoreError: labels that do not fit, or somebody else changed the collection.
        ModelMismatchError: the collection was made with another model. CheckpointError: no such model.
        JobError: no record could be stored, the input changed while it was read, the cluster carries fewer workers, or the
            settings contradict each other.
    """
    started = time.monotonic()
    check_settings(config)
    try:
        for left in reversed(range(TRIES)):
            try:
                return _attempt(config, started)
            except vectorstore.ChangedError as error:
                if not left or config.switch_model:
                    raise
                say(f"{error}".partition(". ")[0] + ": comparing with what it holds now")
    finally:
        remove_copies()
    raise AssertionError


def _attempt(config: EmbedConfig, started: float) -> dict[str, Any]:
    request = read_request(config)
    state = State.of(request.store, request.name, request.key)
    state.tidy()
    connect_ray()
    workers, _ = plan_workers(config.workers, config.cpus_per_worker)
    if (summary := _finish_committed(request, state)) is not None:
        return summary
    if request.switched_before:
        state.clear()
        return switched_before(request)
    basis = _basis(request, state)
    found = _scan_and_resolve(request, state, basis)
    embedded = _embed(request, state, basis, found, workers)
    summary = _summary(request, found, embedded, time.monotonic() - started)
    _commit(request, state, basis, found, embedded, summary)
    return finish(request, state, basis.against, [piece.name for piece in basis.pieces], summary)


def _finish_committed(request: Request, state: State) -> dict[str, Any] | None:
    """Finish a job that was killed after its commit; None if there was none."""
    if not state.has("commit.json"):
        return None
    note = state.read_json("commit.json")
    if vectorstore.committed_version(request.store, request.name, request.key, note["read_version"]) is None:
        return None
    say("the collection already has this input: finishing the clean-up")
    if request.config.switch_model:
        vectorstore.tidy_overwritten(request.store, request.name, note["read_version"])
    return finish(request, state, note["against"], [piece.name for piece in request.pieces], note["summary"])


def _basis(request: Request, state: State) -> Basis:
    """Settle what the rows are prepared against: for the rest of a job what it began with, where that still holds."""
    store, name, switch = request.store, request.name, request.config.switch_model
    label = vectorstore.version_name(store, name, vectorstore.table_version(store, name))
    source: FileInput | CollectionInput | None = request.source
    pieces = request.pieces
    if source is None:
        begun = state.read_json("job.json")["version"] if state.has("job.json") else label
        if begun != label and not vectorstore.same_rows(store, name, begun):
            say("the collection has changed since this job began: starting over")
            state.clear()
            begun = label
        label = begun
        source = CollectionInput(store, name, vectorstore.number_of(label), SWITCH_ROWS)
        pieces = source.pieces()
    if not state.has("job.json"):
        held = request.collection.info.num_rows if request.collection is not None else 0
        size = sum(p.bytes for p in pieces)
        buckets = min(1 + max(size // BUCKET_BYTES, held // HELD_ROWS), MOST_PARTS)
        parts = min(1 + size // PART_BYTES, MOST_PARTS)
        state.write_json("job.json", {**request.identity, "version": label, "buckets": buckets, "parts": parts})
    begun_with = state.read_json("job.json")
    # Where the whole collection is replaced its ids are no duplicates: the rows are prepared as for an empty one.
    return Basis(label, source, pieces, "0" if switch else label, begun_with["buckets"], begun_with["parts"])


def _scan_and_resolve(request: Request, state: State, basis: Basis) -> Found:
    """Read the input once, and find what is new in it."""
    against, config = basis.against, request.config
    units = plan_units(basis.pieces, UNIT_BYTES)
    scanned = scan(
        state, units, basis.source, request.key, request.store, request.name, against, basis.buckets, basis.parts
    )
    check_unchanged(request.stamps)
    met = [text for s in scanned for text in s["labels"]]
    collection = None if config.switch_model else request.collection
    schema = settle_schema(met, request.encoder.dimension, request.provenance, collection, config.level)
    resolved = resolve(state, against, basis.buckets, basis.parts, basis.pieces)
    read, good = (sum(s[name] for s in scanned) for name in ("read", "good"))
    unchanged, duplicates = (sum(r[name] for r in resolved) for name in ("unchanged", "duplicate"))
    reasons = sum((Counter(s["rejected"]) for s in scanned), Counter({DUPLICATE: duplicates} if duplicates else {}))
    nucleotides = sum(s["nucleotides"] for s in scanned) - sum(r["nucleotides"] for r in resolved)
    _tell_missing(scanned, request.labels, schema)
    parts = [sum(s["parts"][part] for s in scanned) for part in range(basis.parts)]
    return Found(read, good - unchanged - duplicates, unchanged, reasons, nucleotides, parts, schema)


def _embed(request: Request, state: State, basis: Basis, found: Found, workers: int) -> Embedded:
    """Embed what earlier runs of the job have not embedded.

    Raises:
        JobError: not all rows were written.
    """
    store, name, config, encoder = request.store, request.name, request.config, request.encoder
    run, earlier = state.start_run(
        basis.against,
        pack_schema(found.schema),
        lambda *records: still_good(state, store, name, basis.against, *records),
    )
    size = min(_chunk_nucleotides(encoder.config.flops([1]), found.nucleotides, workers), CHUNK_NUCLEOTIDES[config.level])
    plan = Plan(state, store, name, found.schema, basis.against, run, basis.parts, size, overwrite=config.switch_model)
    before = _records(state, earlier)
    at_first = sum(note["nucleotides"] for note in before)
    _tell_start(request, found, before)
    began = time.monotonic()
    if at_first < found.nucleotides:
        workers = min(workers, -(-(found.nucleotides - at_first) // size))  # no more than there are chunks
        recipe = Recipe(config.batch_tokens, config.cpus_per_worker, config.level)
        embed(plan, recipe, encoder, earlier, found.parts, workers, at_first, found.nucleotides)
    seconds = time.monotonic() - began
    notes = before + _records(state, state.records_of(run))
    if (written := sum(note["rows"] for note in notes)) != found.new:
        raise JobError(
            f"{written:,} rows were written of {found.new:,}: files of the job's state in {state.uri} are gone. Remove "
            "that folder, and run the same command again: it starts over"
        )
    totals = {count: sum(note[count] for note in notes) for count in COUNTS}
    here = totals["distinct_nucleotides"] - sum(note["distinct_nucleotides"] for note in before)
    return Embedded(totals, here, [text for note in notes for text in note["fragments"]], seconds)


def _records(state: State, names: list[str]) -> list[dict[str, Any]]:
    """What records say, in their order."""
    with ThreadPoolExecutor(RECORDS_AT_ONCE) as pool:
        return list(pool.map(lambda name: read_record(state, name), names))


def _tell_start(request: Request, found: Found, before: list[dict[str, Any]]) -> None:
    """Say how large the vectors of nucleotides become, and what earlier runs have done."""
    if request.config.level == "nucleotide":
        dimension = request.encoder.dimension
        say(
            f"{found.nucleotides:,} nucleotides x {dimension} numbers of 2 bytes: "
            f"{found.nucleotides * dimension * 2 / 1e9:,.1f} GB in {request.name!r}"
        )
    if before:
        say(f"going on: {sum(note['rows'] for note in before):,} of {found.new:,} records are embedded already")


def _summary(request: Request, found: Found, embedded: Embedded, seconds: float) -> dict[str, Any]:
    """The summary so far; `embed_collection` says what it holds."""
    totals, config = embedded.totals, request.config
    summary: dict[str, Any] = {
        "collection": request.name,
        "store": config.store,
        "read": found.read,
        "stored": found.new + found.unchanged,
        "new": found.new,
        "unchanged": found.unchanged,
        "rejected": sum(found.reasons.values()),
        "rejected_by_reason": dict(sorted(found.reasons.items())),
        "windowed": totals["windowed"],
        "nucleotides": found.nucleotides,
        "distinct": totals["distinct"],
        "distinct_nucleotides": totals["distinct_nucleotides"],
        "seconds": round(seconds, 2),
        "embed_seconds": round(embedded.seconds, 2),
        "nucleotides_per_second": round(embedded.here / embedded.seconds, 1) if embedded.here else 0.0,
        "model": config.model,
        "fingerprint": request.encoder.fingerprint,
        "rejects": vectorstore.rejects_name(request.name) if found.reasons else None,
        "renamed_labels": renamed({old: new for old, new in request.labels.items() if new}),
        "replaced_labels": [old for old, new in request.labels.items() if not new and old in OURS],
    }
    assert summary["read"] == summary["stored"] + summary["rejected"]
    return summary


def _commit(
    request: Request, state: State, basis: Basis, found: Found, embedded: Embedded, summary: dict[str, Any]
) -> None:
    """Make all rows part of the collection in one step.

    Raises:
        ChangedError: somebody else changed the collection in between.
    """
    if not found.new:
        return
    store, name, version = request.store, request.name, basis.version
    if version and vectorstore.version_name(store, name, version) != basis.label:
        raise vectorstore.ChangedError(f"{name!r} was dropped and created again while this job ran. Run it again")
    state.write_json("commit.json", {"read_version": version, "against": basis.against, "summary": summary})
    put = vectorstore.overwrite if request.config.switch_model else vectorstore.commit
    put(store, name, found.schema, embedded.fragments, key=request.key, read_version=version)


def _tell_missing(scanned: list[dict[str, Any]], labels: dict[str, str], schema: pa.Schema) -> None:
    """Say which words such as NA were read as "no value" in columns of text, where they may have been meant."""
    counts: Counter[str] = Counter()
    words: dict[str, None] = {}
    for column, word, count in (entry for s in scanned for entry in s["missing"]):
        name = labels.get(column, "")
        if name in schema.names and pa.types.is_string(schema.field(name).type):
            counts[column] += count
            words[word] = None
    if counts:
        columns = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
        kept = f"--column-type {next(iter(counts))}=text keeps them"
        say(f"{', '.join(words)} read as no value in column {columns}; {kept}")


def _chunk_nucleotides(flops: int, nucleotides: int, workers: int) -> int:
    """About how much one chunk should hold, for a model that does `flops` for one nucleotide."""
    least, most = CHUNK_FLOPS["cuda" if num_gpus() else "cpu"]
    fair = nucleotides // (workers * CHUNKS_PER_WORKER)
    return min(max(fair, int(least / flops)), int(most / flops))
