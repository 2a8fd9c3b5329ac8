"""The client that leaves the event loop free while it waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, overload

from unirna.sdk import _calls
from unirna.sdk._async_jobs import AsyncJobs, AsyncService
from unirna.sdk._calls import Request, Steps
from unirna.sdk._exceptions import UniRNAError
from unirna.sdk._models import CollectionInfo, ModelInfo, Structure
from unirna.sdk._progress import Progress
from unirna.sdk._results import (
    FoldResult,
    MapResult,
    PredictionResult,
    SampleResult,
    SearchResult,
    SearchResults,
    VariantResult,
)

if TYPE_CHECKING:
    from unirna.sdk._calls import Prior, Vectors

Result = TypeVar("Result")


class AsyncTransport(Protocol):
    """What answers the requests of a call without holding the event loop."""

    whole: bool

    async def answers(self, requests: Sequence[Request], done: Any) -> list[Any]:
        """Answers in the order of the requests."""

    def service(self) -> AsyncService:
        """What jobs need."""

    async def close(self) -> None:
        """Let go of connections."""


class AsyncClient:
    """`Client` for `await`; made by `connect_async`. Several calls may run at once. May be used as an async context."""

    def __init__(self, transport: AsyncTransport, collection: str | None = None, progress: bool | None = None) -> None:
        self._transport, self._collection, self._progress = transport, collection, progress

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport!r})"

    async def search(
        self,
        similar_to: str | None = None,
        *,
        k: int = 10,
        offset: int = 0,
        where: str | None = None,
        collection: str | None = None,
        vector: Sequence[float] | Vectors | None = None,
        id: str | None = None,
        hybrid: bool = False,
        verify: bool | None = None,
    ) -> SearchResult:
        """See `Client.search`."""
        where_to = collection or self._collection
        return await self._run(_calls.search(similar_to, k, offset, where, where_to, vector, id, hybrid, verify))

    async def search_many(
        self,
        sequences: Sequence[str] | Mapping[str, str],
        *,
        k: int = 10,
        offset: int = 0,
        where: str | None = None,
        collection: str | None = None,
        hybrid: bool = False,
        verify: bool | None = None,
    ) -> SearchResults:
        """See `Client.search_many`."""
        where_to = collection or self._collection
        return await self._run(_calls.search_many(sequences, k, offset, where, where_to, hybrid, verify))

    async def embed(self, sequences: Sequence[str]) -> Vectors:
        """See `Client.embed`."""
        return await self._run(_calls.embed(sequences, self._transport.whole))

    async def predict(
        self, task: str, sequences: Sequence[str], *, top: int | None = None, prior: Prior | None = None
    ) -> PredictionResult:
        """See `Client.predict`."""
        return await self._run(_calls.predict(task, sequences, top, prior, self._transport.whole))

    @overload
    async def fold(  # type: ignore[overload-overlap]
        self,
        sequences: str,
        *,
        contacts: bool = False,
        pseudoknots: bool = True,
        constraint: str | None = None,
        plot: bool = False,
    ) -> Structure: ...
    @overload
    async def fold(
        self,
        sequences: Sequence[str],
        *,
        contacts: bool = False,
        pseudoknots: bool = True,
        constraint: Sequence[str | None] | None = None,
        plot: bool = False,
    ) -> FoldResult: ...
    async def fold(
        self,
        sequences: str | Sequence[str],
        *,
        contacts: bool = False,
        pseudoknots: bool = True,
        constraint: str | Sequence[str | None] | None = None,
        plot: bool = False,
    ) -> Structure | FoldResult:
        """See `Client.fold`."""
        whole = self._transport.whole
        steps = _calls.fold(sequences, constraint, whole, contacts=contacts, pseudoknots=pseudoknots, plot=plot)
        found = await self._run(steps)
        return found[0] if isinstance(sequences, str) else FoldResult(found)

    async def score_variants(
        self, sequence: str, variants: Sequence[str] | None = None, *, method: str = "masked"
    ) -> VariantResult:
        """See `Client.score_variants`."""
        return await self._run(_calls.score_variants(sequence, variants, method))

    async def map(self, collection: str | None = None, *, label: str | None = None) -> MapResult:
        """See `Client.map`."""
        return await self._run(_calls.map(collection or self._collection, label))

    async def models(self) -> list[ModelInfo]:
        """The encoder, then the predictors."""
        return await self._run(_calls.models())

    async def model_card(self, name: str) -> str:
        """See `Client.model_card`."""
        return await self._run(_calls.model_card(name))

    async def model_plot(self, name: str) -> str:
        """See `Client.model_plot`."""
        return await self._run(_calls.model_plot(name))

    async def sample(self, count: int = 10, *, seed: int = 0, collection: str | None = None) -> SampleResult:
        """See `Client.sample`."""
        return await self._run(_calls.sample(count, seed, collection or self._collection))

    async def collections(self) -> list[CollectionInfo]:
        """The collections that can be searched, by name."""
        return await self._run(_calls.collections())

    @property
    def jobs(self) -> AsyncJobs:
        """See `Client.jobs`."""
        self._transport.service()
        return AsyncJobs(self)

    async def close(self) -> None:
        """Let go of connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, steps: Steps[Result]) -> Result:
        try:
            requests = next(steps)
            while True:
                try:
                    with Progress(sum(request.count for request in requests), self._progress) as progress:
                        answers = await self._transport.answers(requests, progress.add)
                except UniRNAError as error:
                    requests = steps.throw(error)
                else:
                    requests = steps.send(answers)
        except StopIteration as end:
            result: Result = end.value
            return result
