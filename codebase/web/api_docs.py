"""The Swagger page, with everything it needs: it works on a machine without internet."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

DOCUMENT = "/openapi.json"
ASSETS = "/docs/assets"
PAGES = ("/docs", "/_swagger")
"""The second is where older clients look."""


def add_api_docs(app: FastAPI) -> None:
    """Add the OpenAPI document, and the page that shows it."""

    async def document(_request: Request) -> Response:
        return JSONResponse(app.openapi())

    async def page(_request: Request) -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url=DOCUMENT,
            title=app.title,
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url="data:,",
        )

    # fastapi-offline brings the files that FastAPI's own page fetches from elsewhere.
    files = StaticFiles(packages=[("fastapi_offline", "static")])
    app.router.routes.append(Mount(ASSETS, files))
    app.router.routes.append(Route(DOCUMENT, document, include_in_schema=False))
    for path in PAGES:
        app.router.routes.append(Route(path, page, include_in_schema=False))
