"""`orderly log`: print events of the log, and follow it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from codebase.engine.log.event_log import RecordedEvent, read_heads, read_log
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings

READ_STREAM = """
    SELECT partition, position, stream_id, category, version, type, idempotence_key, data, meta,
           recorded_at
    FROM event
    WHERE stream_id = %(stream_id)s
    ORDER BY version
"""

LAST_EVENTS = 10
CHUNK = 500

Say = Callable[[str], None]


def tail(
    settings: Settings,
    *,
    follow: bool = True,
    stream_id: UUID | None = None,
    last: int = LAST_EVENTS,
    say: Say = print,
    stop: threading.Event | None = None,
) -> None:
    """Print the end of the log, or one stream, and what is appended from then on.

    Args:
        settings: needs the write model's reader.
        follow: go on until stopped.
        stream_id: print the whole of this stream, and follow only this one.
        last: how many events of each partition to begin with, when no stream is named.
        say: told one line per event.
        stop: ends the following; None: only Ctrl-C does.
    """
    stop = stop or threading.Event()
    with connect(settings.required("write_model_reader_url"), "log") as log:
        reached = read_heads(log)
        if stream_id is None:
            reached = {part: max(0, position - last) for part, position in reached.items()}
        else:
            _say_all(_read_stream(log, stream_id), say)
        while not stop.is_set():
            found = False
            for partition, position in reached.items():
                events = read_log(log, partition, after=position, limit=CHUNK)
                if events:
                    found = True
                    reached[partition] = events[-1].position
                    wanted = (e for e in events if stream_id in {None, e.stream_id})
                    _say_all(wanted, say)
            if not found:
                if not follow:
                    return
                stop.wait(settings.idle_poll_seconds)


def _read_stream(log: Connection[Any], stream_id: UUID) -> list[RecordedEvent]:
    with log.cursor(row_factory=class_row(RecordedEvent)) as cursor:
        return cursor.execute(READ_STREAM, {"stream_id": stream_id}).fetchall()


def _say_all(events: Iterable[RecordedEvent], say: Say) -> None:
    for event in events:
        say(line_of(event))


def line_of(event: RecordedEvent) -> str:
    """One event as one line: place, time, stream and version, type, data."""
    data = json.dumps(event.data, ensure_ascii=False, sort_keys=True)
    return (
        f"{event.partition}:{event.position} {event.recorded_at.isoformat()} "
        f"{event.category} {event.stream_id} v{event.version} {event.type} {data}"
    )
