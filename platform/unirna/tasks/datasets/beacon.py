"""Tasks of the BEACON benchmark of which we keep no data: a folder with its files for training, validation and test."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from unirna.tasks.definition import Definition, Published
from unirna.tasks.requirements import InputRequirements

MODIFICATIONS = ("Am", "Cm", "Gm", "Um", "m1A", "m5C", "m5U", "m6A", "m6Am", "m7G", "Psi", "AtoI")
BEACON = "of BEACON (Ren et al. 2024, arXiv:2406.10391; github.com/terry-r123/RNABenchmark names the download)"


def _rows(folder: Path, train: str = "train.csv") -> Iterator[tuple[str, list[str]]]:
    """Each row of the three files with its split."""
    for split, name in (("train", train), ("valid", "val.csv"), ("test", "test.csv")):
        with (folder / name).open(newline="", encoding="utf-8") as file:
            for row in csv.reader(file):
                yield split, row


def read_modifications(folder: Path) -> pa.Table:
    """The sequence, then twelve columns of 0 and 1, without a heading; rows of several modifications are left out."""
    rows = []
    for split, (sequence, *flags) in _rows(folder):
        found = [name for name, flag in zip(MODIFICATIONS, flags, strict=True) if float(flag)]
        if len(found) <= 1:
            rows.append({"sequence": sequence, "label": found[0] if found else "none", "split": split})
    return pa.Table.from_pylist(rows)


def read_isoforms(folder: Path) -> pa.Table:
    """A heading, then number, sequence, share of the proximal isoform and one more column; the share as log-odds."""
    rows = []
    for split, row in _rows(folder, "train_new.csv"):
        try:
            share = float(np.clip(float(row[2]), 1e-7, 1 - 1e-7))
        except ValueError:
            continue  # the heading
        rows.append({"sequence": row[1], "label": float(np.log(share / (1 - share))), "split": split})
    return pa.Table.from_pylist(rows)


def read_splice(folder: Path) -> pa.Table:
    """A heading, then the sequence and as many digits: 0 for neither, 1 for acceptor, 2 for donor; as 1 for either site."""
    rows = []
    for split, (sequence, digits, *_) in _rows(folder):
        if digits.isdigit() and len(digits) == len(sequence):
            rows.append({"sequence": sequence, "label": [float(d != "0") for d in digits], "split": split})
    return pa.Table.from_pylist(rows)


DEFINITIONS = (
    Definition(
        name="modification_type",
        predicts="which of twelve modifications the nucleotide in the middle has, or none",
        level="nucleotide",
        about="Windows of 101 nt around twelve kinds of modified nucleotides, and around none: Song et al. 2021, Nat "
        "Commun 12:4011 (MultiRM), as divided by BEACON.",
        get=f"the folder Modification {BEACON}",
        read=read_modifications,
        metric="macro F1",
        published=(Published("RNA-FM (BEACON)", "mean AUC of twelve", 0.950, "all labels at once"),),
        requires=InputRequirements("101 nt of a transcript with the nucleotide in question in the middle"),
        training={"mode": "lora", "pooling": "centre"},
    ),
    Definition(
        name="isoform_usage",
        predicts="log-odds of the proximal polyadenylation isoform of a 3'UTR",
        numeric=True,
        unit="log-odds",
        about="Shares of isoforms of random 3'UTRs: Bogard et al. 2019, Cell 178:91 (APARENT), as divided by BEACON.",
        get=f"the folder Isoform {BEACON}",
        read=read_isoforms,
        metric="R2",
        published=(Published("RNA-FM (BEACON)", "R2", 0.703, "squared Pearson correlation"),),
        training={"mode": "lora"},
    ),
    Definition(
        name="splice_windows",
        predicts="whether each nucleotide of a genomic window is at a splice site",
        level="nucleotide",
        each=True,
        numeric=True,
        unit="1 at a site",
        about="Genomic windows with splice donors and acceptors: Jaganathan et al. 2019, Cell 176:535 "
        "(SpliceAI), as divided "
        "by BEACON.",
        get=f"the folder SpliceAI {BEACON}",
        read=read_splice,
        metric="Pearson",
        training={"mode": "lora", "epochs": 5},
    ),
)
