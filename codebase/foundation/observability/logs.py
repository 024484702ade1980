"""Logs: one JSON object per line on stdout, and to FluentD when one is configured.

    logs.info("price_held_back", currency="USD", sources=["kraken"])

A process may run several services. What is said inside `with bound(service=...)`, and in every task
and worker that is started there, is said by that service.

The standard library's `logging` is underneath: what others tell it comes out in the same form.
Of an error the type and the stack are logged, never its text: the text of a database's or a
validator's error repeats what clients sent.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from codebase.foundation.observability.fluentd import DROPPED, Line, fluent_pipe
from codebase.foundation.observability.pipe import Pipe
from codebase.foundation.settings import Settings

LOGGER = logging.getLogger("orderly")
# Ours are logged from LOG_LEVEL on, what libraries say from WARNING on.
OWN_LOGGERS = ("orderly", "codebase")

TEXT_MAX = 2_000
STACK_MAX = 30
CAUSES_MAX = 4
NANOSECONDS = 1_000_000_000
DROPPED_AT_STDOUT = DROPPED.labels("stdout")
BOUND: ContextVar[Mapping[str, str]] = ContextVar("bound to log records", default={})  # noqa: B039 - never changed
PASSWORD_IN_URL = re.compile(r"(://[^:/@\s\"]*:)[^@/\s\"]+(?=@)")


def info(event: str, **fields: object) -> None:
    """Say that something happened, named `event`, with what is worth knowing about it."""
    _log(logging.INFO, event, fields)


def warning(event: str, **fields: object) -> None:
    """Say that something is not as it should be, though it was dealt with."""
    _log(logging.WARNING, event, fields)


def error(event: str, *, error: BaseException | None = None, **fields: object) -> None:
    """Say that something failed; the type and stack of `error` are logged, its text is not."""
    _log(logging.ERROR, event, fields, error)


@contextmanager
def bound(**fields: str | None) -> Iterator[None]:
    """Have `fields`, but for None, in all that is logged inside; `service` names who says it."""
    known = {name: value for name, value in fields.items() if value is not None}
    token = BOUND.set({**BOUND.get(), **known})
    try:
        yield
    finally:
        BOUND.reset(token)


def _log(
    level: int, event: str, fields: dict[str, object], error: BaseException | None = None
) -> None:
    if LOGGER.isEnabledFor(level):
        said = {"fields": fields, "nanoseconds": time.time_ns()}
        LOGGER.log(level, event, exc_info=error, extra=said)


def _nanoseconds(record: logging.LogRecord) -> int:
    """When it was said; of what libraries say only the microsecond is known."""
    known: int = getattr(record, "nanoseconds", 0)
    return known or int(record.created * NANOSECONDS)


def _members(record: logging.LogRecord, process: str) -> dict[str, object]:
    """What is logged of a record: our own with their fields, others' with their text."""
    seconds, nanoseconds = divmod(_nanoseconds(record), NANOSECONDS)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)
    about: dict[str, object] = {**BOUND.get()}
    always: dict[str, object] = {
        "time": moment.isoformat(timespec="microseconds"),
        "level": record.levelname,
        "service": about.get("service", process),
        "event": _event(record),
    }
    members = always | about | getattr(record, "fields", {}) | always
    if record.name != LOGGER.name:
        members["message"] = record.getMessage()[:TEXT_MAX]
    if record.exc_info and record.exc_info[1] is not None:
        members["errors"] = list(_errors(record.exc_info[1]))
    return members


def _event(record: logging.LogRecord) -> str:
    if record.name == LOGGER.name:
        return str(record.msg)
    return record.name.rpartition(".")[2]


def _errors(error: BaseException | None) -> Iterator[dict[str, object]]:
    """An error and what caused it, outermost first."""
    for _ in range(CAUSES_MAX):
        if error is None:
            return
        frames = traceback.extract_tb(error.__traceback__)[-STACK_MAX:]
        yield {
            "type": f"{type(error).__module__}.{type(error).__qualname__}",
            # The one thing about a database's error that is both telling and harmless.
            **({"sqlstate": state} if (state := getattr(error, "sqlstate", None)) else {}),
            "stack": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        }
        error = error.__cause__ or error.__context__


class JsonLines(logging.Handler):
    """Writes each record as one line of JSON, and hands it to FluentD if there is one.

    Args:
        service: named in every line of which no other service is known.
        stream: where the lines go.
        fluentd: where they go as well.
    """

    def __init__(self, service: str, stream: TextIO, fluentd: Pipe[Line] | None) -> None:
        super().__init__()
        self._service = service
        self._stream = stream
        self._fluentd = fluentd

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        members = _members(record, self._service)
        text = PASSWORD_IN_URL.sub(r"\1***", json.dumps(members, default=_as_text))
        try:
            self._stream.write(f"{text}\n")
            self._stream.flush()
        except (OSError, ValueError):
            # Whoever read our output is gone; there is nobody left to tell.
            DROPPED_AT_STDOUT.inc()
        if self._fluentd is not None:
            said_by, event = str(members["service"]), str(members["event"])
            self._fluentd.put(Line(said_by, event, _nanoseconds(record), text))


def _as_text(value: object) -> str:
    return str(value)[:TEXT_MAX]


@contextmanager
def configured(settings: Settings, *, service: str, stream: TextIO | None = None) -> Iterator[None]:
    """Logging as the settings want it, for as long as the `with` lasts.

    Args:
        settings: the level, and FluentD's address if there is one.
        service: named in every line of which no other service is known.
        stream: where lines go; stdout by default.
    """
    with ExitStack() as stack:
        fluentd = None
        if settings.logging_host:
            fluentd = fluent_pipe(settings.logging_host, settings.logging_port)
            stack.callback(fluentd.close)
        handler = JsonLines(service, stream or sys.stdout, fluentd)
        logging.getLogger().addHandler(handler)
        stack.callback(logging.getLogger().removeHandler, handler)
        for name in OWN_LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(settings.log_level)
        yield
