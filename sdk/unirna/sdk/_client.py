"""The client that both ways of answering share, and the functions over a default one."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self, overload

import numpy as np
from numpy.typing import NDArray

from unirna.sdk._exceptions import InvalidRequestError
from unirna.sdk._jobs import Jobs, Service
from unirna.sdk._models import CollectionInfo, ModelInfo, Structure
from unirna.sdk._results import FoldResult, PredictionResult, SearchResult, VariantResult

DEFAULT_URL: Final = "http://127.0.0.1:8000"
TIMEOUT: Final = 60.0
Vectors = NDArray[np.float32]


class Client(ABC):
    """Searches, embeds, predicts, folds; made by `connect`. The same over HTTP and in process. May be used as a context."""

    @abstractmethod
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
        """The k stored sequences most similar to a sequence.

        Args:
            similar_to: RNA or DNA letters, either case; or instead of it
            vector: the vector [H] of one, from `embed`; or
            id: the id of a stored sequence, which will be its own first hit.
            k: hits wanted.
            where: SQL condition on the collection's columns, such as "length < 200 AND rna_type = 'Gene;tRNA'".
            collection: which; by default the service's.
            hybrid: search by shared words (8-mers) as well as by the vector; each hit says what found it. At most 400 hits.
            verify: search so, align the candidates, rank them by the score, and give identity, coverage and CIGAR.

        Raises:
            InvalidRequestError: an argument that is not valid; `field` names it.
            NotFoundError: an unknown collection or id.
            ModelMismatchError: a collection of another model.
            UniRNAError: any other failure.
        """

    @abstractmethod
    def embed(self, sequences: Sequence[str]) -> Vectors:
        """One vector per sequence: float32 [N, H], in their order; any number of sequences.

        Raises:
            InvalidRequestError: sequences that are not RNA or DNA, or too long; `errors` names them by index.
            UniRNAError: any other failure.
        """

    @abstractmethod
    def predict(self, task: str, sequences: Sequence[str], *, top: int = 5) -> PredictionResult:
        """The most probable class of each sequence.

        Args:
            task: name of a predictor; `models` lists them.
            sequences: RNA or DNA letters, either case; any number.
            top: how many classes to give probabilities of; 0 for all.

        Raises:
            NotFoundError: an unknown task.
            InvalidRequestError: sequences that are not valid.
            UniRNAError: any other failure.
        """

    @overload
    def fold(self, sequences: str, *, contacts: bool = False) -> Structure: ...  # type: ignore[overload-overlap]
    @overload
    def fold(self, sequences: Sequence[str], *, contacts: bool = False) -> FoldResult: ...
    def fold(self, sequences: str | Sequence[str], *, contacts: bool = False) -> Structure | FoldResult:
        """The secondary structure of a sequence, or of each of several.

        Args:
            sequences: RNA or DNA letters, either case.
            contacts: also say which nucleotides are close in space.

        Returns:
            Of one text its `Structure`, of a list a `FoldResult` in its order.

        Raises:
            InvalidRequestError: sequences that are not RNA or DNA, or too long; `errors` names them by index.
            UniRNAError: any other failure.
        """
        if isinstance(sequences, str):
            return self._fold([sequences], contacts)[0]
        return FoldResult(self._fold(as_list(sequences), contacts))

    @abstractmethod
    def _fold(self, sequences: list[str], contacts: bool) -> list[Structure]: ...

    @abstractmethod
    def score_variants(
        self, sequence: str, variants: Sequence[str] | None = None, *, method: str = "masked"
    ) -> VariantResult:
        """How much more or less likely the language model finds variants of a sequence.

        Args:
            sequence: RNA or DNA letters, either case.
            variants: such as "A10G" (places from 1), or "G3C+C70G" for several substitutions at once; None for all single
                ones, with a heat map.
            method: "masked" hides the sites of a variant; "pseudo-likelihood" compares whole sequences, which takes longer.

        Raises:
            InvalidRequestError: a sequence or variants that are not valid, or too much work; `errors` names them by index.
            UniRNAError: any other failure.
        """

    @abstractmethod
    def models(self) -> list[ModelInfo]:
        """The encoder, then the predictors."""

    @abstractmethod
    def collections(self) -> list[CollectionInfo]:
        """The collections that can be searched, by name."""

    @property
    @abstractmethod
    def jobs(self) -> Jobs:
        """The jobs of a service: `jobs.embed`, `jobs.screen`, `jobs.finetune`, `jobs.list`, `jobs.get`.

        Raises:
            InvalidRequestError: a client of a store, which has none.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def connect(
    url_or_path: str | os.PathLike[str] | None = None,
    *,
    api_key: str | None = None,
    timeout: float = TIMEOUT,
    model: str | os.PathLike[str] | None = None,
    registry: str | os.PathLike[str] | None = None,
    collection: str | None = None,
) -> Client:
    """A client of a service or of a store.

    Args:
        url_or_path: an address ("http://…"), or a store (a folder, `s3://…`), which is then searched in this process;
            by default the service at `UNIRNA_URL`, else at http://127.0.0.1:8000.
        api_key: key of the service; by default `UNIRNA_API_KEY`.
        timeout: seconds to wait for an answer.
        model: of a store, the model to use; by default the one that made it, as the store says.
        registry: of a store, the folder of predictors.
        collection: what is searched when a call names none; by default the service's default or the store's only one.

    Raises:
        ImportError: a store, but `unirna[platform]` is not installed.
        UniRNAError: a store or model that is not to be found.
    """
    target = os.fspath(url_or_path) if url_or_path is not None else os.environ.get("UNIRNA_URL") or DEFAULT_URL
    if target.startswith(("http://", "https://")):
        from unirna.sdk._http import HTTPClient

        if model is not None or registry is not None:
            raise ValueError("model and registry belong to a store; a service at an address has its own")
        key = api_key or os.environ.get("UNIRNA_API_KEY") or None
        return HTTPClient(target, api_key=key, timeout=timeout, collection=collection)
    from unirna.sdk._local import LocalClient

    return LocalClient(
        target,
        model=None if model is None else os.fspath(model),
        registry=None if registry is None else os.fspath(registry),
        collection=collection,
    )


