"""Make `rfam_sample.parquet`, the real RNA that the demonstration and the tests run on.

    python jobs/demo/make_rfam_sample.py RFAM_SEED.parquet TEST_FAMILIES.tsv

RFAM_SEED.parquet: all members of the Rfam 14.2 seed alignments (columns rfam_acc, rfam_id, rna_type, seq_id, sequence
and the flags in_bprna_ts0, in_archiveII, in_nrc_test). TEST_FAMILIES.tsv: families (column rfam_acc) that are kept
out, because similarity search is evaluated on them. Kept: families of at least 12 distinct sequences of 30 to 400
unambiguous nucleotides that are in no benchmark's test set; up to 26 members of each, one in ten (at least
one) marked `heldout`. The same input gives the same file.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

MEMBERS, LEAST, SHORTEST, LONGEST, FAMILIES = 26, 12, 30, 400, 150


def main(seed_path: str, test_path: str) -> None:
    """Read the seed set, choose, write the sample beside this script."""
    rows = pd.read_parquet(seed_path)
    test = set(pd.read_csv(test_path, sep="\t").rfam_acc)
    flags = rows.in_bprna_ts0 | rows.in_archiveII | rows.in_nrc_test
    rows = rows[~flags & ~rows.rfam_acc.isin(test) & rows.length.between(SHORTEST, LONGEST)]
    rows = rows[rows.sequence.str.fullmatch("[ACGU]+")].drop_duplicates("sequence").drop_duplicates("seq_id")
    sizes = rows.rfam_acc.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    families = sizes[sizes >= LEAST].index[:FAMILIES]
    random = np.random.default_rng(0)
    parts = []
    for family in sorted(families):
        members = rows[rows.rfam_acc == family].sort_values("seq_id")
        members = members.iloc[random.permutation(len(members))[:MEMBERS]]
        heldout = np.arange(len(members)) < max(1, len(members) // 10)
        parts.append(members.assign(split=np.where(heldout, "heldout", "train")))
    sample = pd.concat(parts).rename(columns={"rfam_acc": "family", "rfam_id": "family_name", "seq_id": "id"})
    sample["rna_type"] = sample.rna_type.str.rstrip(";")
    sample = sample[["id", "sequence", "family", "family_name", "rna_type", "split"]]
    target = Path(__file__).with_name("rfam_sample.parquet")
    sample.to_parquet(target, index=False, compression="zstd")
    print(
        f"{target.name}: {len(sample):,} sequences, {sample.family.nunique()} families, "
        f"{(sample.split == 'heldout').sum()} held out, {sample.sequence.str.len().sum():,} nucleotides, "
        f"{target.stat().st_size / 1e6:.2f} MB"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
