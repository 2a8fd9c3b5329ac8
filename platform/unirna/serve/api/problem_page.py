"""The page that a browser shows for a request that cannot be answered, instead of a JSON object."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse
from starlette.types import Scope


def for_browser(scope: Scope) -> bool:
    """Whether a person opened this address: a GET that asks for HTML before all else, as scripts and clients do not."""
    if scope["method"] not in ("GET", "HEAD"):
        return False
    first = Headers(scope=scope).get("accept", "").partition(",")[0].partition(";")[0].strip().lower()
    return first in ("text/html", "application/xhtml+xml")


def problem_page(scope: Scope, problem: Mapping[str, Any]) -> HTMLResponse:
    """A problem as a page.

    Args:
        scope: the request's. Links are relative to its path, so they hold under any path of a proxy.
        problem: an RFC 9457 object.
    """
    home = "../" * (scope["path"].count("/") - 1) or "./"
    links = (("", "Search"), ("map", "Map"), ("jobs", "Jobs"), ("docs", "API reference"))
    items = "".join(f'<li><a href="{home}{path}">{text}</a></li>' for path, text in links)
    title, detail = (html.escape(str(problem[name])) for name in ("title", "detail"))
    detail = detail[:1].upper() + detail[1:]
    return HTMLResponse(
        f"""<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>{title} · UniRNA</title>
  <link rel="icon" href="{home}static/icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="{home}static/page.css">
</head>
<body>
  <header><a class="brand" href="{home}"><img src="{home}static/icon.svg" alt="" width="28" height="28">UniRNA</a></header>
  <main id="main">
    <h1>{title}</h1>
    <p class="lead">{detail}</p>
    <ul>{items}</ul>
    <p class="hint">HTTP status {problem["status"]}</p>
  </main>
</body>
</html>
""",
        status_code=problem["status"],
    )
