"""What the service says when it cannot answer: one exception for the HTTP application and the local client."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any, Final

TITLES: Final = {
    400: "The request cannot be read",
    401: "A key is required",
    403: "Not allowed",
    404: "Not found",
    405: "This address does not take this method",
    409: "In conflict with what is there",
    413: "The request is too large",
    415: "Not JSON",
    422: "The request is not valid",
    429: "Too busy",
    500: "The service failed",
    501: "This service does not do that",
    503: "Not ready",
    507: "No room",
}
"""Titles of problems by HTTP status."""


@dataclass(frozen=True)
class FieldError:
    """A field of the request and its problem; an item of a list is written `sequences[3]`."""

    field: str
    message: str


class RequestError(ValueError):
    """A request that cannot be answered, for a reason that the sender can fix.

    Attributes:
        status: the HTTP status that fits. errors: the fields at fault, if any.
    """

    def __init__(self, status: int, message: str, *fields: FieldError) -> None:
        self.status, self.message, self.errors = status, message, fields
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:  # survives the way between processes
        return RequestError, (self.status, self.message, *self.errors)

    def problem(self) -> dict[str, Any]:
        """The same as an RFC 9457 problem."""
        return problem(self.status, self.message, *self.errors)


def bad_field(field: str, message: str, status: int = 422) -> RequestError:
    """The error for one field."""
    return RequestError(status, f"{field}: {message}", FieldError(field, message))


def raise_if_full(error: OSError) -> None:
    """Raise the error for a full disk, if that is what an error of the disk for jobs is.

    Raises:
        RequestError: the disk is full (507).
    """
    if error.errno == errno.ENOSPC:
        message = "the disk for jobs is full. Make room on it, and send the same request again"
        raise RequestError(507, message) from error


def problem(status: int, detail: str, *fields: FieldError) -> dict[str, Any]:
    """An RFC 9457 problem: type, title, status, detail, and `errors` with the fields at fault."""
    errors = [{"field": e.field, "message": e.message} for e in fields]
    title = TITLES.get(status, "The request failed")
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, "errors": errors}
