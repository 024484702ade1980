"""Clients that are slow, stuck or hostile, and a server that is told to stop."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codebase.foundation.observability import logs
from codebase.foundation.settings import Settings
from codebase.web import acceptor
from codebase.web.acceptor import Acceptor
from codebase.web.server import KEEP_ALIVE_SECONDS
from tests.clocks import StandingLoop, push_the_clock
from tests.collector import left_by_each
from tests.integration.shell import (
    ORDER,
    Client,
    Gate,
    Reply,
    Server,
    in_time,
    request,
    running,
    small_service,
)
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS

Ports = Callable[[], int]
DEADLINE = 0.3
"""Of clients, on a clock that the test moves; looked after five times in that time."""
PROJECT = Path(__file__).parents[2]

SLOW_CLIENTS = {
    "nothing at all": b"",
    "half a request line": b"PUT /ord",
    "headers that do not end": b"PUT /order HTTP/1.1\r\nHost: x\r\n",
    "half a body": request("PUT", "/order", ORDER)[:-5],
    "half a chunk": request(
        "PUT",
        "/order",
        headers={"Transfer-Encoding": "chunked", "Content-Type": "application/json"},
    )
    + b"10\r\nabc",
}


async def ends_as_time_passes(
    client: Client, meanwhile: Callable[[], None] = lambda: None
) -> bytes:
    """Put the clock forward until the server closes the connection; what it said until then."""
    ends = asyncio.create_task(client.ends())
    while not ends.done():
        push_the_clock(DEADLINE / 4)
        meanwhile()
        await asyncio.wait({ends}, timeout=0.02)
    return ends.result()


@pytest.mark.parametrize("sent", SLOW_CLIENTS.values(), ids=SLOW_CLIENTS.keys())
def test_a_client_that_does_not_finish_its_request_is_told_so_and_let_go(
    free_port: Ports, sent: bytes
) -> None:
    async def scenario() -> None:
        async with (
            running([small_service()], free_port(), client_deadline_seconds=DEADLINE) as server,
            server.client() as client,
        ):
            client.send(sent)
            answer = await ends_as_time_passes(client)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"/problems/request-timeout" in answer

    in_time(scenario, StandingLoop)


def test_a_byte_now_and_then_does_not_move_the_deadline(free_port: Ports) -> None:
    async def scenario() -> None:
        async with (
            running([small_service()], free_port(), client_deadline_seconds=DEADLINE) as server,
            server.client() as client,
        ):
            client.send(b"GET /orders HTTP/1.1\r\n")
            answer = await ends_as_time_passes(client, meanwhile=lambda: client.send(b"X: y\r\n"))
            assert answer.startswith(b"HTTP/1.1 408 ")

    in_time(scenario, StandingLoop)


def test_a_client_that_waits_for_its_answer_has_all_the_time(free_port: Ports) -> None:
    gate = Gate()

    async def scenario() -> None:
        async with (
            running([small_service(gate)], free_port(), client_deadline_seconds=DEADLINE) as server,
            server.client() as client,
            server.client() as slow,
        ):
            client.send(request("PUT", "/order", ORDER))
            await gate.arrived.wait()
            slow.send(b"GET / HTTP/1.1\r\n")
            # When this one has been let go, its deadline has passed for the other as well.
            await ends_as_time_passes(slow)
            gate.opened.set()
            assert (await client.reply()).status == 200

    in_time(scenario, StandingLoop)


def test_an_offer_to_speak_another_protocol_is_passed_over(free_port: Ports) -> None:
    """As Java's HttpClient makes it with its first request, whatever that is."""
    offer = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    }

    async def scenario() -> None:
        async with (
            running([small_service()], free_port()) as server,
            server.client() as client,
        ):
            for _ in range(2):
                client.send(request("PUT", "/order", ORDER, headers=offer))
                assert (await client.reply()).status == 200

    in_time(scenario)


def test_a_client_that_asks_whether_to_send_its_body_is_told_to(free_port: Ports) -> None:
    head, body = request("PUT", "/order", ORDER, headers={"Expect": "100-continue"}).split(
        b"\r\n\r\n"
    )

    async def scenario() -> None:
        async with (
            running([small_service()], free_port()) as server,
            server.client() as client,
        ):
            client.send(head + b"\r\n\r\n")
            assert (await client.reply()).status == 100
            client.send(body)
            assert (await client.reply()).status == 200

    in_time(scenario)


