"""Batches made ahead of the steps that take them, in processes beside the training's own.

A GPU takes a batch in the time in which one core draws and crops its sequences, so several cores have to. Since batch
`number` of `step` is a function of the two, who makes it does not matter.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from unirna.job import num_cpus
from unirna.train.batches import Batch

MOST_PROCESSES = 12

Place = tuple[int, int]
"""An optimiser step, and which of its forward passes."""


class Source(Protocol):
    """Makes batches, each a function of its place."""

    def batch(self, step: int, number: int) -> Batch:
        """Batch `number` of optimiser step `step`."""
        ...


class _Batches(Dataset[Batch]):
    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, place: Place) -> Batch:
        return self.source.batch(*place)


def batches(source: Source, places: list[Place], processes: int) -> Iterator[Batch]:
    """The batches of these places, in their order, up to four for each process ahead; made here if `processes` is 0."""
    if not processes:
        return (source.batch(*place) for place in places)
    loader = DataLoader(
        _Batches(source),
        batch_size=None,
        sampler=places,
        num_workers=processes,
        prefetch_factor=4,
        collate_fn=_as_it_is,
        worker_init_fn=_one_thread,
    )
    return iter(loader)


def default_processes(device: torch.device) -> int:
    """None on the CPU, where training takes the cores; beside a GPU this worker's share of the cores, less one."""
    if device.type == "cpu":
        return 0
    share = num_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(MOST_PROCESSES, share - 1))


def _as_it_is(batch: Any) -> Any:
    return batch


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
