"""Seconds to fold random RNA of several lengths: our steps one by one, beside RNAfold where ViennaRNA is installed.

    python benchmarks/fold.py --lengths 100 200 500 1000 --threads 1

`encoder` is the pass through the model, `network` the scores of all pairs, `sum` the sum over all structures with the
probability of every pair, `decode` the structure from them, with the second sum in which crossing helices are looked for.
RNAfold: `fold_compound.pf()` and `mea()`, the same two things by published energies. The median of `--times` runs each.
"""

from __future__ import annotations

import importlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from unirna.fold import StructurePredictor, fold_all, load_structure_predictor
from unirna.model import tokenise


@dataclass(frozen=True)
class Config:
    """Measure folding."""

    lengths: tuple[int, ...] = (100, 200, 500, 1000)
    """Nucleotides."""
    threads: int = 1
    """Of torch; the sums over structures take one."""
    times: int = 5
    """Runs of each."""
    predictor: str = "secondary-structure"
    """Shipped name or folder."""
    out: str = ""
    """A JSON file for the results."""


def main(config: Config) -> None:
    """Measure and print."""
    torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)
    predictor = load_structure_predictor(config.predictor)
    predictor.fold(["GGGGAAAACCCC"])  # compiles
    random = np.random.default_rng(0)
    rows = {n: measure(predictor, "".join(random.choice(list("ACGU"), n)), config.times) for n in config.lengths}
    table = Table("nt", *next(iter(rows.values())), title="milliseconds")
    for length, row in rows.items():
        table.add_row(f"{length:,}", *(f"{1e3 * value:,.1f}" for value in row.values()))
    Console().print(table)
    if config.out:
        Path(config.out).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measure(predictor: StructurePredictor, sequence: str, times: int) -> dict[str, float]:
    """Seconds of each step for one sequence."""
    states = predictor.model.nucleotides(sequence)
    scores = predictor.pair_scores(sequence, states)
    row = {
        "encoder": _seconds(lambda: predictor.model.nucleotides_tokens([tokenise(sequence)]), times),
        "network": _seconds(lambda: predictor.pair_scores(sequence, states), times),
        "sum": _seconds(lambda: fold_all(sequence, predictor.energies, scores), times),
        "sum and decode": _seconds(lambda: predictor.decode(sequence, scores), times),
    }
    row["after the encoder"] = row["network"] + row["sum and decode"]
    vienna = _vienna()
    if vienna is not None:
        row["RNAfold"] = _seconds(lambda: vienna(sequence), times)
    return row


def _seconds(work: Callable[[], Any], times: int) -> float:
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def _vienna() -> Callable[[str], Any] | None:
    try:
        rna: Any = importlib.import_module("RNA")
    except ImportError:
        return None

    def fold(sequence: str) -> Any:
        compound = rna.fold_compound(sequence)
        compound.pf()
        return compound.MEA()

    return fold


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
