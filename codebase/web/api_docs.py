"""The Swagger page, with everything it needs: it works on a machine without internet."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

DOCUMENT = "/openapi.json"
ASSETS = "/docs/assets"
PAGES = ("/docs", "/_swagger")
"""The second is where older clients look."""


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

    async def document(_request: Request) -> Response:
        return JSONResponse(app.openapi())

    async def show(_request: Request) -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url=DOCUMENT,
            title=app.title,
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url="data:,",
        )
        page.headers.update(security_headers(bytes(page.body)))
        return page

    # fastapi-offline brings the files that FastAPI's own page fetches from elsewhere.
    files = Assets(packages=[("fastapi_offline", "static")])
    app.router.routes.append(Mount(ASSETS, files))
    app.router.routes.append(Route(DOCUMENT, document, include_in_schema=False))
    for path in PAGES:
        app.router.routes.append(Route(path, show, include_in_schema=False))
