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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from unirna import vectorstore
from unirna.base.job_settings import EmbedConfig
from unirna.embed.chance import calibrate, measured, told
from unirna.embed.labels import OURS, check_labels, pack_schema, plan_labels, settle_schema
from unirna.embed.plan import COUNTS, Plan, Recipe, read_record
from unirna.embed.projection import check_method, make_map
from unirna.embed.rejects import DUPLICATE, save_rejects
from unirna.embed.scan import UNIT_BYTES, CollectionInput, FileInput, plan_units
from unirna.embed.state import SPOOL, State, job_key
from unirna.embed.steps import HELD_ROWS, embed, num_gpus, resolve, scan, still_good
from unirna.job import JobError, connect_ray, package_version, plan_workers, say
from unirna.runs import absolute
from unirna.sequence import (
    InputError,
    InputPiece,
    check_unchanged,
    contents_of,
    parse_types,
    plan_pieces,
    remove_copies,
    stamps_of,
    table_columns,
    unnamed_columns,
)
from unirna.vectorstore import renamed, tell_renamed

if TYPE_CHECKING:
    from unirna.model import Model

BUCKET_BYTES: Final = 64 << 20
"""Input for each bucket of ids: a million short records, so a few hundred MB in the process that compares them."""
PART_BYTES: Final = 32 << 20
"""Input for each part, within which equal sequences are found."""
MOST_PARTS: Final = 1000
"""Most buckets and parts: each is read from the files of all units."""
SWITCH_ROWS: Final = 200_000
"""Rows of the collection for each unit that is read where a collection is switched to another model."""
DEFAULT_INDEX: Final = "hnsw"
STATE_FORMAT: Final = 3
"""Format of the files of a job's state: a job that a version with another format began starts over."""
TRIES: Final = 10
"""How often the rows are compared again if others keep changing the collection."""
CHUNK_FLOPS: Final = {"cpu": (1e11, 3e12), "cuda": (1e13, 3e14)}
"""Least and most work of a chunk: about 1 s and 30 s. A killed job loses the chunks it was at; files are one to a chunk."""
CHUNK_NUCLEOTIDES: Final = {"sequence": 4_000_000, "nucleotide": 500_000}
"""Most nucleotides of a chunk, for the memory of the process that holds it, or for the size of its file."""
CHUNKS_PER_WORKER: Final = 32
"""Chunks that each worker should get, so that none waits long for the last one."""


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
    from unirna import model  # here, and not above: workers that only read import this module without torch

    store, path = absolute(config.store), absolute(config.model, if_there=True)
    vectorstore.check_name(config.collection)
    name = config.collection if config.level == "sequence" else vectorstore.nucleotides_name(config.collection)

    # ---- the model must be the collection's, before anything else
    encoder = model.load(path, device="cpu", layer=config.layer)
    collection = vectorstore.open(store, name) if config.switch_model or vectorstore.exists(store, name) else None
    labels: dict[str, str] = {}
    identity: dict[str, Any] = {"format": STATE_FORMAT, "collection": name, "fingerprint": encoder.fingerprint}
    source: FileInput | CollectionInput
    if config.switch_model:
        pieces, files = list[InputPiece](), []
        identity |= {"switch": True}
    else:
        if collection is not None:
            collection.check_model(encoder.fingerprint, config.model)
        pieces = plan_pieces(
            [absolute(item) for item in config.inputs],
            piece_bytes=UNIT_BYTES,
            spool=None if "://" in store else f"{store}/{SPOOL}",
            encoding=config.encoding,
        )
        labels = _labels(config, pieces, collection)
        types = parse_types(config.column_type)
        source = FileInput(config.id_column, config.sequence_column, tuple(labels.items()), tuple(types.items()))
        files = stamps_of(piece.path for piece in pieces)
        contents = contents_of(piece.path for piece in pieces)
        identity |= {
            "pieces": [[p.path, p.start, p.end, p.encoding] for p in pieces],
            "files": contents,
            "source": asdict(source),
        }

    # ---- the job, and what is finished of it
    key = job_key(identity)
    state = State.of(store, name, key)
    state.begin()
    connect_ray()
    workers, _ = plan_workers(config.workers, config.cpus_per_worker)
    if state.has("commit.json"):
        note = state.read_json("commit.json")
        if vectorstore.committed_version(store, name, key, note["read_version"]) is not None:
            say("the collection already has this input: finishing the clean-up")
            if config.switch_model:
                vectorstore.tidy_overwritten(store, name, note["read_version"])
            return _finish(state, store, name, key, note["against"], pieces, note["summary"], config, encoder)
    label = vectorstore.version_name(store, name, vectorstore.table_version(store, name))
    if config.switch_model:
        assert collection is not None
        if collection.provenance.fingerprint == encoder.fingerprint:
            state.clear()
            return _switched_before(config, store, len(collection), encoder.fingerprint)
        begun = state.read_json("job.json")["version"] if state.has("job.json") else label
        if begun != label and not vectorstore.same_rows(store, name, begun):
            say("the collection has changed since this job began: starting over")
            state.clear()
            begun = label
        label = begun
        source = CollectionInput(store, name, vectorstore.number_of(label), SWITCH_ROWS)
        pieces = source.pieces()
    version = vectorstore.number_of(label)

    # ---- scan and resolve
    units = plan_units(pieces, UNIT_BYTES)
    if not state.has("job.json"):
        held = collection.info.num_rows if collection is not None else 0
        size = sum(p.bytes for p in pieces)
        buckets = min(1 + max(size // BUCKET_BYTES, held // HELD_ROWS), MOST_PARTS)
        parts = min(1 + size // PART_BYTES, MOST_PARTS)
        state.write_json("job.json", {**identity, "version": label, "buckets": buckets, "parts": parts})
    buckets, parts = (state.read_json("job.json")[number] for number in ("buckets", "parts"))
    # Where the whole collection is replaced its ids are no duplicates: the rows are prepared as for an empty one.
    against = "0" if config.switch_model else label
    scanned = scan(state, units, source, key, store, name, against, buckets, parts)
    check_unchanged(files)
    made = vectorstore.Provenance(
        config.model,
        encoder.fingerprint,
        pooling="mean" if config.level == "sequence" else "none",
        layer=config.layer,
        unirna=package_version(),
    )
    met = [text for s in scanned for text in s["labels"]]
    schema = settle_schema(met, encoder.dimension, made, None if config.switch_model else collection, config.level)
    resolved = resolve(state, against, buckets, parts, pieces)
    read, good = (sum(s[name] for s in scanned) for name in ("read", "good"))
    unchanged, duplicates = (sum(r[name] for r in resolved) for name in ("unchanged", "duplicate"))
    reasons = sum((Counter(s["rejected"]) for s in scanned), Counter({DUPLICATE: duplicates} if duplicates else {}))
    new = good - unchanged - duplicates
    nucleotides = sum(s["nucleotides"] for s in scanned) - sum(r["nucleotides"] for r in resolved)
    _tell_missing(scanned, labels, schema)

    # ---- embed
    run, earlier = state.start_run(
        against, pack_schema(schema), lambda *records: still_good(state, store, name, against, *records)
    )
    size = min(_chunk_nucleotides(encoder.config.flops([1]), nucleotides, workers), CHUNK_NUCLEOTIDES[config.level])
    plan = Plan(state, store, name, schema, against, run, parts, size, overwrite=config.switch_model)
    with ThreadPoolExecutor(16) as pool:
        before = list(pool.map(lambda record: read_record(state, record), earlier))
    at_first = sum(note["nucleotides"] for note in before)
    if config.level == "nucleotide":
        say(
            f"{nucleotides:,} nucleotides x {encoder.dimension} numbers of 2 bytes: "
            f"{nucleotides * encoder.dimension * 2 / 1e9:,.1f} GB in {name!r}"
        )
    if earlier:
        say(f"going on: {sum(note['rows'] for note in before):,} of {new:,} records are embedded already")
    embedding = time.monotonic()
    if at_first < nucleotides:
        workers = min(workers, -(-(nucleotides - at_first) // size))  # no more than there are chunks
        recipe = Recipe(config.batch_tokens, config.cpus_per_worker, config.level)
        rows_of_parts = [sum(s["parts"][part] for s in scanned) for part in range(parts)]
        embed(plan, recipe, encoder, earlier, rows_of_parts, workers, at_first, nucleotides)
    seconds = time.monotonic() - embedding

    # ---- commit
    with ThreadPoolExecutor(16) as pool:
        notes = before + list(pool.map(lambda record: read_record(state, record), state.records_of(run)))
    if (written := sum(note["rows"] for note in notes)) != new:
        raise JobError(
            f"{written:,} rows were written of {new:,}: files of the job's state in {state.uri} are gone. Remove that "
            "folder, and run the same command again: it starts over"
        )
    totals = {count: sum(note[count] for note in notes) for count in COUNTS}
    embedded = totals["distinct_nucleotides"] - sum(note["distinct_nucleotides"] for note in before)
    summary = {
        "collection": name,
        "store": config.store,
        "read": read,
        "stored": new + unchanged,
        "new": new,
        "unchanged": unchanged,
        "rejected": sum(reasons.values()),
        "rejected_by_reason": dict(sorted(reasons.items())),
        "windowed": totals["windowed"],
        "nucleotides": nucleotides,
        "distinct": totals["distinct"],
        "distinct_nucleotides": totals["distinct_nucleotides"],
        "seconds": round(time.monotonic() - started, 2),
        "embed_seconds": round(seconds, 2),
        "nucleotides_per_second": round(embedded / seconds, 1) if embedded else 0.0,
        "model": config.model,
        "fingerprint": encoder.fingerprint,
        "rejects": vectorstore.rejects_name(name) if reasons else None,
        "renamed_labels": renamed({old: new for old, new in labels.items() if new}),
        "replaced_labels": [old for old, new in labels.items() if not new and old in OURS],
    }
    assert summary["read"] == summary["stored"] + summary["rejected"]
    if new:
        if version and vectorstore.version_name(store, name, version) != label:
            raise vectorstore.ChangedError(f"{name!r} was dropped and created again while this job ran. Run it again")
        state.write_json("commit.json", {"read_version": version, "against": against, "summary": summary})
        fragments = [text for note in notes for text in note["fragments"]]
        put = vectorstore.overwrite if config.switch_model else vectorstore.commit
        put(store, name, schema, fragments, key=key, read_version=version)
    return _finish(state, store, name, key, against, pieces, summary, config, encoder)


def _finish(
    state: State,
    store: str,
    name: str,
    key: str,
    against: str,
    pieces: list[InputPiece],
    summary: dict[str, Any],
    config: EmbedConfig,
    encoder: Model,
) -> dict[str, Any]:
    """Save the rejects, build the index, measure chance, make the map, remove the state."""
    import ray

    if summary["rejected"] or vectorstore.exists(store, vectorstore.rejects_name(name)):
        sources = [piece.name for piece in pieces]
        ray.get(ray.remote(num_cpus=0)(save_rejects).remote(state, store, name, key, against, sources))
    if summary["stored"] and config.level == "sequence":
        summary["index"] = _index(store, name, config)
        summary["chance"] = _chance(store, name, encoder)
    if summary["stored"] and config.map:
        summary["map"] = make_map(store, name)
    state.clear()
    if not summary["stored"]:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in summary["rejected_by_reason"].items())
        raise JobError(
            f"nothing to store: {summary['read']} records read, {summary['rejected']} rejected ({reasons or 'none'}). "
            + (f"They are in table {summary['rejects']!r} of {store}" if summary["rejected"] else "The input is empty")
        )
    return summary


def _index(store: str, name: str, config: EmbedConfig) -> dict[str, Any] | str | None:
    """Build the index that was requested or that the collection needs; returns its measurement, or why there is none."""
    collection = vectorstore.open(store, name)
    there = collection.index
    if config.index == "none":
        return None
    if config.index == "auto" and not collection.kmers_fit_in_memory and not collection.has_kmer_index:
        say("building an index of the k-mers, for hybrid and verified searches")
        say(f"k-mers indexed in {vectorstore.build_kmer_index(store, name):,.0f} s")
    if config.index == "auto" and (there is not None or collection.fits_in_memory):
        return None
    kind = DEFAULT_INDEX if config.index == "auto" else config.index
    if there is not None and (there.kind, there.rows) == (kind, len(collection)):
        return asdict(there)
    say(f"building a {kind} index over {len(collection):,} vectors, and measuring it")
    try:
        index = vectorstore.build_index(store, name, kind=kind, min_recall=config.min_recall)
    except vectorstore.StoreError as error:  # the rows are there all the same, and searches exact
        say(f"no index: {error}")
        return str(error)
    return asdict(index)


def _chance(store: str, name: str, encoder: Model) -> dict[str, Any] | None:
    """Measure what random sequences find, where that is not known: where there are GPUs, on one."""
    import ray

    if num_gpus() and not measured(store, name):
        found = ray.get(ray.remote(num_cpus=1, num_gpus=1)(calibrate).remote(store, name, job=True))
    else:
        found = calibrate(store, name, encoder, job=True)
    return None if found is None else told(found)


def _switched_before(config: EmbedConfig, store: str, rows: int, fingerprint: str) -> dict[str, Any]:
    """The summary where the collection is the model's already."""
    counts = {"read": rows, "stored": rows, "new": 0, "unchanged": rows, "rejected": 0, "nucleotides": 0}
    names = {"collection": config.collection, "store": config.store, "model": config.model, "fingerprint": fingerprint}
    return {**names, **counts, **({"map": make_map(store, config.collection)} if config.map else {})}


# ---- labels --------------------------------------------------------------------------------------------------------


def _labels(config: EmbedConfig, pieces: list[InputPiece], collection: vectorstore.Collection | None) -> dict[str, str]:
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


# ---- settings that follow from the machine and the model -----------------------------------------------------------


def _chunk_nucleotides(flops: int, nucleotides: int, workers: int) -> int:
    """About how much one chunk should hold, for a model that does `flops` for one nucleotide."""
    least, most = CHUNK_FLOPS["cuda" if num_gpus() else "cpu"]
    fair = nucleotides // (workers * CHUNKS_PER_WORKER)
    return min(max(fair, int(least / flops)), int(most / flops))
