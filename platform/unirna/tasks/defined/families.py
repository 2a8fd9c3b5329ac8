"""What kind of RNA it is: 13 classes of non-coding RNA, Rfam's types for families that training never saw, and its families
with "none of these"."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unirna.tasks.definition import Definition, Published, grouped_split
from unirna.tasks.requirements import InputRequirements

FEWEST = 10
"""Families that a type has at least."""
MEMBERS = (30, 60)
"""Members that a family has at least, and how many of them are taken at most."""


def read_nrc(path: Path) -> pa.Table:
    """The published split into train and test13."""
    table = pq.read_table(path, columns=["id", "sequence", "label", "split"])
    table = table.filter(pc.is_in(table["split"], pa.array(["train", "test13"])))
    names = pc.if_else(pc.equal(table["split"], "test13"), "test", "train")
    return table.set_column(3, "split", names)


def read_types(path: Path) -> pa.Table:
    """Types with at least ten families; all members of a clan, or of a family without one, on one side.

    The families of `retrieval_families.txt`, with which we measure how well vectors find relatives, are left out.
    """
    table = _seed_alignments(path)
    names = [kind.removeprefix("Gene;").replace("snRNA;snoRNA;", "snoRNA;") for kind in table["rna_type"].to_pylist()]
    families = table["rfam_acc"].to_pylist()
    count = Counter(name for name, _ in set(zip(names, families, strict=True)))
    groups = [clan or family for clan, family in zip(table["clan"].to_pylist(), families, strict=True)]
    found = pa.table({"id": table["seq_id"], "sequence": table["sequence"], "label": names, "split": grouped_split(groups)})
    wanted = [kind for kind, families in count.items() if families >= FEWEST and kind not in ("Gene", "Cis-reg")]
    return found.filter(pc.is_in(found["label"], pa.array(wanted)))


def read_families(path: Path) -> pa.Table:
    """Families of 30 members and more. A fifth of the clans (or families without one) is all test: families of which
    training sees nothing. Of the others a fifth of the sequences is test, copies on one side."""
    table = _seed_alignments(path)
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


def _seed_alignments(path: Path) -> pa.Table:
    table = pq.read_table(path, columns=["seq_id", "sequence", "rna_type", "rfam_acc", "rfam_id", "clan"])
    left_out = pa.array(Path(__file__).with_name("retrieval_families.txt").read_text(encoding="utf-8").split())
    return table.filter(pc.invert(pc.is_in(table["rfam_acc"], left_out)))


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
            Published("k-mers, linear", "accuracy", 0.778, "test rows that do not stand in training"),
            Published("another 1D CNN", "accuracy", 0.860, "test rows that do not stand in training"),
            Published("RNA-FM (BEACON)", "accuracy", 0.968, "all test rows"),
        ),
        requires=InputRequirements("a whole non-coding RNA of one of the 13 classes"),
        training={"mode": "lora", "reads": "vector", "epochs": 3, "batch_size": 64, "learning_rate": 5e-4},
    ),
    Definition(
        name="rna_type",
        predicts="the type of a structured RNA, for families that training has not seen",
        about="Rfam seed alignments (CC0): the types that have at least ten families, without the two general "
        "ones (Gene, Cis-reg). All members of a clan "
        "on one side: test rows are of families that training never saw. Without the families of our retrieval "
        "benchmark.",
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
