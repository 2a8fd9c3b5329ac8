"""How reliably near-duplicates are found: planted ones by identity, and how far the two clusterings agree.

    python benchmarks/near_duplicates.py                                         # planted relatives
    python benchmarks/near_duplicates.py --collection rfam_seed.parquet --id-column seq_id    # and the clusterings

Planted: random members of 50 to 400 nt; for each a copy with substitutions, deletions and insertions (one change in ten is
an insertion, one a deletion) at a stated identity, alone, between flanks of 200 random nt, or 60 % of it as a fragment. The
figure is the share that exclusion at the default 80 % identity and 80 % coverage finds, with MMseqs2 and with k-mers; below
80 % none should be found. Unrelated sequences and what is found of them are counted beside.

Clusterings: MMseqs2's against MinHash's on one collection: adjusted Rand index, precision and recall of pairs (of MinHash,
taking MMseqs2's pairs as the truth), and seconds. And what the split leaves: the share of validation sequences that still
have a near-duplicate in training, found by searching it.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from rich.console import Console
from rich.table import Table

from unirna.corpus import BuildConfig, Corpus, agreement, build, build_corpus
from unirna.corpus.mmseqs import mmseqs_version

LETTERS = np.array(list("..N..A.CGU"))
KINDS = ("alone", "flanked", "fragment")


@dataclass(frozen=True)
class Config:
    """Measure how reliably near-duplicates are found."""

    members: int = 200
    """Planted relatives of each kind and identity."""
    identities: tuple[float, ...] = (0.7, 0.75, 0.78, 0.8, 0.82, 0.85, 0.88, 0.9, 0.95)
    """Identities of the planted relatives."""
    collection: str | None = None
    """Sequences to cluster both ways."""
    id_column: str = "id"
    """Its column of ids."""
    out: str | None = None
    """JSON file for the figures."""


def build_with(tool: str, config: BuildConfig) -> dict[str, Any]:
    """Build with MMseqs2, or as where it is not installed."""
    with patch.object(build, "mmseqs_version", mmseqs_version if tool == "mmseqs2" else lambda: ""):
        return build_corpus(config)


def random_rna(chance: np.random.Generator, length: int) -> str:
    return "".join(chance.choice(list("ACGU"), length))


def relative(sequence: str, identity: float, chance: np.random.Generator) -> str:
    """A copy in which this share of the alignment's columns is the same."""
    letters = list(sequence)
    for i in sorted(chance.choice(len(letters), round((1 - identity) * len(letters)), replace=False), reverse=True):
        kind = chance.random()
        if kind < 0.1:
            del letters[i]
        elif kind < 0.2:
            letters.insert(i, chance.choice(list("ACGU")))
        else:
            letters[i] = chance.choice([c for c in "ACGU" if c != letters[i]])
    return "".join(letters)


def planted(config: Config, folder: Path, tool: str) -> dict[str, float]:
    """Share found, by kind and identity."""
    chance = np.random.default_rng(0)
    members = {f"m{i}": random_rna(chance, int(chance.integers(50, 401))) for i in range(config.members)}
    inputs: dict[str, str] = {f"unrelated_{i}": random_rna(chance, 300) for i in range(5 * config.members)}
    for identity in config.identities:
        for name, letters in members.items():
            inputs[f"alone {identity}_{name}"] = relative(letters, identity, chance)
            flanks = random_rna(chance, 200), random_rna(chance, 200)
            inputs[f"flanked {identity}_{name}"] = flanks[0] + relative(letters, identity, chance) + flanks[1]
            inputs[f"fragment {identity}_{name}"] = relative(letters[: len(letters) * 6 // 10], identity, chance)
    for name, records in (("in", inputs), ("members", members)):
        table = pa.table({"id": list(records), "sequence": list(records.values())})
        pq.write_table(table, folder / f"{name}.parquet")
    out = folder / tool
    build_with(tool, BuildConfig((str(folder / "in.parquet"),), str(out), 0, exclude=(str(folder / "members.parquet"),)))
    ids = pq.read_table(out / "excluded.parquet")["id"].to_pylist()
    found = Counter(name.split("_")[0] for name in ids)
    short = sum(len(letters) * 6 // 10 < 40 for letters in members.values())
    print(f"{tool}: {short} fragments are shorter than 40 nt")
    shares = {f"{k} {i}": found[f"{k} {i}"] / config.members for i in config.identities for k in KINDS}
    return {**shares, "unrelated": found["unrelated"] / (5 * config.members)}


def compare(config: Config, folder: Path) -> dict[str, Any]:
    """Both clusterings of a collection, side by side."""
    assert config.collection is not None
    found: dict[str, dict[str, int]] = {}
    figures: dict[str, Any] = {}
    for tool in ("mmseqs2", "minhash"):
        out = folder / f"clusters-{tool}"
        started = time.monotonic()
        settings = BuildConfig((config.collection,), str(out), 0.1, config.id_column, clustering="auto")
        manifest = build_with(tool, settings)
        figures[tool] = {"seconds": time.monotonic() - started, **manifest["clusters"]}
        parts = [pq.read_table(path, columns=["sha", "cluster"]) for path in sorted(out.glob("*.ids.parquet"))]
        rows = pa.concat_tables(parts)
        found[tool] = dict(zip(rows["sha"].to_pylist(), rows["cluster"].to_pylist(), strict=True))
        figures[tool]["leak"] = leak(out, folder / f"leak-{tool}")
    names = sorted(found["mmseqs2"])
    one, other = (np.array([found[tool][name] for name in names]) for tool in ("mmseqs2", "minhash"))
    return {**figures, "agreement": agreement(one, other)}


def leak(corpus: Path, out: Path) -> float:
    """Share of the validation sequences that a search finds near-identical to a training sequence."""
    for split in ("train", "valid"):
        part = Corpus(corpus, split)
        letters = ["".join(LETTERS[part[i]]) for i in range(len(part))]
        pq.write_table(
            pa.table({"id": [f"{split}{i}" for i in range(len(part))], "sequence": letters}), f"{out}-{split}.parquet"
        )
    train, valid = f"{out}-train.parquet", f"{out}-valid.parquet"
    manifest = build_corpus(BuildConfig((valid,), str(out), 0, exclude=(train,)))
    return float(manifest["excluded"] / manifest["read"])


def main(config: Config) -> None:
    """Measure and print."""
    figures: dict[str, Any] = {"mmseqs2": mmseqs_version()}
    if not figures["mmseqs2"]:
        raise SystemExit("needs the program mmseqs (Debian: apt-get install mmseqs2)")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shares = {tool: planted(config, folder, tool) for tool in ("mmseqs2", "minhash")}
        figures["planted"] = shares
        table = Table("identity", *(f"{tool} {kind}" for tool in shares for kind in KINDS))
        for identity in config.identities:
            table.add_row(str(identity), *(f"{s[f'{kind} {identity}']:.3f}" for s in shares.values() for kind in KINDS))
        Console().print(table)
        print("unrelated:", {tool: s["unrelated"] for tool, s in shares.items()})
        if config.collection:
            figures["clusterings"] = compare(config, folder)
            print(json.dumps(figures["clusterings"], indent=1))
    if config.out:
        Path(config.out).write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
