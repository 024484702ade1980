"""Logs: one JSON object per line on stdout, and to FluentD when one is configured.

Nothing here ever waits for FluentD: records go into a bounded queue that one thread empties, and what
does not fit is counted. fluent-logger's own buffer is kept small, because past its limit it throws
everything away at once.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

from fluent.sender import FluentSender
from prometheus_client import Counter

from codebase.infra.settings import Settings

QUEUE_MAX = 10_000
BUFFER_BYTES = 1_048_576
SEND_DEADLINE_SECONDS = 1.0
CLOSE_DEADLINE_SECONDS = 2.0
PAUSE_AFTER_FAILURE_SECONDS = 1.0

DROPPED = Counter(
    "orderly_log_records_dropped_total",
    "Log records that could not be sent to FluentD.",
)

LOGGER = logging.getLogger("orderly")


def info(event: str, **fields: object) -> None:
    """Say that something happened, named `event`, with what is worth knowing about it."""
    _log(logging.INFO, event, fields)


def warning(event: str, **fields: object) -> None:
    """Say that something is not as it should be, though it was dealt with."""
    _log(logging.WARNING, event, fields)


def error(event: str, *, error: BaseException | None = None, **fields: object) -> None:
    """Say that something failed; the stack of `error` goes into the record, its values do not."""
    if error is not None:
        fields["error"] = type(error).__name__
        fields["stack"] = [
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ]
    _log(logging.ERROR, event, fields)


def _log(level: int, event: str, fields: dict[str, object]) -> None:
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, event, extra={"fields": fields})


def record_of(record: logging.LogRecord, service: str) -> dict[str, Any]:
    """What is logged: our own events with their fields, others' with their text."""
    found = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
        "level": record.levelname,
        "service": service,
        "event": record.getMessage() if record.name == LOGGER.name else record.name,
    }
    if record.name != LOGGER.name:
        found["message"] = record.getMessage()
    return found | getattr(record, "fields", {})


class JsonLines(logging.Handler):
    """One JSON object per line."""

    def __init__(self, service: str, stream: TextIO) -> None:
        super().__init__()
        self._service = service
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        line = json.dumps(record_of(record, self._service), default=str)
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            # Whoever read our output is gone; there is nobody left to tell.
            DROPPED.inc()


class FluentHandler(logging.Handler):
    """Sends records to FluentD with tag `orderly.<service>.<event>`, from a thread of its own.

    Args:
        service: whose records.
        host: of FluentD.
        port: of its forward input.
    """

    def __init__(self, service: str, host: str, port: int) -> None:
        super().__init__()
        self._service = service
        self._waiting: queue.Queue[tuple[str, float, dict[str, Any]]] = queue.Queue(QUEUE_MAX)
        self._closing = threading.Event()
        self._sender = FluentSender(
            "orderly",
            host=host,
            port=port,
            timeout=SEND_DEADLINE_SECONDS,
            bufmax=BUFFER_BYTES,
            nanosecond_precision=True,
            buffer_overflow_handler=lambda _: DROPPED.inc(),
        )
        self._thread = threading.Thread(target=self._send_for_ever, name="fluentd", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Put one record in line; never waits."""
        found = record_of(record, self._service)
        found = json.loads(json.dumps(found, default=str))
        try:
            self._waiting.put_nowait((f"{self._service}.{found['event']}", record.created, found))
        except queue.Full:
            DROPPED.inc()

    def close(self) -> None:
        """Send what is waiting, within a deadline."""
        self._closing.set()
        self._thread.join(CLOSE_DEADLINE_SECONDS)
        super().close()

    def _send_for_ever(self) -> None:
        while not (self._closing.is_set() and self._waiting.empty()):
            try:
                label, created, found = self._waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            # The event time carries nanoseconds only when it is handed over as an integer pair.
            if not self._sender.emit_with_time(label, created, found):
                self._note_failure()

    def _note_failure(self) -> None:
        """fluent-logger keeps what it could not send, up to its buffer, and tries again later."""
        self._sender.clear_last_error()
        if self._closing.is_set():
            DROPPED.inc(self._waiting.qsize())
            with self._waiting.mutex:
                self._waiting.queue.clear()
        else:
            self._closing.wait(PAUSE_AFTER_FAILURE_SECONDS)


@contextmanager
def configured(settings: Settings, *, service: str, stream: TextIO = sys.stdout) -> Iterator[None]:
    """Logging as the settings want it, for as long as the `with` lasts."""
    root = logging.getLogger()
    handlers: list[logging.Handler] = [JsonLines(service, stream)]
    if settings.logging_host:
        handlers.append(FluentHandler(service, settings.logging_host, settings.logging_port))
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    LOGGER.setLevel(settings.log_level)
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


