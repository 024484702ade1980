"""Accounts and agents as the services make them, for measurements below HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any
from uuid import UUID, uuid4

from bench import deciding
from bench.filling import append_pages
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.history import History
from codebase.engine.commands.submission import Along, Given, Submission
from codebase.engine.log.events import NewEvent
from codebase.engine.log.identifiers import creation_stream_id
from codebase.foundation.settings import Settings
from codebase.model.accounts.account import (
    ACCOUNT,
    Account,
    CloseAccount,
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

ACTOR = Actor("local")
EVENTS_PER_APPEND = 1_000


def _submission(
    aggregate: Any,  # noqa: ANN401 - of whichever aggregate
    stream_id: UUID,
    command: Any,  # noqa: ANN401 - as its `decide` takes it
    key: str,
    **more: Any,  # noqa: ANN401 - what else a submission has
) -> Submission:
    return Submission(
        aggregate=aggregate,
        stream_id=stream_id,
        command=command,
        idempotence_key=key,
        content=Content(key.encode()),
        actor=ACTOR,
        command_id=uuid4().hex,
        **more,
    )


def opening() -> Submission:
    """A new account, with an e-mail address of its own."""
    key = str(uuid4())
    account_id = creation_stream_id(ACTOR.name, ACCOUNT.category, key)
    command = OpenAccount(
        account_id=account_id,
        actor=ACTOR,
        name=f"account {key}",
        email=f"{key}@accounts.example",
        region=Region.EMEA,
        vip=False,
    )
    return _submission(ACCOUNT, account_id, command, key, creates=True)


def creating(account_id: UUID) -> Submission:
    """A new agent of an account, with an e-mail address of its own."""
    key = str(uuid4())
    agent_id = creation_stream_id(ACTOR.name, AGENT.category, key)

    def command(account: Account | None) -> CreateAgent:
        return CreateAgent(
            agent_id=agent_id,
            account_id=account_id,
            account=account,
            actor=ACTOR,
            name=f"agent {key}",
            email=f"{key}@agents.example",
        )

    given = Given(ACCOUNT, account_id)
    return _submission(AGENT, agent_id, command, key, creates=True, given=given)


def blocking(agent_id: UUID) -> Submission:
    """An agent may not work."""
    return _submission(AGENT, agent_id, BlockAgent(agent_id=agent_id, actor=ACTOR), str(uuid4()))


def unblocking(agent_id: UUID) -> Submission:
    """An agent may work again."""
    return _submission(AGENT, agent_id, UnblockAgent(agent_id=agent_id, actor=ACTOR), str(uuid4()))


def closing(account_id: UUID) -> Submission:
    """An account is closed, and its agents go along."""
    removal = RemoveAgent(account_id=account_id, actor=ACTOR, because=Because.ACCOUNT_CLOSED)
    along = Along(agents_of(account_id), AGENT, removal)
    return _submission(ACCOUNT, account_id, CloseAccount(actor=ACTOR), str(uuid4()), along=along)


@dataclass
class Company:
    """An account and agents of it, in a log.

    Args:
        account_id: of the account, which is open.
        agent_ids: of its agents, in the order of the log.
    """

    account_id: UUID
    agent_ids: list[UUID]


def found_company(settings: Settings, lengths: Sequence[int]) -> Company:
    """Append an account and its agents, as the command bus does, but a thousand events at a time.

    Args:
        settings: of the log.
        lengths: of each agent's stream: it is created, and then blocked and unblocked in turn.
    """
    account = opening()
    agents = [creating(account.stream_id) for _ in lengths]
    histories = {account.stream_id: History()}
    commands = chain.from_iterable(map(_commands_of, agents, lengths))

    def events() -> Iterator[list[NewEvent]]:
        yield deciding.new_events([account], histories, settings.partitions)
        # What happens to an agent goes on from page to page.
        histories.update(
            (agent.stream_id, History())
            for agent, length in zip(agents, lengths, strict=True)
            if length > 1
        )
        while page := list(islice(commands, EVENTS_PER_APPEND)):
            yield deciding.new_events(page, histories, settings.partitions)

    append_pages(settings, events())
    return Company(account.stream_id, [agent.stream_id for agent in agents])


def _commands_of(agent: Submission, length: int) -> Iterator[Submission]:
    yield agent
    for turn in range(length - 1):
        yield (unblocking if turn % 2 else blocking)(agent.stream_id)
