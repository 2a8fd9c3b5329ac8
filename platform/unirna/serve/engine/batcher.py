"""Sequences of concurrent requests go through the model together."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from unirna.serve.errors import bad_field

Vectors = NDArray[np.float32]
Embed = Callable[[list[str], list[bool]], Sequence[Vectors]]
"""Sequences, and for each whether to return the rows of its nucleotides -> float32 [H] or [L, H] of each."""
Result = TypeVar("Result")


class OverloadedError(RuntimeError):
    """More waits than the service has agreed to hold.

    Attributes:
        retry_after: seconds after which it is worth asking again.
    """

    def __init__(self, reason: str, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(f"{reason}. Ask again in {retry_after} s")


class SerialExecutor:
    """Does long work one after the other, in a thread of its own, and lets only so many wait.

    What a caller who has gone had started is finished before the next begins; what had not begun is dropped.

    Args:
        waiting: how many may wait.
    """

    def __init__(self, waiting: int) -> None:
        self._pending, self._most = 0, waiting + 1
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="long")

    async def run(self, work: Callable[[], Result]) -> Result:
        """The result of `work`, when its turn has come.

        Raises:
            OverloadedError: too many wait already.
        """
        if self._pending >= self._most:
            raise OverloadedError(f"{self._pending - 1} requests are already waiting", retry_after=2)
        self._pending += 1
        job = self._thread.submit(work)
        job.add_done_callback(self._count_down(asyncio.get_running_loop()))  # of work, not of its caller
        return await asyncio.wrap_future(job)

    def _count_down(self, loop: asyncio.AbstractEventLoop) -> Callable[[object], None]:
        def later(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._one_less)

        return later

    def _one_less(self) -> None:
        self._pending -= 1


class ConcurrencyLimiter:
    """Lets a few in at once, and only so many wait: `async with limiter: …`.

    Args:
        at_once: how many are in. waiting: how many may wait.

    Raises:
        OverloadedError: on entering, too many wait already.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._inside = asyncio.Semaphore(at_once)
        self._pending, self._most = 0, at_once + waiting

    async def __aenter__(self) -> None:
        if self._pending >= self._most:
            raise OverloadedError(f"{self._pending} such requests are already running or waiting", retry_after=2)
        self._pending += 1
        try:
            await self._inside.acquire()
        except BaseException:
            self._pending -= 1
            raise

    async def __aexit__(self, *of: object) -> None:
        self._inside.release()
        self._pending -= 1


@dataclass
class _Job:
    sequences: Sequence[str]
    nucleotides: Sequence[bool]
    done: asyncio.Future[list[Vectors]]
    taken: int = 0
    vectors: list[Vectors] = field(default_factory=list)


class Batcher:
    """Gathers sequences into batches of a token budget and embeds them in one thread, so that the event loop answers on.

    Nothing waits for a batch to fill: what arrives while one batch runs makes the next one. Each batch takes sequences
    from the waiting requests in turn, so a search of one sequence does not stand behind a request of hundreds.

    Args:
        embed: what embeds a batch (`Embed`).
        budget: nucleotides of one batch; a longer sequence goes alone.
        max_waiting: nucleotides that may wait; also the most of one request.
    """

    def __init__(self, embed: Embed, *, budget: int, max_waiting: int) -> None:
        self._embed, self._budget, self._max_waiting = embed, budget, max_waiting
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self._running: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Nucleotides that wait."""
        return self._waiting

    async def embed(self, sequences: Sequence[str]) -> Vectors:
        """Vectors of checked sequences, float32 [N, H], in their order; errors as `embed_each`."""
        return np.stack(await self.embed_each(sequences, [False] * len(sequences)))

    async def nucleotides(self, sequences: Sequence[str]) -> list[Vectors]:
        """Rows of the nucleotides of checked sequences, float32 [L, H] of each; errors as `embed_each`."""
        return await self.embed_each(sequences, [True] * len(sequences))

    async def embed_each(self, sequences: Sequence[str], nucleotides: Sequence[bool]) -> list[Vectors]:
        """Of each checked sequence its vector, float32 [H], or the rows of its nucleotides, [L, H], in their order.

        Raises:
            RequestError: more than may ever wait (413).
            OverloadedError: too much waits already; nothing was done.
        """
        size = sum(map(len, sequences))
        if size > self._max_waiting:
            message = f"{size:,} nucleotides; a request takes at most {self._max_waiting:,} (max_waiting_nucleotides)"
            raise bad_field("sequences", f"{message}. Split it into several requests", 413)
        if self._waiting + size > self._max_waiting:
            raise OverloadedError(f"{self._waiting:,} nucleotides are already waiting to be embedded", retry_after=2)
        job = _Job(sequences, nucleotides, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._waiting += size
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await job.done

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            sequences = [job.sequences[i] for job, i in batch]
            nucleotides = [job.nucleotides[i] for job, i in batch]
            try:
                vectors = await loop.run_in_executor(self._thread, self._embed, sequences, nucleotides)
            except Exception as error:
                for job, _ in batch:
                    if not job.done.done():
                        job.done.set_exception(error)
                continue
            for (job, _), vector in zip(batch, vectors, strict=True):
                job.vectors.append(vector)
                if len(job.vectors) == len(job.sequences) and not job.done.done():
                    job.done.set_result(job.vectors)
        self._running = None

    def _next_batch(self) -> list[tuple[_Job, int]]:
        """Sequences up to the budget, one of each waiting request in turn; each request's come in their order."""
        batch: list[tuple[_Job, int]] = []
        size = 0
        while self._jobs:
            job = self._jobs.popleft()
            if job.done.done():  # its caller has gone, or an earlier batch of it failed
                self._waiting -= sum(map(len, job.sequences[job.taken :]))
                continue
            length = len(job.sequences[job.taken])
            if batch and size + length > self._budget:
                self._jobs.appendleft(job)
                break
            batch.append((job, job.taken))
            size += length
            job.taken += 1
            self._waiting -= length
            if job.taken < len(job.sequences):
                self._jobs.append(job)
        return batch
