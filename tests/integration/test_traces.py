"""One trace follows an order from its request to its row, and nobody waits for the collector."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pika
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from pika.adapters.blocking_connection import BlockingChannel
from prometheus_client import REGISTRY

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Given, Submission
from codebase.engine.messages.command_taker import CommandTaker
from codebase.foundation.observability import logs, pipe, telemetry, tracing
from codebase.foundation.settings import Settings
from codebase.model.accounts.account import ACCOUNT, OpenAccount, Region
from codebase.model.accounts.agent import AGENT, CreateAgent
from codebase.model.actor import Actor
from codebase.model.money import Currency
from codebase.services.block_agent.messages import QUEUE, READERS, TOPICS
from codebase.services.create_buy_order.service import create_app
from codebase.views.buy_orders.prices import FetchedPrice, FetchedRecord, Prices
from codebase.views.buy_orders.settings import BuyOrderSettings
from tests.integration.flow import (
    channel_to,
    eventually,
    is_projected,
    is_relayed,
    projecting,
    query,
    relaying,
)
from tests.integration.shell import ORDER, Reply, in_time, running, small_service
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

Ports = Callable[[], int]
TRACE = "ab" * 16
PARENT = "cd" * 8
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5


@dataclass(frozen=True)
class Seen:
    """A span as the collector got it; ids in hexadecimal."""

    service: str
    name: str
    kind: int
    trace: str
    span: str
    parent: str
    failed: bool
    nanoseconds: int
    attributes: dict[str, Any]


class Collector:
    """Takes spans by OTLP over HTTP, and answers as the test wants."""

    def __init__(self, port: int, status: int = 200) -> None:
        self.port = port
        self.status = status
        self.spans: list[Seen] = []
        self.requests: list[dict[str, str]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._changed = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(dict(self.headers.items()), body)
                collector.may_answer.wait()
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(collector.status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def take(self, headers: dict[str, str], body: bytes) -> None:
        sent = ExportTraceServiceRequest.FromString(body)
        with self._changed:
            self.requests.append({name.lower(): value for name, value in headers.items()})
            if self.status == 200:
                self.spans += spans_of(sent)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[Collector], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), PATIENCE_SECONDS), self.spans

    def named(self, name: str) -> Seen:
        """The one span of this name."""
        (found,) = (span for span in self.spans if span.name == name)
        return found

    def names(self) -> list[str]:
        return sorted(span.name for span in self.spans)

    def end(self) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def spans_of(sent: ExportTraceServiceRequest) -> Iterator[Seen]:
    for group in sent.resource_spans:
        resource = {each.key: each.value.string_value for each in group.resource.attributes}
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Seen(
                    service=resource["service.name"],
                    name=span.name,
                    kind=span.kind,
                    trace=span.trace_id.hex(),
                    span=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    failed=span.status.code == span.status.STATUS_CODE_ERROR,
                    nanoseconds=span.end_time_unix_nano - span.start_time_unix_nano,
                    attributes={
                        each.key: getattr(each.value, each.value.WhichOneof("value"))
                        for each in span.attributes
                    },
                )


@pytest.fixture(autouse=True)
def _closing_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All spans arrive, where somebody takes them."""
    monkeypatch.setattr(pipe, "CLOSE_DEADLINE_SECONDS", NEVER_SECONDS)


