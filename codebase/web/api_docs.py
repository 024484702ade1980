"""The Swagger page, with everything it needs: it works on a machine without internet."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

DOCUMENT = "/openapi.json"
ASSETS = "/docs/assets"
PAGES = ("/docs", "/_swagger")
"""The second is where older clients look."""

# Not one of Jinja's, which services without pages of their own do not load.
PAGE = Template((files("codebase.web") / "templates/api_docs.html").read_text(encoding="utf-8"))
SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
"""The one that the page has in itself."""
KEPT = "public, max-age=86400"


class Assets(StaticFiles):
    """The page's files, each as a whole: what a part of one is asked for with is passed over."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = [header for header in scope["headers"] if header[0] != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file; browsers may keep it."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = KEPT
        return response


def security_headers(page: bytes) -> dict[str, str]:
    """What keeps the page to itself: it runs its own scripts, and asks its own service only.

    Args:
        page: its text, with one script in it.
    """
    scripts = (b64encode(sha256(script).digest()).decode() for script in SCRIPT.findall(page))
    policy = (
        "default-src 'none'",
        " ".join(["script-src 'self'", *(f"'sha256-{digest}'" for digest in scripts)]),
        # Swagger's script writes styles into its elements.
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
    return {"Content-Security-Policy": "; ".join(policy), "Referrer-Policy": "same-origin"}


def add_api_docs(app: FastAPI) -> None:
    """Add the OpenAPI document, and the page that shows it."""

    async def document(request: Request) -> Response:
        as_asked = str(request.base_url).rstrip("/")
        there = {"url": as_asked, "description": "The same, for those who keep the document."}
        made = app.openapi()
        return JSONResponse({**made, "servers": [*made["servers"], there]})

    page = PAGE.substitute(title=escape(app.title), document=DOCUMENT, assets=ASSETS)
    headers = security_headers(page.encode())

    async def show(_request: Request) -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    # fastapi-offline brings the files that FastAPI's own page fetches from elsewhere.
    shown = Assets(packages=[("fastapi_offline", "static")])
    app.router.routes.append(Mount(ASSETS, shown))
    app.router.routes.append(Route(DOCUMENT, document, include_in_schema=False))
    for path in PAGES:
        app.router.routes.append(Route(path, show, include_in_schema=False))
