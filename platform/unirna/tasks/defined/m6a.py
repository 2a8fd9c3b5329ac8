"""m6A sites in eight tissues: is the adenosine in the middle of 41 nucleotides methylated?"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from unirna.tasks.definition import Definition, Published

REACHED = {  # tissue: (goal, 3-mers and letters, 1D CNN)
    "Human_Brain": (0.81, 0.799, 0.791),
    "Human_Liver": (0.89, 0.878, 0.878),
    "Mouse_heart": (0.83, 0.820, 0.816),
}
TISSUES = (*REACHED, "Human_Kidney", "Mouse_brain", "Mouse_kidney", "Mouse_liver", "Mouse_test")


def read(path: Path, tissue: str) -> pa.Table:
    """One tissue's rows, with the published independent test set."""
    table = pq.read_table(path, columns=["sequence", "label", "tissue", "split"])
    table = table.filter(pc.equal(table["tissue"], tissue))
    names = pc.if_else(pc.equal(table["label"].cast(pa.int64()), 1), "m6A", "A")
    return pa.table({"sequence": table["sequence"], "label": names, "split": table["split"]})


def _definition(tissue: str) -> Definition:
    goal, kmer, cnn = REACHED.get(tissue, (None, None, None))
    rows = (("3-mers and letters, linear", kmer), ("another 1D CNN", cnn))
    return Definition(
        name=f"m6a_{tissue.lower()}".replace("mouse_test", "mouse_testis"),
        predicts="whether the adenosine in the middle is methylated (N6-methyladenosine)",
        level="nucleotide",
        about=f"m6A sites and other adenosines of {tissue.replace('_', ' ').replace('test', 'testis')}, windows "
        "of 41 nt, half of them sites: "
        "Dao et al. 2020, Comput Struct Biotechnol J 18:1084 (iRNA-m6A), with its independent test set. No "
        "licence stated.",
        get="iRNA-m6A (Dao et al. 2020) as one table of sequence, label, tissue and split",
        file="data/m6a_41nt/data.parquet",
        read=partial(read, tissue=tissue),
        metric="AUC",
        goal=goal,
        published=tuple(Published(who, "AUC", value) for who, value in rows if value is not None),
        copies=True,  # a few
        training={
            "mode": "lora",
            "pooling": "centre",
            "batch_size": 64,
            "epochs": 10,
            "learning_rate": 4e-4,
            "networks": 5,
        },
    )


DEFINITIONS = tuple(map(_definition, TISSUES))
