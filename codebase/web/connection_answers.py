"""The way back to a client: what is written, and when more of its requests may be read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized
from http import HTTPStatus

from starlette.types import Message
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from codebase.web.exchange import new_request_id
from codebase.web.problems import MEDIA_TYPE, HttpProblem

CONTINUE = b"HTTP/1.1 100 "

PLAIN = bytes({*range(256)} - {*range(32), 127} | {ord("\t")})
"""The bytes that may be in a header."""


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

    def write_whole(self, data: bytes) -> None:
        """Send an answer of which this is all."""
        if not self.is_closing():
            self._transport.write(data)

    def end(self) -> None:
        """The answer is complete; that to HEAD has nothing after its head."""
        if self._head and not self.is_closing():
            self._transport.write(self._head)
        self._head = b""

    def close(self) -> None:
        """Close, with everything sent."""
        self.end()
        self._finish()


class Cycle(RequestResponseCycle):
    """A request and its answer, which is written at once where that is all of it.

    uvicorn takes head and body one after the other, and each header by itself: that cost a tenth of
    a request. Whatever is not quite ordinary is left to it, and so is the refusal of what is wrong.
    """

    transport: Answers  # type: ignore[assignment]  # all that it uses
    _start: Message | None = None

    async def send(self, message: Message) -> None:  # type: ignore[override]
        """Take a part of the answer; its head waits for what follows."""
        if message["type"] == "http.response.start" and not self.response_started:
            self.response_started = True
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            if self._is_sent_whole(start, message):
                return
            self.response_started = False
            await super().send(start)  # type: ignore[arg-type]
        await super().send(message)  # type: ignore[arg-type]

    def _is_sent_whole(self, start: Message, message: Message) -> bool:
        if message.get("more_body") or not self._may_go_on():
            return False
        body = message.get("body", b"")
        headers = [*self.default_headers, *start["headers"]]
        lines = b"\r\n".join(map(b": ".join, headers))
        head = b"%b%b\r\n\r\n" % (STATUS_LINE[start["status"]], lines)
        if (
            lines.translate(None, PLAIN) != b"\r\n" * (len(headers) - 1)
            or b"\r\ncontent-length: %d\r\n" % len(body) not in head
            or b"\r\nconnection: " in head
            or b"\r\ntransfer-encoding: " in head
        ):
            return False
        self.transport.write_whole(head + body)
        self.waiting_for_100_continue = False
        self.response_complete = True
        self.message_event.set()
        self.on_response()
        return True

    def _may_go_on(self) -> bool:
        """Whether the client reads, and asks for more on its connection, and for a body."""
        return (
            self.keep_alive
            and not self.disconnected
            and not self.flow.write_paused
            and self.scope["method"] != "HEAD"
        )


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
    """The bytes of an answer to what no service sees, and after which nothing follows."""
    request_id = new_request_id()
    body = problem.body(request_id)
    status = HTTPStatus(problem.status)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
