"""The corpus job: the parts of each stage are spread over a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from unirna.corpus.build import build_corpus
from unirna.corpus.config import BuildConfig
from unirna.job import connect_ray, raise_told, tell


def corpus_job(config: BuildConfig) -> dict[str, Any]:
    """Build a corpus on a Ray cluster.

    Returns:
        The summary: the corpus's folder, counts of what was read, kept and left out, the splits and the clusters.

    Raises:
        CorpusError, InputError: settings or inputs that cannot be used.
    """
    connect_ray()
    out = str(Path(config.out).absolute())
    manifest = build_corpus(replace(config, out=out), map_with_ray)
    splits = {name: {k: split[k] for k in ("sequences", "nucleotides")} for name, split in manifest["splits"].items()}
    counts = ("read", "kept", "rejected", "rejected_by_reason", "duplicates", "excluded", "excluded_by_set")
    return {
        "corpus": out,
        **{key: manifest[key] for key in counts},
        "splits": splits,
        "clustering": manifest["clustering"],
        "clusters": manifest["clusters"]["clusters"],
    }


def map_with_ray(function: Callable[[Any], dict[str, Any]], items: list[Any]) -> Iterable[dict[str, Any]]:
    """Apply a function to every item in Ray Data tasks; results come as they finish."""
    import ray.data

    def one(row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"result": function(row["item"])}
        except Exception as error:
            return {"failure": tell(error)}

    pieces = ray.data.from_items([{"item": item} for item in items], override_num_blocks=len(items))
    for row in pieces.map(one).iter_rows():
        raise_told(row.get("failure") or "")
        yield row["result"]
