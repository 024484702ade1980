"""Log records on their way to FluentD, which may be slow, dead or deaf: nobody ever waits for it.

fluent-logger keeps what it could not send in a buffer of its own, which leaves only with a later
record and is thrown away as a whole when it is full. So that every record is either sent or
counted, the queue here is the only buffer, and a record stays in it until it has been sent.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import deque
from dataclasses import dataclass

from fluent.sender import EventTime, FluentSender
from prometheus_client import Counter

QUEUE_MAX = 10_000
SEND_DEADLINE_SECONDS = 1.0
CLOSE_DEADLINE_SECONDS = 2.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

NOT_IN_A_TAG = re.compile(r"[^A-Za-z0-9_+-]+", re.ASCII)

DROPPED = Counter(
    "orderly_log_records_dropped_total",
    "Log records that could not be sent to FluentD.",
)


# msgpack has no longer ones than 64 bits.
INTEGER_DIGITS_MAX = 18


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= INTEGER_DIGITS_MAX else digits


@dataclass(frozen=True, slots=True)
class Line:
    """A log record: its event, its time in seconds since 1970, and its JSON text."""

    event: str
    created: float
    text: str


class FluentPipe:
    """A bounded queue, and the one thread that empties it into FluentD.

    Args:
        service: second part of the tag, `orderly.<service>.<event>`.
        host: of FluentD.
        port: of its forward input.
        queue_max: how many records may wait; what comes on top is dropped and counted.
    """

    def __init__(self, service: str, host: str, port: int, queue_max: int = QUEUE_MAX) -> None:
        self._waiting: deque[Line] = deque()
        self._queue_max = queue_max
        self._arrived = threading.Event()
        self._closing = threading.Event()
        self._sender = FluentSender(
            f"orderly.{NOT_IN_A_TAG.sub('_', service)}",
            host=host,
            port=port,
            timeout=SEND_DEADLINE_SECONDS,
            nanosecond_precision=True,
            # A record may hold half a surrogate pair, which UTF-8 cannot.
            msgpack_kwargs={"unicode_errors": "backslashreplace"},
        )
        # A daemon, because a send that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._send_until_closed, name="fluentd", daemon=True)
        self._thread.start()

    def put(self, line: Line) -> None:
        """Put a record in line, or count it as dropped; returns at once."""
        if len(self._waiting) >= self._queue_max:
            DROPPED.inc()
            return
        self._waiting.append(line)
        self._arrived.set()

    def close(self) -> None:
        """Send what waits, within a deadline, and count what could not be sent."""
        self._closing.set()
        self._arrived.set()
        self._thread.join(CLOSE_DEADLINE_SECONDS)
        DROPPED.inc(len(self._waiting))
        self._waiting.clear()

    def _send_until_closed(self) -> None:
        gives_up_at = float("inf")
        failures = 0
        while time.monotonic() < gives_up_at:
            if self._closing.is_set():
                gives_up_at = min(gives_up_at, time.monotonic() + CLOSE_DEADLINE_SECONDS / 2)
            if not self._waiting:
                if self._closing.is_set():
                    break
                self._rest()
            elif self._send(self._waiting[0]):
                # close() may have given up on it in the meantime.
                self._drop_first()
                failures = 0
            else:
                failures += 1
                self._pause(failures)
        self._sender.close()

    def _send(self, line: Line) -> bool:
        """Whether the record has been handed to the network."""
        sent: bool = self._sender.emit_with_time(
            NOT_IN_A_TAG.sub("_", line.event),
            EventTime.from_unix_nano(int(line.created * 1_000_000_000)),
            json.loads(line.text, parse_int=_integer),
        )
        if not sent:
            self._sender.pendings = None
        return sent

    def _drop_first(self) -> None:
        if self._waiting:
            self._waiting.popleft()

    def _rest(self) -> None:
        self._arrived.wait()
        self._arrived.clear()

    def _pause(self, failures: int) -> None:
        """Rest after a failure, longer each time; at the end there is no time for that."""
        longest = min(FIRST_PAUSE_SECONDS * 2 ** min(failures, 10), LONGEST_PAUSE_SECONDS)
        self._closing.wait(longest * random.uniform(0.5, 1.0))  # noqa: S311 - jitter is no secret
        if self._closing.is_set():
            time.sleep(FIRST_PAUSE_SECONDS)
