"""Connections to Postgres that never wait for ever."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, Connection, errors, pq
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import set_json_loads
from pydantic_core import from_json

from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.standing import Standing

# A quarter of the time of json.loads, for what is stored with every event.
set_json_loads(from_json)

CONNECT_DEADLINE_SECONDS = 3

Answer = TypeVar("Answer")

# A peer that vanished is noticed within seconds, also while nothing is being sent.
LIVELINESS: dict[str, str | int] = {
    "connect_timeout": CONNECT_DEADLINE_SECONDS,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 5_000,
}

# The server's own deadline is the second fence; callers keep their own in the application. The
# server watches its side of a connection too, so that the locks of a host that vanished go with it.
DEFAULT_OPTIONS = (
    "-c statement_timeout=30s -c jit=off -c tcp_keepalives_idle=5"
    " -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=5000"
    # What a database or a role has as its own default must not change an answer.
    " -c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c client_encoding=UTF8"
    " -c bytea_output=hex -c extra_float_digits=1 -c standard_conforming_strings=on"
    " -c search_path=public -c default_transaction_read_only=off"
    " -c default_transaction_isolation=read\\ committed"
)

AWAY_STATES = ("08", "57P0")
"""What SQLSTATE begins with where a connection broke, or a server ends or is not there yet."""
LIMIT_EXCEEDED_CLASS = "54"
"""SQLSTATE class of what is too large for Postgres itself, and stays so however often it is tried.

psycopg counts it among the operational errors."""

LIBPQ_BESIDE_CONNINFO = frozenset(
    {"PGTZ", "PGDATESTYLE", "PGGEQO", "PGSERVICEFILE", "PGSYSCONFDIR", "PGLOCALEDIR"}
)
"""Those of https://www.postgresql.org/docs/current/libpq-envars.html that are no parameters."""


def forget_libpq_environment() -> None:
    """Make libpq forget this process' PG… variables: an address says all of how we connect.

    What it makes of PGTZ or PGOPTIONS would win over what `connect` asks for.
    """
    parameters = (option.envvar for option in pq.Conninfo.get_defaults())
    for name in {name.decode() for name in parameters if name} | LIBPQ_BESIDE_CONNINFO:
        os.environ.pop(name, None)


def _arguments(url: str, application: str, options: str = "") -> dict[str, Any]:
    server = {"application_name": application, "options": f"{DEFAULT_OPTIONS} {options}"}
    return {**conninfo_to_dict(url), **LIVELINESS, **server}


def trouble(error: Exception) -> str:
    """What went wrong with a store, fit for everybody's eyes: no address, no password, no value."""
    if isinstance(error, ServiceUnavailable):
        return str(error)
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return " ".join(filter(None, [type(error).__name__, state]))


def is_refusal(error: psycopg.Error) -> bool:
    """Whether a server that is there said no, as opposed to one that is away.

    A full disk is refused, and so is what a server cannot load from a package that was changed
    below it; psycopg counts both, and a connection that is gone, among the operational errors.
    """
    return error.sqlstate is not None and not error.sqlstate.startswith(AWAY_STATES)


def is_about_values(error: psycopg.Error) -> bool:
    """Whether a server said no to what it was given, so that it may well take something else."""
    too_large = (error.sqlstate or "").startswith(LIMIT_EXCEEDED_CLASS)
    return too_large or isinstance(error, psycopg.DataError | psycopg.IntegrityError)


def what_it_does(error: psycopg.Error) -> str:
    """Whether a server refuses or is away, as the end of a sentence for everybody's eyes."""
    return f"refuses ({trouble(error)})" if is_refusal(error) else "cannot be reached"


def connect(
    url: str, application: str, *, autocommit: bool = True, options: str = ""
) -> Connection[Any]:
    """A connection for a worker thread or a command.

    Args:
        url: libpq URL.
        application: shown in pg_stat_activity.
        autocommit: each statement its own transaction.
        options: further server settings as `-c name=value`; they win over the defaults.

    Raises:
        psycopg.OperationalError: no connection within the deadline.
    """
    return psycopg.connect(**_arguments(url, application, options), autocommit=autocommit)


async def connect_async(url: str, application: str, *, options: str = "") -> AsyncConnection[Any]:
    """A connection in autocommit mode for an event loop.

    Raises:
        psycopg.OperationalError: no connection within the deadline.
    """
    return await AsyncConnection.connect(**_arguments(url, application, options), autocommit=True)


def _is_alive(connection: AsyncConnection[Any]) -> bool:
    """Whether a connection can be used, as far as can be told without asking the server.

    A server that ends says so on the connections that it closes: something to read on an idle
    connection is its farewell.
    """
    if connection.closed or connection.lock.locked():
        return not connection.closed
    news = select.poll()
    news.register(connection.pgconn.socket, select.POLLIN)
    return not news.poll(0)


