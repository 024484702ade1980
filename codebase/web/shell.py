"""The HTTP shell: everything that is the same for every service.

A service builds its app with `service_app`, adds commands with `command` and queries with FastAPI's
own decorators. `assemble` puts the apps of one process behind one shell, `serve` runs it.

The shell is one layer of plain ASGI: it names the request, knows the caller, bounds the body,
answers every error in one form, and counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from time import perf_counter
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.openapi.utils import get_openapi
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codebase.foundation.observability import logs
from codebase.foundation.observability.metrics import RequestMetrics
from codebase.foundation.settings import Settings
from codebase.foundation.validation import explain
from codebase.web.api_docs import add_api_docs
from codebase.web.auth import Authenticator, Caller, new_token, require_same_origin
from codebase.web.commands import Answer, Command, CommandRoute, CountedRoute, command
from codebase.web.exchange import Exchange, exchange_of
from codebase.web.problems import MEDIA_TYPE, HttpProblem, ProblemDetails, problem_of
from codebase.web.request_body import ClientGoneError
from codebase.web.server import run, serve, serving
from codebase.web.traced import traced

__all__ = [
    "Answer",
    "Check",
    "Command",
    "assemble",
    "caller_of",
    "command",
    "new_token",
    "run",
    "serve",
    "service_app",
    "serving",
]

Check = Callable[[], Awaitable[str | None]]
"""None while a dependency can be used, otherwise a sentence that says what is wrong with it."""

CHECK_DEADLINE_SECONDS = 2.0
VERSION = "1"
# Whoever watches whether a process lives needs no token for it.
OPEN_PATHS = frozenset({"/healthz", "/healthcheck", "/readyz"})
CLIENT_GONE = 499
SERVER_ERROR = int(HTTPStatus.INTERNAL_SERVER_ERROR)
"""What the metrics show when there was nobody left to answer; no client ever sees it."""


class ServiceApp(FastAPI):
    """A FastAPI app without layers of its own: all errors reach the shell."""

    def __init__(self, title: str, checks: Mapping[str, Check]) -> None:
        super().__init__(
            title=title,
            version=VERSION,
            openapi_url=None,
            redirect_slashes=False,
            # FastAPI's own would tell a collector what was wrong with which input, in full.
            telemetry={"tracing": False, "metrics": False, "logs": False},
        )
        self.checks = dict(checks)
        # Where several services share one documentation, each has its part of it.
        self.router.tags = [title]

    def build_middleware_stack(self) -> ASGIApp:
        """The router, with the one thing around it that FastAPI's own routes rely on."""
        return AsyncExitStackMiddleware(self.router)

    def openapi(self) -> dict[str, Any]:
        """The document of all routes; commands appear as the FastAPI routes that they are not."""
        if self.openapi_schema is None:
            self.openapi_schema = _document(self.title, self.routes)
        return self.openapi_schema


def service_app(title: str, *, checks: Mapping[str, Check]) -> ServiceApp:
    """An app for one service's routes.

    Args:
        title: the service's name.
        checks: what must be usable for the service to be ready, by name.
    """
    return ServiceApp(title, checks)


def caller_of(request: Request) -> Caller:
    """Who sent this request, for FastAPI routes; as a dependency, or called."""
    return exchange_of(request.scope).caller


def require_admin(request: Request) -> Caller:
    """The caller, who is an administrator: a dependency for FastAPI routes.

    Raises:
        HttpProblem: 403.
    """
    caller = caller_of(request)
    caller.require_admin()
    return caller


def require_two_fa(request: Request) -> None:
    """Go on only with the second factor in header TWO-FA: a dependency for FastAPI routes.

    Raises:
        HttpProblem: 403.
    """
    exchange_of(request.scope).require_second_factor()