@pytest.fixture
def _closing_is_soon_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has taken by then is lost; a delivery goes on for longer than any test waits."""
    monkeypatch.setattr(pipe, "CLOSE_DEADLINE_SECONDS", 0.2)
    monkeypatch.setattr(tracing, "DELIVERY_DEADLINE_SECONDS", NEVER_SECONDS)


@contextmanager
def collecting(port: int, status: int = 200) -> Iterator[Collector]:
    collector = Collector(port, status)
    try:
        yield collector
    finally:
        collector.end()


def tracing_to(port: int, **settings: Any) -> Any:  # noqa: ANN401 - a context manager
    endpoint = f"http://127.0.0.1:{port}"
    configured = Settings(otel_exporter_otlp_endpoint=endpoint, **settings)
    return telemetry.configured(configured, service="test")


def ids(traceparent: str) -> tuple[str, str]:
    """Of the trace, and of the span."""
    _, trace, span, flags = traceparent.split("-")
    assert int(flags, 16) & 1, "it is sampled"
    return trace, span


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(f"orderly_trace_spans_{name}_total") or 0.0


def put_order(settings: Settings, port: int, headers: dict[str, str] | None = None) -> Reply:
    """One order, by a service with a bus and prices of its own."""
    replies: list[Reply] = []
    prices = Prices(settings)
    fetched = [
        FetchedPrice(currency=each, rate="48478.88", source="test", age_s=0) for each in Currency
    ]
    prices.take(FetchedRecord(prices=fetched), 0)
    order = {"currency": "USD", "amount": "1.50", "idempotence_key": str(uuid4())}

    async def scenario() -> None:
        async with (
            CommandBus.open(settings) as bus,
            running([create_app(bus, prices)], port) as server,
        ):
            replies.append(await server.ask("PUT", "/buy_order", order, headers))

    in_time(scenario)
    assert replies[0].status == 200, replies[0].body
    return replies[0]


def test_one_trace_follows_an_order_from_its_request_to_its_row(
    databases: Databases, with_broker: Settings, free_port: Ports
) -> None:
    settings = BuyOrderSettings(**with_broker.model_dump(), btc_price_max_age_s=1e9)
    with collecting(free_port()) as collector, tracing_to(collector.port):
        with relaying(settings), projecting(settings):
            answer = put_order(settings, free_port(), {"traceparent": TRACEPARENT})
            eventually(lambda: is_projected(databases) and is_relayed(databases))
        collector.wait_for(lambda it: len(it.spans) == 4)
    request, append = collector.named("PUT /buy_order"), collector.named("append")
    publish = collector.named("publish buy_order.placed")
    apply = collector.named("apply BuyOrderPlaced")
    assert {span.trace for span in collector.spans} == {TRACE}
    assert (request.kind, request.parent) == (SERVER, PARENT)
    assert (append.kind, append.parent) == (CLIENT, request.span)
    assert (publish.kind, publish.parent) == (PRODUCER, request.span)
    assert (apply.kind, apply.parent) == (CONSUMER, request.span)
    assert all(span.nanoseconds > 0 and not span.failed for span in collector.spans)
    assert request.attributes == {
        "http.request.method": "PUT",
        "http.route": "/buy_order",
        "http.response.status_code": 200,
        "orderly.request_id": answer.headers["x-request-id"],
    }
    assert append.attributes == {"orderly.commands": 1, "orderly.events": 1}
    assert publish.attributes["orderly.confirmed"] is True
    assert apply.attributes["orderly.projector"] == "read_model_sync"
    assert {span.service for span in collector.spans} == {"test"}


def test_event_and_message_carry_the_trace(
    databases: Databases, with_broker: Settings, free_port: Ports
) -> None:
    settings = BuyOrderSettings(**with_broker.model_dump(), btc_price_max_age_s=1e9)
    with collecting(free_port()) as collector, tracing_to(collector.port):
        with channel_to(settings) as channel:
            channel.queue_declare("listener", durable=True)
            channel.exchange_declare("events", "topic", durable=True)
            channel.queue_bind("listener", "events", "buy_order.#")
            with relaying(settings):
                put_order(settings, free_port())
                eventually(lambda: is_relayed(databases))
            _, properties, _ = channel.basic_get("listener", auto_ack=True)
        collector.wait_for(lambda it: len(it.spans) == 3)
    request = collector.named("PUT /buy_order")
    publish = collector.named("publish buy_order.placed")
    assert request.parent == "", "nobody sent a trace, so that this leads a new one"
    ((meta,),) = query(databases.as_owner(), "SELECT meta FROM event")
    assert ids(properties.headers["traceparent"]) == (request.trace, publish.span)
    assert ids(meta["traceparent"]) == (request.trace, request.span)


def test_an_order_keeps_its_trace_when_it_is_relayed_by_somebody_who_sends_none(
    databases: Databases, with_broker: Settings, free_port: Ports
) -> None:
    """Off means that what the client sent is passed on as it came."""
    settings = BuyOrderSettings(**with_broker.model_dump(), btc_price_max_age_s=1e9)
    with channel_to(settings) as channel:
        channel.queue_declare("listener", durable=True)
        channel.exchange_declare("events", "topic", durable=True)
        channel.queue_bind("listener", "events", "buy_order.#")
        with relaying(settings):
            put_order(settings, free_port(), {"traceparent": TRACEPARENT})
            eventually(lambda: is_relayed(databases))
        _, properties, _ = channel.basic_get("listener", auto_ack=True)
    assert properties.headers["traceparent"] == TRACEPARENT


def ask(port: int, *requests: tuple[str, str], traceparent: str | None = None) -> list[int]:
    """Requests to the small service, one after the other; what they were answered."""
    statuses: list[int] = []
    headers = {"traceparent": traceparent} if traceparent else {}

    async def scenario() -> None:
        async with running([small_service()], port, access_log=True) as server:
            for method, path in requests:
                body = ORDER if method == "PUT" else None
                statuses.append((await server.ask(method, path, body, headers)).status)

    in_time(scenario)
    return statuses


def test_spans_are_named_after_routes_and_failures_are_marked(free_port: Ports) -> None:
    order = f"/orders/{uuid4()}"
    requests = [("GET", "/orders"), ("DELETE", order), ("GET", "/bug"), ("GET", "/nowhere")]
    with collecting(free_port()) as collector:
        with tracing_to(collector.port):
            assert ask(free_port(), *requests) == [200, 202, 500, 404]
        assert [(span.name, span.failed) for span in collector.spans] == [
            ("GET /orders", False),
            ("DELETE /orders/{order_id}", False),
            ("GET /bug", True),
            ("GET", False),
        ]


def test_what_a_path_or_a_query_says_is_in_no_log_and_no_span(free_port: Ports) -> None:
    """Of what is found, of what is not, and of what is malformed."""
    email, lines = "alice.liddell@example.org", io.StringIO()
    paths = (f"/orders?search={email}", f"/orders/{email}", f"/{email}", f"/orders?size={email}")
    with collecting(free_port()) as collector:
        with (
            tracing_to(collector.port),
            logs.configured(Settings(log_level="DEBUG"), service="test", stream=lines),
        ):
            requests = [*[("GET", path) for path in paths], ("DELETE", f"/orders/{email}")]
            assert ask(free_port(), *requests) == [200, 405, 404, 422, 422]
        assert lines.getvalue().count("request_answered") == len(requests)
        assert len(collector.spans) == len(requests)
        assert "liddell" not in lines.getvalue() + str(collector.spans)


def test_those_who_watch_over_a_process_leave_no_traces(free_port: Ports) -> None:
    with collecting(free_port()) as collector:
        with tracing_to(collector.port):
            ask(free_port(), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"))
        assert collector.spans == []


def test_a_client_that_does_not_sample_is_not_traced(free_port: Ports) -> None:
    with collecting(free_port()) as collector:
        with tracing_to(collector.port):
            ask(free_port(), ("GET", "/orders"), traceparent=f"00-{TRACE}-{PARENT}-00")
        assert collector.spans == []


NUMBER = "4111111111111111"


@pytest.mark.parametrize(
    "sent",
    [
        *("", "nonsense", f"00-{'0' * 32}-{PARENT}-01", "ÿ" * 55),
        # What may be the number of a card goes no further, not even to the collector.
        *(f"00-{NUMBER:0>32}-{PARENT}-01", f"00-{TRACE}-{NUMBER}-01"),
    ],
)
def test_a_malformed_trace_is_ignored(free_port: Ports, sent: str) -> None:
    with collecting(free_port()) as collector:
        with tracing_to(collector.port):
            assert ask(free_port(), ("GET", "/orders"), traceparent=sent) == [200]
        (span,) = collector.spans
        assert span.parent == ""


def test_log_records_name_the_trace(free_port: Ports) -> None:
    lines = io.StringIO()
    with (
        collecting(free_port()) as collector,
        tracing_to(collector.port),
        logs.configured(Settings(), service="test", stream=lines),
    ):
        ask(free_port(), ("GET", "/orders"), traceparent=TRACEPARENT)
    said = [json.loads(line) for line in lines.getvalue().splitlines()]
    answered = [line for line in said if line["event"] == "request_answered"]
    assert [line["trace_id"] for line in answered] == [TRACE]


def test_a_collector_gets_the_configured_headers(free_port: Ports) -> None:
    with collecting(free_port()) as collector:
        with tracing_to(collector.port, otel_exporter_otlp_headers="x-key=a%20b,other=c"):
            ask(free_port(), ("GET", "/orders"))
        (sent,) = collector.requests
        assert (sent["x-key"], sent["other"]) == ("a b", "c")
        assert sent["content-type"] == "application/x-protobuf"


@pytest.mark.usefixtures("_closing_is_soon_over")
def test_what_a_collector_that_is_away_does_not_get_is_counted(free_port: Ports) -> None:
    before = counted("dropped")
    with tracing_to(free_port()):
        assert ask(free_port(), *[("GET", "/orders")] * 20) == [200] * 20
    assert counted("dropped") - before == 20


def test_spans_wait_for_a_collector_that_comes_back(free_port: Ports) -> None:
    port, before = free_port(), (counted("sent"), counted("dropped"))
    with tracing_to(port):
        ask(free_port(), ("GET", "/orders"))
        with collecting(port, status=503) as busy:
            busy.wait_for(lambda it: it.requests)
        with collecting(port) as collector:
            collector.wait_for(lambda it: it.names() == ["GET /orders"])
            eventually(lambda: counted("sent") - before[0] == 1)
    assert counted("dropped") == before[1]


def test_what_a_collector_refuses_is_counted_and_not_sent_again(free_port: Ports) -> None:
    before = counted("dropped")
    with collecting(free_port(), status=400) as collector:
        with tracing_to(collector.port):
            ask(free_port(), ("GET", "/orders"))
            eventually(lambda: counted("dropped") - before == 1)
        assert len(collector.requests) == 1


@pytest.mark.usefixtures("_closing_is_soon_over")
def test_nobody_waits_for_a_collector_that_never_answers(
    free_port: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is full, and requests are answered and the end comes before it has answered."""
    monkeypatch.setattr(telemetry, "QUEUE_MAX", 10)
    before = counted("dropped")
    with collecting(free_port()) as collector:
        collector.may_answer.clear()
        with tracing_to(collector.port):
            assert ask(free_port(), *[("GET", "/orders")] * 50) == [200] * 50
            assert counted("dropped") - before >= 40
        assert counted("dropped") - before == 50


