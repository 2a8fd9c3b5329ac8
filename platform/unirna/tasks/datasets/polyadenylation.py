"""Where an mRNA ends: what a variant in a 3'UTR does to the use of its polyadenylation signal."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from unirna.tasks.definition import Definition, Published, grouped_split
from unirna.tasks.requirements import InputRequirements


def read(path: Path) -> pa.Table:
    """Variants, each beside its wild type; all of one gene on one side, by its name."""
    table = pq.read_table(path, columns=["clinvar_id", "gene", "wt_seq", "sequence", "delta_logodds_true"])
    genes = [name.partition(".")[0] for name in table["gene"].to_pylist()]
    columns = dict(zip(("id", "gene", "reference", "sequence", "label"), table.columns, strict=True))
    return pa.table(columns | {"split": grouped_split(genes)})


DEFINITIONS = (
    Definition(
        name="polyadenylation_variant",
        predicts="change by a variant of the log-odds of a 3'UTR's proximal polyadenylation isoform",
        numeric=True,
        unit="log-odds",
        about="1,818 variants of ClinVar in a massively parallel reporter assay, each beside its wild type, 164 nt: "
        "Bogard et al. 2019, Cell 178:91 (APARENT; MIT-style licence). Genes are kept apart.",
        get="apa_variant_mpra_clinvar_snvs.csv of github.com/johli/aparent as one table of clinvar_id, gene, wt_seq, "
        "sequence and delta_logodds_true",
        file="data/apa_clinvar_variants/data.parquet",
        read=read,
        metric="Pearson",
        published=(Published("APARENT", "Pearson", 0.811, "all 1,818 variants, trained on millions of other sequences"),),
        requires=InputRequirements("a 3'UTR of 164 nt with its polyadenylation signal, and a variant of it"),
        training={"mode": "frozen", "cnn_ensemble_size": 5},
    ),
)
