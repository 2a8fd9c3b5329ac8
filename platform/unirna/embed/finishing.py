"""What the embedding job does once the rows are there: rejects, index, chance, map, and the end of its state."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from unirna import vectorstore
from unirna.base.job_settings import EmbedConfig
from unirna.embed.chance import calibrate, measured, told
from unirna.embed.projection import make_map
from unirna.embed.rejects import save_rejects
from unirna.embed.request import Request
from unirna.embed.state import State
from unirna.embed.steps import num_gpus
from unirna.job import JobError, say

if TYPE_CHECKING:
    from unirna.model import Model

DEFAULT_INDEX: Final = "hnsw"


def finish(request: Request, state: State, against: str, sources: list[str], summary: dict[str, Any]) -> dict[str, Any]:
    """Save the rejects, build the index, measure chance, make the map, remove the state.

    Args:
        request: of the job. state: of the job. against: the version of the collection that the input was compared with.
        sources: names of all pieces of the input. summary: so far.

    Returns:
        The whole summary.

    Raises:
        JobError: no record could be stored.
    """
    import ray

    store, name, config = request.store, request.name, request.config
    if summary["rejected"] or vectorstore.exists(store, vectorstore.rejects_name(name)):
        ray.get(ray.remote(num_cpus=0)(save_rejects).remote(state, store, name, request.key, against, sources))
    if summary["stored"] and config.level == "sequence":
        summary["index"] = _index(store, name, config)
        summary["chance"] = _chance(store, name, request.encoder)
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


def switched_before(request: Request) -> dict[str, Any]:
    """The summary where the collection is the model's already."""
    rows = 0 if request.collection is None else len(request.collection)
    config, fingerprint = request.config, request.encoder.fingerprint
    counts = {"read": rows, "stored": rows, "new": 0, "unchanged": rows, "rejected": 0, "nucleotides": 0}
    names = {"collection": config.collection, "store": config.store, "model": config.model, "fingerprint": fingerprint}
    return {**names, **counts, **({"map": make_map(request.store, config.collection)} if config.map else {})}


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
