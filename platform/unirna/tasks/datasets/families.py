"""What kind of RNA it is: 13 classes of non-coding RNA, Rfam's types for families that training never saw, and its families
with "none of these"."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unirna.tasks.definition import Definition, Published, grouped_split
from unirna.tasks.requirements import InputRequirements
from unirna.tasks.rfam import seed_alignments, type_name, without_long_copies
from unirna.tasks.table.homology import similar_groups

FEWEST = 8
"""Clans (or families without one) that a type has at least for whole ones to be held out; of other types members are."""
MEMBERS = (30, 60)
"""Members that a family has at least, and how many of them are taken at most."""


def read_nrc(path: Path) -> pa.Table:
    """The published split into train and test13."""
    table = pq.read_table(path, columns=["id", "sequence", "label", "split"])
    table = table.filter(pc.is_in(table["split"], pa.array(["train", "test13"])))
    names = pc.if_else(pc.equal(table["split"], "test13"), "test", "train")
    return table.set_column(3, "split", names)


def read_types(path: Path) -> pa.Table:
    """All types of Rfam. What of a type is held out depends on how many clans (or families without one) it has.

    From eight up, whole clans are held out, so that test rows are of families that training never saw, and a tenth of the
    members of the others. Of fewer, only members are, three tenths. Members that share a quarter of their 10-mers are on
    one side. Column `held_out` says of each row whether its family is one that training does not have ("families"), which
    a small family whose members are all alike may be too, or not ("members").

    The families of `retrieval_families.txt`, with which we measure how well vectors find relatives, are left out.
    """
    table = seed_alignments(path)
    table = table.take(without_long_copies(table))
    names, groups = [], []
    columns = (table[name].to_pylist() for name in ("rna_type", "clan", "rfam_acc", "rfam_id"))
    for kind, clan, family, title in zip(*columns, strict=True):
        names.append(type_name(kind, clan or "", title))
        groups.append(clan or family)
    count = Counter(name for name, _ in set(zip(names, groups, strict=True)))
    split, sequences = np.array(grouped_split(groups)), table["sequence"].to_pylist()
    split[[count[name] < FEWEST for name in names]] = "train"
    for name, number in count.items():
        rows = [row for row, other in enumerate(names) if other == name and split[row] == "train"]
        alike = similar_groups([sequences[row] for row in rows])
        split[rows] = grouped_split(alike) if number < FEWEST else grouped_split(alike, valid=0.05, test=0.05)
    families = table["rfam_acc"].to_pylist()
    trained = {family for family, side in zip(families, split.tolist(), strict=True) if side == "train"}
    held_out = ["members" if family in trained else "families" for family in families]
    given = {"label": names, "split": split.tolist(), "held_out": held_out}
    return pa.table({"id": table["seq_id"], "sequence": table["sequence"], **given})


def read_families(path: Path) -> pa.Table:
    """Families of 30 members and more. A fifth of the clans (or families without one) is all test: families of which
    training sees nothing. Of the others a fifth of the sequences is test, copies on one side."""
    table = seed_alignments(path)
    families = table["rfam_acc"].to_pylist()
    count, taken = Counter(families), Counter[str]()
    rows = []
    for row, family in enumerate(families):
        taken[family] += 1
        if count[family] >= MEMBERS[0] and taken[family] <= MEMBERS[1]:
            rows.append(row)
    table = table.take(rows)
    groups = [clan or family for clan, family in zip(table["clan"].to_pylist(), table["rfam_acc"].to_pylist(), strict=True)]
    unseen = grouped_split(groups, valid=0.0)
    seen = grouped_split(table["sequence"].to_pylist())
    split = ["test" if out == "test" else side for out, side in zip(unseen, seen, strict=True)]
    return pa.table({"id": table["seq_id"], "sequence": table["sequence"], "label": table["rfam_id"], "split": split})


DEFINITIONS = (
    Definition(
        name="ncrna_class",
        predicts="which of 13 classes of non-coding RNA a sequence belongs to",
        about="13 classes of non-coding RNA: Fiannaca et al. 2017, BioData Min 10:27 (nRC; sequences of Rfam, "
        "CC0, from a GPL-3 repository). 13 % of "
        "its test rows stand in its training rows too: look at the rows of unseen sequences. Its training rows "
        "hold members of families of our retrieval benchmark.",
        get="the nRC data (Fiannaca et al. 2017) as one table of id, sequence, label and split",
        file="data/nrc_13class/data.parquet",
        read=read_nrc,
        copies=True,
        metric="accuracy",
        goal=0.95,
        published=(
            Published("k-mers, linear", "accuracy", 0.778, "test rows that are not in training"),
            Published("another 1D CNN", "accuracy", 0.860, "test rows that are not in training"),
            Published("RNA-FM (BEACON)", "accuracy", 0.968, "all test rows"),
        ),
        requires=InputRequirements("a whole non-coding RNA of one of the 13 classes"),
        training={"mode": "lora", "head_input": "vector", "epochs": 3, "batch_size": 64, "learning_rate": 5e-4},
    ),
    Definition(
        name="rna_type",
        predicts="the type of a structured RNA, also for families that training has not seen",
        about="Rfam seed alignments (CC0): all types. Types with eight clans or more (or families without one) have "
        "whole clans held out, of which training saw nothing, and a tenth of the members of the other clans. Of types with "
        "fewer clans members alone are held out, three tenths. Held-out members share less than a quarter of their 10-mers "
        "with any training row of their type. Without the families of our similarity-search benchmark, among them 5S rRNA, "
        "U4, U5, U6 and 7SK.",
        get="Rfam's seed alignments as one table of seq_id, sequence, rna_type, rfam_acc and clan",
        file="data/rfam_seed/rfam_seed.parquet",
        read=read_types,
        metric="macro F1",
        requires=InputRequirements("a whole structured RNA, as it stands in an Rfam family"),
        training={"mode": "frozen"},
    ),
    Definition(
        name="rfam_family",
        predicts="the Rfam family of an RNA, or that it is of none of them",
        about="Rfam seed alignments (CC0): families of 30 members and more, at most 60 of each. A fifth of them, whole "
        "clans, is in the test alone: whether their members are told from those of known families is the AUROC. Without "
        "the families of our retrieval benchmark.",
        get="Rfam's seed alignments as one table of seq_id, sequence, rna_type, rfam_acc, rfam_id and clan",
        file="data/rfam_seed/rfam_seed.parquet",
        read=read_families,
        metric="AUROC of known",
        training={"mode": "frozen"},
    ),
)