def test_without_a_collector_what_makes_spans_is_not_even_loaded() -> None:
    check = (
        "import sys; import codebase.__main__ as it; it.SYSTEM.projectors();"
        "from codebase.foundation.observability import telemetry;"
        "from codebase.foundation.settings import Settings;"
        "from codebase.web.traced import traced; app = object();"
        "manager = telemetry.configured(Settings(), service='x'); manager.__enter__();"
        "assert telemetry.current() is None; assert traced(app) is app;"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.sdk')]"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", check], check=True)


async def block_by_message(settings: Settings, traceparent: str) -> None:
    """Open an account, create an agent, and block it by a message that belongs to a trace."""
    account_id, agent_id, alice = uuid4(), uuid4(), Actor("alice")
    opening = OpenAccount(
        account_id=account_id,
        actor=alice,
        name="A",
        email=f"{account_id}@example.org",
        region=Region.EMEA,
        vip=False,
    )

    def create(account: object) -> object:
        return CreateAgent(
            agent_id=agent_id,
            account_id=account_id,
            account=account,  # type: ignore[arg-type]
            actor=alice,
            name="B",
            email=f"{agent_id}@example.org",
        )

    async with CommandBus.open(settings) as bus:
        queue = CommandTaker(QUEUE, TOPICS, READERS, bus, settings)
        given = {"idempotence_key": None, "content": Content(b""), "actor": alice}
        for more in (
            {"aggregate": ACCOUNT, "stream_id": account_id, "command": opening},
            {
                "aggregate": AGENT,
                "stream_id": agent_id,
                "command": create,
                "given": Given(ACCOUNT, account_id),
            },
        ):
            await bus.execute(Submission(**given, **more, command_id="1"))  # type: ignore[arg-type]
        async with queue.at_work(lambda: PATIENCE_SECONDS):
            await asyncio.to_thread(publish, settings, agent_id, traceparent)


def publish(settings: Settings, agent_id: UUID, traceparent: str) -> None:
    """Send a command and wait for what became of it."""
    properties = pika.BasicProperties(headers={"traceparent": traceparent}, reply_to="reply.test")
    with channel_to(settings) as channel:
        channel.queue_declare("reply.test", durable=True)
        channel.confirm_delivery()
        eventually(lambda: has_queue(settings, QUEUE))
        # The queue is there a moment before it is bound.
        eventually(lambda: is_routed(channel, str(agent_id).encode(), properties))
        eventually(lambda: channel.basic_get("reply.test", auto_ack=True)[0])


def is_routed(channel: BlockingChannel, body: bytes, properties: pika.BasicProperties) -> bool:
    try:
        channel.basic_publish("commands", "agent.block", body, properties, mandatory=True)
    except pika.exceptions.UnroutableError:
        return False
    return True


def has_queue(settings: Settings, name: str) -> bool:
    with channel_to(settings) as channel:
        try:
            channel.queue_declare(name, passive=True)
        except pika.exceptions.ChannelClosedByBroker:
            return False
        return True


def test_a_command_by_message_goes_on_with_its_senders_trace(
    databases: Databases, with_broker: Settings, free_port: Ports
) -> None:
    with collecting(free_port()) as collector:
        with tracing_to(collector.port):
            asyncio.run(block_by_message(with_broker, TRACEPARENT))
        process = collector.named("process agent.block")
        append = collector.named("append")
    assert (process.kind, process.trace, process.parent) == (CONSUMER, TRACE, PARENT)
    assert (append.trace, append.parent) == (TRACE, process.span)
    newest = "SELECT meta ->> 'traceparent' FROM event WHERE type = 'AgentBlocked'"
    ((recorded,),) = query(databases.as_owner(), newest)
    assert ids(recorded) == (TRACE, process.span)


@pytest.mark.parametrize(("sent", "kept"), [(TRACEPARENT, TRACEPARENT), ("nonsense", None)])
def test_without_a_collector_its_event_has_the_senders_trace_all_the_same(
    databases: Databases, with_broker: Settings, sent: str, kept: str | None
) -> None:
    asyncio.run(block_by_message(with_broker, sent))
    newest = "SELECT meta ->> 'traceparent' FROM event WHERE type = 'AgentBlocked'"
    assert query(databases.as_owner(), newest) == [(kept,)]
