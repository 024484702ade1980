"""FluentD as it should be, as it is when it is slow or deaf, and as it is when it dies."""

from __future__ import annotations

import io
import json
import logging
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import msgpack
import pytest
from prometheus_client import REGISTRY

from codebase.foundation.observability import logs
from codebase.foundation.observability import pipe as pipes
from codebase.foundation.observability.fluentd import AcknowledgedSender, Line, fluent_pipe
from codebase.foundation.observability.pipe import Pipe
from codebase.foundation.settings import Settings
from codebase.foundation.worker import Worker
from tests.integration.flow import eventually
from tests.integration.shell import ORDER, in_time, request, running, small_service
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS

Ports = Callable[[], int]
NANOSECONDS = 1_000_000_000


class Received(NamedTuple):
    """A record as FluentD would write it."""

    tag: str
    nanoseconds: int
    record: dict[str, Any]


class Forward:
    """A receiver of FluentD's Forward protocol, with the faults that a test gives it.

    Args:
        port: to listen on.
        reads: False: it accepts, and never reads.
        acknowledges: False: it reads, and never says that it has anything.
        bytes_per_turn: how much it reads before it rests for a moment; 0 for everything.
    """

    def __init__(
        self, port: int, *, reads: bool = True, acknowledges: bool = True, bytes_per_turn: int = 0
    ) -> None:
        self._reads = reads
        self._acknowledges = acknowledges
        self._bytes_per_turn = bytes_per_turn
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = port
        self.connections: list[socket.socket] = []
        self._changed = threading.Condition()
        self.records: list[Received] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self.connections.append(connection)
                self._changed.notify_all()
            if self._reads:
                threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        unpacker = msgpack.Unpacker(timestamp=0)
        with suppress(OSError):
            while data := connection.recv(self._bytes_per_turn or 65_536):
                unpacker.feed(data)
                for tag, moment, record, option in unpacker:
                    self._take(Received(tag, nanoseconds(moment), record))
                    if self._acknowledges:
                        connection.sendall(msgpack.packb({"ack": option["chunk"]}))
                if self._bytes_per_turn:
                    self._ended.wait(0.005)

    def _take(self, received: Received) -> None:
        with self._changed:
            self.records.append(received)
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[Forward], object]) -> None:
        """Until it holds, and until the sender has taken in what was confirmed."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), PATIENCE_SECONDS), self.records[
                -3:
            ]
        if self._acknowledges and self.records:
            eventually(nothing_waits)

    def numbers(self) -> list[int]:
        return [received.record["number"] for received in self.records]

    def hang_up(self) -> None:
        """End the connections, and go on listening."""
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def die(self) -> None:
        # shutdown() wakes the threads that wait; close() alone would leave the sockets as they are.
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.hang_up()

    @property
    def is_alive(self) -> bool:
        return self._listener.fileno() >= 0


def nanoseconds(moment: Any) -> int:  # noqa: ANN401 - what msgpack makes of it
    """An EventTime: extension type 0, seconds and nanoseconds."""
    assert isinstance(moment, msgpack.ExtType)
    assert moment.code == 0
    assert len(moment.data) == 8
    seconds, rest = (int.from_bytes(part) for part in (moment.data[:4], moment.data[4:]))
    assert rest < NANOSECONDS
    return seconds * NANOSECONDS + rest


@contextmanager
def receiver(port: int, **faults: Any) -> Iterator[Forward]:  # noqa: ANN401 - as Forward takes them
    forward = Forward(port, **faults)
    try:
        yield forward
    finally:
        if forward.is_alive:
            forward.die()


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"orderly_log_records_{name}_total", labels) or 0.0


def nothing_waits() -> bool:
    return not REGISTRY.get_sample_value("orderly_log_bytes_waiting")


def dropped() -> float:
    return counted("dropped", to="fluentd")


def logging_to(port: int, stream: io.StringIO | None = None, **settings: Any) -> Any:  # noqa: ANN401
    configured = Settings(logging_host="127.0.0.1", logging_port=port, **settings)
    return logs.configured(configured, service="test", stream=stream or io.StringIO())


@contextmanager
def pipe_to(port: int, **limits: Any) -> Iterator[Pipe[Line]]:  # noqa: ANN401 - as fluent_pipe takes them
    pipe = fluent_pipe("127.0.0.1", port, **limits)
    try:
        yield pipe
    finally:
        pipe.close()


def line(number: int, padding: int = 0) -> Line:
    return Line("test", "counted", 1, json.dumps({"number": number, "text": "x" * padding}))


@pytest.fixture(autouse=True)
def _closing_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was logged arrives, where somebody takes it."""
    monkeypatch.setattr(pipes, "CLOSE_DEADLINE_SECONDS", NEVER_SECONDS)


