"""The way back to a client: what is written, and when more of its requests may be read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized
from http import HTTPStatus

from uvicorn.protocols.http.flow_control import FlowControl

from codebase.web.problems import MEDIA_TYPE, HttpProblem

NO_REQUEST = "-"
"""The `instance` of problems that are found before there is a request to name."""
CONTINUE = b"HTTP/1.1 100 "


class Answers:
    """The answers of one connection: the head of each is sent together with what follows it.

    uvicorn writes them one after the other; each write is a system call, and a packet.

    Args:
        transport: of the connection.
        finish: ends the connection, once everything is sent.
    """

    __slots__ = ("_finish", "_head", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, finish: Callable[[], None]) -> None:
        self._transport = transport
        self._finish = finish
        self._head: bytes | None = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Keep the first piece of an answer until the second one comes.

        Nothing is sent to a client that was let go, because it did not read for example: its
        requests go on for a moment, and the event loop takes a write for an error.
        """
        if self.is_closing():
            return
        if self._head is None or data.startswith(CONTINUE):
            self._transport.write(data)
        elif not self._head:
            self._head = data
        else:
            self._transport.write(self._head + data)
            self._head = None

    def end(self) -> None:
        """The answer is complete; that to HEAD has nothing after its head."""
        if self._head and not self.is_closing():
            self._transport.write(self._head)
        self._head = b""

    def close(self) -> None:
        """Close, with everything sent."""
        self.end()
        self._finish()


class OneAtATime(FlowControl):
    """Reads nothing while requests that have been read wait for their turn.

    Otherwise each answer would let in another segment of requests, and a client that sends them
    without reading answers would fill the memory.

    Args:
        transport: of the connection.
        waiting: requests that wait for the answer to an earlier one.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, if nothing waits; if something does, its own answer will call this again."""
        if self.read_paused and not self._waiting:
            super().resume_reading()


def whole_answer(problem: HttpProblem) -> bytes:
    """The bytes of an answer that no request can be named for, and after which nothing follows."""
    body = problem.body(NO_REQUEST)
    status = HTTPStatus(problem.status)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
