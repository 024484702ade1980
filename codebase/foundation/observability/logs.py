"""Logs: one JSON object per line on stdout, and to FluentD when one is configured.

    logs.info("price_held_back", currency="USD", sources=["kraken"])

A process may run several services. What is said inside `with bound(service=...)`, and in every task
and worker that is started there, is said by that service.

structlog takes each record through the same few functions until it is a line; what others tell the
standard library's `logging` goes the same way.
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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog
from structlog.contextvars import bind_contextvars, merge_contextvars, reset_contextvars
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from codebase.foundation.observability.fluentd import DROPPED, Line, fluent_pipe
from codebase.foundation.observability.pipe import Pipe
from codebase.foundation.settings import Settings

# The last one is spoken to: what `configured` wants, or else structlog's own, from WARNING on.
LOGGERS: list[FilteringBoundLogger] = [
    structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger("WARNING"))
]
# These are logged from LOG_LEVEL on, as ours are; what libraries say from WARNING on.
OWN_MODULES = "codebase"

TEXT_MAX = 2_000
STACK_MAX = 30
CAUSES_MAX = 4
NANOSECONDS = 1_000_000_000
DROPPED_AT_STDOUT = DROPPED.labels("stdout")
PASSWORD_IN_URL = re.compile(r"(://[^:/@\s\"]*:)[^@/\s\"]+(?=@)")


def info(event: str, **fields: object) -> None:
    """Say that something happened, named `event`, with what is worth knowing about it."""
    LOGGERS[-1].info(event, **fields)


def warning(event: str, **fields: object) -> None:
    """Say that something is not as it should be, though it was dealt with."""
    LOGGERS[-1].warning(event, **fields)


def error(event: str, *, error: BaseException | None = None, **fields: object) -> None:
    """Say that something failed; the type and stack of `error` are logged, its text is not."""
    LOGGERS[-1].error(event, exc_info=error, **fields)


@contextmanager
def bound(**fields: str | None) -> Iterator[None]:
    """Have `fields`, but for None, in all that is logged inside; `service` names who says it."""
    known = {name: value for name, value in fields.items() if value is not None}
    tokens = bind_contextvars(**known)
    try:
        yield
    finally:
        reset_contextvars(**tokens)


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
        output = Output(stream or sys.stdout)
        renderer = Renderer(service, fluentd)
        processors: list[Processor] = [merge_contextvars, _with_errors, renderer]
        stack.enter_context(_spoken_to(_logger(output, processors, settings.log_level)))
        stack.enter_context(_heard(FromLogging(output, processors), settings.log_level))
        yield


class Output:
    """Writes lines, and counts those that it cannot write.

    Args:
        stream: where they go.
    """

    def __init__(self, stream: TextIO) -> None:
        self._lines = structlog.WriteLogger(stream)

    def write(self, line: str) -> None:
        """Write a line at once."""
        try:
            self._lines.msg(line)
        except (OSError, ValueError):
            # Whoever read our output is gone; there is nobody left to tell.
            DROPPED_AT_STDOUT.inc()

    info = warning = error = write
    """structlog calls the one that is named as the level is."""


class FromLogging(logging.Handler):
    """Takes records of the standard library's `logging` the way that ours take.

    structlog's ProcessorFormatter does so as well, and makes a copy of each record for it.

    Args:
        output: where they go.
        processors: what makes lines of them.
    """

    def __init__(self, output: Output, processors: Sequence[Processor]) -> None:
        super().__init__()
        self._output = output
        self._processors = processors

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        said: Any = _like_ours(record)
        for process in self._processors:
            said = process(None, record.levelname, said)
        self._output.write(said)


def _like_ours(record: logging.LogRecord) -> EventDict:
    """Others have no events: the module that says something takes the place of one."""
    return {
        "event": record.name.rpartition(".")[2],
        "message": record.getMessage()[:TEXT_MAX],
        "exc_info": record.exc_info and record.exc_info[1],
        "_nanoseconds": int(record.created * NANOSECONDS),
    }


def _logger(output: Output, processors: Sequence[Processor], level: str) -> FilteringBoundLogger:
    filtering = structlog.make_filtering_bound_logger(level)
    lazy = structlog.wrap_logger(output, processors, filtering)
    # Else it would be made anew for each record.
    logger: FilteringBoundLogger = lazy.bind()
    return logger


@contextmanager
def _spoken_to(logger: FilteringBoundLogger) -> Iterator[None]:
    LOGGERS.append(logger)
    try:
        yield
    finally:
        LOGGERS.pop()


@contextmanager
def _heard(handler: logging.Handler, level: str) -> Iterator[None]:
    """The handler gets what all loggers say; ours from this level on."""
    ours = logging.getLogger(OWN_MODULES)
    level_before = ours.level
    ours.setLevel(level)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        ours.setLevel(level_before)


def _with_errors(_logger: object, _level: str, said: EventDict) -> EventDict:
    """What went wrong, in the place of the exception itself."""
    if (error := said.pop("exc_info", None)) is not None:
        said["errors"] = list(_errors(error))
    return said


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


class Renderer:
    """Makes a line of JSON of a record, and hands it to FluentD if there is one.

    Args:
        service: named in every line of which no other service is known.
        fluentd: where lines go besides.
    """

    def __init__(self, service: str, fluentd: Pipe[Line] | None) -> None:
        self._service = service
        self._fluentd = fluentd

    def __call__(self, _logger: object, level: str, said: EventDict) -> str:
        """The line, with what every record has in front."""
        nanoseconds: int = said.pop("_nanoseconds", None) or time.time_ns()
        always = {
            "time": _moment(nanoseconds),
            "level": level.upper(),
            "service": str(said.get("service", self._service)),
            "event": said["event"],
        }
        text = PASSWORD_IN_URL.sub(r"\1***", _to_json({**always, **said, **always}))
        if self._fluentd is not None:
            self._fluentd.put(Line(always["service"], always["event"], nanoseconds, text))
        return text


def _moment(nanoseconds: int) -> str:
    """ISO 8601, to the microsecond."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="microseconds")


def _as_text(value: object) -> str:
    return str(value)[:TEXT_MAX]


# json.dumps would make an encoder for each record.
_to_json = json.JSONEncoder(default=_as_text).encode
