"""Going on with HTTP/1.1 after an offer to speak another protocol (`Upgrade:`).

A server may pass over such an offer (RFC 9110, 7.8), and Java's HttpClient makes one with its first
request, whatever that is. The parser, however, takes everything after the head for the other
protocol. So the connection goes on with a second parser, which is told how the body is framed in
the client's own words, and then gets every byte that follows the head, none of them changed.
"""

from __future__ import annotations

from collections.abc import Iterable

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

FRAMING = frozenset({b"content-length", b"transfer-encoding"})


def new_parser(listener: object) -> httptools.HttpRequestParser:
    """A parser as uvicorn makes it: what comes after the last request is left to the caller."""
    parser = httptools.HttpRequestParser(listener)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


class Resumption:
    """The rest of a connection, from the body of the request that made the offer.

    Args:
        protocol: hears of the body and of all requests after it, as before.
        headers: of the request.

    Raises:
        httptools.HttpParserError: the headers do not say how long the body is.
    """

    def __init__(self, protocol: HttpToolsProtocol, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._protocol = protocol
        self._is_repeated = True
        self._is_complete = False
        self.parser = new_parser(self)
        framing = (b"%s: %s\r\n" % header for header in headers if header[0] in FRAMING)
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")

    def begin(self) -> None:
        """From here on everything is news to the protocol."""
        self._is_repeated = False
        if self._is_complete:
            self._protocol.on_message_complete()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if not self._is_repeated:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of what is asked for."""
        if not self._is_repeated:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        if not self._is_repeated:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head's end."""
        if not self._is_repeated:
            self._protocol.on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body, which no repeated head has."""
        self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        """The request's end; without a body that is where its head ends."""
        if self._is_repeated:
            self._is_complete = True
        else:
            self._protocol.on_message_complete()
