"""Power cuts, restarts and stops at the worst moments: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import pytest

from codebase.foundation.failpoints import EXIT_STATUS
from tests.acceptance.conftest import System, until

if TYPE_CHECKING:
    from tests.conftest import RabbitUnderTest


def positions(system: System) -> list[tuple[int, int]]:
    """Partition and position of every event, in order."""
    with system.databases.as_owner() as connection:
        rows = connection.execute("SELECT partition, position FROM event ORDER BY 1, 2").fetchall()
    return [(partition, position) for partition, position in rows]


def assert_consistent(system: System, acknowledged: set[str]) -> None:
    """What was acknowledged is shown once, and everything is as the log says."""
    until(
        lambda: (
            acknowledged <= set(system.shown()) and len(system.shown()) == len(positions(system))
        ),
        "the read model does not reach the log",
    )
    shown = system.shown()
    assert len(shown) == len(set(shown))
    assert system.verify() == ""


@pytest.mark.parametrize("place", ["before_append", "after_append"])
def test_a_command_service_that_dies_around_its_commit(system: System, place: str) -> None:
    system.start("btc_price", "event_relay", "read_model_sync", "fetch_buy_orders")
    system["create_buy_order"].start(ORDERLY_FAILPOINT=place).wait_until_ready()
    key = str(uuid4())
    with pytest.raises(httpx.TransportError):
        system.put(key)
    assert system["create_buy_order"].wait() == EXIT_STATUS
    assert len(positions(system)) == (1 if place == "after_append" else 0)
    system["create_buy_order"].start().wait_until_ready()
    again = system.put_until_answered(key)
    assert ("idempotent-replayed" in again.headers) == (place == "after_append")
    assert len(positions(system)) == 1
    assert_consistent(system, {again.json()["buy_order"]["id"]})


@pytest.mark.parametrize(
    ("service", "place"),
    [
        ("event_relay", "relay_after_publish"),
        ("read_model_sync", "projector_before_commit"),
        ("read_model_sync", "projector_after_apply"),
    ],
)
def test_a_worker_that_dies_between_two_steps(system: System, service: str, place: str) -> None:
    others = [name for name in system.services if name != service]
    system.start(*others)
    system[service].start(ORDERLY_FAILPOINT=place)
    acknowledged = {system.put().json()["buy_order"]["id"] for _ in range(5)}
    assert system[service].wait() == EXIT_STATUS
    acknowledged |= {system.put().json()["buy_order"]["id"] for _ in range(5)}
    system[service].start().wait_until_ready()
    assert_consistent(system, acknowledged)


@contextmanager
def load(system: System) -> Iterator[set[str]]:
    """Clients that place orders all the time, each repeating until it is answered."""
    acknowledged: set[str] = set()
    stopping = threading.Event()

    def client() -> None:
        while not stopping.is_set():
            answer = system.put_until_answered(str(uuid4()), "1")
            assert answer.status_code == 200
            acknowledged.add(answer.json()["buy_order"]["id"])

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client) for _ in range(8)]
        try:
            yield acknowledged
        finally:
            stopping.set()
        for one in clients:
            one.result()


def test_killing_everything_in_turn_under_load_loses_nothing(system: System) -> None:
    system.start()
    with load(system) as acknowledged:
        for name in ("create_buy_order", "event_relay", "read_model_sync", "create_buy_order"):
            before = len(acknowledged)
            until(lambda before=before: len(acknowledged) > before + 20, "no orders come through")
            system[name].kill()
            system[name].start()
    for service in system.services.values():
        service.wait_until_ready()
    assert_consistent(system, acknowledged)


def test_the_broker_going_away_and_coming_back(
    system: System, rabbitmq_server: RabbitUnderTest
) -> None:
    system.start()
    first = {system.put().json()["buy_order"]["id"]}
    rabbitmq_server.kill()
    try:
        during = {system.put().json()["buy_order"]["id"] for _ in range(10)}
        until(system["create_buy_order"].is_ready, "it takes orders and is not ready")
    finally:
        rabbitmq_server.start()
    after = {system.put().json()["buy_order"]["id"] for _ in range(10)}
    assert_consistent(system, first | during | after)
    until(system["event_relay"].is_ready, "the relay does not find the broker again")


def test_a_stop_under_load_finishes_what_it_began(system: System) -> None:
    """SIGTERM: no connection is cut in the middle of an answer, and the process ends."""
    system.start()
    url = f"{system['create_buy_order'].url}/buy_order"
    acknowledged: set[str] = set()
    cut: list[str] = []
    stopped = threading.Event()

    def client() -> None:
        with httpx.Client() as connection:
            while not stopped.is_set():
                body = {"currency": "USD", "amount": "1", "idempotence_key": str(uuid4())}
                try:
                    answer = connection.put(url, json=body)
                except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError) as error:
                    # A connection that is closed between requests is fair; half an answer is not.
                    if "without sending complete message body" in str(error):
                        cut.append(str(error))
                    return
                assert answer.status_code in {200, 503}
                if answer.status_code == 200:
                    acknowledged.add(answer.json()["buy_order"]["id"])

    with ThreadPoolExecutor(16) as pool:
        clients = [pool.submit(client) for _ in range(16)]
        until(lambda: len(acknowledged) > 100, "no orders come through")
        # While they go on.
        status = system["create_buy_order"].stop()
        stopped.set()
        for one in clients:
            one.result()
    assert status == 0
    assert not cut
    system["create_buy_order"].start().wait_until_ready()
    assert_consistent(system, acknowledged)


def test_slow_clients_do_not_hold_up_a_stop(system: System) -> None:
    system.start("btc_price", "create_buy_order", DRAIN_SECONDS="0.5")
    host, port = "127.0.0.1", int(system["create_buy_order"].url.rsplit(":", 1)[1])
    head = b"PUT /buy_order HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    slow = [socket.create_connection((host, port)) for _ in range(20)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(
                head[: 20 + number]
                if number % 2
                else head + b'Content-Length: 100\r\n\r\n{"currency"'
            )
        # While all of them hold on.
        assert system["create_buy_order"].stop() == 0
    finally:
        for connection in slow:
            connection.close()


def test_every_service_stops_when_it_is_told_to(system: System) -> None:
    """How long that takes is a row of the benchmark."""
    system.start()
    for service in system.services.values():
        assert service.stop() == 0, service.log()
