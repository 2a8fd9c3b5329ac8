"""Pre-train an RNA language model.

    python jobs/pretrain.py --size nano --data sequences.fasta --workers 2 --out runs/nano
    python jobs/pretrain.py --size mini --data runs/corpus --workers 0 --optimizer muon --out runs/mini   # without Ray
    torchrun --nproc-per-node 8 jobs/pretrain.py --size L16 --data /data/corpus --workers 0 --out /data/runs/L16
    ray job submit --working-dir . --runtime-env jobs/runtime_env.yaml -- \\
        python jobs/pretrain.py --size L8 --data /data/corpus --workers 8 --out /data/runs/L8

Killed, and started again with the same command, it goes on from the last checkpoint; with more `--steps` it goes on from
the last one before the decay. SIGTERM makes it write a checkpoint and leave with exit code 75. `--data` takes sequence
files, folders, globs, or a finished corpus of `jobs/corpus.py`. On a cluster `--out` must be a folder that every node
sees. The model is `<out>/model`; `tensorboard --logdir <out>` shows the curves. docs/training.md says more.
"""

from __future__ import annotations

import sys

import tyro

from unirna.base import command
from unirna.train import PretrainConfig, run_pretraining

if __name__ == "__main__":
    sys.exit(command(lambda: run_pretraining(tyro.cli(PretrainConfig, description=__doc__))))
