"""`orderly log`: print events of the log, and follow it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from codebase.engine.log.events import RecordedEvent
from codebase.engine.log.reading import read_heads, read_log
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.operations import OperationError

READ_STREAM = """
    SELECT partition, position, stream_id, category, version, type, idempotence_key, data, meta,
           recorded_at
    FROM event
    WHERE stream_id = %(stream_id)s
    ORDER BY version
"""

LAST_EVENTS = 10
CHUNK = 500


class NoSuchStreamError(OperationError):
    """The log has no stream of this id."""


def show(
    settings: Settings, stream_id: UUID | None = None, *, last: int = LAST_EVENTS
) -> list[RecordedEvent]:
    """One stream, or the end of the log.

    Args:
        settings: needs the write model's reader.
        stream_id: the whole of this stream.
        last: how many events of each partition, when no stream is named.

    Raises:
        NoSuchStreamError: the log has nothing of it.
    """
    with _reading(settings) as log:
        if stream_id is None:
            return [event for events in _news(log, _before_the_end(log, last)) for event in events]
        events = _read_stream(log, stream_id)
    if not events:
        raise NoSuchStreamError(f"there is no stream {stream_id}")
    return events


def follow(
    settings: Settings,
    stream_id: UUID | None = None,
    *,
    last: int = LAST_EVENTS,
    stop: threading.Event | None = None,
) -> Iterator[RecordedEvent]:
    """What `show` shows, and what is appended from then on.

    Args:
        settings: needs the write model's reader.
        stream_id: only this stream, which need not be there yet.
        last: how many events of each partition to begin with, when no stream is named.
        stop: ends it; None: it goes on for good.
    """
    stop = stop or threading.Event()
    with _reading(settings) as log:
        reached = _before_the_end(log, 0 if stream_id else last)
        if stream_id is not None:
            yield from _read_stream(log, stream_id)
        while not stop.is_set():
            found = False
            for events in _news(log, reached):
                found = True
                yield from (event for event in events if stream_id in {None, event.stream_id})
            if not found:
                stop.wait(settings.idle_poll_seconds)


def _reading(settings: Settings) -> AbstractContextManager[Connection[Any]]:
    return connect(settings.required("write_model_reader_url"), "log")


def _before_the_end(log: Connection[Any], last: int) -> dict[int, int]:
    """Partition -> the position after which its `last` events come."""
    return {partition: max(0, head - last) for partition, head in read_heads(log).items()}


def _news(log: Connection[Any], reached: dict[int, int]) -> Iterator[list[RecordedEvent]]:
    """The next events of each partition that has any; `reached` goes on with them."""
    for partition, position in reached.items():
        events = read_log(log, partition, after=position, limit=CHUNK)
        if events:
            reached[partition] = events[-1].position
            yield events


def _read_stream(log: Connection[Any], stream_id: UUID) -> list[RecordedEvent]:
    with log.cursor(row_factory=class_row(RecordedEvent)) as cursor:
        return cursor.execute(READ_STREAM, {"stream_id": stream_id}).fetchall()


def record_of(event: RecordedEvent) -> dict[str, object]:
    """One event as JSON objects hold it."""
    return {
        "partition": event.partition,
        "position": event.position,
        "recorded_at": event.recorded_at,
        "category": event.category,
        "stream_id": event.stream_id,
        "version": event.version,
        "type": event.type,
        "data": event.data,
    }


def cells_of(event: RecordedEvent) -> dict[str, object]:
    """One event as a row of a table: column -> text."""
    return {
        "stream": event.stream_id,
        "version": event.version,
        "position": f"{event.partition}:{event.position}",
        "at": f"{event.recorded_at:%Y-%m-%d %H:%M:%S%z}",
        "type": event.type,
        "data": _data_of(event),
    }


def line_of(event: RecordedEvent) -> str:
    """One event as one line: place, time, stream and version, type, data."""
    return (
        f"{event.partition}:{event.position} {event.recorded_at.isoformat()} "
        f"{event.category} {event.stream_id} v{event.version} {event.type} {_data_of(event)}"
    )


def _data_of(event: RecordedEvent) -> str:
    return json.dumps(event.data, ensure_ascii=False, sort_keys=True)
