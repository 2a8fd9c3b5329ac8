"""Batches made ahead of the steps that take them, in processes beside the training's own.

A GPU takes a batch in the time in which one core draws and crops its sequences, so several cores have to. Since batch
`number` of `step` is a function of the two, who makes it does not matter.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from unirna.job import num_cpus
from unirna.train.batches import Batch

MOST_PROCESSES = 12

BatchPosition = tuple[int, int]
"""An optimiser step, and which of its forward passes."""


class BatchProvider(Protocol):
    """Makes batches, each a function of its place."""

    def batch(self, step: int, number: int) -> Batch:
        """Batch `number` of optimiser step `step`."""
        ...


class _Batches(Dataset[Batch]):
    def __init__(self, source: BatchProvider) -> None:
        self.source = source

    def __getitem__(self, place: BatchPosition) -> Batch:
        return self.source.batch(*place)


class BatchPositions(Sampler[BatchPosition]):
    """The forward passes `micro` of the steps from `start` to `end`, in their order."""

    def __init__(self, start: int, end: int, micro: range) -> None:
        self.start, self.end, self.micro = start, end, micro

    def __iter__(self) -> Iterator[BatchPosition]:
        return ((step, number) for step in range(self.start, self.end) for number in self.micro)

    def __len__(self) -> int:
        return (self.end - self.start) * len(self.micro)


def batches(source: BatchProvider, places: BatchPositions, processes: int) -> Iterator[Batch]:
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
        worker_init_fn=_settle_down,
        multiprocessing_context="spawn",  # a fork of a process that is connected to Ray leaves its calls hanging
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


def _settle_down(_: int) -> None:
    """A process that makes batches takes one thread, and leaves signals to the one that trains, which ends it."""
    torch.set_num_threads(1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
