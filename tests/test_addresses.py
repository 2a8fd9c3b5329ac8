"""Media types, paths behind a proxy, and pages for browsers, at the door of the service; without a model or a store."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI, Request

from unirna.serve.api.middleware import Guard
from unirna.serve.api.problems import answer_errors
from unirna.serve.keys import Keyring, Rates
from unirna.serve.metrics import Metrics
from unirna.serve.settings import Settings, SettingsError


def door(root_path: str = "") -> Guard:
    app = FastAPI()

    @app.post("/v1/echo")
    async def echo(request: Request) -> Any:
        return {"got": await request.json()}

    @app.get("/map")
    async def page() -> Any:
        return {"page": "map"}

    answer_errors(app)
    return Guard(app, keys=Keyring(None, ""), max_body_bytes=1000, rates=Rates(0), metrics=Metrics(), root_path=root_path)


def ask(door: Guard, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": named,
    }
    asyncio.run(door(scope | {"scheme": "http", "server": ("localhost", 80), "root_path": ""}, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(part.get("body", b"") for part in sent[1:])


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON", "APPLICATION/JSON; Charset=UTF-8"])
def test_media_types_have_no_case(kind: str) -> None:
    status, _, answer = ask(door(), "POST", "/v1/echo", b"[1]", content_type=kind)
    assert (status, json.loads(answer)) == (200, {"got": [1]})
    assert ask(door(), "POST", "/v1/echo", b"[1]", content_type="text/json")[0] == 415


def test_a_browser_sees_a_page_where_there_is_nothing() -> None:
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    status, headers, page = ask(door(), "GET", "/no/such<b>", accept=browser)
    assert status == 404 and headers["content-type"].startswith("text/html")
    assert b"/no/such&lt;b&gt;" in page and b'href="../jobs"' in page
    for accept in ("*/*", "application/json", "application/json, text/html"):
        status, headers, _ = ask(door(), "GET", "/no/such", accept=accept)
        assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert ask(door(), "POST", "/no/such", b"{}", accept=browser, content_type="application/json")[1]["content-type"] == (
        "application/problem+json"
    )


def test_a_path_that_the_proxy_left_in_is_taken_off() -> None:
    behind = door("/tools/unirna")
    for path in ("/tools/unirna/map", "/map"):
        assert ask(behind, "GET", path)[0] == 200
    assert ask(behind, "POST", "/tools/unirna/v1/echo", b"1", content_type="application/json")[0] == 200
    status, headers, _ = ask(behind, "GET", "/tools/unirna")
    assert status == 307 and headers["location"] == "/tools/unirna/"
    assert ask(behind, "GET", "/tools/unirnas/map")[0] == 404


@pytest.mark.parametrize("path", ["unirna", "/unirna/", "/", "/a b", "//x"])
def test_a_root_path_is_a_path(path: str) -> None:
    with pytest.raises(SettingsError, match=r"--root-path .* expected a path such as /unirna"):
        Settings(store="s", root_path=path).check()
