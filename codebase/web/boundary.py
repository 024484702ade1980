"""One layer of plain ASGI around every app.

It names the request, knows the caller, bounds the body, answers every error in one form, and
counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from time import perf_counter

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from codebase.foundation.observability import logs
from codebase.foundation.observability.metrics import RequestMetrics
from codebase.foundation.settings import Settings
from codebase.foundation.validation import explain
from codebase.web.auth import (
    OPEN_PATHS,
    SAFE_METHODS,
    Authenticator,
    Caller,
    SecondFactor,
    forbidden,
    require_same_origin,
)
from codebase.web.command_routes import CommandRoute
from codebase.web.exchange import Exchange
from codebase.web.header_rules import require_unambiguous
from codebase.web.last_written import LastWritten
from codebase.web.openapi import ONLY_READS
from codebase.web.problem_page import prefers_page, problem_page
from codebase.web.problems import MEDIA_TYPE, problem_of
from codebase.web.request_body import ClientGoneError, counted, too_large

CLIENT_GONE = 499
"""What the metrics show when there was nobody left to answer; no client ever sees it."""
SERVER_ERROR = int(HTTPStatus.INTERNAL_SERVER_ERROR)


class Boundary:
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
        app: FastAPI,
        services: Mapping[int, str],
        settings: Settings,
        metrics: RequestMetrics,
    ) -> None:
        self._app = app
        self._services = services
        self._authenticator = Authenticator(settings.api_tokens, settings.service_processes)
        self._second_factor = SecondFactor(settings.two_fa, settings.service_processes)
        self._last_written = LastWritten()
        self._body_limit = settings.body_limit_bytes
        self._access_log = settings.access_log
        self._metrics = metrics
        self._commands = _fixed_commands(app.routes)
        self._has_front_page = any(getattr(one, "path", None) == "/" for one in app.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        started = perf_counter()
        exchange = Exchange(scope, send, self._second_factor, self._last_written)
        try:
            await self._answer(exchange, scope, receive)
        except ClientGoneError:
            exchange.status = CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - the outermost boundary: everything is answered
            await self._refuse(exchange, error, scope, receive)
        self._note(exchange, scope, perf_counter() - started)
        exchange.end()

    async def _answer(self, exchange: Exchange, scope: Scope, receive: Receive) -> None:
        bounded = self._bounded(exchange, receive)
        require_unambiguous(scope["http_version"], scope["headers"], exchange.headers)
        if scope["path"] not in OPEN_PATHS:
            exchange.caller = self._authenticator.caller(exchange.headers, exchange.address)
            self._require_to_change(exchange.caller, scope)
        require_same_origin(scope["method"], exchange.headers)
        if bounded is None:
            raise too_large(self._body_limit)
        # A path without templates needs no router, and most commands have one.
        route = self._commands.get((scope["method"], scope["path"]))
        if route is not None:
            scope["route"] = route
            await route.command.answer(exchange, scope, bounded)
        else:
            await self._routed(scope, bounded, exchange.send)

    def _require_to_change(self, caller: Caller, scope: Scope) -> None:
        """Refuse what may change something to those who change nothing."""
        if caller.may_change or scope["method"] in SAFE_METHODS:
            return
        # The route that will be taken: another may match as well.
        taken = (one for one in self._app.routes if one.matches(scope)[0] is Match.FULL)
        if getattr(next(taken, None), "openapi_extra", None) != ONLY_READS:
            raise forbidden(f"the role {caller.role} changes nothing")

    async def _routed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """HEAD is answered wherever GET is, as GET is; the server leaves out the body."""
        if scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, send)
        finally:
            scope["route"] = asked.get("route")

    def _allowed(self, scope: Scope) -> str:
        """The methods of a path: of all its routes, and not of the first one only."""
        # As it was asked: what is mounted has noted in the scope where that is.
        asked = {**scope, "root_path": ""}
        routes = (one for one in self._app.routes if one.matches(asked)[0] is not Match.NONE)
        methods = {method for one in routes for method in getattr(one, "methods", None) or ("GET",)}
        return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))

    def _bounded(self, exchange: Exchange, receive: Receive) -> Receive | None:
        """`receive`, with a body of bounded size; None when it is announced to be too large.

        A connection that may still bring any number of bytes, or none of those that it announced,
        ends with the answer, unless the body has been read to its end.
        """
        headers = exchange.headers
        announced = headers.get(b"content-length")
        if announced is None:
            if b"transfer-encoding" not in headers:
                return receive
        elif int(announced) > self._body_limit:
            exchange.ends_connection = True
            return None
        elif b"expect" not in headers:
            return receive
        exchange.ends_connection = True
        return counted(receive, self._body_limit, exchange)

    def _service(self, scope: Scope) -> str | None:
        """Whose route it is; None for those that every process has, and before it is known."""
        return self._services.get(id(scope.get("route")))

    async def _refuse(
        self, exchange: Exchange, error: Exception, scope: Scope, receive: Receive
    ) -> None:
        if isinstance(error, RequestValidationError):
            error = explain(error.errors())
        problem = problem_of(error)
        if problem.status == SERVER_ERROR:
            with logs.bound(service=self._service(scope)):
                logs.error("request_failed", error=error, request_id=exchange.request_id)
        if exchange.answered:
            # Half an answer cannot be taken back; the server closes the connection for it.
            raise error
        not_allowed = problem.status == HTTPStatus.METHOD_NOT_ALLOWED
        more = {"Allow": self._allowed(scope)} if not_allowed else {}
        if prefers_page(scope["method"], exchange.headers):
            page = problem_page(
                problem,
                exchange.request_id,
                is_repeatable=scope["method"] in SAFE_METHODS,
                has_front_page=self._has_front_page,
            )
            page.headers.update(more)
            await page(scope, receive, exchange.send)
        else:
            told = {**problem.headers, "Content-Type": MEDIA_TYPE, **more}
            headers = [(name.lower().encode(), value.encode()) for name, value in told.items()]
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
