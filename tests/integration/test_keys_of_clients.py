"""Whose key it is: one client's, for one thing; and nobody is told of what is out of reach."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import psycopg
import pytest

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Given, Outcome, Submission
from codebase.engine.log.identifiers import creation_stream_id, partition_of
from codebase.model.accounts.account import ACCOUNT, Account, OpenAccount, Region
from codebase.model.accounts.agent import AGENT, BlockAgent, CreateAgent, RemoveAgent, UnblockAgent
from codebase.model.actor import Actor
from codebase.model.refusals import KeyReused, NotFound

if TYPE_CHECKING:
    from tests.databases import Databases

ALICE, BOB = Actor("alice"), Actor("bob")
BOSS = Actor("boss", is_admin=True)
DEMOTED = Actor("boss")
"""The boss, after somebody has changed the role of that token."""

Story = Callable[[CommandBus], Awaitable[None]]


def submission(actor: Actor, stream_id: UUID, command: object, key: str | None) -> Submission:
    return Submission(
        aggregate=AGENT,
        stream_id=stream_id,
        command=command,
        idempotence_key=key,
        content=Content(type(command).__name__.encode(), unkeyed=lambda: type(command).__name__),
        actor=actor,
        command_id=str(uuid4()),
    )


def opening(actor: Actor, key: str) -> Submission:
    account_id = creation_stream_id(actor.name, "account", key)
    command = OpenAccount(
        account_id=account_id,
        actor=actor,
        name="Blue",
        email=f"{account_id}@blue.example",
        region=Region.EMEA,
        vip=False,
    )
    opened = submission(actor, account_id, command, key)
    opened.aggregate, opened.creates = ACCOUNT, True
    return opened


def creating(actor: Actor, account_id: UUID, key: str) -> Submission:
    agent_id = creation_stream_id(actor.name, "agent", key)

    def command(account: Account | None) -> CreateAgent:
        return CreateAgent(
            agent_id=agent_id,
            account_id=account_id,
            account=account,
            actor=actor,
            name="Ada",
            email=f"{agent_id}@blue.example",
        )

    created = submission(actor, agent_id, command, key)
    created.content = Content(f"create {account_id}".encode())
    created.given, created.creates = Given(ACCOUNT, account_id), True
    return created


def blocking(actor: Actor, agent_id: UUID, key: str | None) -> Submission:
    return submission(actor, agent_id, BlockAgent(agent_id=agent_id, actor=actor), key)


def unblocking(actor: Actor, agent_id: UUID, key: str | None) -> Submission:
    return submission(actor, agent_id, UnblockAgent(agent_id=agent_id, actor=actor), key)


def removing(actor: Actor, account_id: UUID, agent_id: UUID, key: str | None) -> Submission:
    return submission(actor, agent_id, RemoveAgent(account_id=account_id, actor=actor), key)


def with_bus(databases: Databases, story: Story) -> None:
    async def opened() -> None:
        async with CommandBus.open(databases.settings) as bus:
            await story(bus)

    asyncio.run(opened())


async def agent_of(bus: CommandBus, actor: Actor) -> tuple[UUID, UUID]:
    """A new account of the actor's, and its one agent."""
    account = await bus.execute(opening(actor, "0"))
    agent = await bus.execute(creating(actor, account.stream_id, "0"))
    return account.stream_id, agent.stream_id


def came_to(outcome: Outcome) -> tuple[bool, bool]:
    """Whether it changed something, and whether it was a repeat."""
    return outcome.changed, outcome.replayed


def types(databases: Databases) -> list[str]:
    with databases.as_owner() as log:
        rows = log.execute("SELECT type FROM event WHERE category = 'agent' ORDER BY version")
        return [row[0] for row in rows]


def notes(databases: Databases) -> list[tuple[str, str, int]]:
    """(client, key, version) of the commands that had nothing to do."""
    with databases.as_owner() as log:
        rows = log.execute(
            "SELECT client, idempotence_key, version FROM command_note ORDER BY 1, 2"
        )
        return rows.fetchall()