def test_an_answer_to_head_is_sent_though_nothing_follows_it(free_port: Ports) -> None:
    async def scenario() -> None:
        async with (
            running([small_service()], free_port()) as server,
            server.client() as client,
        ):
            client.send(b"HEAD /docs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = await client.ends()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"\r\n\r\n")

    in_time(scenario)


@pytest.mark.parametrize(
    "sent",
    [request("PUT", "/order", ORDER), request("PUT", "/order", {}), request("GET", "/nothing")],
    ids=["answered", "refused", "of the router"],
)
def test_a_request_leaves_nothing_behind_for_the_collector(free_port: Ports, sent: bytes) -> None:
    async def scenario() -> None:
        async with (
            running([small_service()], free_port()) as server,
            server.client() as client,
        ):

            async def ask() -> None:
                client.send(sent)
                await client.reply()

            assert await left_by_each(ask) < 1

    in_time(scenario)


def test_an_idle_connection_is_closed_without_a_word(free_port: Ports) -> None:
    async def scenario() -> None:
        async with (
            running([small_service()], free_port(), client_deadline_seconds=DEADLINE) as server,
            server.client() as client,
        ):
            client.send(request("GET", "/orders"))
            await client.reply()
            client.send(b"\r\n")
            assert await ends_as_time_passes(client) == b""

    in_time(scenario, StandingLoop)


def test_an_idle_connection_is_closed_sooner_than_a_slow_one(free_port: Ports) -> None:
    async def scenario() -> None:
        async with (
            running([small_service()], free_port()) as server,
            server.client() as idle,
            server.client() as slow,
        ):
            idle.send(request("GET", "/orders"))
            await idle.reply()
            slow.send(request("PUT", "/order", ORDER)[:-1])
            push_the_clock(KEEP_ALIVE_SECONDS + 1)
            assert await idle.ends() == b""
            slow.send(request("PUT", "/order", ORDER)[-1:])
            assert (await slow.reply()).status == 200

    in_time(scenario, StandingLoop)


@pytest.mark.parametrize(
    "endless", [b"X: " + b"y" * 200_000, b"X: y\r\n" * 40_000, b""], ids=["one", "many", "url"]
)
def test_endless_headers_are_cut_off(free_port: Ports, endless: bytes) -> None:
    async def scenario() -> None:
        async with (
            running([small_service()], free_port()) as server,
            server.client() as client,
        ):
            start = b"GET /orders" + (b"x" * 200_000 if not endless else b" HTTP/1.1\r\n")
            client.send(start + endless)
            answer = await client.ends()
        assert answer.startswith(b"HTTP/1.1 431 ")

    in_time(scenario)


@pytest.mark.parametrize(
    "endless", [b"X: " + b"y" * 500_000, b"X: y\r\n" * 100_000, b"1;" + b"x" * 500_000]
)
def test_endless_trailers_are_cut_off(free_port: Ports, endless: bytes) -> None:
    async def scenario() -> None:
        chunked = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
        async with (
            running([small_service()], free_port()) as server,
            server.client() as client,
        ):
            start = b"" if endless.startswith(b"1;") else b"0\r\n"
            client.send(request("PUT", "/order", headers=chunked) + start + endless)
            answer = await client.ends()
        assert answer.startswith(b"HTTP/1.1 431 ")

    in_time(scenario)


NOT_HTTP = [b"\x16\x03\x01\x02\x00", b"HELLO\r\n\r\n", b"GET / HTTP/9\r\n\r\n"]


@pytest.mark.parametrize("sent", NOT_HTTP)
def test_what_is_not_http_gets_a_problem(free_port: Ports, sent: bytes) -> None:
    async def scenario() -> None:
        async with (
            running([small_service()], free_port()) as server,
            server.client() as client,
        ):
            client.send(sent)
            first = await client.reply()
            assert await client.ends() == b""
            async with server.client() as after_an_answer:
                after_an_answer.send(request("GET", "/orders"))
                await after_an_answer.reply()
                after_an_answer.send(sent)
                second = await after_an_answer.reply()
        assert first.headers["x-request-id"] != second.headers["x-request-id"]
        for answer in (first, second):
            assert answer.status == 400
            assert answer.json["type"] == "/problems/malformed-request"
            assert answer.json["instance"] == answer.headers["x-request-id"]
            assert answer.headers["connection"] == "close"

    in_time(scenario)


BAD_HTTP = [
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000,
    b"PUT /order HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
    b"PUT /order HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
]


def test_what_is_not_http_leaves_nothing_in_the_log(free_port: Ports) -> None:
    """Or whoever can connect could fill the disk."""

    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            for sent in (*NOT_HTTP, *BAD_HTTP):
                async with server.client() as client:
                    client.send(sent)
                    assert b"/problems/" in await client.ends()

    lines = io.StringIO()
    with logs.configured(Settings(), service="test", stream=lines):
        in_time(scenario)
    assert events_in(lines) == ["listening", "stopped"]


def test_a_client_that_does_not_read_its_answer_is_let_go(free_port: Ports) -> None:
    async def scenario() -> None:
        async with (
            running([small_service()], free_port(), client_deadline_seconds=DEADLINE) as server,
            server.client() as client,
        ):
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(request("GET", "/large"))
            await is_answering(server.port)
            while is_connected(server.port):
                push_the_clock(DEADLINE / 4)
                await asyncio.sleep(0.01)
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert len(await client.ends()) < 30_000_000

    in_time(scenario, StandingLoop)


UNREAD = request("GET", "/large")
LET_GO = {
    "with an answer": UNREAD,
    "with an answer after which others are made": 3 * UNREAD,
    "before it could be told what was wrong": UNREAD + request("PUT", "/order", ORDER) + b"HELLO",
}


@pytest.mark.parametrize("sent", LET_GO.values(), ids=LET_GO.keys())
def test_letting_a_client_go_that_does_not_read_is_no_error(free_port: Ports, sent: bytes) -> None:
    """It is the client's doing, and anybody may do it as often as he likes."""
    gate = Gate()

    async def scenario() -> None:
        async with (
            running([small_service(gate)], free_port(), client_deadline_seconds=DEADLINE) as server,
            server.client() as client,
        ):
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(sent)
            await is_answering(server.port)
            if ORDER["key"].encode() in sent:
                await gate.arrived.wait()
            while is_connected(server.port):
                push_the_clock(DEADLINE / 4)
                await asyncio.sleep(0.01)
            gate.opened.set()

    lines = io.StringIO()
    with logs.configured(Settings(access_log=False), service="test", stream=lines):
        in_time(scenario, StandingLoop)
    assert events_in(lines) == ["listening", "stopped"]


def events_in(lines: io.StringIO) -> list[str]:
    return [json.loads(line)["event"] for line in lines.getvalue().splitlines()]


def is_connected(port: int) -> bool:
    """Whether the kernel has an established connection on the server's side of `port`."""
    local, established = f"0100007F:{port:04X}", "01"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any((local, established) == (line.split()[1], line.split()[3]) for line in lines)


async def no_connections(port: int) -> None:
    while is_connected(port):  # noqa: ASYNC110 - the kernel does not tell
        await asyncio.sleep(0.01)


def test_leaving_cuts_off_who_has_not_read_its_answer_in_time(free_port: Ports) -> None:
    async def scenario() -> None:
        port = free_port()
        async with running([small_service()], port, drain_seconds=0.3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(request("GET", "/large"))
            await is_answering(port)
        await no_connections(port)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await Client(reader, writer).ends()) < 30_000_000
        writer.transport.abort()

    in_time(scenario)


async def is_answering(port: int) -> None:
    """Wait until an answer has filled the kernel's buffers."""
    while not has_unread_bytes(port):  # noqa: ASYNC110 - the kernel does not tell
        await asyncio.sleep(0.01)


def has_unread_bytes(port: int) -> bool:
    """Whether the kernel holds bytes that were written on the server's side of `port`."""
    lines = Path("/proc/net/tcp").read_text().splitlines()
    of_server = (line.split() for line in lines if line.split()[1] == f"0100007F:{port:04X}")
    return any(int(fields[4].split(":")[0], 16) > 0 for fields in of_server)


def test_many_slow_clients_do_not_keep_others_waiting(free_port: Ports) -> None:
    async def scenario() -> None:
        async with running([small_service()], free_port()) as server:
            slow = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(200)]
            for _, writer in slow:
                writer.write(b"PUT /order HTTP/1.1\r\n")
            # None of them is let go before the test ends.
            assert (await server.ask("PUT", "/order", ORDER)).status == 200
            for _, writer in slow:
                writer.transport.abort()

    in_time(scenario)


