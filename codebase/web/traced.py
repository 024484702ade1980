"""A span around each request, when traces are wanted; logs inside say which trace is theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from codebase.foundation.observability import logs, telemetry
from codebase.web.exchange import exchange_of

if TYPE_CHECKING:
    from codebase.foundation.observability.tracing import Traces

# Whoever watches over a process asks for these all day long.
UNTRACED = frozenset({"/healthz", "/healthcheck", "/readyz", "/metrics"})
TRACEPARENT = b"traceparent"


def traced(app: ASGIApp) -> ASGIApp:
    """The app, with a span around each request when traces are wanted."""
    traces = telemetry.current()
    return app if traces is None else _TracedApp(app, traces)


class _TracedApp:
    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNTRACED:
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        sent = [value.decode("latin-1") for name, value in headers if name == TRACEPARENT]
        known = telemetry.known_traceparent(sent[0]) if len(sent) == 1 else None
        span = self._traces.request(scope["method"], known or "")
        if len(sent) <= 1:
            # Two are left for the boundary to refuse.
            ours = self._traces.traceparent(span)
            others = [header for header in headers if header[0] != TRACEPARENT]
            scope["headers"] = [*others, (TRACEPARENT, ours.encode())]
        try:
            with logs.bound(trace_id=f"{span.get_span_context().trace_id:032x}"):
                await self._app(scope, receive, send)
        finally:
            exchange = exchange_of(scope)
            self._traces.answered(
                span,
                method=scope["method"],
                route=getattr(scope.get("route"), "path", None),
                status=exchange.status,
                request_id=exchange.request_id,
            )