class Shell:
    """Around every app: who calls, what it took, and one way to answer errors.

    Args:
        app: the routes.
        services: the service that each route belongs to, by the route's id().
        settings: tokens, limits, whether requests are logged.
        metrics: where requests are counted.

    Raises:
        ConfigurationError: API_TOKENS is malformed.
    """

    def __init__(
        self,
        app: ServiceApp,
        services: Mapping[int, str],
        settings: Settings,
        metrics: RequestMetrics,
    ) -> None:
        self._app = app
        self._services = services
        self._authenticator = Authenticator(settings.api_tokens)
        self._two_fa = settings.two_fa
        self._body_limit = settings.body_limit_bytes
        self._access_log = settings.access_log
        self._metrics = metrics
        self._commands = _fixed_commands(app.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        started = perf_counter()
        exchange = Exchange(scope, send, self._two_fa)
        try:
            await self._answer(exchange, scope, receive)
        except ClientGoneError:
            exchange.status = CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - the outermost boundary: everything is answered
            await self._refuse(exchange, error, self._service(scope))
        self._note(exchange, scope, perf_counter() - started)

    async def _answer(self, exchange: Exchange, scope: Scope, receive: Receive) -> None:
        if scope["path"] not in OPEN_PATHS:
            exchange.caller = self._authenticator.caller(exchange.headers)
        require_same_origin(scope["method"], exchange.headers)
        receive = self._bounded(exchange.headers, receive)
        # A path without templates needs no router, and most commands have one.
        route = self._commands.get((scope["method"], scope["path"]))
        if route is not None:
            scope["route"] = route
            await route.command.answer(exchange, scope, receive)
        else:
            await self._app(scope, receive, exchange.send)

    def _bounded(self, headers: Mapping[bytes, bytes], receive: Receive) -> Receive:
        """`receive`, with a body of bounded size.

        Raises:
            HttpProblem: 413, when the size is announced; otherwise `receive` will raise it.
        """
        announced = headers.get(b"content-length")
        if announced is None:
            chunked = b"transfer-encoding" in headers
            return _counted(receive, self._body_limit) if chunked else receive
        if int(announced) > self._body_limit:
            # A client that asked first has not begun to send, and will not.
            raise _too_large(self._body_limit, close=b"expect" in headers)
        return receive

    def _service(self, scope: Scope) -> str | None:
        """Whose route it is; None for those that every process has, and before it is known."""
        return self._services.get(id(scope.get("route")))

    async def _refuse(self, exchange: Exchange, error: Exception, service: str | None) -> None:
        if isinstance(error, RequestValidationError):
            error = explain(error.errors())
        problem = problem_of(error)
        if problem.status == SERVER_ERROR:
            with logs.bound(service=service):
                logs.error("request_failed", error=error, request_id=exchange.request_id)
        if exchange.answered:
            # Half an answer cannot be taken back; the server closes the connection for it.
            raise error
        headers = [
            (name.lower().encode(), value.encode()) for name, value in problem.headers.items()
        ]
        headers.append((b"content-type", MEDIA_TYPE.encode()))
        await exchange.reply(problem.status, headers, problem.body(exchange.request_id))

    def _note(self, exchange: Exchange, scope: Scope, seconds: float) -> None:
        route, status = scope.get("route"), exchange.status
        service = self._service(scope)
        template = getattr(route, "path", "unknown")
        self._metrics.observe((service or "none", template, scope["method"], status), seconds)
        if status >= SERVER_ERROR or self._access_log:
            with logs.bound(service=service):
                logs.info(
                    "request_answered",
                    request_id=exchange.request_id,
                    route=template,
                    method=scope["method"],
                    status=status,
                    milliseconds=round(seconds * 1000, 3),
                )


def _fixed_commands(routes: Sequence[BaseRoute]) -> dict[tuple[str, str], CommandRoute]:
    return {
        (method, route.path): route
        for route in routes
        if isinstance(route, CommandRoute) and not route.param_convertors
        for method in route.methods or ()
    }


def _counted(receive: Receive, limit_bytes: int) -> Receive:
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit_bytes:
            raise _too_large(limit_bytes, close=False)
        return message

    return counted


def _too_large(limit_bytes: int, *, close: bool) -> HttpProblem:
    return HttpProblem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
        f"the body may have {limit_bytes} bytes",
        errors={"body": [f"must have at most {limit_bytes} bytes"]},
        headers={"Connection": "close"} if close else None,
    )


