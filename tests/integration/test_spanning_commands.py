"""Commands that need another stream, or take others along; and those that have nothing to do."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Along, Given, Outcome, Submission
from codebase.engine.log.identifiers import creation_stream_id
from codebase.foundation.settings import Settings
from codebase.model.accounts.account import (
    ACCOUNT,
    OPEN_ACCOUNT,
    Account,
    CloseAccount,
    EmailUsed,
    OpenAccount,
    Region,
    agents_of,
)
from codebase.model.accounts.agent import (
    AGENT,
    Because,
    BlockAgent,
    CreateAgent,
    RemoveAgent,
    UnblockAgent,
)
from codebase.model.actor import Actor
from codebase.model.refusals import KeyReused, NotFound
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

ALICE = Actor("alice")


def submission(
    aggregate: Any,  # noqa: ANN401
    stream_id: UUID,
    command: Any,  # noqa: ANN401
    key: str | None = None,
    **more: Any,  # noqa: ANN401
) -> Submission:
    return Submission(
        aggregate=aggregate,
        stream_id=stream_id,
        command=command,
        idempotence_key=key,
        content=Content(type(command).__name__.encode()),
        actor=ALICE,
        command_id=str(uuid4()),
        **more,
    )


def opening(key: str, email: str) -> Submission:
    account_id = creation_stream_id("alice", "account", key)
    command = OpenAccount(
        account_id=account_id,
        actor=ALICE,
        name="Blue",
        email=email,
        region=Region.EMEA,
        vip=False,
    )
    return submission(ACCOUNT, account_id, command, key, creates=True)


def closing(account_id: UUID, key: str | None = None) -> Submission:
    remove = RemoveAgent(account_id=account_id, actor=ALICE, because=Because.ACCOUNT_CLOSED)
    along = Along(agents_of(account_id), AGENT, remove)
    return submission(ACCOUNT, account_id, CloseAccount(actor=ALICE), key, along=along)


def creating(account_id: UUID, key: str) -> Submission:
    agent_id = creation_stream_id("alice", "agent", key)

    def command(account: Account | None) -> CreateAgent:
        return CreateAgent(
            agent_id=agent_id,
            account_id=account_id,
            account=account,
            actor=ALICE,
            name=key,
            email=f"{key}@blue.example",
        )

    given = Given(ACCOUNT, account_id)
    return submission(AGENT, agent_id, command, key, creates=True, given=given)


def blocking(agent_id: UUID, key: str | None = None) -> Submission:
    return submission(AGENT, agent_id, BlockAgent(agent_id=agent_id, actor=ALICE), key)


def unblocking(agent_id: UUID, key: str | None = None) -> Submission:
    return submission(AGENT, agent_id, UnblockAgent(agent_id=agent_id, actor=ALICE), key)


def with_bus(settings: Settings, story: Callable[[CommandBus], Awaitable[Any]]) -> Any:  # noqa: ANN401
    async def opened() -> Any:  # noqa: ANN401
        async with CommandBus.open(settings) as bus:
            return await story(bus)

    return asyncio.run(opened())


async def together(bus: CommandBus, submissions: list[Submission]) -> list[Outcome | Exception]:
    return await asyncio.gather(*map(bus.execute, submissions), return_exceptions=True)  # type: ignore[return-value]


def types(databases: Databases) -> list[str]:
    """The types of all events, partition by partition in log order."""
    with databases.as_owner() as connection:
        query = "SELECT type FROM event ORDER BY partition, position"
        return [row[0] for row in connection.execute(query)]


def claims(databases: Databases) -> set[str]:
    with databases.as_owner() as connection:
        return {row[0] for row in connection.execute("SELECT kind FROM claim")}


def test_an_agent_works_for_an_account_that_is_open(databases: Databases) -> None:
    async def story(bus: CommandBus) -> None:
        with pytest.raises(NotFound, match=r"Account .* not found"):
            await bus.execute(creating(uuid4(), "early"))
        account_id = (await bus.execute(opening("blue", "a@blue.example"))).stream_id
        made = await bus.execute(creating(account_id, "ada"))
        assert made.state.created.region is Region.EMEA
        await bus.execute(closing(account_id))
        with pytest.raises(NotFound):
            await bus.execute(creating(account_id, "late"))
        again = await bus.execute(creating(account_id, "ada"))
        assert again.replayed, "a repeat is answered, though the account is closed by now"
        assert again.state == made.state

    with_bus(databases.settings, story)


def test_closing_an_account_removes_its_agents_and_frees_what_they_claimed(
    databases: Databases,
) -> None:
    async def story(bus: CommandBus) -> None:
        account_id = (await bus.execute(opening("blue", "a@blue.example"))).stream_id
        made = await together(bus, [creating(account_id, f"agent{n}") for n in range(300)])
        assert all(isinstance(one, Outcome) for one in made)
        assert await bus.holders(OPEN_ACCOUNT) == [str(account_id)]
        closed = await bus.execute(closing(account_id, "close"))
        assert closed.changed
        assert closed.state.is_closed
        repeat = await bus.execute(closing(account_id, "close"))
        assert (repeat.replayed, repeat.changed) == (True, True)
        another = await bus.execute(closing(account_id))
        assert (another.replayed, another.changed) == (False, False)

    with_bus(databases.settings, story)
    seen = types(databases)
    assert seen.count("AgentRemoved") == 300
    assert seen.count("AccountClosed") == 1
    assert claims(databases) == set()


def test_however_many_agents_there_are_they_go_together(databases: Databases) -> None:
    """How long that may take is the matter of unit/test_deadlines.py; here no deadline decides."""

    async def story(bus: CommandBus) -> None:
        account_id = (await bus.execute(opening("blue", "a@blue.example"))).stream_id
        for batch in range(12):
            created = await together(
                bus, [creating(account_id, f"agent{batch}-{n}") for n in range(500)]
            )
            assert [one for one in created if not isinstance(one, Outcome)] == []
        assert (await bus.execute(closing(account_id))).changed

    with_bus(databases.settings, story)
    assert types(databases).count("AgentRemoved") == 6000


def test_its_token_covers_every_partition_that_a_spanning_command_wrote_to(
    databases: Databases,
) -> None:
    async def story(bus: CommandBus) -> None:
        account_id = (await bus.execute(opening("blue", "a@blue.example"))).stream_id
        made = await together(bus, [creating(account_id, f"agent{n}") for n in range(50)])
        assert all(isinstance(one, Outcome) for one in made)
        closed = await bus.execute(closing(account_id))
        with databases.as_owner() as connection:
            heads = dict(connection.execute("SELECT partition, position FROM log_head").fetchall())
        assert closed.positions == heads

    with_bus(databases.settings, story)


def test_an_account_that_is_not_there_is_closed_without_effect(databases: Databases) -> None:
    async def story(bus: CommandBus) -> None:
        nothing = await bus.execute(closing(uuid4(), "key"))
        assert (nothing.state, nothing.version, nothing.changed) == (None, 0, False)
        assert nothing.positions == {}

    with_bus(databases.settings, story)
    assert types(databases) == []


def test_nobody_joins_an_account_while_it_is_being_closed(databases: Databases) -> None:
    """Creations and closings at the same time, in one batch and across batches."""

    async def story(bus: CommandBus) -> None:
        for round_number in range(10):
            key = f"account{round_number}"
            account_id = (await bus.execute(opening(key, f"{key}@x.example"))).stream_id
            work = [creating(account_id, f"{key}-{n}") for n in range(40)]
            work.insert(20, closing(account_id))
            answers = await together(bus, work)
            assert all(isinstance(one, Outcome | NotFound) for one in answers)
            assert isinstance(answers[20], Outcome)

    with_bus(databases.settings, story)
    seen = types(databases)
    assert seen.count("AgentCreated") == seen.count("AgentRemoved")
    assert seen.count("AccountClosed") == 10
    assert claims(databases) == set()


def _join(settings: Settings, account_id: UUID, name: str, answers: Any) -> None:  # noqa: ANN401
    async def story(bus: CommandBus) -> list[str]:
        created = 0
        for batch in range(200):
            work = [creating(account_id, f"{name}-{batch}-{n}") for n in range(10)]
            outcomes = await together(bus, work)
            assert all(isinstance(one, Outcome | NotFound) for one in outcomes)
            created += sum(isinstance(one, Outcome) for one in outcomes)
            if any(isinstance(one, NotFound) for one in outcomes):
                break
        return [name, str(created)]

    answers.put(with_bus(settings, story))


def test_nobody_joins_an_account_that_another_process_is_closing(databases: Databases) -> None:
    async def opened(bus: CommandBus) -> UUID:
        return (await bus.execute(opening("blue", "a@blue.example"))).stream_id

    account_id = with_bus(databases.settings, opened)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    joining = [
        context.Process(target=_join, args=(databases.settings, account_id, name, answers))
        for name in ("a", "b")
    ]
    for process in joining:
        process.start()

    async def close(bus: CommandBus) -> Outcome:
        with databases.as_owner() as connection:
            query = "SELECT count(*) FROM event WHERE type = 'AgentCreated'"
            for _ in range(1_000_000):
                row = connection.execute(query).fetchone()
                if row is not None and row[0] >= 200:
                    break
        return await bus.execute(closing(account_id))

    closed = with_bus(databases.settings, close)
    assert closed.changed
    collected = [answers.get(timeout=PATIENCE_SECONDS) for _ in joining]
    for process in joining:
        process.join()
    seen = types(databases)
    assert seen.count("AgentCreated") == sum(int(created) for _, created in collected)
    assert seen.count("AgentRemoved") == seen.count("AgentCreated")
    assert claims(databases) == set()


def test_a_thousand_agents_go_all_or_nothing(databases: Databases) -> None:
    """One of them cannot be removed, so that nothing happens at all."""

    async def story(bus: CommandBus) -> None:
        account_id = (await bus.execute(opening("blue", "a@blue.example"))).stream_id
        made = await together(bus, [creating(account_id, f"agent{n}") for n in range(1000)])
        victim = made[500].stream_id  # type: ignore[union-attr]
        with databases.as_owner() as connection:
            connection.execute("ALTER TABLE event DISABLE TRIGGER event_is_append_only")
            connection.execute(
                "UPDATE event SET type = 'Unheard' WHERE stream_id = %s AND version = 1", [victim]
            )
        with pytest.raises(Exception, match="no event Unheard"):
            await bus.execute(closing(account_id))

    with_bus(databases.settings, story)
    seen = types(databases)
    assert "AccountClosed" not in seen
    assert "AgentRemoved" not in seen


def test_an_email_address_is_free_again_after_closing(databases: Databases) -> None:
    async def story(bus: CommandBus) -> None:
        first = await bus.execute(opening("first", "a@blue.example"))
        with pytest.raises(EmailUsed):
            await bus.execute(opening("second", "A@Blue.example"))
        await bus.execute(closing(first.stream_id))
        assert (await bus.execute(opening("third", "a@blue.example"))).changed

    with_bus(databases.settings, story)


def test_a_command_that_changed_nothing_still_changes_nothing_when_it_comes_again(
    databases: Databases,
) -> None:
    async def story(bus: CommandBus) -> None:
        account_id = (await bus.execute(opening("blue", "a@blue.example"))).stream_id
        agent_id = (await bus.execute(creating(account_id, "ada"))).stream_id
        await bus.execute(blocking(agent_id, "first"))
        unchanged = await bus.execute(blocking(agent_id, "second"))
        assert (unchanged.replayed, unchanged.changed) == (False, False)
        await bus.execute(unblocking(agent_id, "third"))
        late = await bus.execute(blocking(agent_id, "second"))
        assert (late.replayed, late.changed, late.version) == (True, False, unchanged.version)
        assert late.positions == unchanged.positions
        with pytest.raises(KeyReused):
            await bus.execute(unblocking(agent_id, "second"))

    with_bus(databases.settings, story)
    assert types(databases).count("AgentBlocked") == 1


def test_blocking_and_unblocking_at_once_is_one_event_per_change(databases: Databases) -> None:
    async def story(bus: CommandBus) -> None:
        account_id = (await bus.execute(opening("blue", "a@blue.example"))).stream_id
        agent_id = (await bus.execute(creating(account_id, "ada"))).stream_id
        work = [blocking(agent_id), unblocking(agent_id)] * 100
        answers = await together(bus, work)
        assert all(isinstance(one, Outcome) for one in answers)

    with_bus(databases.settings, story)
    seen = [one for one in types(databases) if one in {"AgentBlocked", "AgentUnblocked"}]
    assert seen
    assert all(first != second for first, second in pairwise(seen))
    assert seen[0] == "AgentBlocked"
