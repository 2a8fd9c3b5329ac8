"""Recipes of pre-training against each other at equal time: the same minutes of one core for each arm.

    python benchmarks/ablations.py --corpus runs/release-mini-corpus --out runs/ablations
    python benchmarks/ablations.py --corpus runs/release-mini-corpus --out runs/ablations --arms base mask30 --minutes 20

Every arm is the base recipe with one thing changed. A few steps give an arm's speed (in processor time), from which
the steps follow that fill the minutes, warm-up and decay included; then it is trained in one thread, as many arms at once
as there are cores. All are validated on the same held-out sequences, 15 % of the places hidden, whatever they are trained
with; the places are others for another seed or size of micro batch. The model of each arm stays in `OUT/ARM/run/model`,
and `recipes/evaluate_release.py --corpus …` scores its vectors. Arms that are finished are not run again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from unirna.corpus import Corpus
from unirna.job import num_cpus
from unirna.model import SIZES, Encoder
from unirna.train import TrainConfig, train
from unirna.train import config as train_config
from unirna.train.memory import keep_memory
from unirna.train.metrics import read_metrics
from unirna.train.objective import to_device
from unirna.train.objectives import build_objective
from unirna.train.optimiser import Optimiser
from unirna.train.parallel import clip

BASE = TrainConfig(
    size="mini",
    optimizer="muon",
    learning_rate=1e-3,
    context=512,
    valid_every=1_000_000,
    valid_tokens=131_072,
    checkpoint_every=1_000_000,
    whitening_sequences=0,
    log_every=8,
)
ARMS: dict[str, dict[str, Any]] = {
    "base": {},
    "mask30": {"mask_rate": 0.3},
    "batch8k": {"batch_tokens": 8192},
    "batch32k": {"batch_tokens": 32768},
    "deep": {"size": "deep"},
    "wide": {"size": "wide"},
    "crop256": {"context": 256},
    "crop1022": {"context": 1022},
    "mask20": {"mask_rate": 0.2},
    "no-token-dropout": {"token_dropout": False},
    "by-sequence": {"exponents": (1.0, 1.0)},
    "by-cluster": {"exponents": (0.0, 0.5)},
    "both": {"objective": "both", "micro_tokens": 16384},
    "contrastive": {"objective": "contrastive", "micro_tokens": 16384},
    "adamw": {"optimizer": "adamw"},
    "rate2e-3": {"learning_rate": 2e-3},
    "rate4e-3": {"learning_rate": 4e-3},
    "rate8e-3": {"learning_rate": 8e-3},
    "seed1": {"seed": 1},
}
"""What each arm changes; `exponents` are those of clusters and sources in the sampling weights (`jobs/corpus.py`)."""
SHAPES = {
    "deep": replace(SIZES["mini"], num_layers=11, hidden_size=192, num_heads=3, intermediate_size=576),
    "wide": replace(SIZES["mini"], num_layers=4, hidden_size=320, num_heads=5, intermediate_size=960),
}
"""About as many parameters and operations as mini."""
TRIAL = 6
"""Steps that give an arm's speed; the second half counts."""


@dataclass(frozen=True)
class Config:
    """Compare recipes at equal time."""

    corpus: str
    """A finished corpus folder."""
    out: str = "runs/ablations"
    """Folder of the runs and their results."""
    arms: tuple[str, ...] = tuple(ARMS)
    """Which ones."""
    minutes: float = 6.0
    """Training time of each."""
    one: bool = False
    """Run the first of the arms in this process (used by the script itself)."""


