"""How requests come in segments never changes how many there are, nor what they are answered.

The protocol is driven in process, with a transport that a test holds in its hands.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from codebase.foundation.settings import Settings
from codebase.web.protocol import BoundedProtocol
from codebase.web.server import config_of
from codebase.web.shell import assemble
from tests.integration.shell import KEY, ORDER, request, small_service

SPLITS = 10_000
SPLITS_PER_CONVERSATION = 20
JSON = {"Content-Type": "application/json"}
CHUNKED = {**JSON, "Transfer-Encoding": "chunked"}
OFFER = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}
STEPS = 12
"""Of the event loop; no handler of the small service takes as many."""
CLOSED = -1
"""Stands for the end of a conversation, after which nothing is answered."""


class Wire(asyncio.Transport):
    """The server's end of a connection, without a network."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.has_ended = False
        self.is_paused = False
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.has_ended, "nothing may be written after the end"
        self.written += data

    def write_eof(self) -> None:
        self.has_ended = True

    def close(self) -> None:
        self.has_ended = self._closing = True

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def get_write_buffer_size(self) -> int:
        return 0


class Server:
    """The small service, and connections to it."""

    def __init__(self, **settings: object) -> None:
        configured = Settings(**settings)  # type: ignore[arg-type]
        self._config = config_of(assemble([small_service()], configured), configured)
        self._config.load()

    async def talk(
        self, segments: Sequence[bytes], pauses: Callable[[], bool] = lambda: False
    ) -> list[tuple[int, bytes]]:
        """Status and body of every answer; `CLOSED` at the end when the server has ended it.

        Args:
            segments: what is sent, one after the other.
            pauses: whether what has come is looked at before the next segment comes.
        """
        connection = Connection(self._config)
        for segment in segments:
            await connection.send(segment)
            if pauses():
                await connection.settle()
        return await connection.answers()


class Connection:
    """One client of a server."""

    def __init__(self, config: uvicorn.Config) -> None:
        self._state = ServerState()
        self._protocol = BoundedProtocol(config, self._state, {})
        self.wire = Wire()
        self._protocol.connection_made(self.wire)

    async def send(self, segment: bytes) -> None:
        while self.wire.is_paused and not self.wire.is_closing():
            await self.settle()
        if not self.wire.is_closing():
            self._protocol.data_received(segment)

    async def settle(self) -> None:
        """Until every request is answered that can be without another segment."""
        for _ in range(STEPS):
            if not self._state.tasks:
                break
            await asyncio.sleep(0)

    async def answers(self) -> list[tuple[int, bytes]]:
        await self.settle()
        found = list(parsed(bytes(self.wire.written)))
        ended = self.wire.has_ended
        self._protocol.connection_lost(None)
        await asyncio.gather(*self._state.tasks)
        return [*found, (CLOSED, b"")] if ended else found


def parsed(written: bytes) -> Iterator[tuple[int, bytes]]:
    """Status and body of each answer that is final; what is never twice the same is left out."""
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        length = re.search(rb"content-length: ([0-9]+)", head)
        size = int(length[1]) if length else 0
        if status >= 200:
            yield status, re.sub(rb'"(instance|request_id)": ?"[^"]*"', b"", rest[:size])
        written = rest[size:]


@dataclass(frozen=True)
class Sent:
    """A request, and what it must be answered; nothing is answered after one that `ends`."""

    content: bytes
    status: int
    ends: bool = False


def chunked(body: bytes, size: int, *, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    parts = (body[start : start + size] for start in range(0, len(body), size))
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts)
    return chunks + b"0\r\n" + trailers + b"\r\n"


BODY = json.dumps(ORDER).encode()
SMUGGLED = request("DELETE", f"/orders/{KEY}")
POISON = b'{"x": "\r\nUpgrade: a\r\n\r\nupgrade: b\r\n' + SMUGGLED + SMUGGLED + b'"}'
TRAILERS = b"Expires: never\r\nConsistency-Token: x\r\nUpgrade: h2c\r\n"
PUT = b"PUT /order HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
LARGE = 70_000

