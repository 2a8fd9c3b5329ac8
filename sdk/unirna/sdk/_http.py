"""Requests to a service: JSON over HTTP, with time limits and bounded retries."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import httpx2

from unirna.sdk._calls import ARROW, Request, moved
from unirna.sdk._exceptions import (
    InvalidRequestError,
    ServiceError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    UniRNAError,
    from_problem,
)
from unirna.sdk._process import process_key

CONNECT_TIMEOUT: Final = 5.0
TRIES: Final = 4
RETRIED: Final = (429, 502, 503)
LONGEST_PAUSE: Final = 10.0
PARALLEL: Final = 4
"""Requests of one call that run beside one another."""
BINARY: Final = (ARROW, "application/octet-stream", "text/markdown", "image/svg+xml")
CLOSED: Final = "this client is closed: connect again"
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def _unsendable(body: Mapping[str, Any]) -> str:
    """The first field of a request that JSON cannot hold."""
    for name, value in body.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            return name
    return "request"


@dataclass(frozen=True)
class Address:
    """Where a service is, and how to speak with it.

    Attributes:
        url: without a slash at its end. options: of the HTTP client. timeout: seconds to wait for an answer.
    """

    url: str
    options: dict[str, Any]
    timeout: float

    @classmethod
    def of(cls, url: str, api_key: str | None, timeout: float) -> Address:
        """From what `connect` is given.

        Raises:
            ValueError: no address.
        """
        try:
            host = httpx2.URL(url).host
        except httpx2.InvalidURL as error:
            raise ValueError(
                f"{url!r} is not a valid address ({error}). Expected a form such as http://127.0.0.1:8000"
            ) from error
        if not host:
            raise ValueError(
                f"{url!r} is not a valid address: it names no host. Expected a form such as http://127.0.0.1:8000"
            )
        if api_key and not api_key.isascii():
            raise ValueError("the key (api_key, UNIRNA_API_KEY) has characters beyond ASCII, which no service accepts")
        headers = {"accept": ", ".join(("application/json", *BINARY))}
        options = {
            "headers": headers | ({"authorization": f"Bearer {api_key}"} if api_key else {}),
            "timeout": httpx2.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
            "trust_env": host not in LOOPBACK,  # a proxy set for the outside cannot reach this machine's own services
        }
        return cls(url.rstrip("/"), options, timeout)

    def sent(self, request: Request) -> dict[str, Any]:
        """Arguments of the HTTP client for a request.

        Raises:
            InvalidRequestError: a value that cannot be sent.
        """
        sent: dict[str, Any] = {"method": request.method, "url": self.url + request.path, "headers": dict(request.headers)}
        if request.body is not None:
            try:
                sent["content"] = json.dumps(request.body, allow_nan=False, separators=(",", ":"))
            except (TypeError, ValueError) as error:
                expected = "sequences, ids and filters are text (str), vectors and shares finite numbers"
                field = _unsendable(request.body)
                raise InvalidRequestError.of(field, f"cannot be sent ({error}): {expected}") from error
            sent["headers"]["content-type"] = "application/json"
        return sent

    def tries(self) -> Iterator[Try]:
        """As many as are made; wait for `pause` seconds before each retry."""
        for number in range(1, TRIES + 1):
            yield Try(self, last=number == TRIES, pause=min(0.2 * 2 ** (number - 1), LONGEST_PAUSE))

    def answer(self, response: httpx2.Response) -> Any:
        """What the service answered.

        Raises:
            UniRNAError: a problem, or something that is no answer of such a service.
        """
        if response.is_success and response.headers.get("content-type", "").startswith(BINARY):
            return response.content
        try:
            content = response.json()
        except ValueError:
            content = None
        if response.is_success and isinstance(content, dict):
            return content
        if isinstance(content, dict) and "status" in content:
            raise from_problem(content)
        raise from_problem(
            {
                "status": response.status_code if response.is_error else 500,
                "detail": f"{self.url} answered {response.status_code} with something else than JSON. "
                "Is it a UniRNA service?",
            }
        )

    @contextmanager
    def saved(self, to: Path) -> Iterator[Path]:
        """A file to write an answer to, which takes its place when the block ends well.

        Raises:
            UniRNAError: the answer did not come, or not to its end.
        """
        beside = to.with_name(f".{to.name}.{uuid.uuid4().hex[:8]}.part")  # another may be on its way to the same place
        try:
            yield beside
        except httpx2.TimeoutException as error:
            message = f"no answer from {self.url} within {self.timeout:g} s. Ask again"
            raise ServiceTimeoutError(message) from error
        except httpx2.HTTPError as error:
            raise ServiceUnavailableError(f"{self.url}: {error}. Ask again") from error
        else:
            beside.replace(to)
        finally:
            beside.unlink(missing_ok=True)


@dataclass
class Try:
    """One of several tries to send a request."""

    address: Address
    last: bool
    pause: float

    def __post_init__(self) -> None:
        self.pause *= random.uniform(0.75, 1.25)

    def again(self, response: httpx2.Response) -> bool:
        """Whether a response asks for a retry."""
        # A 500 that is no problem object is not the service's own: a replica went while it answered.
        broken = response.status_code == 500 and "problem" not in response.headers.get("content-type", "")
        if self.last or not (broken or response.status_code in RETRIED):
            return False
        text = response.headers.get("retry-after", "")
        self.pause = min(float(text) if text.isdigit() else self.pause, LONGEST_PAUSE)
        return True

    def failed(self, error: httpx2.HTTPError) -> None:
        """Returns if another try is due.

        Raises:
            UniRNAError: none is.
        """
        url = self.address.url
        if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
            raise ServiceTimeoutError(
                f"no answer from {url} within {self.address.timeout:g} s. Send less at once, or give "
                "connect(…, timeout=…) more"
            ) from error
        if not isinstance(
            error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.RemoteProtocolError, httpx2.ReadError)
        ):
            raise ServiceError(f"{url}: {error}") from error
        if self.last:
            raise ServiceUnavailableError(
                f"no service responds at {url} ({error}). Start a service with: make serve (or jobs/serve.py), "
                "or set UNIRNA_URL to where one runs"
            ) from error


class HTTPTransport:
    """Sends requests and waits for their answers. Safe to share between threads, to use after a fork, and to pickle.

    Args:
        address: the service.
        closed: whether it refuses requests.
    """

    whole = False

    def __init__(self, address: Address, closed: bool = False) -> None:
        self._address, self._closed = address, closed
        self._clients: dict[tuple[int, int], httpx2.Client] = {}

    def __repr__(self) -> str:
        return repr(self._address.url)

    def __reduce__(self) -> tuple[type[HTTPTransport], tuple[Address, bool]]:
        return HTTPTransport, (self._address, self._closed)

    @property
    def _http(self) -> httpx2.Client:
        """This process's own HTTP client.

        A forked process inherits the sockets of its parent: requests of both on one connection get each other's answers.
        So it opens its own. The parent's client is left untouched: its locks may have been held at the fork.
        """
        if self._closed:
            raise InvalidRequestError(CLOSED)
        key = process_key()
        if key not in self._clients:
            self._clients.setdefault(key, httpx2.Client(**self._address.options))
        return self._clients[key]

    def close(self) -> None:
        """Close the connections of this process."""
        self._closed = True
        if (client := self._clients.get(process_key())) is not None:
            client.close()

    def service(self) -> HTTPTransport:
        """What jobs need."""
        return self

    def save(self, path: str, to: Path) -> None:
        """Write an answer's bytes to a file, beside its place and renamed."""
        http = self._http
        with self._address.saved(to) as beside, http.stream("GET", self._address.url + path) as response:
            if not response.is_success:
                response.read()
                self._address.answer(response)
            with beside.open("wb") as file:
                for part in response.iter_bytes():
                    file.write(part)

    def answers(self, requests: Sequence[Request], done: Any) -> list[Any]:
        """Answers in the order of the requests, several of which run beside one another; `done` is told of each.

        Raises:
            UniRNAError: of the first request that failed.
        """
        if len(requests) == 1:
            return [self._answer(requests[0], done)]
        pool = ThreadPoolExecutor(PARALLEL)
        try:
            return list(pool.map(lambda request: self._answer(request, done), requests))
        finally:  # who presses Ctrl-C does not wait for the answers
            pool.shutdown(wait=not isinstance(sys.exception(), KeyboardInterrupt), cancel_futures=True)

    def _answer(self, request: Request, done: Any) -> Any:
        try:
            content = self._address.answer(self._send(request))
        except UniRNAError as error:
            raise moved(error, request.first) from error.__cause__
        done(request.count)
        return request.read(content)

    def _send(self, request: Request) -> httpx2.Response:
        for one in self._address.tries():
            try:
                response = self._http.request(**self._address.sent(request))
            except httpx2.HTTPError as error:
                one.failed(error)
            else:
                if not one.again(response):
                    return response
            time.sleep(one.pause)
        raise AssertionError("unreachable")


