"""Deadlines of whatever waits for Postgres, on a clock that only moves when everybody waits.

And what is said when it was not the deadline.
"""

from __future__ import annotations

import asyncio

import pytest
from pika.exceptions import (
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAuthenticationError,
)
from psycopg import errors

from codebase.engine.commands.log_connection import EXTRA_SECONDS
from codebase.engine.messages.connection import what_the_broker_does
from codebase.foundation import postgres
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.postgres import DeadlinedConnection
from tests.clocks import on_a_jumping_clock


def connection(deadline_seconds: float) -> DeadlinedConnection:
    return DeadlinedConnection(
        "host=nowhere", "write_model", application="test", deadline_seconds=deadline_seconds
    )


async def work(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


def test_work_is_given_up_at_its_deadline_and_not_before() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert await connection(3.0).in_time(work(2.9)) == "done"
        begun = loop.time()
        with pytest.raises(ServiceUnavailable, match="no answer in time"):
            await connection(3.0).in_time(work(3600))
        assert loop.time() - begun == pytest.approx(3.0)

    on_a_jumping_clock(story())


def test_large_work_has_as_much_longer_as_it_is_large() -> None:
    """A hundred thousand agents that go together need more than one ordinary deadline."""

    async def story() -> None:
        extra_seconds = EXTRA_SECONDS * 100_000
        late = connection(3.0)
        assert await late.in_time(work(52.9), extra_seconds=extra_seconds) == "done"
        with pytest.raises(ServiceUnavailable):
            await late.in_time(work(53.1), extra_seconds=extra_seconds)

    on_a_jumping_clock(story())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.DiskFull(), "write_model: refuses (DiskFull 53100)"),
        (errors.UndefinedFile(), "write_model: refuses (UndefinedFile 58P01)"),
        (errors.ReadOnlySqlTransaction(), "write_model: refuses (ReadOnlySqlTransaction 25006)"),
        (errors.AdminShutdown(), "write_model: cannot be reached"),
        (errors.CannotConnectNow(), "write_model: cannot be reached"),
        (errors.ConnectionFailure(), "write_model: cannot be reached"),
        (errors.OperationalError("the socket is closed"), "write_model: cannot be reached"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_a_server_that_refuses_is_told_apart_from_one_that_is_away(
    error: errors.Error, said: str
) -> None:
    async def fail() -> None:
        raise error

    with pytest.raises(ServiceUnavailable) as raised:
        asyncio.run(connection(3.0).in_time(fail()))
    assert str(raised.value) == said


def test_what_is_too_large_is_nobodys_fault_but_the_senders() -> None:
    async def fail() -> None:
        raise errors.ProgramLimitExceeded

    with pytest.raises(errors.ProgramLimitExceeded):
        asyncio.run(connection(3.0).in_time(fail()))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ChannelClosedByBroker(406, "PRECONDITION_FAILED - inequivalent arg"),
            "the broker refuses (406 PRECONDITION_FAILED)",
        ),
        (
            ConnectionClosedByBroker(320, "CONNECTION_FORCED - bye"),
            "the broker is away (ConnectionClosedByBroker)",
        ),
        (ConnectionResetError(), "the broker is away (ConnectionResetError)"),
        (ProbableAuthenticationError(), "the broker refuses (ProbableAuthenticationError)"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_a_broker_that_refuses_is_told_apart_from_one_that_is_away(
    error: Exception, said: str
) -> None:
    assert what_the_broker_does(error) == said


class Opened:
    """Stands for a connection; it counts how often it was finished."""

    def __init__(self) -> None:
        self.finished = 0

    @property
    def pgconn(self) -> Opened:
        return self

    def finish(self) -> None:
        self.finished += 1


@pytest.mark.parametrize("has_come", [False, True])
def test_who_closes_leaves_nothing_that_is_being_opened(
    monkeypatch: pytest.MonkeyPatch, *, has_come: bool
) -> None:
    """Whoever asked for it may be gone: then nobody would ever close it."""
    made, begun, may_come = Opened(), asyncio.Event(), asyncio.Event()

    async def connect(*_: object, **__: object) -> Opened:
        begun.set()
        await may_come.wait()
        return made

    async def story() -> None:
        closing = connection(3600.0)
        asking = asyncio.ensure_future(closing.get())
        await begun.wait()
        asking.cancel()
        if has_come:
            may_come.set()
            # It has come, and nobody has looked yet.
            await asyncio.sleep(0)
        await closing.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert made.finished == (1 if has_come else 0)

    monkeypatch.setattr(postgres, "connect_async", connect)
    asyncio.run(story())
