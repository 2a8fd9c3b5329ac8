"""What a scan with the m6A predictor finds where nothing is methylated: calls per 1,000 adenosines of coding sequences.

    python benchmarks/m6a_scan.py --data data/yeast_cds_halflife/data.parquet --sites data/m6a_41nt/data.parquet
    python benchmarks/m6a_scan.py … --update weights/predictors/m6a

Yeast methylates its mRNA in meiosis alone, by Ime4 (Clancy et al. 2002, Nucleic Acids Res 30:4509; Schwartz et al. 2013,
Cell 155:1409), so in growing cells every call is a false positive. Its coding sequences are no training data, but of other
composition than human and mouse transcripts. Windows of 41 nt with an adenosine in the middle are asked by context: DRACH,
AC outside of DRACH, and A that is not followed by C, of which training saw none: for those the requirements are passed
over. The share of sites that are found is of test windows of the predictor's own data.

Prints the figures as JSON. `--update` writes them into the predictor's folder and onto its card, with the lowest threshold
of each tissue at which it has at most `--most` calls per 1,000 DRACH adenosines.
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
    """Most calls per 1,000 DRACH adenosines at the threshold of a tissue."""
    seed: int = 0
    """Of the draws."""
    update: Path | None = None
    """Folder of the predictor that the figures are written into."""


def context_of(window: str) -> str:
    """One of `CONTEXTS`."""
    return CONTEXTS[0 if DRACH.mismatch(window) is None else 1 if AC.mismatch(window) is None else 2]


def windows_of(path: Path, count: int, chance: np.random.Generator) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Windows drawn from those with an adenosine in the middle, and how many there are, by their context."""
    sequences = [normalise(text) for text in pq.read_table(path, columns=["sequence"])["sequence"].to_pylist()]
    starts = np.cumsum([0, *map(len, sequences)])
    letters = np.frombuffer("".join(sequences).encode(), np.uint8)
    places = np.flatnonzero(letters == ord("A"))
    which = np.searchsorted(starts, places, "right") - 1
    inside = (places - starts[which] >= FLANK) & (starts[which + 1] - places > FLANK)
    places, which = places[inside], which[inside]
    before, two_before = letters[places - 1], letters[places - 2]
    ac = letters[places + 1] == ord("C")
    drach = (
        ac & np.isin(two_before, list(b"AGU")) & np.isin(before, list(b"AG")) & np.isin(letters[places + 2], list(b"ACU"))
    )
    found, counts = {}, {}
    for name, mask in zip(CONTEXTS, (drach, ac & ~drach, ~ac), strict=True):
        rows = np.flatnonzero(mask)
        counts[name] = len(rows)
        drawn = np.sort(chance.choice(rows, min(count, len(rows)), replace=False))
        found[name] = [
            sequences[which[i]][(at := int(places[i] - starts[which[i]])) - FLANK : at + FLANK + 1] for i in drawn.tolist()
        ]
        assert all(context_of(window) == name for window in found[name])
    return found, counts


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

    windows, adenosines = windows_of(config.data, config.windows, chance)
    calls = {name: probabilities_of(predictor, drawn) for name, drawn in windows.items()}
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
    by_step = np.array([false_calls("DRACH", step) for step in steps])
    low_enough = by_step <= config.most
    chosen = [steps[int(np.argmax(low_enough[:, c]))] if low_enough[:, c].any() else steps[-1] for c in range(len(labels))]
    scan: dict[str, Any] = {
        "adenosines": adenosines,
        "windows": {name: len(found) for name, found in calls.items()},
        "sites": dict(zip(labels, (truth == 1).sum(axis=0).tolist(), strict=True)),
        "false_calls_per_1000": {
            name: {str(t): dict(zip(labels, false_calls(name, t), strict=True)) for t in THRESHOLDS} for name in CONTEXTS
        },
        "at_thresholds": {
            label: {
                "threshold": step,
                **{name: false_calls(name, step)[c] for name in CONTEXTS},
                "sites_found": recall(step)[c],
            }
            for c, (label, step) in enumerate(zip(labels, chosen, strict=True))
        },
    }
    scan["card"] = card_of(scan, config.most)
    print(json.dumps({**scan, "seconds": round(time.monotonic() - started, 1)}, indent=1))
    if config.update is not None:
        info = predictor.info | {"thresholds": dict(zip(labels, chosen, strict=True)), "scan": scan}
        (config.update / "predictor.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
        (config.update / "card.md").write_text(write_card(info), encoding="utf-8")
    return 0


def card_of(scan: dict[str, Any], most: float) -> list[str]:
    """What a scan should expect, as lines of Markdown."""
    adenosines = ", ".join(f"{count:,} {name}" for name, count in scan["adenosines"].items())
    lines = [
        "## What a scan should expect",
        "",
        "In the training data half of the adenosines are sites; in a transcript few are. This table is of windows of "
        f"yeast's coding sequences ({adenosines}; {max(scan['windows'].values()):,} of each drawn). Growing yeast cells "
        "methylate no mRNA, so every call is a false positive. The composition differs from mammalian transcripts. False "
        "calls per 1,000 adenosines, lowest to highest of the tissues, at one threshold for all:",
        "",
        "| threshold | " + " | ".join(CONTEXTS) + " (refused) |",
        "|--:|" + "---|" * len(CONTEXTS),
    ]
    for t in THRESHOLDS:
        cells = [_range(list(scan["false_calls_per_1000"][name][str(t)].values()), ".0f") for name in CONTEXTS]
        lines.append(f"| {t:g} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"The shipped thresholds are the lowest at which a tissue has at most {most:g} false calls per 1,000 DRACH "
        "adenosines. The table also gives the share of the test's DRACH sites that are found. The last columns give the "
        "share of calls that are right, if the given share of DRACH adenosines is methylated:",
        "",
        "| tissue | threshold | " + " | ".join(CONTEXTS[:2]) + " | sites found | "
        "" + " | ".join(f"right, if {prior:.0%} are sites" for prior in PRIORS) + " |",
        "|---|--:|" + "--:|" * (3 + len(PRIORS)),
    ]
    for label, row in scan["at_thresholds"].items():
        found, wrong = row["sites_found"], row["DRACH"] / 1000
        right = [f"{p * found / (p * found + (1 - p) * wrong):.0%}" if found + wrong else "" for p in PRIORS]
        calls = [f"{row[name]:.0f}" for name in CONTEXTS[:2]]
        lines.append(f"| {label} | {row['threshold']:g} | " + " | ".join([*calls, f"{found:.0%}", *right]) + " |")
    lines += [
        "",
        "State the share of sites (`prior`) to get probabilities for it. DRACH itself says little here: in the data of "
        "Dao et al. 47 % of the sites and 46 % of the other adenosines are in it.",
        "",
        "`python benchmarks/m6a_scan.py --data data/yeast_cds_halflife/data.parquet --sites data/m6a_41nt/data.parquet`",
    ]
    return lines


def _range(values: list[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}}"


if __name__ == "__main__":
    sys.exit(main())
