"""Fine-tune a predictor: a labelled table and an encoder in, a predictor with its card in the registry out.

    python jobs/finetune.py --data jobs/demo/rfam_sample.parquet \
        --label-column rna_type --split-column split --task rfam_type --registry predictors
    python jobs/finetune.py --data table.csv --sequence-column rna --label-column family \
        --task family --registry predictors --mode full --workers 2
    python jobs/finetune.py --data utr.csv --target-column load --unit ribosomes --task load --registry predictors
    python jobs/finetune.py --dataset m6a --data m6a.parquet --registry predictors

It says how the table was understood: rows, classes or values, lengths, what was left out and why, and the split. Without
`--split-column` a fifth (of each class) is held out for the test and a tenth for validation, copies of a sequence on one
side. Values get an interval that holds nine of ten new ones, and a plot of predicted against true ones.

`--dataset` names a public data set that `unirna/tasks/datasets/` defines: columns, split, unit, source and training
settings. Flags override its training settings; an unknown name is answered with the list.

`--mode frozen` fits a linear head on the encoder's vectors; `--mode full` trains the encoder with it, `--mode lora` small
adapters on the encoder, on Ray Train workers that share the registry's folder.

An answer is the weighted sum of what the encoder's head says and what two simple models say that read letters alone (linear
on 4-mers, and a small CNN); with `--no-blend` the head answers alone. With fewer than 1,000 rows (or
100 validation rows) the frozen mode uses training and validation rows together, in 5-fold cross-validation.

It ends in a verdict in plain words: how much of unseen rows is explained, and whether the language model adds to the simple
models.

Killed and started again, the same command goes on: no vector is computed twice, and full training resumes after its last
epoch. When the predictor is there and was made from the same, nothing is done and its summary is printed again.
"""

from __future__ import annotations

import sys

import tyro

from unirna.base import command
from unirna.job import run_job
from unirna.tasks import FinetuneSettings, finetune_job


def main() -> int:
    """Run the job."""
    config = tyro.cli(FinetuneSettings, description=__doc__)
    return run_job(lambda: finetune_job(config))


if __name__ == "__main__":
    sys.exit(command(main))
