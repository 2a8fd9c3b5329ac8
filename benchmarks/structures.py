"""Structures against known ones: mean F1 of base pairs of the shipped predictor, and of RNAfold where it is installed.

    python benchmarks/structures.py --data ../shared/data/pdb_rna_ss/data.parquet --part test
    python benchmarks/structures.py --data ../shared/data/archiveII/data.parquet --longest 500 --by family
    python benchmarks/structures.py --data ../shared/data/rfam_seed/rfam_seed.parquet --by rfam_acc --each 3 \\
        --groups ../shared/bench/retrieval_dev/test_families.tsv --longest 500 --least-pairs 3 \\
        --unlike ../shared/data/bprna_1m_subset/data.parquet

The table has sequence and either base_pairs (a JSON list of pairs from 1) or structure (brackets), and perhaps partition.
"""

from __future__ import annotations

import bisect
import importlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tyro

from unirna.fold import load_structure_predictor
from unirna.sequence import parse_dot_bracket

Pairs = set[tuple[int, int]]


@dataclass(frozen=True)
class Config:
    """Score structures."""

    data: str
    """The table."""
    part: str = ""
    """Rows of this partition alone."""
    longest: int = 4_000
    """Longer sequences are left out."""
    by: str = ""
    """Column by whose values the means are given, too."""
    each: int = 0
    """Take so many rows of each value of that column, at random, and give the mean over these values; 0 for all."""
    groups: str = ""
    """A table whose first column has the values of that column that are taken; by default all are."""
    unlike: str = ""
    """The bpRNA table: with `--by rfam_acc`, leave out families that its training part (TR0) has members of."""
    least_pairs: int = 0
    """Rows whose known structure has fewer pairs are left out."""


def main(config: Config) -> None:
    """Fold, compare, print."""
    rows = pq.read_table(config.data).to_pylist()
    rows = [row for row in rows if not config.part or row["partition"] == config.part]
    rows = [row for row in rows if len(row["sequence"]) <= config.longest]
    rows = [row for row in rows if len(_known(row)) >= config.least_pairs]
    if config.groups:
        taken = {line.split("\t")[0] for line in Path(config.groups).read_text(encoding="utf-8").splitlines()}
        rows = [row for row in rows if row[config.by] in taken]
    if config.unlike:
        seen = trained_families(config.unlike, config.data)
        rows = [row for row in rows if row[config.by] not in seen]
    if config.each:
        order = np.random.default_rng(0).permutation(len(rows))
        count: Counter[str] = Counter()
        chosen = []
        for i in order.tolist():
            count[rows[i][config.by]] += 1
            if count[rows[i][config.by]] <= config.each:
                chosen.append(i)
        rows = [rows[i] for i in sorted(chosen)]
    letters = [re.sub("[^ACGU]", "N", row["sequence"].upper().replace("T", "U")) for row in rows]
    truth = [_known(row) for row in rows]
    found = load_structure_predictor().fold(letters)
    scored = {"this": [f1({(int(i), int(j)) for i, j in f.pairs}, known) for f, known in zip(found, truth, strict=True)]}
    for name, fold in _rnafold().items():
        scored[name] = [f1(fold(text), known) for text, known in zip(letters, truth, strict=True)]
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if config.by:
            groups[str(row[config.by])].append(i)
    print(f"{len(rows):,} sequences: " + ", ".join(f"{name} {np.mean(values):.3f}" for name, values in scored.items()))
    if config.each:
        by_group = {
            name: [np.mean([values[i] for i in members]) for members in groups.values()] for name, values in scored.items()
        }
        print(f"mean over {len(groups):,} groups: " + ", ".join(f"{k} {np.mean(v):.3f}" for k, v in by_group.items()))
        ours = np.array(by_group.pop("this"))
        random = np.random.default_rng(0)
        for other, values in by_group.items():
            apart = ours - np.array(values)
            drawn = [apart[random.integers(len(apart), size=len(apart))].mean() for _ in range(2_000)]
            low, high = np.quantile(drawn, [0.025, 0.975])
            print(f"  this less {other}: {apart.mean():+.3f}, 95 % of bootstraps over groups {low:+.3f} to {high:+.3f}")
        return
    for group, members in sorted(groups.items()):
        means = ", ".join(f"{name} {np.mean([values[i] for i in members]):.3f}" for name, values in scored.items())
        print(f"  {group} ({len(members):,}): {means}")


def trained_families(bprna: str, rfam: str) -> set[str]:
    """Rfam families of the entries of TR0.

    bpRNA numbers its Rfam entries in the order of the families, so an entry's family lies between those of the nearest
    numbers whose sequences are seed sequences of Rfam.
    """
    family_of = {
        row["sequence"].upper().replace("T", "U"): row["rfam_acc"]
        for row in pq.read_table(rfam, columns=["sequence", "rfam_acc"]).to_pylist()
    }
    entries = []
    for row in pq.read_table(bprna, columns=["id", "sequence", "partition_spotrna"]).to_pylist():
        if "RFAM" in row["id"]:
            family = family_of.get(row["sequence"].upper().replace("T", "U"))
            entries.append((int(row["id"].rsplit("_", 1)[1]), family, row["partition_spotrna"] == "TR0"))
    entries.sort(key=lambda entry: entry[0])
    anchors = [(number, int(family[2:])) for number, family, _ in entries if family is not None]
    numbers, families = zip(*anchors, strict=True)
    found: set[str] = set()
    for number, _, trained in entries:
        if trained:
            low = families[max(bisect.bisect_right(numbers, number) - 1, 0)]
            high = families[min(bisect.bisect_left(numbers, number), len(numbers) - 1)]
            found |= {f"RF{family:05d}" for family in range(min(low, high), max(low, high) + 1)}
    return found


def f1(predicted: Pairs, known: Pairs) -> float:
    """Of two sets of pairs; 1 where both are empty."""
    if not predicted and not known:
        return 1.0
    return 2 * len(predicted & known) / (len(predicted) + len(known))


def _known(row: dict[str, str]) -> Pairs:
    if "base_pairs" in row:
        return {(i - 1, j - 1) for i, j in json.loads(row["base_pairs"])}
    return {(int(i), int(j)) for i, j in parse_dot_bracket(row["structure"])}


def _rnafold() -> dict[str, Callable[[str], Pairs]]:
    try:
        RNA = importlib.import_module("RNA")
    except ImportError:
        print("RNAfold is not here (pip install ViennaRNA)")
        return {}

    def fold(text: str, *, centroid: bool) -> Pairs:
        compound = RNA.fold_compound(text)
        brackets, energy = compound.mfe()
        if centroid:
            compound.exp_params_rescale(energy)
            compound.pf()
            brackets = compound.centroid()[0]
        return {(int(i), int(j)) for i, j in parse_dot_bracket(brackets)}

    return {
        "RNAfold, minimum energy": lambda text: fold(text, centroid=False),
        "RNAfold, centroid": lambda text: fold(text, centroid=True),
    }


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
