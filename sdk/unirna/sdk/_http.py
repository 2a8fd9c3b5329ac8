"""The client of a service: JSON over HTTP, with time limits and bounded retries."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx2
import numpy as np

from unirna.sdk._answers import (
    collection_infos,
    model_infos,
    prediction_result,
    search_result,
    structures,
    variant_result,
)
from unirna.sdk._client import Client, Vectors, as_count, as_list, as_vector
from unirna.sdk._exceptions import ServiceError, ServiceTimeoutError, ServiceUnavailableError, UniRNAError, from_problem
from unirna.sdk._jobs import Jobs
from unirna.sdk._models import CollectionInfo, ModelInfo, Structure
from unirna.sdk._results import PredictionResult, SearchResult, VariantResult

CONNECT_TIMEOUT: Final = 5.0
TRIES: Final = 4
RETRIED: Final = (429, 502, 503)
LONGEST_PAUSE: Final = 10.0
CHUNK_SEQUENCES: Final = 64
CHUNK_NUCLEOTIDES: Final = 200_000
FOLD_COST: Final = 1_000**3
"""Cubes of the lengths of the sequences that are folded by one request."""
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class HTTPClient(Client):
    """A client of the service at an address. Calls only read, or carry a key (`Jobs`), so all may be tried again."""

    def __init__(self, url: str, *, api_key: str | None, timeout: float, collection: str | None) -> None:
        self.url, self._collection, self._timeout = url.rstrip("/"), collection, timeout
        try:
            host = httpx2.URL(url).host
        except httpx2.InvalidURL as error:
            raise ValueError(f"{url!r} is no address ({error}). Wanted such as http://127.0.0.1:8000") from error
        headers = {"accept": "application/json"} | ({"authorization": f"Bearer {api_key}"} if api_key else {})
        self._http = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
            trust_env=host not in LOOPBACK,  # a proxy set for the outside cannot reach this machine's own services
        )

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

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
        numbers = as_vector(vector)
        body = {
            "similar_to": similar_to,
            "vector": None if numbers is None else numbers.tolist(),
            "id": id,
            "k": as_count(k),
            "where": where,
            "collection": collection or self._collection,
            "hybrid": hybrid or None,
            "verify": verify or None,
        }
        answer = self._post("/v1/search", {name: value for name, value in body.items() if value is not None})
        return search_result(answer, hybrid=hybrid or verify)

    def embed(self, sequences: Sequence[str]) -> Vectors:
        """See `Client.embed`."""
        parts: list[Vectors] = []
        for first, chunk in _chunks(as_list(sequences)):
            answer = self._post("/v1/embed", {"sequences": chunk, "encoding": "base64"}, first)
            raw = np.frombuffer(base64.b64decode(answer["vectors"]), "<f4")
            parts.append(raw.reshape(-1, answer["dimension"]).astype(np.float32))
        return np.concatenate(parts)

    def predict(self, task: str, sequences: Sequence[str], *, top: int = 5) -> PredictionResult:
        """See `Client.predict`."""
        found: list[Mapping[str, Any]] = []
        for first, chunk in _chunks(as_list(sequences)):
            answer = self._post(f"/v1/predict/{quote(task, safe='')}", {"sequences": chunk, "top": as_count(top)}, first)
            found += answer["predictions"]
        return prediction_result(found, task)

    def _fold(self, sequences: list[str], contacts: bool) -> list[Structure]:
        found: list[Structure] = []
        for first, chunk in _chunks(sequences, _fold_cost, FOLD_COST):
            found += self._fold_chunk(first, chunk, contacts)
        return found

    def _fold_chunk(self, first: int, chunk: list[str], contacts: bool) -> list[Structure]:
        """Structures of sequences; in halves where the service finds them too many for one request."""
        try:
            body = {"sequences": chunk, "drawing": True, **({"contacts": True} if contacts else {})}
            answer = self._post("/v1/fold", body, first)
        except UniRNAError as error:
            if error.status != 413 or len(chunk) == 1:
                raise
            half = len(chunk) // 2
            parts = (first, chunk[:half]), (first + half, chunk[half:])
            return [found for start, part in parts for found in self._fold_chunk(start, part, contacts)]
        return structures(answer["structures"])

    def score_variants(
        self, sequence: str, variants: Sequence[str] | None = None, *, method: str = "masked"
    ) -> VariantResult:
        """See `Client.score_variants`."""
        body: dict[str, Any] = {"sequence": sequence, "method": method, "drawing": variants is None}
        if variants is not None:
            body["variants"] = as_list(variants)
        return variant_result(self._post("/v1/score-variants", body))

    def models(self) -> list[ModelInfo]:
        """See `Client.models`."""
        return model_infos(self._call("GET", "/v1/models"))

    def collections(self) -> list[CollectionInfo]:
        """See `Client.collections`."""
        return collection_infos(self._call("GET", "/v1/collections"))

    @property
    def jobs(self) -> Jobs:
        """See `Client.jobs`."""
        return Jobs(lambda: self)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> dict[str, Any]:
        """A request's answer; it is sent again where nothing answers, so sending it twice must be the same as once."""
        return self._call(method, path, body, headers)

    def save(self, path: str, to: Path) -> None:
        """Write an answer's bytes to a file, beside its place and renamed."""
        beside = to.with_name(f".{to.name}.part")
        try:
            with self._http.stream("GET", self.url + path) as response:
                if not response.is_success:
                    response.read()
                    self._answer(response)
                with beside.open("wb") as file:
                    for part in response.iter_bytes():
                        file.write(part)
        except httpx2.TimeoutException as error:
            raise ServiceTimeoutError(f"no answer from {self.url} within {self._timeout:g} s. Ask again") from error
        except httpx2.HTTPError as error:
            raise ServiceUnavailableError(f"{self.url}: {error}. Ask again") from error
        else:
            beside.replace(to)
        finally:
            beside.unlink(missing_ok=True)

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _post(self, path: str, body: Mapping[str, Any], first: int = 0) -> dict[str, Any]:
        """Post; `first` is the index of the body's first sequence among the caller's."""
        try:
            return self._call("POST", path, body)
        except UniRNAError as error:
            if not first:
                raise
            errors = [(_moved(field, first), message) for field, message in error.errors]
            detail = f"{errors[0][0]}: {errors[0][1]}" if errors else error.detail
            raise type(error)(detail, status=error.status, errors=errors, request_id=error.request_id) from error

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        for tried in range(1, TRIES + 1):
            pause = min(0.2 * 2 ** (tried - 1), LONGEST_PAUSE) * random.uniform(0.75, 1.25)
            try:
                response = self._http.request(method, self.url + path, json=body, headers=headers)
            except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.RemoteProtocolError, httpx2.ReadError) as error:
                if tried == TRIES:
                    raise ServiceUnavailableError(
                        f"nothing answers at {self.url} ({error}). Start a service with: make serve (or jobs/serve.py), "
                        "or set UNIRNA_URL to where one runs"
                    ) from error
            except httpx2.TimeoutException as error:
                raise ServiceTimeoutError(
                    f"no answer from {self.url} within {self._timeout:g} s. Send less at once, or give "
                    "connect(…, timeout=…) more"
                ) from error
            except httpx2.HTTPError as error:
                raise ServiceError(f"{self.url}: {error}") from error
            else:
                if response.status_code not in RETRIED or tried == TRIES:
                    return self._answer(response)
                pause = min(_retry_after(response, pause), LONGEST_PAUSE)
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _answer(self, response: httpx2.Response) -> dict[str, Any]:
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


def _fold_cost(length: int) -> int:
    return int(max(length, 500) ** 3)  # below, other things than the sum over structures take the time


def _chunks(
    sequences: list[str], cost_of: Callable[[int], int] = int, most: int = CHUNK_NUCLEOTIDES
) -> Iterator[tuple[int, list[str]]]:
    """Requests of a size that any service takes: the index of the first sequence, and the sequences."""
    first = size = 0
    for i, letters in enumerate(sequences):
        cost = cost_of(len(letters)) if isinstance(letters, str) else 0
        if i > first and (i - first == CHUNK_SEQUENCES or size + cost > most):
            yield first, sequences[first:i]
            first, size = i, 0
        size += cost
    yield first, sequences[first:]


def _moved(field: str, first: int) -> str:
    """`sequences[3]` of a request whose first sequence was the caller's number `first`."""
    name, bracket, rest = field.partition("[")
    number = rest.rstrip("]")
    return f"{name}[{int(number) + first}]" if bracket and number.isdigit() else field


def _retry_after(response: httpx2.Response, otherwise: float) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdigit() else otherwise