class Served:
    """The small service in a process of its own."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port = port
        self.process = process

    def says(self, word: str) -> str:
        """Read its output up to a line with `word`."""
        assert self.process.stdout is not None
        seen = ""
        for line in self.process.stdout:
            seen += line
            if word in line:
                return seen
        pytest.fail(f"it ended without saying {word!r}:\n{seen}")

    def ends(self) -> tuple[int, str]:
        """Its exit status, and what it said until then."""
        said, _ = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, said


@contextmanager
def served(port: int, drain_seconds: float, *more: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "tests.integration.serve_small"]
    process = subprocess.Popen(
        [*command, str(port), str(drain_seconds), *more],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    try:
        yield Served(port, process)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_at_a_signal_it_answers_what_is_in_flight_closes_its_resources_and_ends(
    free_port: Ports, number: signal.Signals
) -> None:
    async def scenario(service: Served) -> None:
        server = Server(service.port)
        async with server.client() as client, server.client() as idle:
            idle.send(request("GET", "/orders"))
            assert (await idle.reply()).status == 200
            client.send(request("PUT", "/order", ORDER))
            await asyncio.to_thread(service.says, "arrived")
            service.process.send_signal(number)
            await refused(service.port)
            assert await idle.ends() == b""
            # A second signal, as a terminal and a supervisor send them together, changes nothing.
            service.process.send_signal(number)
            service.process.send_signal(signal.SIGUSR1)
            reply = await client.reply()
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert await client.ends() == b""

    with served(free_port(), PATIENCE_SECONDS) as service:
        service.says("listening")
        in_time(lambda: scenario(service))
        service.says("closing")
        service.process.send_signal(number)
        status, said = service.ends()
    assert status == 0
    assert "closed" in said


async def refused(port: int) -> None:
    """Wait until nobody listens on `port`."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            return
        writer.transport.abort()


