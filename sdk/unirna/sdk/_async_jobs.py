"""Jobs of a service, for clients that leave the event loop free while they wait."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence  # noqa: F401 - Mapping: of the fields of JobFacts, for the reference
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from unirna.sdk import _job_calls
from unirna.sdk._calls import Steps
from unirna.sdk._job_calls import Facts, Records
from unirna.sdk._jobs import Files, JobFacts, JobFile, Lines, waiting

if TYPE_CHECKING:
    from unirna.sdk._async_client import AsyncClient

Listed = list["AsyncJob"]


class AsyncService(Protocol):
    """What jobs need of the way to a service, besides its answers."""

    async def save(self, path: str, to: Path) -> None:
        """Write an answer's bytes to a file."""


@dataclass(frozen=True)
class AsyncJob(JobFacts):
    """`Job` for `await`."""

    _jobs: AsyncJobs = field(repr=False, compare=False)

    async def refresh(self) -> AsyncJob:
        """See `Job.refresh`."""
        return await self._jobs.get(self.id)

    async def wait(self, *, timeout: float | None = None, progress: bool = True) -> AsyncJob:
        """See `Job.wait`."""
        import asyncio  # who waits has it already; for others it is a tenth of the import of this package

        steps = waiting(self.id, timeout, progress)
        pause = next(steps)
        try:
            while True:
                await asyncio.sleep(pause)
                job = await self.refresh()
                pause = steps.send(job)
        except StopIteration:
            return job

    async def log(self, lines: int = 100) -> list[str]:
        """See `Job.log`."""
        return await self._jobs.log(self.id, lines)

    async def cancel(self) -> AsyncJob:
        """See `Job.cancel`."""
        return await self._jobs.cancel(self.id)

    async def resume(self) -> AsyncJob:
        """See `Job.resume`."""
        return await self._jobs.resume(self.id)

    async def results(self) -> list[JobFile]:
        """See `Job.results`."""
        return await self._jobs.results(self.id)

    async def download(self, name: str, to: str | os.PathLike[str] = ".") -> Path:
        """See `Job.download`."""
        return await self._jobs.download(self.id, name, to)


class AsyncJobs:
    """`Jobs` for `await`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def embed(
        self,
        records: Records | None = None,
        *,
        collection: str,
        file: str | None = None,
        name: str = "",
        **parameters: Any,
    ) -> AsyncJob:
        """See `Jobs.embed`."""
        return await self._job(_job_calls.embed(records, collection, file, name, parameters))

    async def screen(
        self,
        library: Records | None = None,
        *,
        similar_to: Records | None = None,
        predict: Sequence[str] = (),
        top: int = 100,
        file: str | None = None,
        name: str = "",
        **parameters: Any,
    ) -> AsyncJob:
        """See `Jobs.screen`."""
        return await self._job(_job_calls.screen(library, similar_to, predict, top, file, name, parameters))

    async def finetune(
        self, table: Records | None = None, *, task: str, file: str | None = None, name: str = "", **parameters: Any
    ) -> AsyncJob:
        """See `Jobs.finetune`."""
        return await self._job(_job_calls.finetune(table, task, file, name, parameters))

    async def list(self, limit: int = 50) -> Listed:
        """See `Jobs.list`."""
        return [AsyncJob(**facts, _jobs=self) for facts in await self._client._run(_job_calls.listed(limit))]

    async def get(self, id: str) -> AsyncJob:
        """See `Jobs.get`."""
        return await self._job(_job_calls.one(id))

    async def log(self, id: str, lines: int = 100) -> Lines:
        """See `Job.log`."""
        return await self._client._run(_job_calls.log(id, lines))

    async def cancel(self, id: str) -> AsyncJob:
        """See `Job.cancel`."""
        return await self._job(_job_calls.one(id, "cancel"))

    async def resume(self, id: str) -> AsyncJob:
        """See `Job.resume`."""
        return await self._job(_job_calls.one(id, "resume"))

    async def results(self, id: str) -> Files:
        """See `Job.results`."""
        return [JobFile(**facts) for facts in await self._client._run(_job_calls.results(id))]

    async def download(self, id: str, name: str, to: str | os.PathLike[str] = ".") -> Path:
        """See `Job.download`."""
        path, target = _job_calls.download(id, name, to)
        await self._client._transport.service().save(path, target)
        return target

    async def _job(self, steps: Steps[Facts]) -> AsyncJob:
        return AsyncJob(**await self._client._run(steps), _jobs=self)
