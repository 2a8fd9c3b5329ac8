"""What was understood of a labelled table: in numbers, and as lines for a person."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unirna.base import counted
from unirna.tasks.table.labelled import LabelledTable


def count_rows(sequences: list[str], shas: list[str], labels: list[str], splits: NDArray[np.str_]) -> dict[str, Any]:
    """Counts of rows, classes, lengths, copies, and of sequences that stand in several splits or classes."""
    sides: defaultdict[str, set[str]] = defaultdict(set)
    names: defaultdict[str, set[str]] = defaultdict(set)
    for sha, label, split in zip(shas, labels, splits.tolist(), strict=True):
        sides[sha].add(split)
        names[sha].add(label)
    training = {sha for sha, where in sides.items() if where & {"train", "valid"}}
    lengths = sorted(map(len, sequences))
    return {
        "splits": {split: int((splits == split).sum()) for split in ("train", "valid", "test")},
        "num_classes": len(set(labels)),
        "lengths": {"min": lengths[0], "median": lengths[len(lengths) // 2], "max": lengths[-1]},
        "distinct_sequences": len(sides),
        "sequences_of_several_classes": sum(len(found) > 1 for found in names.values()),
        "test_rows_seen": sum(sha in training for sha, split in zip(shas, splits.tolist(), strict=True) if split == "test"),
    }


def tally(table: LabelledTable, split: str) -> dict[str, dict[str, int]]:
    """How many rows of a split have each label, and of how many it is known."""
    flags = table.flags[table.rows(split)]
    known, true = np.isfinite(flags).sum(axis=0).tolist(), np.nansum(flags, axis=0).astype(int).tolist()
    return {name: {"true": t, "known": k} for name, t, k in zip(table.label_names, true, known, strict=True)}


def quantiles_of(values: NDArray[np.float64]) -> dict[str, float]:
    """Mean, deviation and quartiles."""
    quantiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    names = ("min", "lower_quartile", "median", "upper_quartile", "max")
    return {"mean": float(values.mean()), "sd": float(values.std())} | dict(zip(names, quantiles.tolist(), strict=True))


def describe(table: LabelledTable) -> list[str]:
    """What was understood of a table, as lines for a person."""
    c = table.counts
    if table.numeric:
        values = (
            "a value for each nucleotide, " if table.level == "nucleotide" else "values "
        ) + "{min:.4g} to {max:.4g}, median {median:.4g}, mean {mean:.4g} ± {sd:.4g}".format(**c["values"])
        if "bounds" in c:
            values += "; {at_least:,} at least and {at_most:,} at most what stands there, for training".format(
                **c["bounds"]
            )
    if table.label_names:
        values = "several labels: " + ", ".join(
            f"{name} {sum(c['per_label'][s][name]['true'] for s in c['per_label']):,} of "
            f"{sum(c['per_label'][s][name]['known'] for s in c['per_label']):,}"
            for name in table.label_names
        )
    classes = Counter(table.labels).most_common()
    shown = ", ".join(f"{name} {count:,}" for name, count in classes[:12])
    rejected = ", ".join(f"{count:,} {reason}" for reason, count in c["rejected_by_reason"].items())
    lines = [
        f"read {c['read']:,} rows = {c['kept']:,} kept + {c['rejected']:,} left out"
        + (f" ({rejected})" if rejected else ""),
        values
        if table.numeric or table.label_names
        else f"{counted(len(classes), 'class', 'classes')}: {shown}"
        + (f" and {len(classes) - 12:,} more" if len(classes) > 12 else ""),
        "lengths {min:,} to {max:,} nucleotides, median {median:,}".format(**c["lengths"])
        + f"; {c['distinct_sequences']:,} distinct sequences",
        f"split: {table.split}: " + ", ".join(f"{count:,} {name}" for name, count in c["splits"].items()),
    ]
    if "read_as_missing" in c:
        words = ", ".join(f"{name} ({count:,})" for name, count in c["read_as_missing"].items())
        lines.append(f"read as no value: {words}; --column-type COLUMN=text keeps them")
    if "no_number" in c:
        lines.append(f"left out: {c['no_number']}")
    if c["test_rows_seen"]:
        lines.append(
            f"note: {c['test_rows_seen']:,} test rows have a sequence that also stands in train or validation; "
            "results are given with and without them"
        )
    if c.get("test_rows_of_references_seen"):
        lines.append(
            f"note: {c['test_rows_of_references_seen']:,} test rows have a reference that also stands in train or "
            "validation, so results flatter. Leave out --split-column to keep each reference on one side"
        )
    if c["sequences_of_several_classes"]:
        what = "values" if table.numeric else "sets of labels" if table.label_names else "classes"
        what = {"nucleotide": "profiles"}.get(table.level, what)
        lines.append(f"note: {c['sequences_of_several_classes']:,} sequences carry several {what}; their rows are kept")
    if table.numeric or table.label_names:
        return lines
    trained = set(table.classes_in("train"))  # none where the whole table is measured
    missing = sorted(set(table.classes_in("test")) - trained)
    if trained and missing:
        what = counted(len(missing), "test class has", "test classes have")
        lines.append(f"note: {what} no training row, so all rows count as wrong: {', '.join(missing[:8])}")
    single = sorted(name for name, count in classes if count == 1)
    if trained and single:
        what = counted(len(single), "class has", "classes have")
        lines.append(f"note: {what} one row, on which nothing can be measured: {', '.join(single[:8])}")
    return lines