def test_the_same_key_of_another_client_is_another_command(databases: Databases) -> None:
    async def story(bus: CommandBus) -> None:
        _, agent_id = await agent_of(bus, ALICE)
        assert came_to(await bus.execute(blocking(ALICE, agent_id, "1"))) == (True, False)
        assert came_to(await bus.execute(unblocking(ALICE, agent_id, "2"))) == (True, False)
        assert came_to(await bus.execute(blocking(BOSS, agent_id, "1"))) == (True, False)
        assert came_to(await bus.execute(unblocking(BOSS, agent_id, "2"))) == (True, False)
        for actor in (ALICE, BOSS):
            assert came_to(await bus.execute(blocking(actor, agent_id, "1"))) == (True, True)
            with pytest.raises(KeyReused):
                await bus.execute(unblocking(actor, agent_id, "1"))

    with_bus(databases, story)
    assert types(databases) == ["AgentCreated"] + ["AgentBlocked", "AgentUnblocked"] * 2


def test_a_command_that_had_nothing_to_do_is_its_own_clients_as_well(databases: Databases) -> None:
    async def story(bus: CommandBus) -> None:
        _, agent_id = await agent_of(bus, ALICE)
        assert came_to(await bus.execute(unblocking(ALICE, agent_id, "1"))) == (False, False)
        await bus.execute(blocking(ALICE, agent_id, None))
        assert came_to(await bus.execute(unblocking(BOSS, agent_id, "1"))) == (True, False)
        await bus.execute(blocking(ALICE, agent_id, None))
        assert came_to(await bus.execute(unblocking(ALICE, agent_id, "1"))) == (False, True)
        assert came_to(await bus.execute(unblocking(BOSS, agent_id, "1"))) == (True, True)

    with_bus(databases, story)
    assert notes(databases) == [("alice", "1", 1)]


def test_two_clients_at_once_with_one_key_are_two_commands(databases: Databases) -> None:
    """In one round as well as in two: which of them comes first is open, and whose it is not."""

    async def story(bus: CommandBus) -> None:
        _, agent_id = await agent_of(bus, ALICE)
        for change in (blocking, unblocking) * 5:
            key = uuid4().hex
            both = [change(actor, agent_id, key) for actor in (ALICE, BOSS) for _ in range(20)]
            outcomes = await asyncio.gather(*map(bus.execute, both))
            of = {"alice": outcomes[:20], "boss": outcomes[20:]}
            for each in of.values():
                assert [one.replayed for one in each].count(False) == 1
                assert len({one.changed for one in each}) == 1
            assert [each[0].changed for each in of.values()].count(True) == 1

    with_bus(databases, story)
    assert types(databases) == ["AgentCreated"] + ["AgentBlocked", "AgentUnblocked"] * 5
    assert len(notes(databases)) == 10


def test_the_key_of_a_creation_is_free_for_what_is_sent_to_the_stream(
    databases: Databases,
) -> None:
    async def story(bus: CommandBus) -> None:
        account_id, agent_id = await agent_of(bus, ALICE)
        assert came_to(await bus.execute(blocking(ALICE, agent_id, "0"))) == (True, False)
        assert came_to(await bus.execute(blocking(ALICE, agent_id, "0"))) == (True, True)
        again = await bus.execute(creating(ALICE, account_id, "0"))
        assert (came_to(again), again.version) == ((True, True), 1)

    with_bus(databases, story)
    assert types(databases) == ["AgentCreated", "AgentBlocked"]


def test_whoever_cannot_reach_a_stream_is_told_what_is_told_of_none(databases: Databases) -> None:
    async def story(bus: CommandBus) -> None:
        account_id, agent_id = await agent_of(bus, ALICE)
        await bus.execute(blocking(ALICE, agent_id, "1"))
        for key in ("0", "1", "2"):
            with pytest.raises(NotFound, match=f"Agent {agent_id} not found"):
                await bus.execute(blocking(BOB, agent_id, key))
            told = [
                [await bus.execute(removing(BOB, account_id, stream, key)) for _ in range(2)]
                for stream in (agent_id, creation_stream_id("nobody", "agent", key))
            ]
            assert len({str([(one.positions, one.version) for one in each]) for each in told}) == 1
            assert [[came_to(one) for one in each] for each in told] == [
                [(False, False), (False, True)]
            ] * 2

    with_bus(databases, story)
    assert types(databases) == ["AgentCreated", "AgentBlocked"]


