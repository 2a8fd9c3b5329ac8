"""Validation: held-out sequences with fixed masks, per source, beside what counting k-mers gives at the same places."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unirna.corpus import Corpus
from unirna.runs import read_json, write_json
from unirna.train.batches import MaskedBatch, mask_pieces
from unirna.train.markov import TargetPosition, count_kmers, predict, sample_sequences
from unirna.train.objective import Objective, to_device
from unirna.train.parallel import Workers


@dataclass(frozen=True)
class HeldOut:
    """One validation batch: `sources` int64 [M] is each place's source; `pieces` the sequences in the batch's order."""

    masked: MaskedBatch
    sources: NDArray[np.int64]
    pieces: list[NDArray[np.uint8]]

    def places(self) -> Iterator[TargetPosition]:
        """The hidden nucleotides in their unhidden sequences."""
        owner = np.searchsorted(self.masked.boundaries, self.masked.places, side="right") - 1
        for piece, place in zip(owner.tolist(), self.masked.places.tolist(), strict=True):
            yield TargetPosition(self.pieces[piece], place - int(self.masked.boundaries[piece]) - 1)  # without <cls>


def held_out_batches(corpus: Corpus, *, seed: int, tokens: int, budget: int, context: int) -> list[HeldOut]:
    """The same batches at every call: sequences drawn evenly and without repetition, about so many tokens, by length.

    Args:
        corpus: the validation split. seed: of the choice and the masks.
        tokens: how much is validated on; all of the split if it has no more.
        budget: tokens of a batch. context: longer sequences are cut to their first so many nucleotides.
    """
    random = np.random.default_rng(seed)
    chosen: dict[int, NDArray[np.uint8]] = {}
    order = range(len(corpus)) if corpus.num_tokens + 2 * len(corpus) <= tokens else None
    room = tokens
    while room > 0 and len(chosen) < len(corpus):
        drawn = order[len(chosen)] if order is not None else int(random.integers(len(corpus)))
        if drawn not in chosen:
            chosen[drawn] = corpus[drawn][:context]
            room -= len(chosen[drawn]) + 2
    batches: list[HeldOut] = []
    indices: list[int] = []
    size = 0
    by_length: list[int | None] = [*sorted(chosen, key=lambda i: (len(chosen[i]), i)), None]
    for index in by_length:
        if indices and (index is None or size + len(chosen[index]) + 2 > budget):
            pieces = [chosen[i] for i in indices]
            masked = mask_pieces(pieces, np.random.default_rng((seed, len(batches))))  # sorted already: the order stays
            owner = np.searchsorted(masked.boundaries, masked.places, side="right") - 1
            sources = np.array([corpus.source_of(i) for i in indices], np.int64)[owner]
            batches.append(HeldOut(masked, sources, pieces))
            indices, size = [], 0
        if index is not None:
            indices.append(index)
            size += len(chosen[index]) + 2
    return batches


def validate(
    objective: Objective, batches: list[HeldOut], names: tuple[str, ...], workers: Workers, half: bool
) -> dict[str, Any]:
    """Loss in nats, perplexity and masked accuracy over all held-out places, and per source; workers share the batches.

    Returns:
        `valid_loss`, `valid_perplexity`, `valid_accuracy`, `valid_sources` {name: {places, loss, accuracy}}; nothing
        where nothing is held out.
    """
    sums = np.zeros((len(names), 3))  # places, loss, right
    objective.eval()
    with torch.no_grad():
        for first in range(0, len(batches), workers.world):
            # Every worker does as many passes (with shards each is a meeting of all); a surplus one is not counted.
            batch = batches[min(first + workers.rank, len(batches) - 1)]
            with torch.autocast(workers.device.type, torch.bfloat16, enabled=half):
                loss_M, right_M = objective.score(*to_device(batch.masked, workers.device))
            if first + workers.rank < len(batches):
                for column, values in enumerate((None, loss_M.double().cpu().numpy(), right_M.cpu().numpy())):
                    sums[:, column] += np.bincount(batch.sources, values, minlength=len(names))
    objective.train()
    total = np.array(workers.all_reduce_sum(*sums.ravel())).reshape(sums.shape)
    return summarise(total, names) if total[:, 0].sum() else {}


def summarise(sums: NDArray[np.float64], names: tuple[str, ...]) -> dict[str, Any]:
    """Means of sums [sources, (places, loss, right)], over all and per source."""
    places, loss, right = sums.sum(0).tolist()
    return {
        "valid_loss": round(loss / places, 6),
        "valid_perplexity": round(math.exp(loss / places), 4),
        "valid_accuracy": round(right / places, 6),
        "valid_sources": {
            name: {"places": round(n), "loss": round(total / n, 6), "accuracy": round(hits / n, 6)}
            for name, (n, total, hits) in zip(names, sums.tolist(), strict=True)
            if n
        },
    }


def baselines(run: Path, train: Corpus, batches: list[HeldOut], seed: int) -> dict[str, Any]:
    """Loss and accuracy of the unigram and the best Markov models on the same places, over all and per source.

    Counted once, kept in `<run>/markov.json`.
    """
    path = run / "markov.json"
    if path.exists():
        return read_json(path)
    result: dict[str, Any] = {}
    places = [place for batch in batches for place in batch.places()]
    if places:
        sources = np.concatenate([batch.sources for batch in batches])
        count = np.bincount(sources, minlength=len(train.sources))
        for prediction in predict(count_kmers(sample_sequences(train, seed)), places):
            columns = [np.bincount(sources, values, len(count)) for values in (prediction.losses, prediction.right)]
            summary = summarise(np.stack([count, *columns], 1), train.sources)
            result[prediction.name] = {
                "context": prediction.context,
                "loss": summary["valid_loss"],
                "accuracy": summary["valid_accuracy"],
                "sources": {name: values["loss"] for name, values in summary["valid_sources"].items()},
            }
    write_json(path, result)
    return result
