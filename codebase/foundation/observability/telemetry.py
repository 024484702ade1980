"""Whether, and where to, traces are sent.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT is set: then `current()` is None, nobody makes a span, and
OpenTelemetry's SDK is not even imported. The `traceparent` that a client sent is in its events all
the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING

from prometheus_client import Counter

from codebase.foundation.observability.pipe import Pipe
from codebase.foundation.settings import Settings

if TYPE_CHECKING:
    from codebase.foundation.observability.tracing import Traces

# https://www.w3.org/TR/trace-context/: whatever does not look like this is to be ignored.
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", re.ASCII)

QUEUE_MAX = 10_000
"""Spans that may wait; about three kilobytes each."""

SENT = Counter("orderly_trace_spans_sent_total", "Spans that the collector has taken.")
DROPPED = Counter(
    "orderly_trace_spans_dropped_total",
    "Spans that the collector has not taken, or for which there was no room.",
)

_CURRENT: ContextVar[Traces | None] = ContextVar("traces", default=None)


def current() -> Traces | None:
    """What makes spans, or None when nobody wants any, as of the maker of this task or worker."""
    return _CURRENT.get()


def known_traceparent(sent: str | None) -> str | None:
    """The W3C trace context that somebody sent, if it is one.

    Ids are random and hexadecimal: one of decimal digits alone (of spans one in 1,850 is by chance)
    may be a number that somebody has, such as that of a card, and would be kept for good.
    """
    found = TRACEPARENT.fullmatch(sent) if sent is not None else None
    return sent if found and not any(each.isdecimal() for each in found.groups()) else None


@contextmanager
def configured(settings: Settings, *, service: str) -> Iterator[None]:
    """Traces as the settings want them, for what is started inside.

    Args:
        settings: where the collector is, if there is one.
        service: what the collector calls this process, unless OTEL_SERVICE_NAME says otherwise.
    """
    if settings.otel_exporter_otlp_endpoint is None:
        yield
        return
    # Here and not above, because those who want no traces should not pay for what makes them.
    tracing = import_module("codebase.foundation.observability.tracing")
    collector = tracing.Collector(
        settings.otel_exporter_otlp_endpoint, settings.otel_exporter_otlp_headers or ""
    )
    pipe = Pipe(
        "traces",
        collector.deliver,
        size=lambda _span: 1,
        size_max=QUEUE_MAX,
        sent=SENT,
        dropped=DROPPED,
        hang_up=collector.hang_up,
    )
    token = _CURRENT.set(tracing.Traces(service, pipe.put))
    try:
        yield
    finally:
        _CURRENT.reset(token)
        pipe.close()
