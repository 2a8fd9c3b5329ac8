"""What the application answers when something goes wrong: each error as an RFC 9457 problem that names the field."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response

from unirna.serve.api.job_schemas import KINDS
from unirna.serve.api.middleware import problem_response
from unirna.serve.engine.batcher import OverloadedError
from unirna.serve.engine.search import changed
from unirna.serve.errors import FieldError, RequestError
from unirna.vectorstore import ChangedError


def answer_errors(app: FastAPI) -> None:
    """Let an application answer errors so."""
    app.add_exception_handler(RequestError, _on_request_error)
    app.add_exception_handler(OverloadedError, _on_overload)
    app.add_exception_handler(ChangedError, _on_change)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(StarletteHTTPException, _on_http_error)


async def _on_request_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    response = problem_response(request.scope, error.status, error.message, *error.errors)
    if error.status == 429:  # too many jobs: they take their time
        response.headers["retry-after"] = "30"
    return response


async def _on_change(request: Request, error: Exception) -> Response:
    assert isinstance(error, ChangedError)
    return await _on_request_error(request, changed(error))


async def _on_overload(request: Request, error: Exception) -> Response:
    assert isinstance(error, OverloadedError)
    response = problem_response(request.scope, 429, str(error))
    response.headers["retry-after"] = str(error.retry_after)
    return response


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    details = {404: f"there is nothing at {request.scope['path']}. /docs lists what there is"}
    standard = error.detail in ("Not Found", "Method Not Allowed")
    detail = details.get(error.status_code, f"{request.method} {request.url.path}") if standard else error.detail
    fields = [FieldError("body", detail)] if error.status_code == 413 else []
    response = problem_response(request.scope, error.status_code, detail, *fields)
    response.headers.update(error.headers or {})
    return response


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(e["type"] == "json_invalid" for e in found):
        place = found[0]["loc"][-1]
        reason = found[0].get("ctx", {}).get("error", "")
        return problem_response(request.scope, 400, f"the body is not valid JSON: {reason} (at character {place})")
    errors = [FieldError(_field(e["loc"]), _wanted(e)) for e in found]
    return problem_response(request.scope, 422, f"{errors[0].field}: {errors[0].message}", *errors[:100])


def _field(loc: tuple[str | int, ...]) -> str:
    """("body", "sequences", 3) -> "sequences[3]"."""
    name = ""
    for part in loc[2 if len(loc) > 2 and loc[1] in KINDS else 1 :]:  # the kind of a job is no field around its fields
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name or str(loc[0])


def _wanted(error: dict[str, Any]) -> str:
    message = str(error["msg"])
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{message[0].lower()}{message[1:]}"