class AsyncHTTPTransport:
    """As `HTTPTransport`, without holding the event loop while it waits. Each event loop has connections of its own."""

    whole = False

    def __init__(self, address: Address, closed: bool = False) -> None:
        self._address, self._closed = address, closed
        self._clients: dict[tuple[int, int], WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient]] = {}

    def __repr__(self) -> str:
        return repr(self._address.url)

    def __reduce__(self) -> tuple[type[AsyncHTTPTransport], tuple[Address, bool]]:
        return AsyncHTTPTransport, (self._address, self._closed)

    @property
    def _http(self) -> httpx2.AsyncClient:
        """The HTTP client of the running event loop, in this process."""
        if self._closed:
            raise InvalidRequestError(CLOSED)
        clients, loop = self._clients.setdefault(process_key(), WeakKeyDictionary()), asyncio.get_running_loop()
        if loop not in clients:
            clients[loop] = httpx2.AsyncClient(**self._address.options)
        return clients[loop]

    async def close(self) -> None:
        """Close the connections of this event loop."""
        self._closed = True
        clients = self._clients.get(process_key(), WeakKeyDictionary())
        if (client := clients.get(asyncio.get_running_loop())) is not None:
            await client.aclose()

    def service(self) -> AsyncHTTPTransport:
        """What jobs need."""
        return self

    async def save(self, path: str, to: Path) -> None:
        """As `HTTPTransport.save`."""
        http = self._http
        with self._address.saved(to) as beside:
            async with http.stream("GET", self._address.url + path) as response:
                if not response.is_success:
                    await response.aread()
                    self._address.answer(response)
                with beside.open("wb") as file:
                    async for part in response.aiter_bytes():
                        file.write(part)

    async def answers(self, requests: Sequence[Request], done: Any) -> list[Any]:
        """As `HTTPTransport.answers`; where one fails, or the caller is cancelled, the others are given up."""
        turn = asyncio.Semaphore(PARALLEL)

        async def answer(request: Request) -> Any:
            async with turn:
                try:
                    content = self._address.answer(await self._send(request))
                except UniRNAError as error:
                    raise moved(error, request.first) from error.__cause__
                done(request.count)
                return request.read(content)

        tasks = [asyncio.ensure_future(answer(request)) for request in requests]
        try:
            return [await task for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, request: Request) -> httpx2.Response:
        for one in self._address.tries():
            try:
                response = await self._http.request(**self._address.sent(request))
            except httpx2.HTTPError as error:
                one.failed(error)
            else:
                if not one.again(response):
                    return response
            await asyncio.sleep(one.pause)
        raise AssertionError("unreachable")
