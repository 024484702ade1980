"""Log records on their way to FluentD, which may be slow, dead or deaf: nobody ever waits for it.

Speaks version 1 of the Forward protocol, with acknowledgements: without them, what a receiver had
in its buffers when it died would be lost, and nobody could count it.
https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1

A record stays in the pipe until FluentD has said that it has it, and is sent again when that is in
doubt; what finds no room is dropped, and counted.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgpack
from prometheus_client import Counter, Gauge

from codebase.infra.pipe import Pipe, UndeliveredError

QUEUE_BYTES_MAX = 16 * 1024 * 1024
"""Of text; about 50,000 records."""
DELIVERY_DEADLINE_SECONDS = 10.0
"""From the connection, or the first byte of a batch, to its last acknowledgement."""
RECEIVE_BYTES = 4096

NOT_IN_A_TAG = re.compile(r"[^A-Za-z0-9_+-]+", re.ASCII)
TIME_TYPE = 0
"""Forward's extension type of a time: two big-endian 32-bit numbers, seconds and nanoseconds."""
NANOSECONDS = 1_000_000_000
# msgpack has no longer ones than 64 bits.
INTEGER_DIGITS_MAX = 18

DROPPED = Counter(
    "orderly_log_records_dropped_total",
    "Log records that did not get to stdout, or of which FluentD never said that it has them.",
    ["to"],
)
SENT = Counter("orderly_log_records_sent_total", "Log records that FluentD has acknowledged.")
WAITING = Gauge("orderly_log_bytes_waiting", "Text of log records that wait for FluentD.")


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= INTEGER_DIGITS_MAX else digits


@dataclass(frozen=True, slots=True)
class Line:
    """A log record: whose it is, its event, its time in nanoseconds since 1970, its JSON text."""

    service: str
    event: str
    nanoseconds: int
    text: str

    @property
    def tag(self) -> str:
        """`orderly.<service>.<event>`."""
        parts = (NOT_IN_A_TAG.sub("_", part) for part in (self.service, self.event))
        return ".".join(("orderly", *parts))

    def entry(self) -> bytes:
        """Time and record, as FluentD keeps them."""
        moment = struct.pack(">II", *divmod(self.nanoseconds, NANOSECONDS))
        record = json.loads(self.text, parse_int=_integer)
        # A record may hold half a surrogate pair, which UTF-8 cannot.
        packed: bytes = msgpack.packb(
            [msgpack.ExtType(TIME_TYPE, moment), record], unicode_errors="backslashreplace"
        )
        return packed


class DeafError(Exception):
    """The other end does not speak the Forward protocol, or has hung up."""


class _Connection:
    """A connection to FluentD; any error ends its use."""

    def __init__(self, host: str, port: int, deadline_seconds: float) -> None:
        self._socket = socket.create_connection((host, port), deadline_seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._deadline_seconds = deadline_seconds
        self._answers = msgpack.Unpacker(max_buffer_size=2 * RECEIVE_BYTES)

    def close(self) -> None:
        self._socket.close()

    def deliver(self, lines: Sequence[Line]) -> None:
        """Send records and wait until FluentD has them.

        Raises:
            OSError, DeafError: whether they arrived is not known.
        """
        ends_at = time.monotonic() + self._deadline_seconds
        self._socket.settimeout(self._deadline_seconds)
        messages = _messages(lines)
        self._socket.sendall(b"".join(messages.values()))
        unconfirmed = set(messages)
        while unconfirmed:
            # Never zero, which would mean not to wait at all.
            self._socket.settimeout(max(0.001, ends_at - time.monotonic()))
            received = self._socket.recv(RECEIVE_BYTES)
            if not received:
                raise DeafError
            unconfirmed -= self._confirmed_by(received)

    def _confirmed_by(self, received: bytes) -> set[str]:
        try:
            self._answers.feed(received)
            return {str(answer["ack"]) for answer in self._answers}
        except (msgpack.UnpackException, ValueError, LookupError, TypeError) as error:
            raise DeafError from error


def _messages(lines: Sequence[Line]) -> dict[str, bytes]:
    """One message for each tag, by the name that FluentD will confirm it with."""
    by_tag: dict[str, list[bytes]] = {}
    for line in lines:
        by_tag.setdefault(line.tag, []).append(line.entry())
    messages = {}
    for tag, entries in by_tag.items():
        name = os.urandom(16).hex()
        option = {"chunk": name, "size": len(entries)}
        messages[name] = msgpack.packb([tag, b"".join(entries), option])
    return messages


class Forwarder:
    """Delivers records to FluentD; a connection is kept until something goes wrong with it."""

    def __init__(self, host: str, port: int, deadline_seconds: float) -> None:
        self._address = (host, port)
        self._deadline_seconds = deadline_seconds
        self._connection: _Connection | None = None

    def deliver(self, lines: Sequence[Line]) -> None:
        """Send records and wait until FluentD has them.

        Raises:
            UndeliveredError: whether they arrived is not known.
        """
        try:
            if self._connection is None:
                self._connection = _Connection(*self._address, self._deadline_seconds)
            self._connection.deliver(lines)
        except (OSError, DeafError) as error:
            self.hang_up()
            raise UndeliveredError from error

    def hang_up(self) -> None:
        """End the connection; the next delivery makes another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def fluent_pipe(
    host: str,
    port: int,
    *,
    queue_bytes_max: int = QUEUE_BYTES_MAX,
    deadline_seconds: float = DELIVERY_DEADLINE_SECONDS,
) -> Pipe[Line]:
    """The way to FluentD.

    Args:
        host: of FluentD.
        port: of its forward input.
        queue_bytes_max: how much text may wait; what comes on top is dropped and counted.
        deadline_seconds: how long a delivery may take; then it is begun again.
    """
    forwarder = Forwarder(host, port, deadline_seconds)
    pipe = Pipe(
        "fluentd",
        forwarder.deliver,
        size=lambda line: len(line.text),
        size_max=queue_bytes_max,
        sent=SENT,
        dropped=DROPPED.labels("fluentd"),
        hang_up=forwarder.hang_up,
    )
    WAITING.set_function(lambda: pipe.size)
    return pipe
