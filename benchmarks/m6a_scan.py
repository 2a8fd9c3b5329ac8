"""What a scan with the m6A predictor finds where nothing is methylated: calls per 1,000 adenosines of coding sequences.

    python benchmarks/m6a_scan.py --data data/yeast_cds_halflife/data.parquet --sites data/m6a_41nt/data.parquet
    python benchmarks/m6a_scan.py … --update weights/predictors/m6a

Yeast methylates its mRNA in meiosis alone, by Ime4 (Clancy et al. 2002, Nucleic Acids Res 30:4509; Schwartz et al. 2013,
Cell 155:1409), so in growing cells every call is a false positive. Its coding sequences are no training data, but of other
composition than human and mouse transcripts. Windows of 41 nt with an adenosine in the middle are asked by context: DRACH,
AC outside of DRACH, and A that is not followed by C, of which training saw none: for those the requirements are passed
over. The share of sites that are found is of test windows of the predictor's own data.

Prints the figures as JSON. `--update` writes them into the predictor's folder and onto its card, with the lowest threshold
at which no tissue has more than `--most` calls per 1,000 DRACH adenosines.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import tyro
from numpy.typing import NDArray

from unirna.sequence import normalise
from unirna.tasks import TASKS, Motif, Predictor, find_definition, list_predictors, load_predictor
from unirna.tasks.card import write_card

FLANK = 20
DRACH, AC = Motif("DRACH", offset=-2), Motif("AC")
CONTEXTS = ("DRACH", "AC outside of DRACH", "A not followed by C")
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PRIORS = (0.01, 0.05, 0.1)
"""Shares of DRACH adenosines that are methylated, for which precision is given."""


@dataclass(frozen=True)
class Config:
    """Scan coding sequences."""

    data: Path
    """Parquet with coding sequences in the column `sequence`."""
    sites: Path
    """The table that the predictor was made from, for sites of its test split."""
    windows: int = 4000
    """Windows of each context, drawn at random."""
    most: float = 50.0
    """Most calls per 1,000 DRACH adenosines in any tissue at the threshold."""
    seed: int = 0
    """Of the draws."""
    update: Path | None = None
    """Folder of the predictor that the figures are written into."""


def context_of(window: str) -> str:
    """One of `CONTEXTS`."""
    return CONTEXTS[0 if DRACH.mismatch(window) is None else 1 if AC.mismatch(window) is None else 2]


def windows_of(path: Path) -> dict[str, list[str]]:
    """All windows with an adenosine in the middle, by their context."""
    pools: dict[str, list[str]] = {name: [] for name in CONTEXTS}
    for text in pq.read_table(path, columns=["sequence"])["sequence"].to_pylist():
        sequence = normalise(text)
        for at in range(FLANK, len(sequence) - FLANK):
            if sequence[at] == "A":
                window = sequence[at - FLANK : at + FLANK + 1]
                pools[context_of(window)].append(window)
    return pools


def probabilities_of(predictor: Predictor, windows: list[str]) -> NDArray[np.float64]:
    """Of each label, float64 [N, C], whatever the requirements say."""
    found: NDArray[np.float64] = TASKS[predictor.task].answer(predictor.outputs(predictor.vectors(windows), windows))
    return found


def main() -> int:
    """Scan and print."""
    config = tyro.cli(Config, description=__doc__)
    started, chance = time.monotonic(), np.random.default_rng(config.seed)
    predictor = load_predictor(config.update or list_predictors(None)["m6a"])
    labels = predictor.labels

    pools = windows_of(config.data)
    calls = {}
    for name, pool in pools.items():
        rows = chance.choice(len(pool), min(config.windows, len(pool)), replace=False)
        calls[name] = probabilities_of(predictor, [pool[i] for i in rows.tolist()])
    table = find_definition("m6a").read(config.sites)
    rows = np.flatnonzero(np.array(table["split"].to_pylist()) == "test")
    tested = table.take(np.sort(chance.choice(rows, min(config.windows, len(rows)), replace=False))).to_pylist()
    tested = [row for row in tested if context_of(row["sequence"]) == "DRACH"]
    truth = np.array([[np.nan if row[label] is None else row[label] for label in labels] for row in tested])
    chances = probabilities_of(predictor, [row["sequence"] for row in tested])

    def false_calls(name: str, threshold: float) -> list[float]:
        return [round(1000 * share, 1) for share in (calls[name] > threshold).mean(axis=0).tolist()]

    def recall(threshold: float) -> list[float]:
        said = chances > threshold
        return [round(float(said[truth[:, c] == 1, c].mean()), 3) for c in range(len(labels))]

    steps = [round(step, 2) for step in np.arange(0.5, 0.995, 0.01).tolist()]
    threshold = next((t for t in steps if max(false_calls("DRACH", t)) <= config.most), steps[-1])
    shown = sorted({*THRESHOLDS, threshold})
    scan: dict[str, Any] = {
        "labels": labels,
        "adenosines": {name: len(pool) for name, pool in pools.items()},
        "windows": {name: len(found) for name, found in calls.items()},
        "sites": [int((truth[:, c] == 1).sum()) for c in range(len(labels))],
        "most": config.most,
        "false_calls_per_1000": {name: {str(t): false_calls(name, t) for t in shown} for name in CONTEXTS},
        "recall": {str(t): recall(t) for t in shown},
    }
    scan["card"] = card_of(scan, threshold, shown)
    print(json.dumps({**scan, "threshold": threshold, "seconds": round(time.monotonic() - started, 1)}, indent=1))
    if config.update is not None:
        info = predictor.info | {"threshold": threshold, "scan": scan}
        (config.update / "predictor.json").write_text(json.dumps(info, indent=1) + "\n")
        (config.update / "card.md").write_text(write_card(info))
    return 0


def card_of(scan: dict[str, Any], threshold: float, shown: list[float]) -> list[str]:
    """What a scan should expect, as lines of Markdown."""
    calls, found = scan["false_calls_per_1000"], scan["recall"]
    adenosines = ", ".join(f"{count:,} {name}" for name, count in scan["adenosines"].items())
    lines = [
        "## What a scan should expect",
        "",
        "In its training data half of the adenosines are sites; in a transcript few are. Asked were windows of the coding "
        f"sequences of yeast ({adenosines}; {max(scan['windows'].values()):,} of each drawn), which methylates no mRNA in "
        "growing cells, so that every call is a false positive. They are no test data, and of other composition than "
        "mammalian transcripts. Calls per 1,000 adenosines, lowest to highest of the tissues, and the share of the DRACH "
        "sites of the test that are found:",
        "",
        "| threshold | " + " | ".join(CONTEXTS) + " (refused) | DRACH sites found |",
        "|--:|" + "---|" * (len(CONTEXTS) + 1),
    ]
    for t in shown:
        cells = [_range(calls[name][str(t)], ".0f") for name in CONTEXTS]
        mark = " (shipped)" if t == threshold else ""
        lines.append(f"| {t:g}{mark} | " + " | ".join(cells) + f" | {_range(found[str(t)], '.2f')} |")
    rates = [(r, f / 1000) for r, f in zip(found[str(threshold)], calls["DRACH"][str(threshold)], strict=True)]
    precision = {p: [p * r / (p * r + (1 - p) * f) for r, f in rates] for p in PRIORS}
    words = ", ".join(f"{_range(values, '.2f')} where {p:.0%} are" for p, values in precision.items())
    lines += [
        "",
        f"The threshold is the lowest at which no tissue has more than {scan['most']:g} false calls per 1,000 DRACH "
        f"adenosines. Of the DRACH adenosines that are called, the share that are sites is then {words}. State the share "
        "(`prior`) to have probabilities for it.",
        "",
        "`python benchmarks/m6a_scan.py --data data/yeast_cds_halflife/data.parquet --sites data/m6a_41nt/data.parquet`",
    ]
    return lines


def _range(values: list[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}}"


if __name__ == "__main__":
    sys.exit(main())
