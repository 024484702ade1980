"""While a command takes very many streams along everything else goes on, or waits its turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from codebase.engine.commands import lane
from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Along, Outcome, Submission
from codebase.model.accounts.account import ACCOUNT, CloseAccount, agents_of
from codebase.model.accounts.agent import AGENT, Because, RemoveAgent
from tests.clocks import on_a_pushed_clock, push_the_clock
from tests.integration.test_spanning_commands import (
    ALICE,
    creating,
    opening,
    submission,
    together,
    types,
)
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

AGENTS = 20


class Held:
    """A closing whose agents decide when the test says so, and not before."""

    def __init__(self) -> None:
        self.decide_now = threading.Event()
        self._loop = asyncio.get_running_loop()
        self.is_deciding = asyncio.Event()
        self._failure: Exception | None = None

    def closing(self, account_id: UUID, failure: Exception | None = None) -> Submission:
        def decide(command: Any, state: Any) -> Any:  # noqa: ANN401 - as an aggregate does
            self._loop.call_soon_threadsafe(self.is_deciding.set)
            assert self.decide_now.wait(PATIENCE_SECONDS), "nobody could say so"
            if failure is not None:
                raise failure
            return AGENT.decide(command, state)

        removal = RemoveAgent(account_id=account_id, actor=ALICE, because=Because.ACCOUNT_CLOSED)
        along = Along(agents_of(account_id), replace(AGENT, decide=decide), removal)
        return submission(ACCOUNT, account_id, CloseAccount(actor=ALICE), along=along)


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "LARGE", AGENTS)


def with_an_account(
    databases: Databases, story: Callable[[CommandBus, UUID], Awaitable[None]]
) -> None:
    """A bus, and an account whose agents are as many as make a closing large."""

    async def opened() -> None:
        async with CommandBus.open(databases.settings) as bus:
            account_id = (await bus.execute(opening("blue", "a@blue.example"))).stream_id
            made = await together(bus, [creating(account_id, f"agent{n}") for n in range(AGENTS)])
            assert all(isinstance(one, Outcome) for one in made)
            await story(bus, account_id)

    on_a_pushed_clock(opened())


def test_the_loop_goes_on_while_a_large_command_is_decided(databases: Databases) -> None:
    """Were it decided on the loop, nobody could say that it may."""

    async def story(bus: CommandBus, account_id: UUID) -> None:
        held = Held()
        closing = asyncio.create_task(bus.execute(held.closing(account_id)))
        await held.is_deciding.wait()
        assert await bus.ready() is None
        held.decide_now.set()
        closed = await closing
        assert closed.changed
        assert closed.state.is_closed

    with_an_account(databases, story)
    assert types(databases).count("AgentRemoved") == AGENTS


def test_who_is_in_line_meanwhile_is_not_told_that_the_log_is_late(databases: Databases) -> None:
    deadline_seconds = databases.settings.command_deadline_seconds

    async def story(bus: CommandBus, account_id: UUID) -> None:
        held = Held()
        closing = asyncio.create_task(bus.execute(held.closing(account_id)))
        await held.is_deciding.wait()
        others = [opening(f"other{n}", f"{n}@other.example") for n in range(10)]
        waiting = asyncio.create_task(together(bus, others))
        for _ in range(3):
            await asyncio.sleep(0)
            push_the_clock(deadline_seconds + 1)
            await asyncio.sleep(0)
        assert not waiting.done()
        assert not closing.done()
        held.decide_now.set()
        assert (await closing).changed
        assert all(isinstance(one, Outcome) for one in await waiting)

    with_an_account(databases, story)


def test_what_is_wrong_with_a_large_command_is_told_to_who_sent_it(databases: Databases) -> None:
    async def story(bus: CommandBus, account_id: UUID) -> None:
        held = Held()
        held.decide_now.set()
        with pytest.raises(ValueError, match="an agent's own"):
            await bus.execute(held.closing(account_id, ValueError("an agent's own")))
        assert isinstance(await bus.execute(opening("next", "b@blue.example")), Outcome)

    with_an_account(databases, story)
    assert types(databases).count("AgentRemoved") == 0


def test_a_small_closing_needs_no_thread(databases: Databases) -> None:
    async def story(bus: CommandBus, _account_id: UUID) -> None:
        account_id = (await bus.execute(opening("green", f"{uuid4()}@x.example"))).stream_id
        await bus.execute(creating(account_id, "the only one"))
        before = threading.active_count()
        threads: set[int] = set()

        def decide(command: Any, state: Any) -> Any:  # noqa: ANN401 - as an aggregate does
            threads.add(threading.get_ident())
            return AGENT.decide(command, state)

        removal = RemoveAgent(account_id=account_id, actor=ALICE, because=Because.ACCOUNT_CLOSED)
        along = Along(agents_of(account_id), replace(AGENT, decide=decide), removal)
        closing = submission(ACCOUNT, account_id, CloseAccount(actor=ALICE), along=along)
        assert (await bus.execute(closing)).changed
        assert threads == {threading.get_ident()}
        assert threading.active_count() == before

    with_an_account(databases, story)