class DeadlinedConnection:
    """One connection for an event loop: made when needed, given up when the server is late.

    Args:
        url: libpq URL.
        dependency: what clients are told is away, such as `write_model`.
        application: shown in pg_stat_activity.
        deadline_seconds: for each piece of work, connecting included.
        options: further server settings, as `connect` takes them.
        standing: what is known of the server, shared with other connections to it.
        prepare: what is done with every new connection before anybody gets it.
    """

    def __init__(
        self,
        url: str,
        dependency: str,
        *,
        application: str,
        deadline_seconds: float,
        options: str = "",
        standing: Standing | None = None,
        prepare: Callable[[AsyncConnection[Any]], Awaitable[None]] | None = None,
    ) -> None:
        self._prepare = prepare
        self._standing = standing or Standing(dependency, "answer")
        self._options = options
        self._url = url
        self._dependency = dependency
        self._application = application
        self._deadline_seconds = deadline_seconds
        self._connection: AsyncConnection[Any] | None = None
        self._opening: asyncio.Task[AsyncConnection[Any]] | None = None
        self._abandoned: set[asyncio.Future[Any]] = set()

    async def get(self) -> AsyncConnection[Any]:
        """The open connection, in autocommit mode.

        Raises:
            ServiceUnavailable: Postgres cannot be reached.
        """
        if self._connection is not None and _is_alive(self._connection):
            return self._connection
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open(), name="connecting")
        # Whoever asks meanwhile shares this one attempt, and its failure.
        return await asyncio.shield(self._opening)

    async def _open(self) -> AsyncConnection[Any]:
        await self._close()
        opening = asyncio.ensure_future(self._opened())
        try:
            self._connection = await self._result(opening, self._deadline_seconds, self._standing)
        except asyncio.CancelledError:
            if not opening.done():
                self._abandon(opening)
            elif opening.exception() is None:
                opening.result().pgconn.finish()
            raise
        finally:
            del opening
        return self._connection

    async def _opened(self) -> AsyncConnection[Any]:
        connection = await connect_async(self._url, self._application, options=self._options)
        if self._prepare is not None:
            try:
                await self._prepare(connection)
            except BaseException:
                connection.pgconn.finish()
                raise
        return connection

    async def in_time(
        self,
        work: Awaitable[Answer],
        *,
        extra_seconds: float = 0,
        standing: Standing | None = None,
    ) -> Answer:
        """The result of `work`, which waits for Postgres; large work may take `extra_seconds` more.

        Work that may be refused while everything else is done has a `standing` of its own.

        Work that is late is cancelled but not waited for: cancelling talks to the server too, and
        a black-holed server would hold everyone up for as long as it likes.

        Raises:
            ServiceUnavailable: no answer in time, the connection is gone, or the server refuses.
                What `work` was to do may have happened.
        """
        seconds = self._deadline_seconds + extra_seconds
        answer = await self._result(work, seconds, standing or self._standing)
        self._standing.succeeded()
        if standing is not None:
            standing.succeeded()
        return answer

    async def _result(self, work: Awaitable[Answer], seconds: float, standing: Standing) -> Answer:
        task = asyncio.ensure_future(work)
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            self._abandon(task)
            self._standing.failed("no answer in time")
            raise ServiceUnavailable(self._dependency, "no answer in time")
        try:
            return task.result()
        except errors.DeadlockDetected:
            raise
        except (
            psycopg.OperationalError,
            psycopg.InterfaceError,
            # A primary that has been demoted; the next connection may find the new one.
            errors.ReadOnlySqlTransaction,
        ) as error:
            if is_about_values(error):
                raise
            # Refused here, it may be done elsewhere: the next connection is a new one.
            await self._close()
            raise self._failed(error, standing) from error
        finally:
            # What is raised knows this frame: with the task that would be a circle.
            del task, work

    def _failed(self, error: psycopg.Error, standing: Standing) -> ServiceUnavailable:
        # Who is away is away for everybody.
        concerned = standing if is_refusal(error) else self._standing
        concerned.failed(what_it_does(error), error)
        return ServiceUnavailable(self._dependency, what_it_does(error))

    def _abandon(self, task: asyncio.Future[Any]) -> None:
        self._abandoned.add(task)
        task.add_done_callback(self._forget)
        task.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.pgconn.finish()

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()

    async def close(self) -> None:
        """Close what is open, and what is being opened; whoever asked for that is not answered."""
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait({self._opening})
        await self._close()

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
