"""Clients of a service at an address, or of a store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from unirna.sdk._async_client import AsyncClient
from unirna.sdk._client import Client

if TYPE_CHECKING:
    from unirna.sdk._http import AsyncHTTPTransport, HTTPTransport
    from unirna.sdk._local import AsyncLocalTransport, LocalTransport

DEFAULT_URL: Final = "http://127.0.0.1:8000"
TIMEOUT: Final = 60.0
Name = str | os.PathLike[str]


def connect(
    url_or_path: Name | None = None,
    *,
    api_key: str | None = None,
    timeout: float = TIMEOUT,
    model: Name | None = None,
    registry: Name | None = None,
    collection: str | None = None,
    progress: bool | None = None,
) -> Client:
    """A client of a service or of a store.

    Args:
        url_or_path: an address ("http://…"), or a store (a folder, `s3://…`), which is then searched in this process;
            by default the service at `UNIRNA_URL`, else at http://127.0.0.1:8000.
        api_key: key of the service; by default `UNIRNA_API_KEY`.
        timeout: seconds to wait for an answer.
        model: of a store, the model to use; by default the one that made it, as the store says.
        registry: of a store, the folder of predictors.
        collection: what is searched when a call names none; by default the default of the service or the store.
        progress: show on stderr how far calls with many sequences are; by default on a terminal and in a notebook.

    Raises:
        ImportError: a store, but `unirna[platform]` is not installed.
        UniRNAError: a store or model that was not found.
    """
    return Client(_Target.of(url_or_path, api_key, timeout, model, registry, collection).transport(), collection, progress)


def connect_async(
    url_or_path: Name | None = None,
    *,
    api_key: str | None = None,
    timeout: float = TIMEOUT,
    model: Name | None = None,
    registry: Name | None = None,
    collection: str | None = None,
    progress: bool | None = None,
) -> AsyncClient:
    """The same client for `await`: `async with sdk.connect_async() as client: await client.search(…)`.

    Args, Raises: as `connect`.
    """
    target = _Target.of(url_or_path, api_key, timeout, model, registry, collection)
    return AsyncClient(target.async_transport(), collection, progress)


@dataclass(frozen=True)
class _Target:
    """What a client is to be connected with."""

    name: str
    api_key: str | None
    timeout: float
    model: str | None
    registry: str | None
    collection: str | None

    @classmethod
    def of(
        cls,
        url_or_path: Name | None,
        api_key: str | None,
        timeout: float,
        model: Name | None,
        registry: Name | None,
        collection: str | None,
    ) -> _Target:
        name = os.fspath(url_or_path) if url_or_path is not None else os.environ.get("UNIRNA_URL") or DEFAULT_URL
        if name.startswith(("http://", "https://")) and (model is not None or registry is not None):
            raise ValueError("model and registry belong to a store; a service at an address has its own")
        seconds: object = timeout  # whatever a caller gave
        if not isinstance(seconds, (int, float)) or not seconds > 0:
            raise ValueError(f"timeout {seconds!r}: expected a number of seconds greater than 0")
        key = api_key or os.environ.get("UNIRNA_API_KEY") or None
        model, registry = (None if path is None else os.fspath(path) for path in (model, registry))
        return cls(name, key, timeout, model, registry, collection)

    def transport(self) -> HTTPTransport | LocalTransport:
        if self.name.startswith(("http://", "https://")):
            from unirna.sdk._http import Address, HTTPTransport

            return HTTPTransport(Address.of(self.name, self.api_key, self.timeout))
        from unirna.sdk._local import LocalTransport

        return LocalTransport(self.name, self.model, self.registry, self.collection)

    def async_transport(self) -> AsyncHTTPTransport | AsyncLocalTransport:
        if self.name.startswith(("http://", "https://")):
            from unirna.sdk._http import Address, AsyncHTTPTransport

            return AsyncHTTPTransport(Address.of(self.name, self.api_key, self.timeout))
        from unirna.sdk._local import AsyncLocalTransport, LocalTransport

        return AsyncLocalTransport(LocalTransport(self.name, self.model, self.registry, self.collection))
