"""Tasks whose public data are FASTA files, one for each class: of which we keep no copy."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from unirna.sequence import read as read_records
from unirna.tasks.definition import Definition


def read(folder: Path) -> pa.Table:
    """A folder of FASTA files, each named by its class; no split.

    Raises:
        OSError: a folder with fewer than two files.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if len(paths) < 2:
        raise OSError(f"expected a file for each class, there are {len(paths)}")
    rows = [
        {"id": f"{path.stem}/{record.id}", "sequence": record.sequence, "label": path.stem}
        for path in paths
        for record in read_records(str(path))
    ]
    return pa.Table.from_pylist(rows)


DEFINITIONS = (
    Definition(
        name="lncrna_localisation",
        predicts="where in the cell a long non-coding RNA is found",
        about="Long non-coding RNAs by compartment, from RNALocate: Cao et al. 2018, Bioinformatics 34:2185 (lncLocator).",
        get="the data of lncLocator (www.csbio.sjtu.edu.cn/bioinf/lncLocator) as a folder of FASTA files, one "
        "for each compartment",
        read=read,
        metric="macro F1",
        training={"mode": "frozen"},
    ),
    Definition(
        name="pirna",
        predicts="whether a small RNA is a piRNA",
        about="piRNAs and other small RNAs, as of Liu et al. 2017, Mol Ther Nucleic Acids 7:267 (2L-piRNA).",
        get="piRNAs (as of piRBase) and other small RNAs as a folder of two FASTA files, piRNA.fasta and other.fasta",
        read=read,
        metric="AUC",
        training={"mode": "lora"},
    ),
)
