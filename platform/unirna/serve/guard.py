"""What every request passes first (key, size, the name it was called by) and what every answer carries."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import logging
import time
from typing import Any, Final

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unirna.serve.errors import FieldError, problem

log = logging.getLogger(__name__)

OPEN: Final = ("/healthz", "/readyz", "/", "/record", "/docs", "/openapi.json")
"""Paths that need no key: health, and pages that hold no data (the page asks for the key). So does `/static/`."""

SECURITY_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class ProblemResponse(JSONResponse):
    """A problem object; half characters in what it quotes are escaped, so that any of them can be sent."""

    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        """ASCII JSON."""
        return json.dumps(content).encode()


def problem_response(scope: Scope, status: int, detail: str, *fields: FieldError) -> ProblemResponse:
    """An RFC 9457 answer to a request."""
    return ProblemResponse(problem(status, detail, *fields) | {"instance": scope["path"]}, status)


class Guard:
    """ASGI middleware.

    Args:
        app: what comes behind.
        key_digest: SHA-256 of the key that callers must send, None for none.
        max_body_bytes: largest request body.
    """

    def __init__(self, app: ASGIApp, *, key_digest: str | None, max_body_bytes: int) -> None:
        self._app, self._key_digest, self._max_body_bytes = app, key_digest, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        answering = False

        async def send_with_headers(message: Message) -> None:
            nonlocal answering
            if message["type"] == "http.response.start":
                answering = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                if not scope["path"].startswith("/static/"):
                    headers["cache-control"] = "no-store"
                headers["server-timing"] = f"total;dur={1e3 * (time.perf_counter() - started):.1f}"
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        try:
            await self._app(scope, self._measured(receive), send_with_headers)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if answering:
                raise
            answer = problem_response(scope, 500, "an unexpected error; the service's log says more")
            await answer(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> ProblemResponse | None:
        headers = Headers(scope=scope)
        path: str = scope["path"]
        if self._key_digest is None and not _named_locally(headers.get("host", "")):
            # Without a key only this machine may call. A foreign name here is a web page that has pointed its own name at
            # this machine to read from it (DNS rebinding).
            called = headers.get("host")
            detail = f"called as {called!r}: without a key this service answers to localhost only. Set UNIRNA_API_KEY"
            return problem_response(scope, 403, detail)
        if self._key_digest is not None and path not in OPEN and not path.startswith("/static/"):
            scheme, _, key = headers.get("authorization", "").partition(" ")
            given = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest()
            if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._key_digest):
                what = "a wrong key" if key else "no key"
                answer = problem_response(scope, 401, f"{what}. Send the header Authorization: Bearer KEY")
                answer.headers["www-authenticate"] = "Bearer"
                return answer
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max_body_bytes:
            return problem_response(scope, 413, self._too_large(), FieldError("body", self._too_large()))
        if scope["method"] == "POST" and headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return problem_response(scope, 415, "wanted a JSON body and the header Content-Type: application/json")
        return None

    def _measured(self, receive: Receive) -> Receive:
        """`receive` for bodies that do not say how long they are."""
        size = 0

        async def receive_measured() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_body_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return receive_measured

    def _too_large(self) -> str:
        return f"a request's body may have {self._max_body_bytes:,} bytes (max_body_bytes). Send several smaller requests"


def _named_locally(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.strip("[]").lower()
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
