"""Rfam's seed alignments: families that nothing may see, names of types, and what is left out for its length."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

LONG = (1000, 24)
"""Nucleotides from which a sequence is long, and how many long members of a family are taken: each costs as much as ten."""
NAMED = {"CL00003": "SRP", **dict.fromkeys(("CL00002", "RNaseP-T", "Gl_RNase_MRP"), "ribozyme;RNase P")}
"""Clans and families that Rfam files under a more general type: signal recognition particle RNA; ribonuclease P and its
relative RNase MRP."""
PARTS = {"tmRNA": "tmRNA", "elomerase": "telomerase"}
"""Parts of the names of families of type Gene -> their type here."""
LEFT_OUT = Path(__file__).with_name("datasets").joinpath("retrieval_families.txt").read_text(encoding="utf-8").split()
"""Families of the similarity-search benchmark: nothing may see their members."""


def seed_alignments(path: Path) -> pa.Table:
    """Members of all families but those of `LEFT_OUT`: seq_id, sequence, rna_type, rfam_acc, rfam_id, clan."""
    table = pq.read_table(path, columns=["seq_id", "sequence", "rna_type", "rfam_acc", "rfam_id", "clan"])
    return table.filter(pc.invert(pc.is_in(table["rfam_acc"], pa.array(LEFT_OUT))))


def type_name(kind: str, clan: str, family: str) -> str:
    """The type of a family as `rna_type` names it: Rfam's, but for those that Rfam files under a more general one.

    Args:
        kind: Rfam's type, as "Gene;snRNA;snoRNA;CD-box". clan: accession, or "". family: Rfam's short name, as "6S".
    """
    named = NAMED.get(clan) or NAMED.get(family) or next((t for part, t in PARTS.items() if part in family), None)
    name = kind.rstrip(";").removeprefix("Gene;").replace("snRNA;snoRNA;", "snoRNA;")
    return named or {"Gene": "Gene;other", "Cis-reg": "Cis-reg;other"}.get(name, name)


def without_long_copies(table: pa.Table) -> list[int]:
    """Rows, with at most so many of a family's members of more than 1,000 nucleotides (large ribosomal RNAs)."""
    taken, rows = Counter[str](), []
    lengths = pc.utf8_length(table["sequence"]).to_pylist()
    for row, (family, length) in enumerate(zip(table["rfam_acc"].to_pylist(), lengths, strict=True)):
        long = length > LONG[0]
        taken[family] += long
        if not long or taken[family] <= LONG[1]:
            rows.append(row)
    return rows
