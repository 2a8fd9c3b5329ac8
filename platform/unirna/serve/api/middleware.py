"""What every request passes first (key, rate, size, the name it was called by) and what every answer carries."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import math
import re
import time
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unirna.serve.api.problem_page import for_browser, problem_page
from unirna.serve.errors import FieldError, problem
from unirna.serve.keys import Key, Keyring, Rates
from unirna.serve.metrics import Metrics

log = logging.getLogger(__name__)
access = logging.getLogger("unirna.access")
audit = logging.getLogger("unirna.audit")
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
SCOPE_OF: Final = {"GET": "read", "HEAD": "read", "POST": "read", "OPTIONS": "read"}
"""The scope that a method needs; other methods remove something and need admin."""
WRITES: Final = "/v1/jobs"
"""POST paths that add something and need write."""
METHODS: Final = (*SCOPE_OF, "PUT", "PATCH", "DELETE")
"""Methods that are counted by their names."""

OPEN: Final = ("/healthz", "/readyz", "/", "/record", "/map", "/jobs", "/docs", "/openapi.json")
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


def scope_of(method: str, path: str) -> str:
    """The scope that a request needs."""
    if method == "POST" and (path == WRITES or path.startswith(f"{WRITES}/")):
        return "write"
    return SCOPE_OF.get(method, "admin")


class ProblemResponse(JSONResponse):
    """A problem object; half characters in what it quotes are escaped, so that any of them can be sent."""

    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        """ASCII JSON."""
        return json.dumps(content).encode()


def problem_response(scope: Scope, status: int, detail: str, *fields: FieldError) -> Response:
    """An answer to a request that cannot be answered: a page for a browser, else an RFC 9457 problem."""
    named = {"request_id": scope["state"]["request_id"]} if "request_id" in scope.get("state", {}) else {}
    found = problem(status, detail, *fields) | {"instance": scope["path"]} | named
    return problem_page(scope, found) if for_browser(scope) else ProblemResponse(found, status)


class Guard:
    """ASGI middleware.

    Args:
        app: what comes behind.
        keys: that callers must send one of.
        max_body_bytes: largest request body.
        rates: how often each key may ask.
        metrics: where requests are counted.
        log_requests: whether each request is logged as a line of JSON: without its body, query or key.
        behind_serve: whether Ray Serve stands in front: it gives requests without an id one, and answers their id.
        root_path: that a reverse proxy shows the service under, and may leave in the paths that it hands on.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keyring,
        max_body_bytes: int,
        rates: Rates,
        metrics: Metrics,
        log_requests: bool = False,
        behind_serve: bool = False,
        root_path: str = "",
    ) -> None:
        self._root_path = root_path
        self._app, self._keys, self._max_body_bytes = app, keys, max_body_bytes
        self._rates, self._metrics = rates, metrics
        self._log_requests, self._behind_serve = log_requests, behind_serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._root_path and scope["path"] == self._root_path:
            await RedirectResponse(f"{self._root_path}/")(scope, receive, send)
            return
        if self._root_path and f"{scope['path']}/".startswith(f"{self._root_path}/"):
            scope = {**scope, "path": scope["path"].removeprefix(self._root_path)}
        started = time.perf_counter()
        answering = False
        status = 500
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:16]
        scope.setdefault("state", {})["request_id"] = request_id
        key: Key | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal answering, status
            if message["type"] == "http.response.start":
                answering, status = True, message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)  # a file to download has a stricter policy
                if not scope["path"].startswith("/static/"):
                    headers["cache-control"] = "no-store"
                if not (self._behind_serve and given):  # which Serve answers, whatever it is
                    headers["x-request-id"] = request_id
                headers["server-timing"] = f"total;dur={1e3 * (time.perf_counter() - started):.1f}"
            await send(message)

        try:
            refusal, key = self._refusal(scope)
            scope["state"]["caller"] = "" if key is None else key.name
            scope["state"]["scope"] = key.scope if key is not None else "write" if self._keys.open else ""
            if refusal is not None:
                await refusal(scope, receive, send_with_headers)
                return
            await self._app(scope, self._measured(receive), send_with_headers)
        except asyncio.CancelledError:  # its caller has gone
            status = status if answering else 499
            raise
        except Exception:
            log.exception("request %s: %s %r failed", request_id, scope["method"], scope["path"])
            if answering:
                raise
            answer = problem_response(scope, 500, "an unexpected error; the service's log says more")
            await answer(scope, receive, send_with_headers)
        finally:
            self._enter(scope, status, time.perf_counter() - started, request_id, key)

    def _enter(self, scope: Scope, status: int, seconds: float, request_id: str, key: Key | None) -> None:
        """Count a request, and log it: where that was asked for, and where it changed something."""
        route = getattr(scope.get("route"), "path", None) or "other"  # not what was asked for: anybody may ask for anything
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        changes = scope_of(scope["method"], scope["path"]) != "read" and (key is not None or self._keys.open)
        if self._log_requests or changes:
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "request": request_id,
                "key": None if key is None else key.name,
                "method": method,
                "path": scope["path"] if changes else route,
                "status": status,
                "ms": round(1e3 * seconds, 1),
            }
            if "job" in scope["state"]:
                line["job"] = scope["state"]["job"]
            (audit if changes else access).info(json.dumps(line))

    def _refusal(self, scope: Scope) -> tuple[Response | None, Key | None]:
        headers = Headers(scope=scope)
        path: str = scope["path"]
        key: Key | None = None
        if self._keys.open and not _named_locally(headers.get("host", "")):
            # Without a key only this machine may call. A foreign name here is a web page that has pointed its own name at
            # this machine to read from it (DNS rebinding).
            called = headers.get("host")
            detail = f"called as {called!r}: without a key this service answers to localhost only. Set UNIRNA_API_KEY"
            return problem_response(scope, 403, detail), None
        if path not in OPEN and not path.startswith("/static/"):
            wanted = scope_of(scope["method"], path)
            if self._keys.open and wanted == "admin":
                detail = f"this needs a key with the scope {wanted}, and this service has no keys (--keys-file)"
                return problem_response(scope, 403, detail), None
            if not self._keys.open:
                scheme, _, given = headers.get("authorization", "").partition(" ")
                key = self._keys.find(given.strip())
                if scheme.lower() != "bearer" or key is None:
                    what = "a wrong key" if given else "no key"
                    answer = problem_response(scope, 401, f"{what}. Send the header Authorization: Bearer KEY")
                    answer.headers["www-authenticate"] = "Bearer"
                    return answer, None
                if not key.allows(wanted):
                    detail = f"the key of {key.name!r} has the scope {key.scope}, and this needs {wanted}"
                    return problem_response(scope, 403, detail), key
            wait = self._rates.wait("" if key is None else key.name)
            if wait:
                most = f"{self._rates.per_minute:,} requests a minute (max_requests_per_minute)"
                answer = problem_response(scope, 429, f"more than {most}. Ask again in {math.ceil(wait)} s")
                answer.headers["retry-after"] = str(math.ceil(wait))
                return answer, key
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._max_body_bytes:
            return problem_response(scope, 413, self._too_large(), FieldError("body", self._too_large())), key
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()  # media types have no case
        if scope["method"] == "POST" and kind != "application/json":
            return problem_response(scope, 415, "expected a JSON body and the header Content-Type: application/json"), key
        return None, key

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