def test_stuck_clients_cannot_hold_up_a_stop(free_port: Ports) -> None:
    async def scenario(service: Served) -> None:
        server = Server(service.port)
        async with (
            server.client() as held,
            server.client() as half_headers,
            server.client() as half_body,
            server.client() as deaf,
        ):
            deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
            deaf.send(request("GET", "/large"))
            half_headers.send(b"PUT /order HTTP/1.1\r\n")
            half_body.send(request("PUT", "/order", ORDER)[:-3])
            held.send(request("PUT", "/order", ORDER))
            await asyncio.to_thread(service.says, "arrived")
            service.process.send_signal(signal.SIGTERM)
            # While all of them still hold on.
            said.append(await asyncio.to_thread(service.ends))

    said: list[tuple[int, str]] = []
    with served(free_port(), 0.5) as service:
        service.says("listening")
        in_time(lambda: scenario(service))
    status, output = said[0]
    assert status == 0
    assert "closed" in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_is_still_opening_closes_what_was_opened(
    free_port: Ports, number: signal.Signals
) -> None:
    with served(free_port(), 1, "hang") as service:
        service.says("opening")
        service.process.send_signal(number)
        status, said = service.ends()
    assert status == 0
    assert "closed" in said


async def asked(client: Client, path: str) -> Reply:
    client.send(request("GET", path))
    return await client.reply()


@contextmanager
def no_descriptor_is_free(process: subprocess.Popen[str]) -> Iterator[None]:
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)


def test_without_a_free_descriptor_it_says_so_and_goes_on_when_there_is_one(
    free_port: Ports,
) -> None:
    async def scenario(service: Served) -> None:
        server = Server(service.port)
        async with server.client() as known:
            assert (await asked(known, "/readyz")).status == 200
            with no_descriptor_is_free(service.process):
                reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
                failed = await asyncio.to_thread(service.says, "dependency_failed")
                assert "Too many open files" in failed
                answer = await asked(known, "/readyz")
                assert answer.status == 503
                assert answer.json["errors"] == {"descriptors": ["Too many open files"]}
                assert (await asked(known, "/healthz")).status == 200
            assert (await asked(Client(reader, writer), "/orders")).status == 200
            recovered = await asyncio.to_thread(service.says, "dependency_recovered")
            assert "dependency_failed" not in recovered, "said once"
            assert (await asked(known, "/readyz")).status == 200
            writer.transport.abort()

    with served(free_port(), PATIENCE_SECONDS) as service:
        service.says("listening")
        in_time(lambda: scenario(service))


class FullTable(socket.socket):
    """A listening socket of a process whose table of descriptors is full."""

    def __init__(self) -> None:
        super().__init__(socket.AF_INET)
        self.asked = 0
        self.was_asked = asyncio.Event()

    def accept(self) -> tuple[socket.socket, object]:
        self.asked += 1
        self.was_asked.set()
        raise OSError(errno.EMFILE, "Too many open files")


def test_it_rests_before_it_tries_again_to_take_whom_there_is_no_room_for(
    free_port: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "PAUSE_SECONDS", NEVER_SECONDS)

    async def scenario() -> None:
        with FullTable() as listener:
            listener.bind(("127.0.0.1", free_port()))
            listener.setblocking(False)  # noqa: FBT003 - the standard library's own
            accepting = Acceptor(listener, asyncio.Protocol)
            accepting.open()
            _, writer = await asyncio.open_connection(*listener.getsockname())
            await listener.was_asked.wait()
            for _ in range(100):
                await asyncio.sleep(0.001)
            assert listener.asked == 1
            writer.transport.abort()
            accepting.close()

    in_time(scenario)
