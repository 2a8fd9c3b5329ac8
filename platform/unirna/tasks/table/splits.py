"""How a labelled table is divided into training, validation and test rows."""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from unirna.base import percent
from unirna.tasks.errors import TaskError
from unirna.tasks.table.data_config import DataConfig
from unirna.tasks.table.homology import similar_groups
from unirna.tasks.table.pairs import PAIR_MARK

SPLIT_NAMES: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "heldout", "held-out", "held_out"), "test"),
}
"""Values of a split column that are understood as they are, in any case."""

UNUSED: Final = "unused"


def named_splits(named: Sequence[str], config: DataConfig) -> tuple[NDArray[np.str_], str]:
    """The split of each row as the split column names it, `UNUSED` for rows of no split, and how that was understood.

    Raises:
        TaskError: names that are not understood.
    """
    names = dict(SPLIT_NAMES)
    if config.split_names:
        names = {}
        for item in config.split_names:
            ours, _, theirs = item.partition("=")
            if ours not in ("train", "valid", "test") or "=" not in item:
                raise TaskError(
                    f"split name {item!r}: expected train=…, valid=… or test=…, as in test=test13; test= alone stands for "
                    "empty cells"
                )
            names[theirs.lower()] = ours
    counts = Counter(named)
    unknown = sorted(value for value in counts if value.lower() not in names)
    if unknown and not config.split_names:
        known = [f"{names[value.lower()]}={value}" for value in sorted(counts) if value.lower() in names]
        if unknown == [""]:
            raise TaskError(
                f"{counts['']:,} of {len(named):,} rows have an empty cell in column {config.split_column!r}. To leave "
                f"them out, say --split-names {shlex.join(known or ['train=train', 'test=test'])}; to use "
                "them, add what they are, such as test= for test rows"
            )
        shown = shlex.join([*known, f"test={next(value for value in unknown if value)}"])
        raise TaskError(
            f"column {config.split_column!r} holds {', '.join(map(repr, unknown[:8]))}. Understood: "
            f"{', '.join(SPLIT_NAMES)}. Name others with --split-names, as in --split-names {shown}; rows of other names "
            "are then left out"
        )
    splits = np.array([names.get(value.lower(), UNUSED) for value in named], dtype="<U6")
    shown = ", ".join(f"{value or 'empty'} → {names[value.lower()]}" for value in sorted(counts) if value.lower() in names)
    return splits, f"column {config.split_column!r} ({shown})"


def sides(sequences: list[str], shas: list[str], config: DataConfig) -> list[str]:
    """What a random split keeps on one side, of each row."""
    if config.reference_column:
        sequences = [pair.partition(PAIR_MARK)[0] for pair in sequences]
        shas = sequences
    return shas if config.split_by == "sequence" else similar_groups(sequences)


def has_classes(config: DataConfig) -> bool:
    """Whether the labels are names of classes."""
    return not config.numeric and not config.label_columns


def strata(labels: list[str], config: DataConfig) -> list[str]:
    """Within what a random split divides: the classes, or all rows together where the labels are values."""
    return labels if has_classes(config) else [""] * len(labels)


def with_validation(
    splits: NDArray[np.str_], shas: list[str], labels: list[str], config: DataConfig
) -> tuple[NDArray[np.str_], str]:
    """Take validation rows out of the training rows where the column names none."""
    if (splits == "valid").any():
        return splits, ""
    rows = np.flatnonzero(splits == "train")
    drawn = random_splits([shas[i] for i in rows], [labels[i] for i in rows], {"valid": config.valid_share}, config.seed)
    splits = splits.copy()
    splits[rows] = drawn
    what = "each training class" if has_classes(config) else "the training rows"
    return splits, f"; validation is a random {percent(config.valid_share)} of {what}, seed {config.seed}"


def random_splits(shas: list[str], labels: list[str], shares: dict[str, float], seed: int) -> NDArray[np.str_]:
    """Draw splits class by class from the distinct sequences, in an order that depends on seed and sequence alone.

    Copies of a sequence go together, under the first of their labels in alphabetical order. A class gives rows to a split
    only if training keeps at least one.
    """
    label_of: dict[str, str] = {}
    for sha, label in zip(shas, labels, strict=True):
        label_of[sha] = min(label, label_of.get(sha, label))
    members: defaultdict[str, list[str]] = defaultdict(list)
    for sha, label in label_of.items():
        members[label].append(sha)
    split_of: dict[str, str] = {}
    for group in members.values():
        group.sort(key=lambda sha: hashlib.sha256(f"{seed} {sha}".encode()).digest())
        left = group
        for split, share in shares.items():
            take = min(round(share * len(group)), len(left) - 1)
            split_of |= dict.fromkeys(left[:take], split)
            left = left[take:]
        split_of |= dict.fromkeys(left, "train")
    return np.array([split_of[sha] for sha in shas], dtype="<U6")
