"""The corpus job: the parts of each stage are spread over a Ray cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from unirna.corpus.build import build_corpus
from unirna.corpus.config import BuildConfig
from unirna.job import connect_ray
from unirna.runs import on_ray


def corpus_job(config: BuildConfig) -> dict[str, Any]:
    """Build a corpus on a Ray cluster.

    Returns:
        The summary: the corpus's folder, counts of what was read, kept and left out, the splits and the clusters.

    Raises:
        CorpusError, InputError: settings or inputs that cannot be used.
    """
    connect_ray()
    out = str(Path(config.out).absolute())
    manifest = build_corpus(replace(config, out=out), on_ray)
    splits = {name: {k: split[k] for k in ("sequences", "nucleotides")} for name, split in manifest["splits"].items()}
    counts = ("read", "kept", "rejected", "rejected_by_reason", "duplicates", "excluded", "excluded_by_set")
    return {
        "corpus": out,
        **{key: manifest[key] for key in counts},
        "splits": splits,
        "clustering": manifest["clustering"],
        "clusters": manifest["clusters"]["clusters"],
    }
