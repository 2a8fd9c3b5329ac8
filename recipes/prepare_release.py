"""Bring the collections of the release corpus to one form: Parquet with `id`, `sequence`, and `rfam_acc` where it is known.

    python recipes/prepare_release.py --shared ../shared --out runs/release-inputs

Writes `inputs/`, which holds training parts alone, and `exclude/`, which holds what must stay out: test splits, whole
sets that are only ever tests, and the retrieval benchmark's queries and members of its test families. Tables that mix
splits are cut here.

Not trained on: the OpenVaccine, Eterna chemical-mapping and ClinVar sets, the splice sites and the siRNAs, which are tests
or too short to learn from, and are excluded instead; the m6A and CLIP windows, which came without a licence (their test
parts are excluded); MODOMICS, whose letters are not nucleotides; bpRNA's Rfam rows, which stand in `rfam_seed` with their
families.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tyro

Filter = Callable[[pa.Table], pa.Array]
FLAGS = ("in_bprna_ts0", "in_archiveII", "in_nrc_test")


@dataclass(frozen=True)
class Config:
    """Write the inputs and exclusion sets of the release corpus."""

    shared: Path = Path("../shared")
    """Folder with `data/` and `bench/`."""
    out: Path = Path("runs/release-inputs")
    """Where `inputs/` and `exclude/` go."""
    rrna: Literal["named", "full"] = "named"
    """Ribosomal RNAs: 26,226 of named species, one to a species, or all 181,161, most of them repeats of those."""


def equal(column: str, *values: str) -> Filter:
    """Rows with one of these values."""
    return lambda table: pc.fill_null(pc.is_in(table[column], pa.array(values, table.schema.field(column).type)), False)


def unequal(column: str, *values: str) -> Filter:
    """Rows with none of these values."""
    return lambda table: pc.invert(equal(column, *values)(table))


def main(config: Config) -> None:
    """Write all tables and print the size of each."""
    data, bench = config.shared / "data", config.shared / "bench"
    families = bench / "retrieval_dev"
    with (families / "test_families.tsv").open(encoding="utf-8") as source:
        tests = [row["rfam_acc"] for row in csv.DictReader(source, delimiter="\t")]

    def table(name: str, wanted: Filter | None = None, *, ids: str = "", letters: str = "sequence") -> pa.Table:
        whole = pq.read_table(name if Path(name).is_absolute() else data / name)
        whole = whole if wanted is None else whole.filter(wanted(whole))
        stem = Path(name).parent.name
        names = whole[ids].cast(pa.string()) if ids else pa.array([f"{stem}-{i}" for i in range(whole.num_rows)])
        extra = {c: whole[c] for c in ("rfam_acc", *FLAGS) if c in whole.column_names}
        return pa.table({"id": names, "sequence": whole[letters].cast(pa.string()), **extra})

    def write(folder: str, name: str, *tables: pa.Table) -> None:
        path = config.out / folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = pa.concat_tables(tables, promote_options="default")
        pq.write_table(whole, path)
        print(f"{folder}/{name}: {whole.num_rows:,}")

    # ---- to train on
    nrc = table("nrc_13class/data.parquet", equal("split", "train"), ids="id")
    write("inputs", "rfam", table("rfam_seed/rfam_seed.parquet", ids="seq_id"))
    ribosomal = {"named": "rrna_named", "full": "rrna_full_181k"}[config.rrna]
    write("inputs", "rrna", table(f"silva93_rrna/{ribosomal}.parquet", ids="accession"))
    write("inputs", "trna", table("trna_mimseq/data.parquet", ids="header"))
    # an nRC id begins with the accession of its Rfam family
    write("inputs", "nrc", nrc.append_column("rfam_acc", pc.utf8_slice_codeunits(nrc["id"], 0, 7)))
    write("inputs", "bprna", table("bprna_1m_subset/data.parquet", _bprna, ids="id"))
    contacts = "rna3d_contacts/data.parquet"
    write("inputs", "pdb", table("codnas_rna_types/data.parquet"), table(contacts, equal("partition", "TR"), ids="id"))
    write("inputs", "cds", table("yeast_cds_halflife/data.parquet", ids="gene_id"))
    write("inputs", "utr5", table("utr5_te_full/data.parquet", ids="transcript"))
    write("inputs", "utr5_windows", table("utr5_te_endogenous_windows/data.parquet", ids="transcript", letters="insert"))
    write("inputs", "mrl", table(str((bench / "splits/mrl_m1psu2_20k.parquet").absolute()), equal("split", "train")))
    write("inputs", "riboswitch_designs", table("eternabench_riboswitch/data.parquet", lambda t: pc.invert(t["in_test80"])))

    # ---- to keep out
    corpus, queries = (str((families / f"{name}.parquet").absolute()) for name in ("corpus", "queries"))
    write("exclude", "retrieval", table(corpus, equal("rfam_acc", *tests), ids="id"), table(queries, ids="id"))
    write("exclude", "retrieval_families", table("rfam_seed/rfam_seed.parquet", equal("rfam_acc", *tests), ids="seq_id"))
    ts0 = [table(f"bprna_ts0/{name}.parquet", ids="id") for name in ("data", "ts0_sequences_all1305")]
    ts0.append(table("bprna_1m_subset/data.parquet", equal("partition_spotrna", "TS0", "VL0"), ids="id"))
    write("exclude", "bprna_ts0", *ts0)
    write("exclude", "archiveII", table("archiveII/data.parquet", ids="id"))
    write("exclude", "pdb_rna_ss", table("pdb_rna_ss/data.parquet", ids="id"))
    small = ("pseudobase++_short", "pseudoknots", "verified_secondary_structures_database")
    write("exclude", "ss_small", *(table(f"ss_small_verified/{name}.parquet", ids="id") for name in small))
    write("exclude", "nrc_test", table("nrc_13class/data.parquet", unequal("split", "train"), ids="id"))
    write("exclude", "rna3d_test", table(contacts, unequal("partition", "TR"), ids="id"))
    write("exclude", "mrl_test", table(str((bench / "splits/mrl_m1psu2_20k.parquet").absolute()), equal("split", "test")))
    write("exclude", "m6a_test", table("m6a_41nt/data.parquet", equal("split", "test")))
    write("exclude", "clip_test", table("rbp_clip_8/data.parquet", equal("split", "test")))
    write("exclude", "riboswitch_test", table("eternabench_riboswitch/data.parquet", lambda t: t["in_test80"]))
    write("exclude", "openvaccine", table("openvaccine_testset/data.parquet", ids="id"))
    write("exclude", "chemical_mapping", table("eternabench_chemmapping_test60/data.parquet", ids="ID"))
    variants = [table("apa_clinvar_variants/data.parquet", letters=column) for column in ("wt_seq", "sequence")]
    write("exclude", "apa_variants", *variants)
    write("exclude", "splice_sites", table("uci_splice/data.parquet"))
    write("exclude", "sirna", table("sirna_huesken/data.parquet", ids="id", letters="full_sequence"))


def _bprna(table: pa.Table) -> pa.Array:
    held_out = equal("partition_spotrna", "TS0", "VL0")(table)
    return pc.and_(pc.invert(held_out), unequal("db", "RFAM")(table))


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
