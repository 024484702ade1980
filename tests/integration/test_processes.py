"""Several processes of one service on one port, as signals and clients find them."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import processes
from tests.integration.flow import eventually, waits_for_a_lock
from tests.integration.test_orderly import environment
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

Ports = Callable[[], int]


class Several:
    """Two processes of create_account, and the parent that keeps them."""

    def __init__(self, databases: Databases, port: int, log: Path) -> None:
        self.port = port
        self.log = log
        arguments = ["serve", "create_account", "--port", str(port), "--processes", "2"]
        hurry = {"DRAIN_SECONDS": str(NEVER_SECONDS)}
        with log.open("ab") as output:
            self.parent = processes.start(arguments, environment(databases) | hurry, output)

    @property
    def ids(self) -> set[int]:
        """Those who are there."""
        assert self.parent.pid
        return {child.pid for child in psutil.Process(self.parent.pid).children()}

    @contextmanager
    def connected(self) -> Iterator[tuple[int, HTTPConnection]]:
        """A new connection, and which of the processes has it."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", "/healthz")
            assert connection.getresponse().read() == b'{"status":"alive"}'
            yield self._who_has(connection.sock.getsockname()), connection
        finally:
            connection.close()

    def _who_has(self, address: tuple[str, int]) -> int:
        for child in self.ids:
            with suppress(psutil.NoSuchProcess):
                if any(each.raddr == address for each in psutil.Process(child).net_connections()):
                    return child
        raise AssertionError("none of the processes has it")

    @contextmanager
    def connected_to(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, HTTPConnection]]:
        """A connection to one of those who are wanted; there are others before, if need be."""
        while True:
            with self.connected() as (who, connection):
                if wanted(who):
                    yield who, connection
                    return

    def accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def wait_for_both(self) -> None:
        """Return when both have answered."""
        eventually(self.accepts)
        eventually(lambda: len(self.ids) == 2)
        for one in self.ids:
            with self.connected_to(one.__eq__):
                pass

    def told(self, connection: HTTPConnection) -> dict[tuple[str, ...], float]:
        """Name and values of labels -> value, as one of them tells for all."""
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def end(self) -> int | None:
        """SIGTERM to the parent; its exit status."""
        self.parent.terminate()
        self.parent.join(PATIENCE_SECONDS)
        return self.parent.exitcode


@pytest.fixture
def several(databases: Databases, free_port: Ports, tmp_path: Path) -> Iterator[Several]:
    one = Several(databases, free_port(), tmp_path / "log")
    one.wait_for_both()
    yield one
    with suppress(psutil.NoSuchProcess):
        for child in one.ids:
            os.kill(child, signal.SIGKILL)
    one.parent.kill()
    one.parent.join()


def open_account(connection: HTTPConnection) -> int:
    body = {"name": "Ada", "email": f"{uuid4()}@example.org", "region": "emea", "vip": False}
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/accounts", json.dumps(body), headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


OPENED = ("orderly_http_requests_total", "POST", "/accounts", "create_account", "201")
COMMANDS = ("orderly_command_batch_size_sum",)


def test_each_of_them_tells_what_all_have_counted_also_when_one_is_killed_and_comes_back(
    several: Several,
) -> None:
    first, second = several.ids
    for one, count in ((first, 3), (second, 4)):
        with several.connected_to(one.__eq__) as (_, connection):
            assert [open_account(connection) for _ in range(count)] == [201] * count

    with (
        several.connected_to(first.__eq__) as (_, of_first),
        several.connected_to(second.__eq__) as (_, of_second),
    ):
        for connection in (of_first, of_second):
            eventually(lambda asked=connection: several.told(asked).get(OPENED) == 7)
            assert several.told(connection)[COMMANDS] == 7
            # A check that was late has it unready until the next one.
            eventually(
                lambda asked=connection: several.told(asked)["orderly_ready", "write_model"] == 1
            )
        started_at = several.told(of_second)[("process_start_time_seconds",)]
        os.kill(first, signal.SIGKILL)
        assert open_account(of_second) == 201
        eventually(lambda: several.ids - {first, second})
        with several.connected_to(lambda one: one not in {first, second}) as (_, of_third):
            assert open_account(of_third) == 201
            for connection in (of_second, of_third):
                eventually(lambda asked=connection: several.told(asked).get(OPENED) == 9)
                assert several.told(connection)[COMMANDS] == 9
                infos = [v for name, v in several.told(connection).items() if "python_info" in name]
                assert infos == [1]
                assert several.told(connection)[("process_start_time_seconds",)] >= started_at

    assert several.end() == 0
    said = [json.loads(line) for line in several.log.read_text().splitlines()]
    [ended] = [record for record in said if record["event"] == "process_ended"]
    assert ended["exit_code"] == -signal.SIGKILL


def test_what_is_in_flight_is_finished_when_all_are_told_to_stop(
    several: Several, databases: Databases
) -> None:
    children = several.ids
    with several.connected() as (_, connection), ThreadPoolExecutor(1) as client:
        with databases.as_owner() as holder, holder.transaction():
            holder.execute("SELECT FROM log_head FOR UPDATE")
            answer = client.submit(open_account, connection)
            eventually(lambda: waits_for_a_lock(databases.server, "command_bus"))
            several.parent.terminate()
            eventually(lambda: not several.accepts())
        assert answer.result(PATIENCE_SECONDS) == 201
    assert several.end() == 0
    assert all(map(processes.gone, children))


def test_who_must_be_killed_in_the_end_is_seen_by_the_exit_status(several: Several) -> None:
    stuck, other = several.ids
    os.kill(stuck, signal.SIGSTOP)
    several.parent.terminate()
    assert processes.gone(other)
    os.kill(stuck, signal.SIGKILL)
    several.parent.join(PATIENCE_SECONDS)
    assert several.parent.exitcode == 1


def test_a_killed_parent_leaves_nobody_behind(several: Several) -> None:
    children = several.ids
    several.parent.kill()
    several.parent.join()
    assert all(map(processes.gone, children))


def test_a_port_that_somebody_has_is_a_sentence_even_if_that_one_would_share_it(
    several: Several, databases: Databases
) -> None:
    """Otherwise two systems would answer on one port, each now and then."""
    with socket.socket() as sharing:
        sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sharing.bind(("127.0.0.1", 0))
        sharing.listen()
        for port in (several.port, sharing.getsockname()[1]):
            arguments = ["serve", "create_account", "--port", str(port), "--processes", "2"]
            done = processes.run(arguments, environment(databases))
            *_, record = map(json.loads, (done.stdout + done.stderr).splitlines())
            assert (done.returncode, record["event"]) == (2, "not_started")
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in record["problem"]


def test_what_starting_again_cannot_mend_ends_all_of_them(free_port: Ports) -> None:
    arguments = ["serve", "create_account", "--port", str(free_port()), "--processes", "2"]
    done = processes.run(arguments, {"PATH": os.environ["PATH"], "ORDERLY_HOME": "/nonexistent"})
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 2
    assert {record["event"] for record in records} == {"not_started"}
    assert "WRITE_MODEL_URL is not set" in records[0]["problem"]
