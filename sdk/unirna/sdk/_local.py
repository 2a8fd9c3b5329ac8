"""The client of a store: the service's own engine, run in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from unirna.sdk._answers import (
    collection_infos,
    model_infos,
    prediction_result,
    search_result,
    structures,
    variant_result,
)
from unirna.sdk._client import Client, Vectors, as_count, as_list, as_vector
from unirna.sdk._exceptions import InvalidRequestError, NotFoundError, from_problem
from unirna.sdk._jobs import Jobs
from unirna.sdk._models import CollectionInfo, ModelInfo, Structure
from unirna.sdk._results import PredictionResult, SearchResult, VariantResult

if TYPE_CHECKING:
    from unirna.serve.engine import Engine


class LocalClient(Client):
    """A client of the store at a path or URI."""

    def __init__(self, store: str, *, model: str | None, registry: str | None, collection: str | None) -> None:
        if "://" not in store and not Path(store).is_dir():
            raise NotFoundError(f"no store at {store!r}: not a folder. An address of a service starts with http://")
        self.store = store
        self._engine = _open(store, model, registry, collection)

    def __repr__(self) -> str:
        return f"Client({self.store!r})"

    def close(self) -> None:
        """Nothing is held open."""

    def search(
        self,
        similar_to: str | None = None,
        *,
        k: int = 10,
        where: str | None = None,
        collection: str | None = None,
        vector: Sequence[float] | Vectors | None = None,
        id: str | None = None,
        hybrid: bool = False,
        verify: bool = False,
    ) -> SearchResult:
        """See `Client.search`."""
        with _errors():
            answer = self._engine.search(
                similar_to=similar_to,
                vector=as_vector(vector),
                id=id,
                k=as_count(k),
                where=where,
                collection=collection,
                hybrid=hybrid,
                verify=verify,
            )
        return search_result(asdict(answer), hybrid=hybrid or verify)

    def embed(self, sequences: Sequence[str]) -> Vectors:
        """See `Client.embed`."""
        with _errors():
            return self._engine.embed(as_list(sequences))

    def predict(self, task: str, sequences: Sequence[str], *, top: int = 5) -> PredictionResult:
        """See `Client.predict`."""
        with _errors():
            answers = self._engine.predict(task, as_list(sequences), top=as_count(top))
        return prediction_result(answers, task)

    def _fold(self, sequences: list[str], contacts: bool) -> list[Structure]:
        with _errors():
            return structures(self._engine.fold(sequences, drawing=True, contacts=contacts, bounded=False))

    def score_variants(
        self, sequence: str, variants: Sequence[str] | None = None, *, method: str = "masked"
    ) -> VariantResult:
        """See `Client.score_variants`."""
        wanted = None if variants is None else as_list(variants)
        with _errors():
            return variant_result(self._engine.score_variants(sequence, wanted, method=method, drawing=wanted is None))

    def models(self) -> list[ModelInfo]:
        """See `Client.models`."""
        return model_infos(self._engine.describe_models())

    def collections(self) -> list[CollectionInfo]:
        """See `Client.collections`."""
        catalogue = self._engine.catalogue
        return collection_infos({"default": catalogue.default(), "collections": catalogue.describe_all()})

    @property
    def jobs(self) -> Jobs:
        """There are none.

        Raises:
            InvalidRequestError: always; it says what to do instead.
        """
        raise InvalidRequestError(
            f"jobs want a service, connect('http://…'). Beside a store, run one by hand: jobs/embed.py, jobs/screen.py or "
            f"jobs/finetune.py, such as: python jobs/embed.py FILE --collection NAME --store {self.store}"
        )


def _open(store: str, model: str | None, registry: str | None, collection: str | None) -> Engine:
    try:
        from unirna.serve.engine import Engine
    except ImportError as error:
        raise ImportError(
            f'searching a store in this process needs more than the SDK ({error}): pip install "unirna[platform]"; '
            "or connect to a service, connect('http://…')"
        ) from error
    try:
        return Engine.open(store, model, registry, default_collection=collection)
    except ValueError as error:  # all of what can be wrong with a store, a model or a registry
        raise InvalidRequestError(str(error)) from error


@contextmanager
def _errors() -> Iterator[None]:
    """Turn the engine's errors into those that the HTTP client raises."""
    from unirna.serve.errors import RequestError

    try:
        yield
    except RequestError as error:
        raise from_problem(error.problem()) from error
