"""The steps of the embedding job that run on the cluster. What they find goes to the job's state; counts come back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from unirna import vectorstore
from unirna.embed.plan import Plan, Recipe, read_record
from unirna.embed.resolve import exceptions_of, resolve_bucket
from unirna.embed.scan import CollectionInput, EmbedUnit, FileInput, scan_held, scan_unit
from unirna.embed.state import State, by_part
from unirna.embed.stream import among, chunk_row, chunks_of, pack_chunk, places
from unirna.job import Progress, raise_told, tell
from unirna.runs import on_ray, run_stage
from unirna.sequence import InputPiece

if TYPE_CHECKING:
    from unirna.model import Model  # tasks that only read import this module without torch

HELD_ROWS: Final = 1_000_000
"""Rows of the collection for each bucket, and for each task that reads its ids."""


def scan(
    state: State,
    units: list[EmbedUnit],
    source: FileInput | CollectionInput,
    job: str,
    store: str,
    collection: str,
    against: str,
    buckets: int,
    parts: int,
) -> list[dict[str, Any]]:
    """Scan every unit, and the ids of the collection; the counts of the units, in their order."""
    held = vectorstore.split_table(store, collection, vectorstore.number_of(against), HELD_ROWS) if against != "0" else []

    def unit(number: int) -> dict[str, Any]:
        return scan_unit(state, units[number], source, job, buckets, parts)

    scanned = _stage(state, "scan", len(units), unit, "scanning")
    _stage(
        state,
        f"held-{against}",
        len(held),
        lambda part: scan_held(state, store, collection, against, part, held[part], buckets),
        "reading stored ids",
    )
    return scanned


def resolve(state: State, against: str, buckets: int, parts: int, pieces: list[InputPiece]) -> list[dict[str, Any]]:
    """Resolve every bucket of ids; their counts."""
    sources = [piece.name for piece in pieces]
    return _stage(
        state, f"resolved-{against}", buckets, lambda bucket: resolve_bucket(state, against, bucket, sources, parts)
    )


def still_good(
    state: State, store: str, collection: str, against: str, run: str, records: list[str], changed: bool
) -> list[str]:
    """Those of earlier runs' records whose files are there and, where the collection has changed, hold no row of it."""
    groups = list(by_part(records).items())

    def unit(number: int) -> dict[str, Any]:
        part, names = groups[number]
        files = [read_record(state, name)["fragments"] for name in names]
        good = [name for name, there in zip(names, vectorstore.files_there(store, collection, files), strict=True) if there]
        if changed:
            held = np.sort(places(exceptions_of(state, against, part)))
            tables = {name: state.read_table(f"records/{name}.parquet", ["piece", "number"]) for name in good}
            good = [name for name, table in tables.items() if not among(places(table), held).any()]
        return {"records": good}

    return [name for kept in _stage(state, f"kept-{run}", len(groups), unit) for name in kept["records"]]


def _stage(
    state: State, name: str, count: int, unit: Callable[[int], dict[str, Any]], title: str = ""
) -> list[dict[str, Any]]:
    """Do a stage on the cluster, with a progress line if it has a title."""
    if not title:
        return run_stage(state, name, count, unit, spread=on_ray)
    progress = Progress(title, count, "parts")
    results = run_stage(state, name, count, unit, spread=on_ray, report=lambda numbers: progress.add(len(numbers)))
    if progress.done:
        progress.close()
    return results


def embed(
    plan: Plan,
    recipe: Recipe,
    encoder: Model,
    earlier: list[str],
    rows: list[int],
    workers: int,
    at_first: int,
    nucleotides: int,
) -> None:
    """Stream what is left through the actor pool.

    Args:
        encoder: on the CPU; its weights travel through Ray's object store, one copy for each node.
        earlier: names of the records of earlier runs. rows: good records of each part.
        at_first, nucleotides: embedded by earlier runs, and in all.
    """
    import ray

    from unirna.embed.embedder import Embedder
    from unirna.model import SharedModel

    records = by_part(earlier)

    def chunks(batch: dict[str, Any]) -> Iterator[pa.Table]:
        for part in batch["item"].tolist():
            try:
                for i, table in enumerate(chunks_of(plan, part, records.get(part, []), rows[part])):
                    yield chunk_row(part, i, pack_chunk(table), "")
            except Exception as error:
                yield chunk_row(part, 0, b"", tell(error))

    context = ray.data.DataContext.get_current().copy()
    # A chunk travels as one row and each row is a block of its own: Ray would otherwise join and cut blocks by size.
    context.target_max_block_size = 1
    with ray.data.DataContext.current(context):
        todo = ray.data.from_items(list(range(plan.parts)), override_num_blocks=plan.parts)
    # Readers ask for no core: the actors may hold them all, and a reader that waits for one would wait for ever.
    readers = ray.data.TaskPoolStrategy(size=min(plan.parts, max(workers, 2)))
    actors = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2)
    finished = todo.map_batches(chunks, batch_size=1, num_cpus=0, compute=readers).map_batches(
        Embedder,
        fn_constructor_args=(plan, recipe, ray.put(SharedModel.of(encoder))),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=recipe.threads,
        num_gpus=1 if num_gpus() else 0,
        compute=actors,
    )
    progress = Progress("embedding", nucleotides, "nt")
    progress.update(at_first)
    done = at_first
    with warnings.catch_warnings():
        # A pool larger than a small input needs is no fault of the user's.
        warnings.filterwarnings("ignore", message="The (minimum|maximum) number of concurrent")
        for batch in finished.iter_batches(batch_size=None, prefetch_batches=0):
            for failure in batch["failure"]:
                raise_told(str(failure))
            done += int(batch["nucleotides"].sum())
            progress.update(done)
    progress.close()


def num_gpus() -> int:
    """GPUs of the cluster."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))