def test_reach_that_was_lost_is_checked_before_anything_is_replayed(databases: Databases) -> None:
    async def story(bus: CommandBus) -> None:
        account_id, agent_id = await agent_of(bus, ALICE)
        await bus.execute(blocking(BOSS, agent_id, "1"))
        await bus.execute(blocking(BOSS, agent_id, "2"))
        second = await bus.execute(creating(BOSS, account_id, "3"))
        await bus.execute(removing(BOSS, account_id, second.stream_id, "4"))
        own = await bus.execute(opening(DEMOTED, "5"))
        for again in (blocking, unblocking):
            for key in ("1", "2"):
                with pytest.raises(NotFound, match="Agent"):
                    await bus.execute(again(DEMOTED, agent_id, key))
        with pytest.raises(NotFound, match="Account"):
            await bus.execute(creating(DEMOTED, account_id, "3"))
        with pytest.raises(KeyReused):
            await bus.execute(creating(DEMOTED, own.stream_id, "3"))
        gone = await bus.execute(removing(DEMOTED, account_id, second.stream_id, "4"))
        assert (came_to(gone), gone.state, gone.positions) == ((False, False), None, {})
        # Given back, everything is answered as it was.
        assert came_to(await bus.execute(blocking(BOSS, agent_id, "1"))) == (True, True)
        assert came_to(await bus.execute(blocking(BOSS, agent_id, "2"))) == (False, True)
        assert came_to(await bus.execute(creating(BOSS, account_id, "3"))) == (True, True)

    with_bus(databases, story)


def test_repeats_are_answered_after_the_agent_was_removed(databases: Databases) -> None:
    async def story(bus: CommandBus) -> None:
        account_id, agent_id = await agent_of(bus, ALICE)
        await bus.execute(blocking(ALICE, agent_id, "1"))
        await bus.execute(removing(BOSS, account_id, agent_id, "1"))
        assert came_to(await bus.execute(blocking(ALICE, agent_id, "1"))) == (True, True)
        assert came_to(await bus.execute(removing(BOSS, account_id, agent_id, "1"))) == (True, True)
        assert came_to(await bus.execute(removing(ALICE, account_id, agent_id, "2"))) == (
            False,
            False,
        )
        with pytest.raises(NotFound):
            await bus.execute(blocking(BOSS, agent_id, "2"))

    with_bus(databases, story)


def test_a_note_of_before_counts_for_whoever_repeats_it(databases: Databases) -> None:
    """It does not say whose it is; see migrations/write_model/0005."""

    async def story(bus: CommandBus) -> None:
        _, agent_id = await agent_of(bus, ALICE)
        with psycopg.connect(databases.settings.required("write_model_url")) as before:
            before.execute(
                "SELECT note_commands(%s::smallint[], %s, %s, %s, %s)",
                [
                    [partition_of(agent_id, databases.settings.partitions)],
                    [agent_id],
                    ["1"],
                    ["UnblockAgent"],
                    [1],
                ],
            )
        await bus.execute(blocking(ALICE, agent_id, None))
        assert came_to(await bus.execute(unblocking(ALICE, agent_id, "1"))) == (False, True)
        with pytest.raises(KeyReused):
            await bus.execute(blocking(ALICE, agent_id, "1"))
        with pytest.raises(NotFound):
            await bus.execute(unblocking(BOB, agent_id, "1"))

    with_bus(databases, story)
    assert notes(databases) == [("", "1", 1)]


def test_the_log_itself_takes_a_clients_key_once_in_a_stream(databases: Databases) -> None:
    async def story(bus: CommandBus) -> None:
        _, agent_id = await agent_of(bus, ALICE)
        await bus.execute(blocking(ALICE, agent_id, "1"))

    with_bus(databases, story)
    copy = """
        INSERT INTO event
        SELECT partition, position + 100, stream_id, category, version + 1, type, idempotence_key,
               data, jsonb_set(meta, '{actor}', to_jsonb(%s::text)), recorded_at
        FROM event WHERE idempotence_key = '1'
    """
    with databases.as_owner() as owner, pytest.raises(psycopg.errors.UniqueViolation):
        owner.execute(copy, ["alice"])
    with databases.as_owner() as owner:
        assert owner.execute(copy, ["boss"]).rowcount == 1
