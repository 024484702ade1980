"""The log for a rebuild, read ahead of who applies it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg import Connection

from codebase.engine.projections.logged_events import LoggedEvent, read_events
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.operations.rebuild.errors import RebuildError

CHUNK = 5_000
"""Events per statement; the next chunk is read while one is applied."""
CHUNKS_AHEAD = 2


class ReadAhead:
    """The log from `after` to `until` in chunks, read by a thread ahead of who applies them."""

    def __init__(
        self,
        settings: Settings,
        categories: frozenset[str],
        partition: int,
        *,
        after: int,
        until: int,
    ) -> None:
        self._settings = settings
        self._categories = categories
        self._partition = partition
        self._position = after
        self._until = until
        self._chunks: queue.Queue[list[LoggedEvent] | BaseException] = queue.Queue(CHUNKS_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rebuild reader", daemon=True)

    @contextmanager
    def chunks(self) -> Iterator[Iterator[list[LoggedEvent]]]:
        """The chunks in order; an error of the reading thread is raised where they are taken."""
        expected = self._until - self._position
        if expected > 0:
            self._thread.start()
        try:
            yield self._take(expected)
        finally:
            self._stop.set()
            if expected > 0:
                self._thread.join()

    def _take(self, expected: int) -> Iterator[list[LoggedEvent]]:
        while expected > 0:
            chunk = self._chunks.get()
            if isinstance(chunk, BaseException):
                raise chunk
            expected -= len(chunk)
            yield chunk

    def _run(self) -> None:
        try:
            with connect(self._settings.required("write_model_reader_url"), "rebuild") as log:
                while self._position < self._until and not self._stop.is_set():
                    self._put(self._read(log))
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits for chunks
            self._put(error)

    def _read(self, log: Connection[Any]) -> list[LoggedEvent]:
        events = read_events(
            log,
            self._partition,
            after=self._position,
            limit=CHUNK,
            until=self._until,
            categories=self._categories,
        )
        if not events:
            raise RebuildError(f"the log ends at {self._partition}:{self._position}")
        self._position = events[-1].position
        return events

    def _put(self, item: list[LoggedEvent] | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._chunks.put(item, timeout=0.1)
            except queue.Full:
                continue
            return
