"""FastAPI's application, with problem responses in its OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI


class Application(FastAPI):
    """An application whose errors are problem objects (RFC 9457)."""

    def openapi(self) -> dict[str, Any]:
        """The document at `/openapi.json`; FastAPI has every answer with a model be `application/json`."""
        document = super().openapi()
        for operations in document["paths"].values():
            for operation in operations.values():
                for status, response in operation["responses"].items():
                    content = response.get("content", {})
                    if status >= "400" and "application/json" in content:
                        response["content"] = {"application/problem+json": content["application/json"]}
        return document
