"""Log records on their way to FluentD, which may be slow, dead or deaf: nobody ever waits for it.

Speaks version 1 of the Forward protocol, with acknowledgements: without them, what a receiver had
in its buffers when it died would be lost, and nobody could count it.
https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1

The queue here is the only buffer. A record stays in it until FluentD has said that it has it, and
is sent again when that is in doubt; what finds no room is dropped, and counted.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass

import msgpack
from prometheus_client import Counter, Gauge

QUEUE_BYTES_MAX = 16 * 1024 * 1024
"""Of text; about 50,000 records."""
BATCH_MAX = 500
DELIVERY_DEADLINE_SECONDS = 10.0
"""From the connection, or the first byte of a batch, to its last acknowledgement."""
CLOSE_DEADLINE_SECONDS = 2.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
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
DROPPED_ON_THE_WAY = DROPPED.labels("fluentd")


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

    def deliver(self, lines: list[Line]) -> None:
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


def _messages(lines: list[Line]) -> dict[str, bytes]:
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


class FluentPipe:
    """A bounded queue, and the one thread that empties it into FluentD.

    Args:
        host: of FluentD.
        port: of its forward input.
        queue_bytes_max: how much text may wait; what comes on top is dropped and counted.
        deadline_seconds: how long a delivery may take; then it is begun again.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        deadline_seconds: float = DELIVERY_DEADLINE_SECONDS,
    ) -> None:
        self._address = (host, port)
        self._queue_bytes_max = queue_bytes_max
        self._deadline_seconds = deadline_seconds
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._waiting: deque[Line] = deque()
        self._in_flight: list[Line] = []
        self._bytes = 0
        self._together = BATCH_MAX
        self._gives_up_at = float("inf")
        self._connection: _Connection | None = None
        WAITING.set_function(lambda: self._bytes)
        # A daemon, because a delivery that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._deliver_all, name="fluentd", daemon=True)
        self._thread.start()

    def put(self, line: Line) -> None:
        """Put a record in line, or count it as dropped; returns at once."""
        size = len(line.text)
        with self._changed:
            if self._bytes + size > self._queue_bytes_max or self._closing.is_set():
                DROPPED_ON_THE_WAY.inc()
                return
            self._bytes += size
            if not self._waiting:
                self._changed.notify()
            self._waiting.append(line)

    def close(self) -> None:
        """Deliver what waits, within a deadline, and count what was not confirmed."""
        with self._changed:
            self._gives_up_at = time.monotonic() + CLOSE_DEADLINE_SECONDS / 2
            self._closing.set()
            self._changed.notify()
        self._thread.join(CLOSE_DEADLINE_SECONDS)
        with self._changed:
            DROPPED_ON_THE_WAY.inc(len(self._waiting) + len(self._in_flight))
            self._waiting.clear()
            self._in_flight = []
            self._bytes = 0

    def _deliver_all(self) -> None:
        failures = 0
        while self._take():
            try:
                self._deliver()
            except (OSError, DeafError):
                self._hang_up()
                failures += 1
                # A receiver that is too slow for so many gets fewer, and makes progress.
                self._together = max(1, self._together // 2)
                self._pause(failures)
            else:
                failures = 0
                self._together = min(BATCH_MAX, self._together + self._together // 10 + 1)
        self._hang_up()

    def _take(self) -> bool:
        """Wait for records to deliver; False when there will be none, or no time for them."""
        with self._changed:
            if not self._in_flight:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                count = min(len(self._waiting), BATCH_MAX)
                self._in_flight = [self._waiting.popleft() for _ in range(count)]
            return bool(self._in_flight) and time.monotonic() < self._gives_up_at

    def _deliver(self) -> None:
        if self._connection is None:
            self._connection = _Connection(*self._address, self._deadline_seconds)
        lines = self._in_flight[: self._together]
        self._connection.deliver(lines)
        with self._changed:
            # close() may have counted them as dropped in the meantime.
            if self._in_flight:
                SENT.inc(len(lines))
                self._in_flight = self._in_flight[len(lines) :]
                self._bytes -= sum(len(line.text) for line in lines)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _pause(self, failures: int) -> None:
        """Rest after a failure, longer each time; at the end there is no time for that."""
        longest = min(FIRST_PAUSE_SECONDS * 2 ** min(failures, 10), LONGEST_PAUSE_SECONDS)
        rest = longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
        if self._closing.wait(rest):
            time.sleep(FIRST_PAUSE_SECONDS)
