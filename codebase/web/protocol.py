"""One connection of uvicorn's, with bounds: no client can hold it, or what it costs, for ever."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from codebase.web.problems import MEDIA_TYPE, HttpProblem

HEADER_BYTES_MAX = 32_768
NO_REQUEST = "-"
"""The `instance` of problems that are found before there is a request to name."""

TOO_SLOW = HttpProblem(
    HTTPStatus.REQUEST_TIMEOUT, "request-timeout", "the request did not arrive in time"
)
HEADERS_TOO_LARGE = HttpProblem(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers-too-large",
    f"the headers may have {HEADER_BYTES_MAX} bytes",
)
NOT_HTTP = HttpProblem(HTTPStatus.BAD_REQUEST, "malformed-request", "this is not HTTP/1.1")

CONTINUE = b"HTTP/1.1 100 "
UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


class Answers:
    """The answers of one connection: the head of each is sent together with what follows it.

    uvicorn writes them one after the other; each write is a system call, and a packet.
    """

    __slots__ = ("_head", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Keep the first piece of an answer until the second one comes."""
        if self._head is None or data.startswith(CONTINUE):
            self._transport.write(data)
        elif not self._head:
            self._head = data
        else:
            self._transport.write(self._head + data)
            self._head = None

    def end(self) -> None:
        """The answer is complete; that to HEAD has nothing after its head."""
        if self._head:
            self._transport.write(self._head)
        self._head = b""

    def close(self) -> None:
        """Close, with everything sent."""
        self.end()
        self._transport.close()


class BoundedProtocol(HttpToolsProtocol):
    """HTTP for clients that cannot be trusted to send, or to read, at a reasonable pace.

    uvicorn has no deadline for headers, bodies, or readers of answers: a client that sends one byte
    a minute would hold its connection, and what it costs, for as long as it likes. Here each
    connection notes since when it waits for its client, and one sweep per server looks at all of
    them: that is cheaper than a timer per request.
    """

    waiting_since: float
    _reading_headers = True
    _header_bytes = 0
    _unread_bytes = 0
    _given_up = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The clock starts with the connection."""
        super().connection_made(transport)
        self._answers = Answers(transport)
        self.waiting_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request; endless headers end here."""
        if self._given_up:
            return
        if b"pgrade:" in data and (self.cycle is None or not self.cycle.more_body):
            data = _without_upgrade(data)
        super().data_received(data)
        if self._reading_headers:
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES_MAX:
                self._give_up(HEADERS_TOO_LARGE)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self.waiting_since = self.loop.time()
        self._reading_headers = True
        self._header_bytes = 0

    def on_headers_complete(self) -> None:
        """The body has a deadline of its own."""
        self._reading_headers = False
        self._header_bytes = 0
        self.waiting_since = self.loop.time()
        super().on_headers_complete()
        self.cycle.transport = self._answers  # type: ignore[assignment]  # all that it uses

    def on_response_complete(self) -> None:
        """From here on it is up to the client again."""
        self.waiting_since = self.loop.time()
        self._answers.end()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's sentence is dropped
        """Answer to bytes that are no HTTP."""
        self._give_up(NOT_HTTP)

    def sweep(self, now: float, deadline_seconds: float) -> None:
        """Let go of a client that is over its deadline."""
        unread_bytes = self.transport.get_write_buffer_size()
        if unread_bytes < self._unread_bytes:
            self.waiting_since = now
        self._unread_bytes = unread_bytes
        if now - self.waiting_since <= deadline_seconds:
            return
        if unread_bytes > 0 or self._given_up:
            # A polite close would wait until the client has read what it was told.
            self.transport.abort()
        elif self._waits_for_client():
            self._give_up(TOO_SLOW)

    def _waits_for_client(self) -> bool:
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body

    def _is_idle(self) -> bool:
        between_requests = self.cycle is not None and self.cycle.response_complete
        return between_requests and not self._header_bytes

    def _give_up(self, problem: HttpProblem) -> None:
        """Say why, if anybody asked, and end the connection."""
        if self.transport.is_closing():
            return
        self._given_up = True
        self.waiting_since = self.loop.time()
        cycle = self.cycle
        answering = cycle is not None and not cycle.response_complete and cycle.response_started
        if self._is_idle() or answering:
            self.transport.close()
        else:
            self.transport.write(_whole_answer(problem))
            # Closing now, with bytes from the client unread, would reset the connection, and the
            # client might never see why. What still comes is dropped; the sweep ends it.
            self.transport.write_eof()
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    def shutdown(self) -> None:
        """The server stops: end after what is in flight."""
        if self._given_up:
            self.transport.close()
        else:
            super().shutdown()


def _without_upgrade(data: bytes) -> bytes:
    """Bytes that begin with a head, whose offer to speak another protocol is passed over.

    A server may do so (RFC 9110, 7.8). The parser would take the rest of the connection for that
    other protocol, and the request would lose its body: Java's HttpClient offers h2c by default.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return UPGRADE.sub(b"\r\nx-ignored:", head) + end + rest


def _whole_answer(problem: HttpProblem) -> bytes:
    body = problem.body(NO_REQUEST)
    status = HTTPStatus(problem.status)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
