"""FluentD as it should be, as it is when it is slow, and as it is when it dies."""

from __future__ import annotations

import io
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import msgpack
import pytest
from prometheus_client import REGISTRY

from codebase.infra import logs
from codebase.infra.fluentd import CLOSE_DEADLINE_SECONDS, QUEUE_MAX, FluentPipe, Line
from codebase.infra.settings import Settings

Ports = Callable[[], int]
SECONDS = 10.0


class Forward:
    """A receiver of FluentD's forward protocol that can be told to be deaf, or to die."""

    def __init__(self, port: int = 0, *, reads: bool = True) -> None:
        self._reads = reads
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self._connections: list[socket.socket] = []
        self._changed = threading.Condition()
        self.records: list[tuple[str, Any, dict[str, Any]]] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self._connections.append(connection)
                self._changed.notify_all()
            if self._reads:
                threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        unpacker = msgpack.Unpacker(timestamp=0)
        while True:
            try:
                data = connection.recv(65_536)
            except OSError:
                return
            if not data:
                return
            unpacker.feed(data)
            with self._changed:
                self.records += [tuple(record) for record in unpacker]
                self._changed.notify_all()

    def wait_for(self, condition: Callable[[Forward], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), SECONDS), self.records[-3:]

    def is_connected(self) -> bool:
        return bool(self._connections)

    def die(self) -> None:
        # shutdown() wakes the threads that wait; close() alone would leave the sockets as they are.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


@contextmanager
def receiver(*, reads: bool = True, port: int = 0) -> Iterator[Forward]:
    forward = Forward(port, reads=reads)
    try:
        yield forward
    finally:
        if forward._listener.fileno() >= 0:  # noqa: SLF001 - its own test
            forward.die()


def dropped() -> float:
    return REGISTRY.get_sample_value("orderly_log_records_dropped_total") or 0.0


def logging_to(port: int, stream: io.StringIO | None = None) -> Any:  # noqa: ANN401
    settings = Settings(logging_host="127.0.0.1", logging_port=port)
    return logs.configured(settings, service="test", stream=stream or io.StringIO())


def test_a_record_arrives_with_its_tag_its_time_and_its_fields(free_port: Ports) -> None:
    lines = io.StringIO()
    with receiver(port=free_port()) as fluentd:
        with logging_to(fluentd.port, lines):
            logs.info("order_placed", currency="USD", text="half \ud800 a pair", big=10**30)
            fluentd.wait_for(lambda it: len(it.records) == 1)
        tag, time, record = fluentd.records[0]
    written = json.loads(lines.getvalue())
    assert tag == "orderly.test.order_placed"
    assert isinstance(time, msgpack.ExtType)
    assert len(time.data) == 8, "seconds and nanoseconds"
    assert record["currency"] == "USD"
    assert record["time"] == written["time"]


def test_records_keep_their_order_and_all_arrive_before_close_returns(free_port: Ports) -> None:
    with receiver(port=free_port()) as fluentd:
        before = dropped()
        with logging_to(fluentd.port):
            for number in range(500):
                logs.info("counted", number=number)
        fluentd.wait_for(lambda it: len(it.records) == 500)
        assert [record["number"] for _, _, record in fluentd.records] == list(range(500))
        assert dropped() == before


def test_a_dead_receiver_costs_nothing_and_what_was_not_sent_is_counted(free_port: Ports) -> None:
    before = dropped()
    began = monotonic()
    with logging_to(free_port()):
        logged = monotonic()
        for _ in range(100):
            logs.info("lost")
        assert monotonic() - logged < 1
    assert monotonic() - began < CLOSE_DEADLINE_SECONDS + 2
    assert dropped() - before == 100


def test_what_was_logged_while_it_was_away_arrives_when_it_is_back(free_port: Ports) -> None:
    port = free_port()
    before = dropped()
    with logging_to(port):
        for number in range(10):
            logs.info("kept", number=number)
        with receiver(port=port) as fluentd:
            fluentd.wait_for(lambda it: len(it.records) == 10)
            numbers = [record["number"] for _, _, record in fluentd.records]
    assert numbers == list(range(10))
    assert dropped() == before


def test_a_receiver_that_dies_and_returns_gets_the_later_records_once(free_port: Ports) -> None:
    port = free_port()
    with receiver(port=port) as fluentd, logging_to(port):
        logs.info("before")
        fluentd.wait_for(lambda it: len(it.records) == 1)
        fluentd.die()
        logs.info("during")
        with receiver(port=port) as returned:
            logs.info("after")
            returned.wait_for(lambda it: any(tag.endswith("after") for tag, _, _ in it.records))
            tags = [tag for tag, _, _ in returned.records]
    assert tags == ["orderly.test.during", "orderly.test.after"]


def test_a_receiver_that_never_reads_slows_nobody_down(free_port: Ports) -> None:
    with receiver(reads=False, port=free_port()) as fluentd:
        before = dropped()
        pipe = FluentPipe("test", "127.0.0.1", fluentd.port)
        text = json.dumps({"text": "x" * 2_000})
        pipe.put(Line("first", 0.0, text))
        fluentd.wait_for(Forward.is_connected)
        began = monotonic()
        for _ in range(2 * QUEUE_MAX):
            pipe.put(Line("more", 0.0, text))
        assert monotonic() - began < 2
        assert dropped() > before
        closing = monotonic()
        pipe.close()
        assert monotonic() - closing < CLOSE_DEADLINE_SECONDS + 1


@pytest.mark.parametrize("event", ["with blanks and . dots", "ünïcode"])
def test_a_tag_stays_one_tag(free_port: Ports, event: str) -> None:
    with receiver(port=free_port()) as fluentd:
        with logging_to(fluentd.port):
            logs.info(event)
        fluentd.wait_for(lambda it: len(it.records) == 1)
        assert fluentd.records[0][0].count(".") == 2
        assert fluentd.records[0][0].isascii()


def test_what_libraries_say_comes_out_in_the_same_form() -> None:
    lines = io.StringIO()
    with logs.configured(Settings(), service="test", stream=lines):
        logging.getLogger("codebase.infra.anything").info("%s began", "work")
        logging.getLogger("somelibrary").info("chatter")
        logging.getLogger("somelibrary").warning("trouble")
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(line["event"], line["message"]) for line in found] == [
        ("anything", "work began"),
        ("somelibrary", "trouble"),
    ]


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


def test_an_output_that_is_gone_ends_nothing() -> None:
    with logs.configured(Settings(), service="test", stream=Gone()):
        logs.info("nobody_listens")


def test_the_level_is_the_configured_one() -> None:
    lines = io.StringIO()
    with logs.configured(Settings(log_level="WARNING"), service="test", stream=lines):
        logs.info("quiet")
        logs.warning("loud")
    assert "quiet" not in lines.getvalue()
    assert "loud" in lines.getvalue()