def main(config: Config) -> None:
    """Run the arms that are not finished, and print all."""
    if config.one:
        run_arm(config, config.arms[0])
        return
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)

    def start(arm: str) -> None:
        if not (out / arm / "result.json").exists():
            command = [sys.executable, __file__, "--one", "--arms", arm, "--corpus", config.corpus, "--out", config.out]
            with (out / f"{arm}.log").open("w", encoding="utf-8") as log:
                done = subprocess.run(
                    [*command, "--minutes", str(config.minutes)],
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
            if done.returncode:
                print(f"{arm} failed: {out / arm}.log")

    with ThreadPoolExecutor(num_cpus()) as pool:
        list(pool.map(start, config.arms))
    show(out, config.arms)


def run_arm(config: Config, arm: str) -> None:
    """Measure an arm's speed, train it for the minutes, write `result.json`."""
    torch.set_num_threads(1)
    vars(train_config)["SIZES"] = {**SIZES, **SHAPES}  # shapes that have no name
    folder = Path(config.out) / arm
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    changes = dict(ARMS[arm])
    corpus = Path(config.corpus).absolute()
    if exponents := changes.pop("exponents", None):
        corpus = reweighted(corpus, folder / "corpus", *exponents)
    settings = replace(BASE, **changes)

    steps = max(10, round(config.minutes * 60 / step_seconds(settings, Corpus(corpus))))
    (folder / "run").mkdir()
    (folder / "run" / "markov.json").write_text("{}", encoding="utf-8")  # not counted here
    train(replace(settings, steps=steps), corpus, folder / "run")
    records = read_metrics(folder / "run")
    last = records[-1]
    spans = np.diff([0, *(record["step"] for record in records)])
    seconds = sum(n * settings.batch_tokens / r["tokens_per_second"] for n, r in zip(spans, records, strict=True))
    result = {
        "changes": ARMS[arm],
        "steps": steps,
        "tokens": steps * settings.batch_tokens,
        "minutes": round(float(seconds) / 60, 2),
        "valid_loss": last["valid_loss"],
        "sources": {name: part["loss"] for name, part in last["valid_sources"].items()},
    }
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def step_seconds(settings: TrainConfig, corpus: Corpus) -> float:
    """Processor time of one step of these settings."""
    keep_memory()
    torch.set_flush_denormal(True)
    encoder = Encoder(settings.encoder).initialise(settings.seed)
    objective = build_objective(settings, encoder, corpus).train()
    optimiser = Optimiser(encoder, settings)
    clock: list[float] = []
    for step in range(TRIAL):
        clock.append(time.process_time())
        for number in range(settings.num_micro):
            loss, _ = objective(*to_device(objective.batch(step, number), torch.device("cpu")))
            (loss / settings.num_micro).backward()
        clip(encoder.parameters(), settings.clip)
        optimiser.step(settings.learning_rate_at(step))
    return (time.process_time() - clock[TRIAL // 2]) / (TRIAL - TRIAL // 2)


def reweighted(corpus: Path, folder: Path, cluster_exponent: float, source_exponent: float) -> Path:
    """The same training sequences with other sampling weights: the corpus's files linked, `cumulative` computed again.

    Clusters are counted within the training split; `jobs/corpus.py` does the same, since no cluster is on two sides.
    """
    folder.mkdir(parents=True)
    for path in corpus.iterdir():
        (folder / path.name).symlink_to(path)
    given = Corpus(corpus)
    weight_of = {p.split("=")[0]: float(p.partition("@")[2] or 1) for p in given.manifest["recipe"]["data"]}
    stems = sorted(path.name.removesuffix(".tokens") for path in corpus.glob("train-*.tokens"))
    clusters, sources = ([np.load(corpus / f"{stem}.{what}.npy") for stem in stems] for what in ("cluster", "source"))
    _, cluster, sizes = np.unique(np.concatenate(clusters), return_inverse=True, return_counts=True)
    source = np.concatenate(sources).astype(np.int64)
    raw = sizes[cluster].astype(float) ** (cluster_exponent - 1)
    number = np.bincount(source, 1 / sizes[cluster], len(given.sources))
    share = np.array([weight_of[name] for name in given.sources]) * number**source_exponent
    weight = raw * (share / share.sum() / np.maximum(np.bincount(source, raw, len(share)), 1e-300))[source]
    start = 0
    for stem, part in zip(stems, clusters, strict=True):
        (folder / f"{stem}.cumulative.npy").unlink()
        np.save(folder / f"{stem}.cumulative.npy", np.cumsum(weight[start : start + len(part)]))
        start += len(part)
    return folder


def show(out: Path, arms: tuple[str, ...]) -> None:
    """Print the finished arms, best first."""
    rows = {
        arm: json.loads((out / arm / "result.json").read_text(encoding="utf-8"))
        for arm in arms
        if (out / arm / "result.json").exists()
    }
    table = Table(title="equal time of one core")
    for column in ("arm", "steps", "million tokens", "minutes", "held-out loss"):
        table.add_column(column, justify="left" if column == "arm" else "right")
    for arm, row in sorted(rows.items(), key=lambda item: item[1]["valid_loss"]):
        numbers = (f"{row['steps']}", f"{row['tokens'] / 1e6:.2f}", f"{row['minutes']:.1f}", f"{row['valid_loss']:.4f}")
        table.add_row(arm, *numbers)
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
