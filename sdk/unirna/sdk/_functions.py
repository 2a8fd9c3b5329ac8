"""The methods of a client as functions, over one for the service that the environment names."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, overload

from unirna.sdk._client import Client
from unirna.sdk._connect import DEFAULT_URL, connect
from unirna.sdk._jobs import Jobs
from unirna.sdk._models import CollectionInfo, ModelInfo, Structure
from unirna.sdk._results import FoldResult, PredictionResult, SampleResult, SearchResult, SearchResults, VariantResult

if TYPE_CHECKING:
    from unirna.sdk._calls import Prior, Vectors

_default: dict[tuple[str, str | None], Client] = {}
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # a thread that holds the lock is not there in the forked process, to let go of it
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


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
    offset: int = 0,
    where: str | None = None,
    collection: str | None = None,
    vector: Sequence[float] | Vectors | None = None,
    id: str | None = None,
    hybrid: bool = False,
    verify: bool | None = None,
) -> SearchResult:
    """`Client.search` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().search(
        similar_to,
        k=k,
        offset=offset,
        where=where,
        collection=collection,
        vector=vector,
        id=id,
        hybrid=hybrid,
        verify=verify,
    )


def search_many(
    sequences: Sequence[str] | Mapping[str, str],
    *,
    k: int = 10,
    offset: int = 0,
    where: str | None = None,
    collection: str | None = None,
    hybrid: bool = False,
    verify: bool | None = None,
) -> SearchResults:
    """`Client.search_many` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().search_many(
        sequences, k=k, offset=offset, where=where, collection=collection, hybrid=hybrid, verify=verify
    )


def embed(sequences: Sequence[str]) -> Vectors:
    """`Client.embed` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().embed(sequences)


def predict(task: str, sequences: Sequence[str], *, top: int | None = None, prior: Prior | None = None) -> PredictionResult:
    """`Client.predict` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().predict(task, sequences, top=top, prior=prior)


@overload
def fold(  # type: ignore[overload-overlap]
    sequences: str,
    *,
    contacts: bool = False,
    pseudoknots: bool = True,
    constraint: str | None = None,
    plot: bool = False,
) -> Structure: ...
@overload
def fold(
    sequences: Sequence[str],
    *,
    contacts: bool = False,
    pseudoknots: bool = True,
    constraint: Sequence[str | None] | None = None,
    plot: bool = False,
) -> FoldResult: ...
def fold(
    sequences: str | Sequence[str],
    *,
    contacts: bool = False,
    pseudoknots: bool = True,
    constraint: str | Sequence[str | None] | None = None,
    plot: bool = False,
) -> Structure | FoldResult:
    """`Client.fold` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    client = _default_client()
    if isinstance(sequences, str):
        one = constraint if constraint is None or isinstance(constraint, str) else list(constraint)
        return client.fold(sequences, contacts=contacts, pseudoknots=pseudoknots, constraint=one, plot=plot)
    return client.fold(sequences, contacts=contacts, pseudoknots=pseudoknots, constraint=constraint, plot=plot)


def score_variants(sequence: str, variants: Sequence[str] | None = None, *, method: str = "masked") -> VariantResult:
    """`Client.score_variants` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().score_variants(sequence, variants, method=method)


def models() -> list[ModelInfo]:
    """`Client.models` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().models()


def sample(count: int = 10, *, seed: int = 0, collection: str | None = None) -> SampleResult:
    """`Client.sample` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().sample(count, seed=seed, collection=collection)


def collections() -> list[CollectionInfo]:
    """`Client.collections` with the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""
    return _default_client().collections()


def _service() -> Client:
    """The default client, if it is connected to a service: jobs need one."""
    client = _default_client()
    client._transport.service()
    return client


jobs: Final = Jobs(_service)
"""`Client.jobs` of the service at `UNIRNA_URL`, by default http://127.0.0.1:8000."""

screen = jobs.screen
