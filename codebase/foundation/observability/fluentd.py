"""Log records on their way to FluentD, which may be slow, dead or deaf: nobody ever waits for it.

fluent-logger speaks the Forward protocol; the acknowledgements that version 1 of it knows are added
here: without them, what a receiver had in its buffers when it died would be lost, and nobody could
count it.
https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1

A record stays in the pipe until FluentD has said that it has it, and is sent again when that is in
doubt; what finds no room is dropped, and counted.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgpack
from fluent.sender import EventTime, FluentSender
from prometheus_client import Counter, Gauge

from codebase.foundation.observability.pipe import Pipe, UndeliveredError

QUEUE_BYTES_MAX = 16 * 1024 * 1024
"""Of text; about 50,000 records."""
DELIVERY_DEADLINE_SECONDS = 10.0
"""From the connection, or the first byte of a batch, to its last acknowledgement."""
RECEIVE_BYTES = 4096

NOT_IN_A_TAG = re.compile(r"[^A-Za-z0-9_+-]+", re.ASCII)
ARRAY_OF_FOUR = b"\x94"
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

    def record(self) -> object:
        """What the JSON text says."""
        return json.loads(self.text, parse_int=_integer)


class DeafError(OSError):
    """The other end does not speak the Forward protocol, or has hung up."""


class AcknowledgedSender(FluentSender):  # type: ignore[misc]  # fluent-logger is not typed
    """fluent-logger's connection, which also asks FluentD to confirm each record.

    By itself fluent-logger counts as sent what the operating system has taken, and throws away
    what comes back. This reaches into it at two places: what a message holds, and what is done with
    an answer. `test_answers_are_taken_in_between` fails when they are no longer there.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            "",
            host=host,
            port=port,
            nanosecond_precision=True,
            # A record may hold half a surrogate pair, which UTF-8 cannot.
            msgpack_kwargs={"unicode_errors": "backslashreplace"},
        )
        self._unconfirmed: set[str] = set()
        self._answers = msgpack.Unpacker(max_buffer_size=2 * RECEIVE_BYTES)

    def deliver(self, lines: Iterable[Line], deadline_seconds: float) -> None:
        """Send records and wait until FluentD has them.

        Raises:
            OSError: whether they arrived is not known; the sender is of no more use.
        """
        ends_at = time.monotonic() + deadline_seconds
        for line in lines:
            self.timeout = _left_until(ends_at)
            moment = EventTime.from_unix_nano(line.nanoseconds)
            if not self.emit_with_time(line.tag, moment, line.record()):
                # What it could not send it would send again with the next record, unasked.
                self.pendings = None
                raise self.last_error or DeafError
        while self._unconfirmed:
            self.socket.settimeout(_left_until(ends_at))
            self._confirm(self.socket.recv(RECEIVE_BYTES))

    def _make_packet(self, label: str, timestamp: EventTime, data: object) -> bytes:
        """A message of three parts gets a fourth, the name that FluentD confirms it with."""
        three: bytes = super()._make_packet(label, timestamp, data)
        name = os.urandom(16).hex()
        self._unconfirmed.add(name)
        option: bytes = msgpack.packb({"chunk": name})
        return ARRAY_OF_FOUR + three[1:] + option

    def _check_recv_side(self) -> None:
        """Take the answers that are there."""
        self.socket.settimeout(0)
        try:
            self._confirm(self.socket.recv(RECEIVE_BYTES))
        except BlockingIOError:
            pass
        finally:
            self.socket.settimeout(self.timeout)

    def _confirm(self, received: bytes) -> None:
        if not received:
            raise DeafError
        try:
            self._answers.feed(received)
            self._unconfirmed -= {str(answer["ack"]) for answer in self._answers}
        except (msgpack.UnpackException, ValueError, LookupError, TypeError) as error:
            raise DeafError from error


def _left_until(ends_at: float) -> float:
    """Seconds; never zero, which would mean not to wait at all."""
    return max(0.001, ends_at - time.monotonic())


class Forwarder:
    """Delivers records to FluentD; a connection is kept until something goes wrong with it."""

    def __init__(self, host: str, port: int, deadline_seconds: float) -> None:
        self._address = (host, port)
        self._deadline_seconds = deadline_seconds
        self._sender: AcknowledgedSender | None = None

    def deliver(self, lines: Sequence[Line]) -> None:
        """Send records and wait until FluentD has them.

        Raises:
            UndeliveredError: whether they arrived is not known.
        """
        self._sender = self._sender or AcknowledgedSender(*self._address)
        try:
            self._sender.deliver(lines, self._deadline_seconds)
        except OSError as error:
            self.hang_up()
            raise UndeliveredError from error

    def hang_up(self) -> None:
        """End the connection; the next delivery makes another one."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None


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
