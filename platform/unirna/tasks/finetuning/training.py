"""The training part of fine-tuning: a head on frozen vectors, or head and encoder together on workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from unirna.base import counted
from unirna.job import Progress, say
from unirna.model import Model
from unirna.sequence import sequence_sha
from unirna.tasks.finetuning.encoder_training import START, read_best, read_epochs, read_start
from unirna.tasks.finetuning.feed import write_rows
from unirna.tasks.finetuning.search_space import Run, Search, candidates, lay_out
from unirna.tasks.finetuning.workers import following, train_on_worker
from unirna.tasks.kinds.task import Task, Truth
from unirna.tasks.models.head import Features, Fit, LinearHead
from unirna.tasks.table.labelled import LabelledTable
from unirna.tasks.table.pairs import difference
from unirna.tasks.table.units import Units
from unirna.tasks.table.vectors import VectorCache, nucleotide_vectors

if TYPE_CHECKING:
    from unirna.tasks.finetuning.finetune import FinetuneConfig

Launch = Callable[[Callable[[dict[str, Any]], None], dict[str, Any], Path], None]
"""Runs a function of plain settings on some workers, which share the folder, and waits."""


def fit_head(
    task: Task, features: Features, truth: Truth, rows: dict[str, NDArray[np.int64]], num_outputs: int, *, whiten: bool
) -> Fit:
    """The task's head on features [U, H], fitted to its training rows, with the settings that suit the validation rows."""
    train, valid = rows["train"], rows["valid"]
    return task.fit(features[train], truth[train], features[valid], truth[valid], num_outputs, whiten=whiten)


def embed_rows(model: Model, table: LabelledTable, units: Units, registry: Path) -> NDArray[np.float32]:
    """Vectors of all rows (of pairs, what they differ by), or nucleotides with a value, float32 [U, H]; those of sequences
    through the registry's cache."""
    if units.places is not None:
        return units.gather(nucleotide_vectors(model, table.sequences))
    if table.pairs:
        return difference(lambda letters: embed_sequences(model, letters, registry), table.sequences)
    return embed_sequences(model, table.sequences, registry)


def embed_sequences(model: Model, sequences: list[str], registry: Path) -> NDArray[np.float32]:
    """Vectors of normalised sequences through the registry's cache, float32 [N, H]."""
    cache = VectorCache(registry / ".vectors", model)
    progress: list[Progress] = []

    def update(done: int, total: int) -> None:
        if not progress:
            progress.append(Progress("embed", total, "nucleotides"))
        progress[0].update(done)

    vectors = cache.embed(sequences, [sequence_sha(one) for one in sequences], update)
    note = f"{counted(cache.num_embedded, 'sequence')} embedded, {cache.num_read:,} taken from {cache.folder}"
    if progress:
        progress[0].close(note)
    else:
        say(note)
    return vectors


def train_encoder(
    config: FinetuneConfig,
    work: Path,
    model: Model,
    table: LabelledTable,
    units: Units,
    task: Task,
    truth: Truth,
    rows: dict[str, NDArray[np.int64]],
    num_outputs: int,
    launch: Launch,
    search: Search,
) -> tuple[Model, LinearHead, dict[str, Tensor], dict[str, Any]]:
    """Train encoder and head in the work folder; what a killed run left there is used. Also returns how it went."""
    work.mkdir(parents=True, exist_ok=True)
    if any(work.rglob("state.pt")):
        say(f"going on from {work}")
    centre, spread = 0.0, 1.0
    original = truth
    if task.numeric:  # training sees values in units of their deviation from their mean
        known = truth[units.within(rows["train"])]
        centre, spread = float(known.mean()), float(known.std())
        truth = (truth - centre) / spread
    if config.full.head_input == "vector":
        vectors = embed_rows(model, table, units, Path(config.registry).absolute())
        at = {split: units.within(chosen) for split, chosen in rows.items()}
        fit_head(task, vectors, truth, at, num_outputs, whiten=True).head.save(work / START)
    for split in ("train", "valid"):
        of_split = truth[rows[split]] if units.places is None else np.empty(0)
        if units.places is not None:
            profiles = table.profiles
            of_split = (np.concatenate([profiles[i] for i in rows[split]]) - centre) / spread
        write_rows(work / f"{split}.npz", [table.sequences[i] for i in rows[split]], of_split)
    model.save(work / "base")
    runs = lay_out(work, candidates(config.full, config.seeds, config.num_trials))
    with following(runs):
        common = {"task": task.name, "num_outputs": num_outputs, "pooling": config.pooling}
        settings = [{"full": asdict(run.full), "work": str(run.work), **common} for run in runs]
        if config.num_trials > 1:
            search(train_on_worker, settings, work)
        else:
            for run, each in zip(runs, settings, strict=True):
                launch(train_on_worker, each, run.work)

    def read(run: Run) -> tuple[Model, LinearHead, dict[str, Tensor]]:
        encoder, head, adapters = read_best(run.work)
        head = head.rescaled(centre, spread) if task.numeric else head
        named = f"{model.name}, fine-tuned on {config.name}"
        return Model(encoder, named, model.device, pooling=model.pooling), head, adapters

    best = min(runs, key=lambda run: run.loss)
    details: dict[str, Any] = {"epochs": read_epochs(best.work), "start": read_start(best.work)}
    if len(runs) > 1:
        details |= {"runs": [run.facts() for run in runs], "kept": runs.index(best) + 1}
        facts = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in best.facts().items())
        say(f"run {details['kept']} of {len(runs)} has the lowest validation loss: {facts}")
    if config.seeds > 1:
        tested = units.within(rows["test"])
        for run, facts in zip(runs, details["runs"], strict=True):
            trained, head, _ = read(run)
            answers = task.answers(head, embed_rows(trained, table, units, Path(config.registry).absolute())[tested])
            facts[f"test {task.primary.name}"] = round(task.primary.compute(original[tested], answers), 4)
    return *read(best), details
