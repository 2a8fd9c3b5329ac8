"""The embedding job: scan, resolve, embed, commit.

1. Scan: each unit of the input is read once; bad records are set aside, ids of the good ones noted.
2. Resolve: duplicate ids, and records that the collection holds already, are found bucket by bucket.
3. Embed: the others stream through an actor pool that holds the model; each chunk is written beside the collection.
4. Commit: when the counts add up, all files become part of the collection in one step.

The driver sees counts, never rows. What is finished is noted in `State`, so the same command goes on after a kill.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from unirna import vectorstore
from unirna.embed.labels import settle_schema
from unirna.embed.plan import Plan, Recipe, read_record
from unirna.embed.rejects import DUPLICATE, save_rejects
from unirna.embed.resolve import resolve_bucket
from unirna.embed.scan import Source, Unit, plan_units, scan_held, scan_unit
from unirna.embed.state import State, job_key, manifest
from unirna.embed.stream import chunks_of, pack_chunk
from unirna.job import JobError, Progress, connect_ray, plan_workers, say
from unirna.sequence import Piece, plan_pieces

UNIT_BYTES: Final = 64 << 20
BUCKET_BYTES: Final = 1 << 30
"""Input for each bucket of ids: some million short records, so a few hundred MB in the process that compares them."""
HELD_ROWS: Final = 4_000_000
"""Rows of the collection for each bucket, and for each task that reads its ids."""
CHUNK_FLOPS: Final = {"cpu": (1e11, 3e12), "cuda": (1e13, 3e14)}
"""Least and most work of a chunk: about 1 s and 30 s. A killed job loses the chunks it was at; files are one to a chunk."""
CHUNK_NUCLEOTIDES: Final = 4_000_000
"""Most nucleotides of a chunk, for the memory of the process that holds it."""
CHUNKS_PER_WORKER: Final = 32
"""Chunks that each worker should get, so that none waits long for the last one."""


@dataclass(frozen=True)
class EmbedConfig:
    """Settings of an embedding job.

    Attributes:
        inputs: files, folders, globs or URIs. collection: where the vectors go. store: its store. model: what makes them.
        id_column, sequence_column: of table input. drop_labels: label columns to leave out.
        batch_tokens: tokens of one forward pass; None for what suits the device.
        workers: processes that hold the model; None for one to each GPU, or as the cores allow.
        cpus_per_worker: cores, and threads, of each.
    """

    inputs: tuple[str, ...]
    collection: str
    store: str
    model: str
    id_column: str = "id"
    sequence_column: str = "sequence"
    drop_labels: tuple[str, ...] = ()
    batch_tokens: int | None = None
    workers: int | None = None
    cpus_per_worker: int = 1


def embed_collection(config: EmbedConfig) -> dict[str, Any]:
    """Embed sequence files into a collection, created if it is absent; run again, it goes on or adds nothing.

    Returns:
        The summary: `read` = `stored` + `rejected`, `stored` = `new` + `unchanged` (id and sequence are
        there; the labels stored first stay, new ones for a known id are not taken up); `windowed` sequences among the new;
        `nucleotides` of the new and the rate at which this run embedded; names of collection, store, model and rejects.

    Raises:
        InputError: input that cannot be read. StoreError: labels that do not fit, or somebody else changed the collection.
        ModelMismatchError: the collection was made with another model. CheckpointError: no such model.
        JobError: no record could be stored, the input changed while it was read, or the cluster carries fewer workers.
    """
    from unirna import model  # here, and not above: workers that only read import this module without torch

    started = time.monotonic()
    store, path = _absolute(config.store), _absolute(config.model, if_there=True)
    vectorstore.check_name(config.collection)

    # ---- the model must be the collection's, before anything else
    encoder = model.load(path, device="cpu")
    collection = vectorstore.open(store, config.collection) if vectorstore.exists(store, config.collection) else None
    if collection is not None:
        collection.check_model(encoder.fingerprint, config.model)

    # ---- the job, and what is finished of it
    pieces = plan_pieces([_absolute(item) for item in config.inputs], piece_bytes=UNIT_BYTES)
    files = manifest(sorted({piece.path for piece in pieces}))
    source = Source(config.id_column, config.sequence_column, config.drop_labels)
    identity = {
        "collection": config.collection,
        "fingerprint": encoder.fingerprint,
        "pieces": [[p.path, p.start, p.end] for p in pieces],
        "files": files,
        "source": asdict(source),
    }
    key = job_key(identity)
    state = State.of(store, config.collection, key)
    connect_ray()
    workers, _ = plan_workers(config.workers, config.cpus_per_worker)
    if state.has("commit.json"):
        note = state.read_json("commit.json")
        if vectorstore.committed_version(store, config.collection, key, note["read_version"]) is not None:
            say("the collection has this input: finishing what was left to tidy up")
            return _finish(state, store, config, key, note["read_version"], pieces, note["summary"])

    # ---- scan and resolve
    units = plan_units(pieces, UNIT_BYTES)
    version = vectorstore.table_version(store, config.collection)
    if not state.has("job.json"):
        held = collection.info.num_rows if collection is not None else 0
        buckets = 1 + max(sum(p.bytes for p in pieces) // BUCKET_BYTES, held // HELD_ROWS)
        state.write_json("job.json", {**identity, "buckets": buckets})
    buckets = state.read_json("job.json")["buckets"]
    scanned = _scan(state, units, source, key, store, config.collection, version, buckets)
    made = vectorstore.Provenance(config.model, encoder.fingerprint, unirna=package_version("unirna"))
    labels = [text for s in scanned for text in s["labels"]]
    schema = settle_schema(labels, encoder.dimension, made, collection)
    resolved = _resolve(state, version, buckets, pieces)
    read, good = (sum(s[name] for s in scanned) for name in ("read", "good"))
    unchanged, duplicates = (sum(r[name] for r in resolved) for name in ("unchanged", "duplicate"))
    reasons = sum((Counter(s["rejected"]) for s in scanned), Counter({DUPLICATE: duplicates} if duplicates else {}))
    new = good - unchanged - duplicates
    nucleotides = sum(s["nucleotides"] for s in scanned) - sum(r["nucleotides"] for r in resolved)
    replaced = sorted({name for s in scanned for name in s["replaced"]})
    if replaced:
        say(f"label columns replaced by columns of our own: {', '.join(replaced)}")

    # ---- embed
    run, earlier = state.start_run(version)
    size = _chunk_nucleotides(encoder.config.flops([1]), nucleotides, workers)
    plan = Plan(state, store, config.collection, schema, version, run, source, size)
    with ThreadPoolExecutor(16) as pool:
        before = list(pool.map(lambda name: read_record(plan, name), earlier))
    at_first = sum(note["nucleotides"] for note in before)
    if earlier:
        say(f"going on: {sum(note['rows'] for note in before):,} of {new:,} records are embedded already")
    embedding = time.monotonic()
    if at_first < nucleotides:
        workers = min(workers, -(-(nucleotides - at_first) // size))  # no more than there are chunks
        recipe = Recipe(path, encoder.fingerprint, config.batch_tokens, config.cpus_per_worker)
        _embed(plan, recipe, units, earlier, [s["good"] for s in scanned], workers, at_first, nucleotides)
    seconds = time.monotonic() - embedding

    # ---- commit
    with ThreadPoolExecutor(16) as pool:
        notes = before + list(pool.map(lambda name: read_record(plan, name), state.records_of(run)))
    if sum(note["rows"] for note in notes) != new or manifest([path for path, _, _ in files]) != files:
        raise JobError("the input changed while it was read. Run the same command again: it starts with the new input")
    embedded = nucleotides - at_first
    summary = {
        "collection": config.collection,
        "store": config.store,
        "read": read,
        "stored": new + unchanged,
        "new": new,
        "unchanged": unchanged,
        "rejected": sum(reasons.values()),
        "rejected_by_reason": dict(sorted(reasons.items())),
        "windowed": sum(note["windowed"] for note in notes),
        "nucleotides": nucleotides,
        "seconds": round(time.monotonic() - started, 2),
        "embed_seconds": round(seconds, 2),
        "nucleotides_per_second": round(embedded / seconds, 1) if embedded else 0.0,
        "model": config.model,
        "fingerprint": encoder.fingerprint,
        "rejects": vectorstore.rejects_name(config.collection) if reasons else None,
        "replaced_labels": replaced,
    }
    assert summary["read"] == summary["stored"] + summary["rejected"]
    if new:
        state.write_json("commit.json", {"read_version": version, "summary": summary})
        fragments = [text for note in notes for text in note["fragments"]]
        vectorstore.commit(store, config.collection, schema, fragments, key=key, read_version=version)
    return _finish(state, store, config, key, version, pieces, summary)


# ---- the four steps ------------------------------------------------------------------------------------------------


def _scan(
    state: State,
    units: list[Unit],
    source: Source,
    job: str,
    store: str,
    collection: str,
    version: int,
    buckets: int,
) -> list[dict[str, Any]]:
    """Scan every unit, and the ids of the collection; the counts of the units, in their order."""
    parts = vectorstore.split_table(store, collection, version, HELD_ROWS) if version else []

    def scan(item: int) -> None:
        if item < len(units):
            scan_unit(state, units[item], source, job, buckets)
        else:
            part = item - len(units)
            scan_held(state, store, collection, version, part, parts[part], buckets)

    items = len(units) + len(parts)
    progress = Progress("scanning", items, "parts")
    for done, _ in enumerate(_each(items, scan), 1):
        progress.update(done)
    progress.close()
    return [state.read_json(f"scan/{unit.number:06d}.json") for unit in units]


def _resolve(state: State, version: int, buckets: int, pieces: list[Piece]) -> list[dict[str, Any]]:
    """Resolve every bucket of ids; their counts."""
    sources = [piece.name for piece in pieces]

    for _ in _each(buckets, lambda bucket: resolve_bucket(state, version, bucket, sources)):
        pass
    return [state.read_json(f"resolved-{version}/{bucket:06d}.json") for bucket in range(buckets)]


def _each(count: int, work: Callable[[int], object]) -> Iterator[None]:
    """Do `work` for the numbers below `count` on the cluster; it writes what it finds, nothing comes back.

    One alone is done here: a worker would take longer to start than a unit takes.
    """
    import ray

    if count == 1:
        work(0)
        yield
        return

    def one(row: dict[str, Any]) -> dict[str, Any]:
        work(row["item"])
        return {"done": 1}

    data = ray.data.from_items(list(range(count)), override_num_blocks=count)
    for _ in data.map(one, num_cpus=1).iter_batches(batch_size=1, prefetch_batches=0):
        yield


def _embed(
    plan: Plan,
    recipe: Recipe,
    units: list[Unit],
    earlier: list[str],
    good: list[int],
    workers: int,
    at_first: int,
    nucleotides: int,
) -> None:
    """Stream what is left through the actor pool."""
    import ray

    from unirna.embed.embedder import Embedder

    records: dict[int, list[str]] = {}
    for name in earlier:
        records.setdefault(int(name.split("-")[0]), []).append(name)

    def chunks(batch: dict[str, Any]) -> Iterator[pa.Table]:
        for number in batch["item"].tolist():
            for i, table in enumerate(chunks_of(plan, units[number], records.get(number, []), good[number])):
                row = {"unit": [number], "chunk": [i], "table": pa.array([pack_chunk(table)], pa.large_binary())}
                yield pa.table(row)

    context = ray.data.DataContext.get_current().copy()
    # A chunk travels as one row and each row is a block of its own: Ray would otherwise join and cut blocks by size.
    context.target_max_block_size = 1
    with ray.data.DataContext.current(context):
        todo = ray.data.from_items(list(range(len(units))), override_num_blocks=len(units))
    # Readers ask for no core: the actors may hold them all, and a reader that waits for one would wait for ever.
    readers = ray.data.TaskPoolStrategy(size=min(len(units), max(workers, 2)))
    actors = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2)
    finished = todo.map_batches(chunks, batch_size=1, num_cpus=0, compute=readers).map_batches(
        Embedder,
        fn_constructor_args=(plan, recipe),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=recipe.threads,
        num_gpus=1 if _gpus() else 0,
        compute=actors,
    )
    progress = Progress("embedding", nucleotides, "nt")
    progress.update(at_first)
    done = at_first
    with warnings.catch_warnings():
        # A pool larger than a small input needs is no fault of the user's.
        warnings.filterwarnings("ignore", message="The (minimum|maximum) number of concurrent")
        for batch in finished.iter_batches(batch_size=None, prefetch_batches=0):
            done += int(batch["nucleotides"].sum())
            progress.update(done)
    progress.close()


def _finish(
    state: State,
    store: str,
    config: EmbedConfig,
    key: str,
    version: int,
    pieces: list[Piece],
    summary: dict[str, Any],
) -> dict[str, Any]:
    """Save the rejects, remove the state."""
    import ray

    if summary["rejected"] or vectorstore.exists(store, vectorstore.rejects_name(config.collection)):
        sources = [piece.name for piece in pieces]
        ray.get(ray.remote(num_cpus=0)(save_rejects).remote(state, store, config.collection, key, version, sources))
    state.clear()
    if not summary["stored"]:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in summary["rejected_by_reason"].items())
        raise JobError(
            f"nothing to store: {summary['read']} records read, {summary['rejected']} rejected ({reasons or 'none'}). "
            + (
                f"They are in table {summary['rejects']!r} of {config.store}"
                if summary["rejected"]
                else "The input is empty"
            )
        )
    return summary


# ---- settings that follow from the machine and the model -----------------------------------------------------------


def _gpus() -> int:
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


def _chunk_nucleotides(flops: int, nucleotides: int, workers: int) -> int:
    """About how much one chunk should hold, for a model that does `flops` for one nucleotide."""
    least, most = CHUNK_FLOPS["cuda" if _gpus() else "cpu"]
    fair = nucleotides // (workers * CHUNKS_PER_WORKER)
    return min(max(fair, int(least / flops)), int(most / flops), CHUNK_NUCLEOTIDES)


def _absolute(path: str, *, if_there: bool = False) -> str:
    """A local path in the form that every worker on this machine reads alike; URIs as they are."""
    if "://" in path or path == "-" or (if_there and not Path(path).exists()):
        return path
    return str(Path(path).absolute())