_default: dict[tuple[str, str | None], Client] = {}
_lock = threading.Lock()


def _default_client() -> Client:
    """The client for the address and key that the environment names now; connections are kept between calls."""
    key = (os.environ.get("UNIRNA_URL") or DEFAULT_URL, os.environ.get("UNIRNA_API_KEY") or None)
    with _lock:
        if key not in _default:
            for client in _default.values():
                client.close()
            _default.clear()
            _default[key] = connect(key[0], api_key=key[1])
        return _default[key]


def search(
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
    """`Client.search` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().search(
        similar_to, k=k, where=where, collection=collection, vector=vector, id=id, hybrid=hybrid, verify=verify
    )


def embed(sequences: Sequence[str]) -> Vectors:
    """`Client.embed` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().embed(sequences)


def predict(task: str, sequences: Sequence[str], *, top: int = 5) -> PredictionResult:
    """`Client.predict` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().predict(task, sequences, top=top)


@overload
def fold(sequences: str, *, contacts: bool = False) -> Structure: ...  # type: ignore[overload-overlap]
@overload
def fold(sequences: Sequence[str], *, contacts: bool = False) -> FoldResult: ...
def fold(sequences: str | Sequence[str], *, contacts: bool = False) -> Structure | FoldResult:
    """`Client.fold` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().fold(sequences, contacts=contacts)


def score_variants(sequence: str, variants: Sequence[str] | None = None, *, method: str = "masked") -> VariantResult:
    """`Client.score_variants` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().score_variants(sequence, variants, method=method)


def models() -> list[ModelInfo]:
    """`Client.models` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().models()


def collections() -> list[CollectionInfo]:
    """`Client.collections` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().collections()


def _default_service() -> Service:
    client = _default_client()
    return client.jobs._service()


jobs: Final = Jobs(_default_service)
"""`Client.jobs` of the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""


def as_vector(vector: Any) -> Vectors | None:
    """A query vector as float32 [H].

    Raises:
        InvalidRequestError: not a list of finite numbers.
    """
    if vector is None:
        return None
    try:
        array = np.asarray(vector, np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError.of("vector", f"wanted numbers ({error})") from error
    if array.ndim != 1 or not np.isfinite(array).all():
        raise InvalidRequestError.of("vector", f"wanted one list of finite numbers, got shape {list(array.shape)}")
    return array


def as_count(number: Any) -> Any:
    """A numpy integer as a plain one; anything else as it is, for the service to judge."""
    return int(number) if isinstance(number, np.integer) else number


def as_list(sequences: Any) -> list[str]:
    """Sequences as a list.

    Raises:
        TypeError: one string, which would be taken letter by letter.
    """
    if isinstance(sequences, (str, bytes)):
        raise TypeError("wanted a list of sequences, got one string. Write [sequence]")
    return list(sequences)
