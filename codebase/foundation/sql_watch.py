"""Deadlines for what worker threads ask of Postgres.

A server that is stopped, or a network that swallows everything, leaves a thread in the middle of a
statement, where neither the server's own deadline nor a stop can reach it.
"""

from __future__ import annotations

import threading
import time
from typing import Any, TypeVar

import psycopg
from psycopg import Connection
from psycopg.abc import PQGen

ANSWER_DEADLINE_SECONDS = 35.0
"""A server that lives ends a statement after 30 s by itself, and that is the better way."""
LAST_WAIT_SECONDS = 1.0
"""How old a statement may become once the worker is asked to stop. What it was doing is in doubt
then, as after a crash, and is found out by the next worker."""
MARGIN_SECONDS = 1.0

Answer = TypeVar("Answer")


class SqlWatch:
    """Knows since when one worker waits for Postgres, and ends waits that have no end.

    Args:
        late_seconds: when a wait is so long that readiness should tell.
        stop: makes the worker's waits short.
    """

    def __init__(self, late_seconds: float, stop: threading.Event) -> None:
        self._late_seconds = late_seconds + MARGIN_SECONDS
        self._stop = stop
        self._since: float | None = None

    def what_is_late(self) -> str | None:
        """What has been waited for too long, or None; called by other threads."""
        since = self._since
        if since is None or time.monotonic() - since <= self._late_seconds:
            return None
        return f"Postgres has not answered for {self._late_seconds:g} s"

    def over(self, connection: Connection[Any]) -> Connection[Any]:
        """The same connection, watched; its waits raise `psycopg.OperationalError` when they end.

        All that a connection does is waited for in its method `wait`.
        """
        wait = connection.wait

        def watched_wait(waiting: PQGen[Answer], *arguments: Any, **options: Any) -> Answer:  # noqa: ANN401 - psycopg's
            self._since = time.monotonic()
            try:
                return wait(self._bounded(waiting, connection), *arguments, **options)
            finally:
                self._since = None

        connection.wait = watched_wait  # type: ignore[method-assign, assignment]
        return connection

    def _bounded(self, waiting: PQGen[Answer], connection: Connection[Any]) -> PQGen[Answer]:
        """The same wait, with an end.

        psycopg sends what the socket is ready for: several times a second nothing, while the
        server is silent.
        """
        began = time.monotonic()
        try:
            wanted = next(waiting)
            while True:
                ready = yield wanted
                if not ready and self._is_over(time.monotonic() - began):
                    # Whatever is said now would be said to a server that does not listen.
                    connection.pgconn.finish()
                    raise psycopg.OperationalError("no answer in time")
                wanted = waiting.send(ready)
        except StopIteration as done:
            answer: Answer = done.value
            return answer

    def _is_over(self, seconds: float) -> bool:
        if self._stop.is_set():
            return seconds > LAST_WAIT_SECONDS
        return seconds > ANSWER_DEADLINE_SECONDS
