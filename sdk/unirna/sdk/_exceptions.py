"""Exceptions of the SDK, each a subclass of the matching built-in error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self


class UniRNAError(Exception):
    """Base of all errors of this package.

    Attributes:
        status: the HTTP status that fits, None if nothing answered.
        detail: what went wrong, in words.
        errors: pairs of a field ("where", "sequences[3]") and its problem.
        request_id: by which the service's log names the request; "" if no service answered.
    """

    def __init__(
        self, detail: str, *, status: int | None = None, errors: Sequence[tuple[str, str]] = (), request_id: str = ""
    ) -> None:
        self.detail, self.status, self.errors, self.request_id = detail, status, tuple(errors), request_id
        super().__init__(detail)

    @classmethod
    def of(cls, field: str, message: str, status: int = 422) -> Self:
        """The error for one field."""
        return cls(f"{field}: {message}", status=status, errors=[(field, message)])

    @property
    def field(self) -> str | None:
        """The first field at fault, None if it is none."""
        return self.errors[0][0] if self.errors else None


class InvalidRequestError(UniRNAError, ValueError):
    """An invalid argument: a letter that is not a nucleotide code, k out of range, a filter that cannot be read."""


class NotFoundError(UniRNAError, LookupError):
    """A collection, predictor or id that is not there; the message lists what is."""


class ModelMismatchError(UniRNAError, ValueError):
    """A collection that was made with another model than the service's."""


class AuthenticationError(UniRNAError, PermissionError):
    """The service needs a key, or another key."""


class ServiceUnavailableError(UniRNAError, ConnectionError):
    """The service does not respond or is overloaded, after all retries."""


class ServiceTimeoutError(UniRNAError, TimeoutError):
    """No answer within the time limit."""


class ServiceError(UniRNAError, RuntimeError):
    """The service failed, or the address is not a UniRNA service."""


class ForkedProcessError(UniRNAError, RuntimeError):
    """A client of a store in a process that was forked after the store was used; the message says what to do instead."""


_KINDS: Mapping[int, type[UniRNAError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    409: ModelMismatchError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    429: ServiceUnavailableError,
    502: ServiceUnavailableError,
    503: ServiceUnavailableError,
    504: ServiceTimeoutError,
}


def from_problem(problem: Mapping[str, Any]) -> UniRNAError:
    """The error that an RFC 9457 problem describes."""
    status = int(problem["status"])
    detail = str(problem.get("detail") or problem.get("title") or f"status {status}")
    errors = [(str(e["field"]), str(e["message"])) for e in problem.get("errors", [])]
    if status == 401:
        detail = f"{detail.rstrip('.?')}. Set UNIRNA_API_KEY, or give connect(…, api_key=…)"
    named = str(problem.get("request_id", ""))
    if status >= 500 and named:
        detail += f" (request {named})"
    return _KINDS.get(status, ServiceError)(detail, status=status, errors=errors, request_id=named)
