"""The app of a service, and the one app of a process that all of its services share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal

from fastapi import Depends, FastAPI, Request, Response
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from pydantic import BaseModel
from starlette.types import ASGIApp

from codebase.foundation.background import background
from codebase.foundation.observability.metrics import RequestMetrics, rendered
from codebase.foundation.settings import Settings
from codebase.web.acceptor import descriptors
from codebase.web.api_docs import add_api_docs
from codebase.web.boundary import Boundary
from codebase.web.command_routes import DocumentedRoute
from codebase.web.consistency_token import Log
from codebase.web.exchange import require_operator
from codebase.web.openapi import VERSION, document
from codebase.web.parked import Responses
from codebase.web.personal import ShownRoute
from codebase.web.problems import HttpProblem
from codebase.web.shared_figures import SharedFigures
from codebase.web.traced import traced

Check = Callable[[], Awaitable[str | None]]
"""None while a dependency can be used, otherwise a sentence that says what is wrong with it."""

CHECK_DEADLINE_SECONDS = 2.0
OPERATIONS = "operations"
"""The part of a documentation that is about what every process answers."""


class Status(BaseModel):
    """A word for those who watch over a process."""

    status: Literal["alive", "ready"]


class ServiceApp(FastAPI):
    """A FastAPI app without layers of its own: all errors reach the shell."""

    def __init__(self, title: str, checks: Mapping[str, Check], log: Log | None = None) -> None:
        super().__init__(
            title=title,
            version=VERSION,
            openapi_url=None,
            redirect_slashes=False,
            # FastAPI's own would tell a collector what was wrong with which input, in full.
            telemetry={"tracing": False, "metrics": False, "logs": False},
        )
        self.checks = dict(checks)
        self.router.route_class = ShownRoute
        self.log = log
        # Where several services share one documentation, each has its part of it.
        self.router.tags = [title]

    def build_middleware_stack(self) -> ASGIApp:
        """The router, with the one thing around it that FastAPI's own routes rely on."""
        return AsyncExitStackMiddleware(self.router)

    def openapi(self) -> dict[str, Any]:
        """The document of all routes; commands appear as the FastAPI routes that they are not."""
        if self.openapi_schema is None:
            self.openapi_schema = document(self.title, self.routes)
        return self.openapi_schema


def service_app(title: str, *, checks: Mapping[str, Check], log: Log | None = None) -> ServiceApp:
    """An app for one service's routes.

    Args:
        title: the service's name.
        checks: what must be usable for the service to be ready, by name.
        log: which one the service's commands are written to; None: it takes none, or their tokens
            say nothing.
    """
    return ServiceApp(title, checks, log)


def assemble(
    apps: Sequence[FastAPI],
    settings: Settings,
    title: str | None = None,
    figures: SharedFigures | None = None,
) -> ASGIApp:
    """One app for all services of a process: their routes, their checks, one documentation.

    Args:
        apps: what services yield, made with `service_app`.
        settings: tokens, limits, whether requests are logged.
        title: of the documentation; by default the names of the services.
        figures: where processes that share the port tell each other what they have counted; None:
            there are no others.

    Raises:
        ConfigurationError: API_TOKENS is malformed.
    """
    services = [app for app in apps if isinstance(app, ServiceApp)]
    names = " + ".join(app.title for app in services)
    own = {"background": background, "descriptors": descriptors}
    outer = ServiceApp(title or names, {**_merged_checks(services), **own})
    metrics = RequestMetrics()
    owners: dict[int, str] = {}
    for app in services:
        owners |= {id(route): app.title for route in app.routes}
        outer.router.routes.extend(app.routes)
    _add_operations(outer, metrics, figures)
    return traced(Boundary(outer, owners, settings, metrics))


def _merged_checks(services: Sequence[ServiceApp]) -> dict[str, Check]:
    """Two services that check one thing in one way share the check; others keep their own."""
    merged: dict[str, Check] = {}
    for app in services:
        for name, check in app.checks.items():
            taken = merged.get(name, check) != check
            merged[f"{app.title}.{name}" if taken else name] = check
    return merged


def _add_operations(
    app: ServiceApp, metrics: RequestMetrics, figures: SharedFigures | None
) -> None:
    async def told() -> list[Metric]:
        metrics.note_checks(app.checks, await _not_ready(app.checks))
        return metrics.families()

    async def alive(_request: Request) -> Response:
        """Whether the process can answer; what it needs is not asked for."""
        return Response(b'{"status":"alive"}', media_type="application/json")

    async def ready(_request: Request) -> Response:
        """Whether everything that the service needs can be used; if not, what is wrong with it."""
        wrong = await _not_ready(app.checks)
        if wrong:
            raise HttpProblem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "not-ready",
                f"not ready: {', '.join(wrong)}",
                errors={name: [sentence] for name, sentence in wrong.items()},
                headers={"Retry-After": "1"},
            )
        return Response(b'{"status":"ready"}', media_type="application/json")

    async def measured(request: Request) -> Response:
        """For Prometheus."""
        require_operator(request)
        own = await told()
        families = own if figures is None else figures.taken_with(own)
        return Response(rendered(families), media_type=CONTENT_TYPE_LATEST)

    if figures is not None:
        figures.source = told

    away: Responses = {503: {"description": "Not ready; `errors` says what is wrong with what."}}
    for documentation in (
        APIRoute("/healthz", alive, name="get_healthz", response_model=Status),
        APIRoute("/healthcheck", alive, name="get_healthcheck", response_model=Status),
        APIRoute("/readyz", ready, name="get_readyz", response_model=Status, responses=away),
        APIRoute(
            "/metrics",
            measured,
            name="get_metrics",
            response_class=PlainTextResponse,
            dependencies=[Depends(require_operator)],
        ),
    ):
        documentation.tags = [OPERATIONS]
        app.router.routes.append(DocumentedRoute(documentation.endpoint, documentation))
    add_api_docs(app)


async def _not_ready(checks: Mapping[str, Check]) -> dict[str, str]:
    """What is wrong with which dependency; a check that hangs or fails counts as wrong."""
    sentences = await asyncio.gather(*map(_sentence, checks.values()), return_exceptions=True)
    return {
        name: sentence if isinstance(sentence, str) else f"failed with {type(sentence).__name__}"
        for name, sentence in zip(checks, sentences, strict=True)
        if sentence is not None
    }


async def _sentence(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_DEADLINE_SECONDS):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_DEADLINE_SECONDS:.0f} s"
