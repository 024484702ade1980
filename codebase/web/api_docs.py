"""The OpenAPI document, and a page that shows it and tries it out, with nothing from elsewhere."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.responses import Response
from starlette.routing import Route

DOCUMENT = "/openapi.json"
PAGES = ("/docs", "/_swagger")
"""The second is where older clients look."""


def add_api_docs(app: FastAPI) -> None:
    """Add the OpenAPI document, and the page that shows it."""

    def told(request: Request) -> dict[str, Any]:
        as_asked = str(request.base_url).rstrip("/")
        there = {"url": as_asked, "description": "The same, for those who keep the document."}
        made = app.openapi()
        return {**made, "servers": [*made["servers"], there]}

    async def document(request: Request) -> Response:
        return JSONResponse(told(request))

    @cache
    def page() -> tuple[str, dict[str, str]]:
        # Most processes never have to show it, and do without templates.
        from codebase.web.api_page import api_page  # noqa: PLC0415

        return api_page(app.openapi(), DOCUMENT)

    async def show(_request: Request) -> HTMLResponse:
        text, headers = page()
        return HTMLResponse(text, headers=headers)

    app.router.routes.append(Route(DOCUMENT, document, include_in_schema=False))
    for path in PAGES:
        app.router.routes.append(Route(path, show, include_in_schema=False))
