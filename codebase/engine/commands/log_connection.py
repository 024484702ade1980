"""The connection of whoever appends to the log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from psycopg import AsyncConnection

from codebase.engine.log.extent import Extent, read_extent
from codebase.foundation.postgres import DeadlinedConnection
from codebase.foundation.settings import Settings
from codebase.foundation.standing import Standing

# Acknowledged means durable, whatever the server is configured to do by default.
# What was answered 503 must not be written later: the server gives up before we do, and notices
# when nobody is there any more who would hear its answer.
OPTIONS = (
    "-c synchronous_commit=on -c lock_timeout={lock_ms} -c statement_timeout={statement_ms}"
    " -c client_connection_check_interval=1000"
)
LOCK_SHARE = 0.8
STATEMENT_SHARE = 0.9
"""Of our own deadline, the part after which the server gives up a lock, or a statement."""

ALLOW = "SELECT set_config('statement_timeout', %(milliseconds)s, false)"
FORBID = "RESET statement_timeout"

EXTRA_SECONDS = 0.0005
"""For each stream and event, see `LogConnection.do`."""

Answer = TypeVar("Answer")


class LogStanding:
    """What all who append know of the log: whether it answers, and whether it is written to.

    A log may answer whatever it is asked, and yet not take a single event. And which log it is, and
    how far it goes at least: another may be found where it was, or a shorter one, but not without a
    new connection.
    """

    def __init__(self) -> None:
        self.answering = Standing("write_model", "answer")
        self.writing = Standing("write_model", "append")
        self.extent = Extent()
        self.connections = 0
        """How many there have been."""
        self._ends: dict[int, int] = {}

    async def connected(self, connection: AsyncConnection[Any]) -> None:
        """A connection was made: what is there now may be another log."""
        self.connections += 1
        await self.learn(connection)

    async def learn(self, connection: AsyncConnection[Any]) -> None:
        """Look at the log."""
        known = Extent(self.extent.log_id, dict(self._ends))
        found = await read_extent(connection)
        if found.log_id == known.log_id and found.holds(known):
            # Others may have noted more meanwhile.
            self.note(found.positions)
        else:
            self._ends = dict(found.positions)
            self.extent = Extent(found.log_id, self._ends)

    def note(self, positions: Mapping[int, int]) -> None:
        """The log goes that far: somebody has just written, or read, what is there."""
        for partition, position in positions.items():
            if position > self._ends.get(partition, 0):
                self._ends[partition] = position


class LogConnection:
    """A connection to the write model, made when needed.

    Args:
        settings: the write model's address, and the deadline of an ordinary piece of work.
        standing: what is known of the log; others may share it.
    """

    def __init__(self, settings: Settings, standing: LogStanding) -> None:
        self._deadline_seconds = settings.database_deadline_seconds
        self._margin_seconds = self._deadline_seconds * (1 - STATEMENT_SHARE)
        milliseconds = self._deadline_seconds * 1000
        self._connection = DeadlinedConnection(
            settings.required("write_model_url"),
            "write_model",
            application="command_bus",
            deadline_seconds=self._deadline_seconds,
            options=OPTIONS.format(
                lock_ms=round(milliseconds * LOCK_SHARE),
                statement_ms=round(milliseconds * STATEMENT_SHARE),
            ),
            standing=standing.answering,
            prepare=standing.connected,
        )

    async def do(
        self,
        work: Callable[[AsyncConnection[Any]], Awaitable[Answer]],
        *,
        count: int = 0,
        standing: Standing | None = None,
    ) -> Answer:
        """What `work` comes to on the connection, which is in autocommit mode.

        Args:
            work: waits for Postgres.
            count: of streams or events that it is about: a command that takes a hundred thousand
                streams along needs its time.
            standing: of work that may be refused while everything else is done.

        Raises:
            ServiceUnavailable: as `DeadlinedConnection.in_time`.
        """
        connection = await self._connection.get()
        extra = EXTRA_SECONDS * count
        if extra < self._margin_seconds:
            return await self._connection.in_time(
                work(connection), extra_seconds=extra, standing=standing
            )
        allowed = {"milliseconds": str(round((self._deadline_seconds + extra) * 1000))}
        await self._connection.in_time(connection.execute(ALLOW, allowed))
        try:
            return await self._connection.in_time(
                work(connection), extra_seconds=extra + self._margin_seconds, standing=standing
            )
        finally:
            # Work that is refused leaves the connection as it is, for the next piece.
            if not connection.closed:
                await self._connection.in_time(connection.execute(FORBID))

    async def close(self) -> None:
        """Close what is open."""
        await self._connection.close()