VALID = {
    "a command": Sent(request("PUT", "/order", BODY), 200),
    "a command without a body": Sent(request("DELETE", f"/orders/{KEY}"), 202),
    "a query": Sent(request("GET", "/orders?size=7"), 200),
    "an empty line before it": Sent(b"\r\n" + request("GET", "/orders"), 200),
    "nobody's path": Sent(request("POST", "/nowhere", BODY), 404),
    "chunks": Sent(request("PUT", "/order", headers=CHUNKED) + chunked(BODY, 7), 200),
    "chunks with extensions and trailers": Sent(
        request("PUT", "/order", headers=CHUNKED)
        + chunked(BODY, 40, extension=b";a=b", trailers=TRAILERS),
        200,
    ),
    "an offer": Sent(request("GET", "/orders", headers=OFFER), 200),
    "an offer with a body": Sent(request("PUT", "/order", BODY, OFFER), 200),
    "an offer with chunks": Sent(
        request("PUT", "/order", headers={**CHUNKED, **OFFER}) + chunked(BODY, 5), 200
    ),
    "an offer with chunks and trailers": Sent(
        request("PUT", "/order", headers={**CHUNKED, **OFFER})
        + chunked(BODY, 50, trailers=TRAILERS),
        200,
    ),
    "an offer of sockets": Sent(
        request("GET", "/orders", headers={"Connection": "upgrade", "Upgrade": "websocket"}), 200
    ),
    "an upgrade that the connection does not speak of": Sent(
        request("PUT", "/order", BODY, {"Upgrade": "h2c"}), 200
    ),
    "a body full of requests": Sent(request("PUT", "/order", POISON), 422),
    "an offer with a body full of requests": Sent(request("PUT", "/order", POISON, OFFER), 422),
    "chunks full of requests": Sent(
        request("PUT", "/order", headers=CHUNKED) + chunked(POISON, 30), 422
    ),
    "a body that its client asks for": Sent(
        request("PUT", "/order", BODY, {"Expect": "100-continue"}), 200
    ),
}
LAST = {
    "no HTTP": Sent(b"HELLO\r\n\r\n", 400, ends=True),
    "another version": Sent(b"GET / HTTP/9\r\n\r\n", 400, ends=True),
    "a header without a colon": Sent(b"GET / HTTP/1.1\r\nHost\r\n\r\n", 400, ends=True),
    "two lengths": Sent(PUT + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n", 400, ends=True),
    "a length and chunks": Sent(
        PUT + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ends=True
    ),
    "an offer with a length and chunks": Sent(
        request("PUT", "/order", BODY, {**OFFER, "Transfer-Encoding": "chunked"}), 400, ends=True
    ),
    "a length in two lines": Sent(
        PUT + b"Content-Length: 5\r\n 6\r\n\r\n" + b"x" * 56, 400, ends=True
    ),
    "a chunk of no size": Sent(
        request("PUT", "/order", headers=CHUNKED) + b"5\r\n{    \r\nx\r\n", 400, ends=True
    ),
    "an offer with a chunk of no size": Sent(
        request("PUT", "/order", headers={**CHUNKED, **OFFER}) + b"x\r\n", 400, ends=True
    ),
    "headers without end": Sent(
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 6_000 + b"\r\n", 431, ends=True
    ),
    "the wish to end after the body": Sent(
        request("PUT", "/order", headers=CHUNKED)
        + chunked(BODY, 9, trailers=b"Connection: close\r\n"),
        200,
        ends=True,
    ),
    "a length after the body": Sent(
        request("PUT", "/order", headers=CHUNKED)
        + chunked(BODY, 9, trailers=b"Content-Length: 7\r\n"),
        400,
        ends=True,
    ),
    "trailers without end": Sent(
        request("PUT", "/order", headers=CHUNKED) + chunked(BODY, 9, trailers=b"a: b\r\n" * 6_000),
        431,
        ends=True,
    ),
    "a body that is too large": Sent(request("PUT", "/order", b"x" * LARGE), 413, ends=True),
    "chunks that are too large": Sent(
        request("PUT", "/order", headers=CHUNKED) + chunked(b"x" * LARGE, 9_000), 413, ends=True
    ),
    "chunks of what is not read": Sent(
        request("PUT", "/order", headers={**CHUNKED, "Content-Type": "text/plain"})
        + chunked(BODY, 9),
        415,
        ends=True,
    ),
    "the wish to end": Sent(
        request("GET", "/orders", headers={"Connection": "close"}), 200, ends=True
    ),
    "an older version": Sent(b"GET /orders HTTP/1.0\r\nHost: localhost\r\n\r\n", 200, ends=True),
}


def conversation(chance: random.Random) -> list[Sent]:
    """Up to six requests in a row; every other time one of them is the last."""
    requests = chance.choices(list(VALID.values()), k=chance.randint(1, 4))
    if chance.random() < 0.5:
        requests.append(chance.choice(list(LAST.values())))
        requests += chance.choices(list(VALID.values()), k=chance.randint(0, 2))
    return requests


def split(content: bytes, chance: random.Random) -> list[bytes]:
    """The same bytes in segments: single bytes, a few, or many."""
    longest = chance.choice((len(content) // 100, 30, 500)) if len(content) < 3_000 else 10_000
    segments, start = [], 0
    while start < len(content):
        end = start + chance.randint(1, max(1, longest))
        segments.append(content[start:end])
        start = end
    return segments


def statuses(requests: Sequence[Sent]) -> list[int]:
    expected = []
    for one in requests:
        expected.append(one.status)
        if one.ends:
            return [*expected, CLOSED]
    return expected


@pytest.mark.parametrize("part", range(10))
def test_every_split_of_requests_gives_the_same_answers(part: int) -> None:
    async def scenario() -> None:
        server = Server()
        chance = random.Random(part)  # noqa: S311 - seeded, and protects nothing
        for _ in range(SPLITS // 10 // SPLITS_PER_CONVERSATION):
            requests = conversation(chance)
            content = b"".join(one.content for one in requests)
            whole = await server.talk([content])
            assert [status for status, _ in whole] == statuses(requests), content
            for _ in range(SPLITS_PER_CONVERSATION):
                segments = split(content, chance)
                answers = await server.talk(segments, lambda: chance.random() < 0.1)
                assert answers == whole, segments

    uvloop.run(scenario())


@pytest.mark.parametrize("sent", [*VALID.values(), *LAST.values()], ids=[*VALID, *LAST])
def test_a_request_is_answered_as_it_should_be(sent: Sent) -> None:
    async def scenario() -> None:
        answers = await Server().talk([sent.content])
        assert [status for status, _ in answers] == statuses([sent])

    uvloop.run(scenario())