def assemble(apps: Sequence[FastAPI], settings: Settings, title: str | None = None) -> ASGIApp:
    """One app for all services of a process: their routes, their checks, one documentation.

    Args:
        apps: what services yield, made with `service_app`.
        settings: tokens, limits, whether requests are logged.
        title: of the documentation; by default the names of the services.

    Raises:
        ConfigurationError: API_TOKENS is malformed.
    """
    services = [app for app in apps if isinstance(app, ServiceApp)]
    names = " + ".join(app.title for app in services)
    outer = ServiceApp(title or names, _merged_checks(services))
    metrics = RequestMetrics()
    owners: dict[int, str] = {}
    for app in services:
        owners |= {id(route): app.title for route in app.routes}
        outer.router.routes.extend(app.routes)
    _add_operations(outer, metrics)
    return traced(Shell(outer, owners, settings, metrics))


def _merged_checks(services: Sequence[ServiceApp]) -> dict[str, Check]:
    """Two services that check one thing in one way share the check; others keep their own."""
    merged: dict[str, Check] = {}
    for app in services:
        for name, check in app.checks.items():
            taken = merged.get(name, check) != check
            merged[f"{app.title}.{name}" if taken else name] = check
    return merged


def _add_operations(app: ServiceApp, metrics: RequestMetrics) -> None:
    async def alive(_request: Request) -> Response:
        return Response(b'{"status":"alive"}', media_type="application/json")

    async def ready(_request: Request) -> Response:
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

    async def measured(_request: Request) -> Response:
        metrics.note_checks(app.checks, await _not_ready(app.checks))
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    for path, endpoint in {
        "/healthz": alive,
        "/healthcheck": alive,
        "/readyz": ready,
        "/metrics": measured,
    }.items():
        app.router.routes.append(CountedRoute(path, endpoint, methods=["GET"]))
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


PROBLEM_REFERENCE = "#/components/schemas/ProblemDetails"


def _document(title: str, routes: Sequence[BaseRoute]) -> dict[str, Any]:
    documented = [r.documentation if isinstance(r, CommandRoute) else r for r in routes]
    document = get_openapi(title=title, version=VERSION, routes=documented)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["ProblemDetails"] = ProblemDetails.model_json_schema()
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "token": {"type": "apiKey", "in": "header", "name": "X-Token"},
    }
    document["security"] = [{"bearer": []}, {"token": []}, {}]
    for operations in document["paths"].values():
        for operation in operations.values():
            _document_problems(operation)
    return document


COMMON_PROBLEMS: Mapping[str, str] = {
    "401": "No token, or none that is known.",
    "403": "Not for this caller, or sent by another site's page.",
    "422": "A field is not acceptable; `errors` says which and why.",
    "503": "Something that the answer needs is away; try again after `Retry-After` seconds.",
}
BODY_PROBLEMS: Mapping[str, str] = {
    "413": "The body is too large.",
    "415": "The body is not application/json.",
}
NAMING_PROBLEMS: Mapping[str, str] = {
    "404": "There is nothing of this name, or nothing for this caller.",
}


def _document_problems(operation: dict[str, Any]) -> None:
    """Every answer above 399 is a problem, those that nobody declared too."""
    responses = operation["responses"]
    common = {
        **COMMON_PROBLEMS,
        **(NAMING_PROBLEMS if _names_something(operation) else {}),
        **(BODY_PROBLEMS if "requestBody" in operation else {}),
    }
    # What FastAPI says by itself about 422 is not what is answered here.
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    for status, sentence in common.items():
        responses.setdefault(status, {"description": sentence})
    for status, response in responses.items():
        if status >= "400":
            response["content"] = {MEDIA_TYPE: {"schema": {"$ref": PROBLEM_REFERENCE}}}


def _names_something(operation: Mapping[str, Any]) -> bool:
    """Whether an operation is asked about something that there may not be."""
    parameters = operation.get("parameters", ())
    return any(one["in"] == "path" or one["name"] == "last_reference" for one in parameters)
