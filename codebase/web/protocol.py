"""One connection of uvicorn's, with bounds: no client can hold it, or what it costs, for ever."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from codebase.web.connection_answers import Answers, Cycle, OneAtATime, whole_answer
from codebase.web.header_rules import bad_header
from codebase.web.passed_over_offer import Resumption
from codebase.web.problems import HttpProblem

HEADER_BYTES_MAX = 32_768
BYTES_WITHOUT_CONTENT_MAX = 2 * HEADER_BYTES_MAX
"""What headers may take on the wire, with all that is between their names and values."""
SEPARATORS = len(": \r\n")

TOO_SLOW = HttpProblem(
    HTTPStatus.REQUEST_TIMEOUT, "request-timeout", "the request did not arrive in time"
)
HEADERS_TOO_LARGE = HttpProblem(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers-too-large",
    f"the headers may have {HEADER_BYTES_MAX} bytes",
)
BAD_LENGTH = bad_header("Content-Length", "must be one number, without Transfer-Encoding beside it")
NOT_HTTP = HttpProblem(HTTPStatus.BAD_REQUEST, "malformed-request", "this is not HTTP/1.1")


class HeadersTooLargeError(Exception):
    """Makes the parser stop."""


class BoundedProtocol(HttpToolsProtocol):
    """HTTP for clients that cannot be trusted to send, or to read, at a reasonable pace.

    uvicorn has no deadline for headers, bodies, or readers of answers: a client that sends one byte
    a minute would hold its connection, and what it costs, for as long as it likes. Here each
    connection notes since when it waits for its client, and one sweep per server looks at all of
    them: that is cheaper than a timer per request.

    Nor does it count: headers, and the trailers of a chunked body, may be endless. And every
    request that came before a bad one is answered before the bad one is.
    """

    waiting_since: float
    _in_head = False
    _in_message = False
    _begun_in_segment = False
    _segment_bytes = 0
    _first_segment_bytes = 0
    _bytes_without_content = 0
    """Of a message that is not complete: what came in whole segments since its last content."""
    _resumption: Resumption
    """Made by on_headers_complete when there is an offer."""
    _unread_bytes = 0
    _given_up = False
    _last_words: HttpProblem | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The clock starts with the connection."""
        super().connection_made(transport)
        self.flow = OneAtATime(transport, self.pipeline)
        self._answers = Answers(transport, self._finish)
        self.waiting_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request; what is no HTTP, and endless headers, end here."""
        if self._given_up:
            return
        self._begun_in_segment = False
        self._segment_bytes = len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self._give_up(_problem_of(error))
            return
        if self._in_message and not self._begun_in_segment:
            self._bytes_without_content += len(data)
            if self._bytes_without_content > BYTES_WITHOUT_CONTENT_MAX:
                self._give_up(HEADERS_TOO_LARGE)

    def _parse(self, data: bytes | memoryview) -> None:
        """Feed the parser, and the one that takes over when a client offers another protocol."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                self.parser = self._resumption.parser
                self._resumption.begin()
                data = memoryview(data)[offer.args[0] :]
            else:
                return

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self.waiting_since = self.loop.time()
        self._in_message = self._in_head = self._begun_in_segment = True
        self._first_segment_bytes = self._segment_bytes
        self._bytes_without_content = 0

    def on_headers_complete(self) -> None:
        """The body has a deadline of its own.

        Raises:
            HeadersTooLargeError: they are.
        """
        headers = self.headers
        at_most = self._first_segment_bytes + self._bytes_without_content + self._segment_bytes
        if at_most > HEADER_BYTES_MAX:
            _require_bounded(self.url, headers)
        if self.parser.should_upgrade():
            self._resumption = Resumption(self, headers)
        self._in_head = False
        self._bytes_without_content = 0
        self.waiting_since = self.loop.time()
        self._begin()
        # Trailers are no headers; nobody looks at them.
        self.headers = []

    def _begin(self) -> None:
        """Have the request answered, after those before it; as uvicorn does, with our own cycle."""
        version = self.parser.get_http_version()
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        self.scope |= {
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
        }
        earlier = self.cycle
        self.cycle = Cycle(
            scope=self.scope,
            transport=self._answers,  # type: ignore[arg-type]  # all that it uses
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if earlier is None or earlier.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """A part of a body; the shell counts it."""
        self._bytes_without_content = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request, unless a parser stops at its head for an offer's sake.

        Raises:
            HeadersTooLargeError: the trailers are.
        """
        if self.parser.should_upgrade():
            return
        if self.headers:
            _require_bounded(b"", self.headers)
            # The parser does not go on after a `Connection: close` down here either.
            self.cycle.keep_alive &= self.parser.should_keep_alive()
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """From here on it is up to the client again; the sweep says when it has been long enough.

        uvicorn would have a timer for each answer.
        """
        self.server_state.total_requests += 1
        self.waiting_since = self.loop.time()
        self._answers.end()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_words is not None:
            self._say(self._last_words)

    def sweep(self, now: float, deadline_seconds: float) -> None:
        """Let go of a client that is over its deadline."""
        unread_bytes = self.transport.get_write_buffer_size()
        if unread_bytes < self._unread_bytes:
            self.waiting_since = now
        self._unread_bytes = unread_bytes
        if self._is_idle() and unread_bytes == 0:
            deadline_seconds = min(deadline_seconds, self.timeout_keep_alive)
        if now - self.waiting_since <= deadline_seconds:
            return
        if unread_bytes > 0 or (self._given_up and self._is_answered()):
            # A polite close would wait until the client has read what it was told.
            self.transport.abort()
        elif self._waits_for_client():
            self._give_up(TOO_SLOW)

    def _is_answered(self) -> bool:
        """Whether every request, as far as there were any, has its answer."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.disconnected

    def _is_idle(self) -> bool:
        """Whether there have been requests, all of them answered, and no other has begun."""
        return self.cycle is not None and self._is_answered() and not self._in_message

    def _waits_for_client(self) -> bool:
        # What waits for its turn is not read on, see OneAtATime.
        return self._is_answered() or (self.cycle.more_body and not self.pipeline)

    def _give_up(self, problem: HttpProblem) -> None:
        """Say why, if anybody asked, once all earlier requests are answered; end the connection."""
        if self.transport.is_closing():
            return
        self._given_up = True
        self.waiting_since = self.loop.time()
        if self._in_message and not self._in_head:
            self._give_up_body(problem)
        elif not self._is_answered():
            self._last_words = problem
        elif problem is TOO_SLOW and self._is_idle():
            self.transport.close()
        else:
            self._say(problem)

    def _give_up_body(self, problem: HttpProblem) -> None:
        """The same for a request whose head was taken; what it was answered, if it was, stands."""
        cycle = self.cycle
        if self.pipeline:
            self.pipeline.popleft()
            self._last_words = problem
        elif cycle.response_started:
            self.transport.close()
        else:
            self._say(problem)
        cycle.disconnected = True
        cycle.message_event.set()

    def _say(self, problem: HttpProblem) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(whole_answer(problem))
        self._linger()

    def _finish(self) -> None:
        """The connection ends after the answer that was just sent; nothing else is answered."""
        if not self._in_message or self.transport.is_closing():
            self.transport.close()
            return
        self._given_up = True
        if self.pipeline:
            self.pipeline.clear()
            self.cycle.disconnected = True
        self._linger()

    def _linger(self) -> None:
        """End the connection with nothing more to say.

        Closing now, with bytes from the client unread, would reset the connection, and the client
        might never see its answer. What still comes is dropped; the sweep ends it.
        """
        self.waiting_since = self.loop.time()
        self.transport.write_eof()
        self.flow.resume_reading()

    def shutdown(self) -> None:
        """The server stops: end after what is in flight."""
        if self._given_up and self._is_answered():
            self.transport.close()
        else:
            super().shutdown()


def _problem_of(error: httptools.HttpParserError) -> HttpProblem:
    if isinstance(error.__context__, HeadersTooLargeError):
        return HEADERS_TOO_LARGE
    # The parser's own words: "Content-Length already present", and others.
    return BAD_LENGTH if "Content-Length" in str(error) else NOT_HTTP


def _require_bounded(url: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """Count headers that may be too large, without regard to how they came in segments.

    Args:
        url: what the request asks for.
        headers: names and values.

    Raises:
        HeadersTooLargeError: they are.
    """
    fields = sum(len(name) + len(value) + SEPARATORS for name, value in headers)
    if len(url) + fields > HEADER_BYTES_MAX:
        raise HeadersTooLargeError
