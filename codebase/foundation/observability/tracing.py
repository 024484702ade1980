"""Spans of OpenTelemetry: one trace follows a command from its request to its rows.

`telemetry` says whether there are any; nobody else imports this. The span of a request takes the
place of its client's in the header `traceparent` <https://www.w3.org/TR/trace-context/>. From there
it gets into the events' meta, and becomes the parent of everything that the command leads to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import time_ns
from typing import Any
from urllib.parse import unquote

import httpx
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from psycopg import Connection

from codebase.foundation.observability.pipe import RefusedError, UndeliveredError

DELIVERY_DEADLINE_SECONDS = 10.0
SERVER_ERROR = 500
# https://opentelemetry.io/docs/specs/otlp/#failures: after these it may be sent again.
PASSING_TROUBLE = frozenset({429, 502, 503, 504})
FAILED = Status(StatusCode.ERROR)

# Asked only when traces are on, so that reading the log costs nothing more when they are off.
READ_TRACEPARENTS = """
    SELECT type, meta ->> 'traceparent'
    FROM event
    WHERE partition = %(partition)s AND position BETWEEN %(first)s AND %(last)s
      AND meta ->> 'traceparent' IS NOT NULL
    ORDER BY position
"""


class Collector:
    """Delivers spans by OTLP over HTTP.

    Args:
        endpoint: without the `/v1/traces` that is added to it.
        headers: `name=value,…`, percent-encoded, as OTEL_EXPORTER_OTLP_HEADERS has them.
    """

    def __init__(self, endpoint: str, headers: str) -> None:
        self._url = f"{endpoint.rstrip('/')}/v1/traces"
        pairs = (pair.partition("=") for pair in headers.split(",") if "=" in pair)
        sent = {name.strip(): unquote(value.strip()) for name, _, value in pairs}
        self._client = httpx.Client(
            headers={**sent, "content-type": "application/x-protobuf"},
            timeout=DELIVERY_DEADLINE_SECONDS,
        )

    def deliver(self, spans: Sequence[ReadableSpan]) -> None:
        """Send spans and wait until the collector has them.

        Raises:
            UndeliveredError: whether they arrived is not known, or it has no room at the moment.
            RefusedError: the collector does not want them.
        """
        content = encode_spans(spans).SerializeToString()
        try:
            answer = self._client.post(self._url, content=content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UndeliveredError from error
        if answer.status_code in PASSING_TROUBLE:
            raise UndeliveredError
        if not answer.is_success:
            raise RefusedError

    def hang_up(self) -> None:
        """Close the connections."""
        self._client.close()


class _Ended(SpanProcessor):
    """Hands on each span that has ended, if it was sampled."""

    def __init__(self, take: Callable[[ReadableSpan], None]) -> None:
        self._take = take

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self._take(span)


class _Ids(RandomIdGenerator):
    """Random ones that are not mistaken for a number: see `telemetry.known_traceparent`."""

    def generate_span_id(self) -> int:
        while f"{(made := super().generate_span_id()):016x}".isdecimal():
            pass
        return made

    def generate_trace_id(self) -> int:
        while f"{(made := super().generate_trace_id()):032x}".isdecimal():
            pass
        return made


class Traces:
    """Makes spans.

    Args:
        service: what the collector calls this process, unless OTEL_SERVICE_NAME says otherwise.
        take: gets each span that has ended; returns at once.
    """

    def __init__(self, service: str, take: Callable[[ReadableSpan], None]) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME") or service
        provider = TracerProvider(
            resource=Resource.create({"service.name": name, "service.namespace": "orderly"}),
            shutdown_on_exit=False,
            id_generator=_Ids(),
        )
        provider.add_span_processor(_Ended(take))
        self._tracer = provider.get_tracer("orderly")
        self._propagator = TraceContextTextMapPropagator()

    def begin(
        self,
        name: str,
        kind: SpanKind,
        traceparent: str | None,
        attributes: Mapping[str, Any] | None = None,
        *,
        begun_at: int | None = None,
    ) -> Span:
        """A span that has begun.

        Args:
            name: of what is done.
            kind: on which side of what.
            traceparent: of what led to it; without one, or with a malformed one, it leads a trace.
            attributes: what is worth knowing about it.
            begun_at: nanoseconds since 1970; None for now.
        """
        carrier = {"traceparent": traceparent} if traceparent else {}
        context = self._propagator.extract(carrier)
        return self._tracer.start_span(
            name, context, kind=kind, attributes=attributes, start_time=begun_at
        )

    def traceparent(self, span: Span) -> str:
        """What makes another span a child of this one."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        return carrier["traceparent"]

    def publishing(self, traceparent: str, topic: str, partition: int, position: int) -> Span:
        """The span of one message on its way to the broker, which ends when it is confirmed."""
        attributes = {
            "messaging.system": "rabbitmq",
            "messaging.destination.name": topic,
            "orderly.partition": partition,
            "orderly.position": position,
        }
        return self.begin(f"publish {topic}", SpanKind.PRODUCER, traceparent, attributes)

    def request(self, method: str, traceparent: str) -> Span:
        """The span of a request, which `answered` ends."""
        return self.begin(method, SpanKind.SERVER, traceparent)

    def answered(
        self, span: Span, *, method: str, route: str | None, status: int, request_id: str
    ) -> None:
        """End the span of a request with what is known of it, in the words of OpenTelemetry."""
        span.set_attribute("http.request.method", method)
        span.set_attribute("http.response.status_code", status)
        span.set_attribute("orderly.request_id", request_id)
        if route is not None:
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
        if status >= SERVER_ERROR:
            span.set_status(FAILED)
        span.end()

    def taking_in(self, traceparent: str | None, queue: str, topic: str) -> Span:
        """The span of one command by message, which ends when its outcome is known."""
        attributes = {"messaging.system": "rabbitmq", "messaging.destination.name": queue}
        return self.begin(f"process {topic}", SpanKind.CONSUMER, traceparent, attributes)

    def appended(
        self, traceparents: Iterable[str | None], begun_at: int, *, commands: int, events: int
    ) -> None:
        """Note an append for each of its commands.

        Args:
            traceparents: of the commands.
            begun_at: nanoseconds since 1970.
            commands: how many shared the append.
            events: how many it wrote.
        """
        ended_at = time_ns()
        attributes = {"orderly.commands": commands, "orderly.events": events}
        for traceparent in filter(None, traceparents):
            span = self.begin("append", SpanKind.CLIENT, traceparent, attributes, begun_at=begun_at)
            span.end(ended_at)

    def applied(
        self, log: Connection[Any], projector: str, chunk: Mapping[str, int], begun_at: int
    ) -> None:
        """Note that a projector has taken in some events, for each of them.

        Args:
            log: where the events are.
            projector: its name.
            chunk: the `partition`, and the `first` and `last` position in it.
            begun_at: nanoseconds since 1970.
        """
        ended_at = time_ns()
        attributes = {
            "orderly.projector": projector,
            "orderly.partition": chunk["partition"],
            "orderly.events": chunk["last"] - chunk["first"] + 1,
        }
        for event, traceparent in log.execute(READ_TRACEPARENTS, chunk).fetchall():
            span = self.begin(
                f"apply {event}", SpanKind.CONSUMER, traceparent, attributes, begun_at=begun_at
            )
            span.end(ended_at)