@pytest.fixture
def _closing_is_soon_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has taken by then is lost; a delivery goes on for longer than any test waits."""
    monkeypatch.setattr(pipes, "CLOSE_DEADLINE_SECONDS", 0.2)
    monkeypatch.setattr(logs, "fluent_pipe", partial(fluent_pipe, deadline_seconds=NEVER_SECONDS))


def test_a_record_arrives_with_its_tag_its_time_and_its_fields(free_port: Ports) -> None:
    lines = io.StringIO()
    with receiver(free_port()) as fluentd:
        began = time.time_ns()
        with logging_to(fluentd.port, lines):
            logs.info("order_placed", currency="USD", text="half \ud800 a pair", big=10**30)
            ended = time.time_ns()
            fluentd.wait_for(lambda it: len(it.records) == 1)
        tag, moment, record = fluentd.records[0]
    written = json.loads(lines.getvalue())
    assert tag == "orderly.test.order_placed"
    assert began <= moment <= ended
    assert record["currency"] == "USD"
    assert record["time"] == written["time"]
    assert record["time"].endswith(f".{moment % NANOSECONDS // 1000:06}+00:00")


def test_times_have_nanoseconds(free_port: Ports) -> None:
    with receiver(free_port()) as fluentd:
        with logging_to(fluentd.port):
            for _ in range(50):
                logs.info("counted")
        moments = [received.nanoseconds for received in fluentd.records]
    assert moments == sorted(moments)
    assert any(moment % 1000 for moment in moments), "finer than microseconds"


def test_records_keep_their_order_and_all_arrive_before_close_returns(free_port: Ports) -> None:
    with receiver(free_port()) as fluentd:
        lost, sent = dropped(), counted("sent")
        with logging_to(fluentd.port):
            for number in range(1900):
                logs.info("counted", number=number)
            # Closing has a deadline: what is left for it is little on any machine.
            fluentd.wait_for(lambda it: len(it.records) == 1900)
            for number in range(1900, 2000):
                logs.info("counted", number=number)
        assert fluentd.numbers() == list(range(2000))
        assert (dropped() - lost, counted("sent") - sent) == (0, 2000)


def test_answers_are_taken_in_between(free_port: Ports) -> None:
    """The two places at which AcknowledgedSender reaches into fluent-logger are still there."""
    port = free_port()
    sender = AcknowledgedSender("127.0.0.1", port)

    def confirm(connection: socket.socket) -> None:
        _tag, _moment, _record, option = msgpack.unpackb(connection.recv(4096), timestamp=0)
        connection.sendall(msgpack.packb({"ack": option["chunk"]}))
        assert select.select([sender.socket], [], [], PATIENCE_SECONDS)[0], "no answer"

    def lines() -> Iterator[Line]:
        yield line(0)
        connection, _ = listener.accept()
        with connection:
            # The first one's answer is there now, and the second one's sending has to take it.
            confirm(connection)
            yield line(1)
            confirm(connection)

    with socket.create_server(("127.0.0.1", port)) as listener:
        try:
            sender.deliver(lines(), PATIENCE_SECONDS)
        finally:
            sender.close()


def test_each_service_of_a_process_has_its_own_tag(free_port: Ports) -> None:
    done = threading.Event()

    def work(_stop: threading.Event) -> None:
        logging.getLogger("codebase.engine.anything").warning("at work")
        done.set()

    with receiver(free_port()) as fluentd:
        with logging_to(fluentd.port):
            logs.info("whole_process")
            with logs.bound(service="first"):
                logs.info("inside")
                worker = Worker("works", work, on_crash=lambda: None)
            with logs.bound(service="second"):
                worker.start()
            assert done.wait(PATIENCE_SECONDS)
            worker.stop(PATIENCE_SECONDS)
        said = {(received.tag, received.record["service"]) for received in fluentd.records}
    assert said == {
        ("orderly.test.whole_process", "test"),
        ("orderly.first.inside", "first"),
        ("orderly.first.anything", "first"),
    }


def test_a_request_is_logged_by_the_service_whose_route_it_took(free_port: Ports) -> None:
    apps = [
        small_service(title="first"),
        small_service(title="second", failure=ValueError()),
    ]
    # Both have the same routes, and the first one that fits is taken.
    apps[0].router.routes[:] = [
        route for route in apps[0].router.routes if getattr(route, "path", "") != "/order"
    ]

    async def scenario() -> None:
        async with running(apps, free_port(), access_log=True) as server:
            assert (await server.ask("GET", "/orders")).status == 200
            assert (await server.ask("PUT", "/order", ORDER)).status == 500
            assert (await server.ask("GET", "/nowhere")).status == 404

    with receiver(free_port()) as fluentd:
        with logging_to(fluentd.port):
            in_time(scenario)
        tags = [received.tag for received in fluentd.records]
    assert tags.count("orderly.first.request_answered") == 1
    assert tags.count("orderly.second.request_answered") == 1
    assert tags.count("orderly.second.request_failed") == 1
    assert tags.count("orderly.test.request_answered") == 1, "nobody's route"


@pytest.mark.usefixtures("_closing_is_soon_over")
def test_a_dead_receiver_costs_nothing_and_what_was_not_sent_is_counted(free_port: Ports) -> None:
    before = dropped()
    with logging_to(free_port()):
        for _ in range(100):
            logs.info("lost")
    assert dropped() - before == 100


def test_what_was_logged_while_it_was_away_arrives_when_it_is_back(free_port: Ports) -> None:
    port = free_port()
    before = dropped()
    with logging_to(port):
        for number in range(10):
            logs.info("kept", number=number)
        with receiver(port) as fluentd:
            fluentd.wait_for(lambda it: len(it.records) == 10)
            assert fluentd.numbers() == list(range(10))
    assert dropped() == before


def test_a_receiver_that_dies_and_returns_gets_the_later_records_once(free_port: Ports) -> None:
    port = free_port()
    with receiver(port) as fluentd, logging_to(port):
        logs.info("before")
        fluentd.wait_for(lambda it: len(it.records) == 1)
        fluentd.die()
        logs.info("during")
        with receiver(port) as returned:
            logs.info("after")
            returned.wait_for(lambda it: any(got.tag.endswith("after") for got in it.records))
            tags = [received.tag for received in returned.records]
    assert tags == ["orderly.test.during", "orderly.test.after"]


def test_what_a_receiver_had_not_confirmed_when_it_died_is_sent_again(free_port: Ports) -> None:
    port, before = free_port(), dropped()
    with receiver(port, acknowledges=False) as forgetful, logging_to(port):
        for number in range(3):
            logs.info("counted", number=number)
        # All of it left this process, and none of it was kept.
        forgetful.wait_for(lambda it: it.records)
        forgetful.die()
        with receiver(port) as fluentd:
            fluentd.wait_for(lambda it: it.numbers()[-1:] == [2])
            assert fluentd.numbers() == [0, 1, 2]
    assert dropped() == before


def test_a_connection_that_was_cut_is_made_again(free_port: Ports) -> None:
    before = dropped()
    with receiver(free_port()) as fluentd, logging_to(fluentd.port):
        logs.info("counted", number=0)
        fluentd.wait_for(lambda it: len(it.records) == 1)
        fluentd.hang_up()
        logs.info("counted", number=1)
        fluentd.wait_for(lambda it: len(it.records) == 2)
        assert len(fluentd.connections) == 2
    assert dropped() == before


def first_of_each(numbers: list[int]) -> list[int]:
    """A confirmation that comes after the deadline has its record sent again."""
    return list(dict.fromkeys(numbers))


def test_one_that_accepts_and_never_reads_is_left_and_the_next_one_gets_it_all(
    free_port: Ports,
) -> None:
    port, before = free_port(), dropped()
    with receiver(port, reads=False) as deaf, pipe_to(port, deadline_seconds=0.3) as pipe:
        for number in range(3000):
            pipe.put(line(number, padding=1_000))
        deaf.wait_for(lambda it: len(it.connections) >= 2)
        deaf.die()
        with receiver(port) as fluentd:
            fluentd.wait_for(lambda it: 2999 in it.numbers())
            assert first_of_each(fluentd.numbers()) == list(range(3000))
    assert dropped() == before


@pytest.mark.usefixtures("_closing_is_soon_over")
@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xc1", b"\x90"])
def test_somebody_else_at_its_address_confirms_nothing(free_port: Ports, answer: bytes) -> None:
    before = dropped()
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as listener, pipe_to(port) as pipe:
        pipe.put(line(1))
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(65_536)
                connection.sendall(answer)
                while connection.recv(65_536):
                    pass
    assert dropped() - before == 1


def test_a_slow_receiver_gets_everything(free_port: Ports) -> None:
    """Too slow for a whole batch within the deadline: it is sent less at a time."""
    before = dropped()
    with (
        receiver(free_port(), bytes_per_turn=16_384) as fluentd,
        pipe_to(fluentd.port, deadline_seconds=0.5) as pipe,
    ):
        for number in range(300):
            pipe.put(line(number, padding=10_000))
        fluentd.wait_for(lambda it: 299 in it.numbers())
        assert first_of_each(fluentd.numbers()) == list(range(300))
    assert dropped() == before


def test_what_waits_is_bounded_and_every_record_is_delivered_or_counted(free_port: Ports) -> None:
    port, lost, sent = free_port(), dropped(), counted("sent")
    bound = 1_000_000
    with (
        receiver(port, reads=False) as deaf,
        pipe_to(port, queue_bytes_max=bound, deadline_seconds=0.3) as pipe,
    ):
        for number in range(20_000):
            pipe.put(line(number, padding=2_000))
            assert pipe.size <= bound
        assert dropped() - lost > 19_000
        deaf.die()
        with receiver(port) as fluentd:
            pipe.put(line(20_000))
            fluentd.wait_for(lambda it: 20_000 in it.numbers())
    assert (dropped() - lost) + (counted("sent") - sent) == 20_001


@pytest.mark.usefixtures("_closing_is_soon_over")
def test_requests_do_not_wait_for_a_receiver_that_is_deaf(free_port: Ports) -> None:
    """Every request logs, and the delivery that began before the first of them never ends."""

    async def scenario() -> None:
        async with (
            running([small_service()], free_port(), access_log=True) as server,
            server.client() as client,
        ):
            for _ in range(500):
                client.send(request("GET", "/orders", headers={"X-Padding": "x" * 1000}))
                assert (await client.reply()).status == 200

    with receiver(free_port(), reads=False) as deaf:
        with logging_to(deaf.port):
            logs.info("first")
            deaf.wait_for(lambda it: it.connections)
            in_time(scenario)
        assert len(deaf.connections) == 1


@pytest.mark.usefixtures("_closing_is_soon_over")
def test_closing_does_not_wait_for_a_receiver_that_never_confirms(free_port: Ports) -> None:
    before = dropped()
    with receiver(free_port(), acknowledges=False) as fluentd:
        pipe = fluent_pipe("127.0.0.1", fluentd.port, deadline_seconds=NEVER_SECONDS)
        pipe.put(line(1))
        fluentd.wait_for(lambda it: it.records)
        pipe.close()
        pipe.put(line(2))
    assert dropped() - before == 2


@pytest.mark.parametrize("event", ["with blanks and . dots", "ünïcode"])
def test_a_tag_stays_one_tag(free_port: Ports, event: str) -> None:
    with receiver(free_port()) as fluentd:
        with logging_to(fluentd.port):
            logs.info(event)
        fluentd.wait_for(lambda it: len(it.records) == 1)
        assert fluentd.records[0].tag.count(".") == 2
        assert fluentd.records[0].tag.isascii()


def test_what_libraries_say_comes_out_in_the_same_form() -> None:
    lines = io.StringIO()
    with logs.configured(Settings(), service="test", stream=lines):
        logging.getLogger("codebase.engine.anything").info("%s began", "work")
        logging.getLogger("somelibrary").info("chatter")
        logging.getLogger("somelibrary").warning("trouble")
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(line["event"], line["message"]) for line in found] == [
        ("anything", "work began"),
        ("somelibrary", "trouble"),
    ]


def test_a_line_begins_with_what_every_record_has() -> None:
    lines = io.StringIO()
    with logs.configured(Settings(), service="test", stream=lines):
        with logs.bound(trace_id="ab", service=None):
            logs.info("said", currency="USD")
        logging.getLogger("codebase.engine.anything").error("%s failed", "work")
    ours, others = (json.loads(line) for line in lines.getvalue().splitlines())
    begin = ["time", "level", "service", "event"]
    assert [*ours][:4] == [*others][:4] == begin
    assert (ours["level"], ours["service"], ours["trace_id"]) == ("INFO", "test", "ab")
    assert {*ours} == {*begin, "trace_id", "currency"}
    assert (others["level"], others["service"]) == ("ERROR", "test")
    assert {*others} == {*begin, "message"}


def test_an_error_that_a_module_logs_has_its_stack_and_not_its_text() -> None:
    lines = io.StringIO()
    with logs.configured(Settings(), service="test", stream=lines):
        try:
            fail_twice()
        except ValueError:
            logging.getLogger("codebase.engine.anything").exception("it failed")
    failed = json.loads(lines.getvalue())
    assert [one["type"] for one in failed["errors"]] == ["builtins.ValueError", "builtins.KeyError"]
    assert "5500" not in lines.getvalue()


def test_a_level_that_only_a_library_knows_is_named() -> None:
    lines = io.StringIO()
    with logs.configured(Settings(), service="test", stream=lines):
        logging.getLogger("somelibrary").log(35, "between warning and error")
    assert json.loads(lines.getvalue())["level"] == "LEVEL 35"


def test_what_is_said_inside_ends_with_it() -> None:
    lines = io.StringIO()
    with logs.configured(Settings(), service="test", stream=lines):
        with logs.bound(service="outer"):
            with logs.bound(service="inner", trace_id="ab"):
                logs.info("said")
            logs.info("said")
        logs.info("said")
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [line["service"] for line in found] == ["inner", "outer", "test"]
    assert ["trace_id" in line for line in found] == [True, False, False]


def test_the_library_beneath_does_not_load_its_console() -> None:
    """It would cost every process several times what the library itself does."""
    script = "import sys, codebase.foundation.observability.logs; print('rich' in sys.modules)"
    asked = [sys.executable, "-c", f"{script}; import rich"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "False\n"


def fail_twice() -> None:
    try:
        dict[str, int]()["4111"]
    except KeyError as error:
        raise ValueError("5500") from error


def test_passwords_and_the_texts_of_errors_stay_out() -> None:
    lines = io.StringIO()
    with logs.configured(Settings(), service="test", stream=lines):
        logs.info("connecting", url="amqp://user:s3cret@host/vhost")
        try:
            fail_twice()
        except ValueError as error:
            logs.error("failed", error=error)
    assert "amqp://user:***@host/vhost" in lines.getvalue()
    for secret in ("s3cret", "4111", "5500"):
        assert secret not in lines.getvalue()
    failed = json.loads(lines.getvalue().splitlines()[1])
    assert [one["type"] for one in failed["errors"]] == ["builtins.ValueError", "builtins.KeyError"]
    assert "test_logs_fluentd" in failed["errors"][0]["stack"][0]


def test_an_event_is_one_line_whatever_it_says() -> None:
    lines = io.StringIO()
    with logs.configured(Settings(), service="test", stream=lines):
        logs.info("said", text='a\n{"event":"forged"}\r\x1b[2J', time="yesterday", thing=object())
    assert lines.getvalue().count("\n") == 1
    said = json.loads(lines.getvalue())
    assert (said["event"], said["service"]) == ("said", "test")
    assert said["time"] != "yesterday"


class Gone(io.StringIO):
    """An output that nobody reads any more."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_an_output_that_is_gone_ends_nothing_and_is_counted() -> None:
    before = counted("dropped", to="stdout")
    with logs.configured(Settings(), service="test", stream=Gone()):
        logs.info("nobody_listens")
    assert counted("dropped", to="stdout") - before == 1


def test_the_level_is_the_configured_one() -> None:
    lines = io.StringIO()
    with logs.configured(Settings(log_level="WARNING"), service="test", stream=lines):
        logs.info("quiet")
        logs.warning("loud")
    assert "quiet" not in lines.getvalue()
    assert "loud" in lines.getvalue()
