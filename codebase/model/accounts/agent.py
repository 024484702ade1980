"""An agent works for an account until it is removed, and can be blocked and unblocked meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never
from uuid import UUID

from codebase.model.accounts.account import (
    OPEN_ACCOUNT,
    Account,
    EmailUsed,
    Region,
    account_not_found,
    agents_of,
    email_key,
)
from codebase.model.actor import Actor
from codebase.model.aggregate import Aggregate, Claim, Guard, Release, Require
from codebase.model.refusals import Conflict, NotFound, Rejected

AGENT_EMAIL = "agent_email"


class Because(StrEnum):
    """Why an agent was removed."""

    REMOVED = "removed"
    ACCOUNT_CLOSED = "account_closed"


# Events: names and fields are the storage format. Add fields with defaults, never rename.
@dataclass(frozen=True, kw_only=True, slots=True)
class AgentCreated:
    """The agent works for the account, and its e-mail address belongs to it."""

    agent_id: UUID
    account_id: UUID
    client: str
    name: str
    email: str
    region: Region
    vip: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentRemoved:
    """The agent is gone, and its e-mail address is free again."""

    agent_id: UUID
    account_id: UUID
    client: str
    email: str
    region: Region
    vip: bool
    because: Because


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentBlocked:
    """The agent may not work, and costs nothing, from now on."""

    agent_id: UUID
    account_id: UUID
    client: str
    region: Region
    vip: bool
    reason: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentUnblocked:
    """The agent works again, from now on."""

    agent_id: UUID
    account_id: UUID
    client: str
    region: Region
    vip: bool
    reason: str | None


Event = AgentCreated | AgentRemoved | AgentBlocked | AgentUnblocked


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateAgent:
    """Let an agent work for an account; `account` is None when there never was one."""

    agent_id: UUID
    account_id: UUID
    account: Account | None
    actor: Actor
    name: str
    email: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoveAgent:
    """Take the agent away from the account that it is said to work for."""

    account_id: UUID
    actor: Actor
    because: Because = Because.REMOVED


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockAgent:
    """Keep the agent from working."""

    agent_id: UUID
    actor: Actor
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UnblockAgent:
    """Let the agent work again."""

    agent_id: UUID
    actor: Actor
    reason: str | None = None


Command = CreateAgent | RemoveAgent | BlockAgent | UnblockAgent


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """An agent, at work, blocked or removed."""

    created: AgentCreated
    is_blocked: bool = False
    is_removed: bool = False

    def is_there_for(self, actor: Actor) -> bool:
        """Whether the actor finds an agent here."""
        return not self.is_removed and actor.may_act_for(self.created.client)


State = Agent


def evolve(state: State | None, event: Event) -> State:
    """The agent after one more event."""
    if isinstance(event, AgentCreated):
        return Agent(created=event)
    assert state is not None, "an agent is created first"  # noqa: S101 - an invariant
    match event:
        case AgentRemoved():
            return replace(state, is_removed=True)
        case AgentBlocked():
            return replace(state, is_blocked=True)
        case AgentUnblocked():
            return replace(state, is_blocked=False)
        case _:
            assert_never(event)


def decide(command: Command, state: State | None) -> list[Event]:
    """Create an agent once, remove it once; block and unblock it as often as that changes it.

    Raises:
        NotFound: no such agent, or no such account, within the actor's reach.
        Conflict: the agent works for another account.
    """
    match command:
        case CreateAgent():
            return [] if state else [_created(command)]
        case RemoveAgent():
            return _removed(command, state)
        case BlockAgent():
            there = _found(command, state)
            return [] if there.is_blocked else [_changed(AgentBlocked, command, there.created)]
        case UnblockAgent():
            there = _found(command, state)
            return [_changed(AgentUnblocked, command, there.created)] if there.is_blocked else []
        case _:
            assert_never(command)


def _created(command: CreateAgent) -> Event:
    account = command.account
    if account is None or not account.is_open_to(command.actor):
        raise account_not_found(command.account_id)
    return AgentCreated(
        agent_id=command.agent_id,
        account_id=command.account_id,
        client=account.opened.client,
        name=command.name,
        email=command.email,
        region=account.opened.region,
        vip=account.opened.vip,
    )


def _removed(command: RemoveAgent, state: State | None) -> list[Event]:
    if state is None or not state.is_there_for(command.actor):
        return []
    created = state.created
    if created.account_id != command.account_id:
        raise Conflict("the agent works for another account")
    return [
        AgentRemoved(
            agent_id=created.agent_id,
            account_id=created.account_id,
            client=created.client,
            email=created.email,
            region=created.region,
            vip=created.vip,
            because=command.because,
        )
    ]


def _found(command: BlockAgent | UnblockAgent, state: State | None) -> Agent:
    if state is None or not state.is_there_for(command.actor):
        raise agent_not_found(command.agent_id)
    return state


def _changed(
    kind: type[AgentBlocked | AgentUnblocked],
    command: BlockAgent | UnblockAgent,
    created: AgentCreated,
) -> Event:
    return kind(
        agent_id=created.agent_id,
        account_id=created.account_id,
        client=created.client,
        region=created.region,
        vip=created.vip,
        reason=command.reason,
    )


def agent_not_found(agent_id: UUID | str) -> Rejected:
    """There is no such agent, or none within the sender's reach."""
    return NotFound(f"Agent {agent_id} not found")


def guards(event: Event) -> Sequence[Guard]:
    """An e-mail address belongs to one agent; an agent works for an account that is open."""
    own = str(event.agent_id)
    match event:
        case AgentCreated():
            return (
                Require(OPEN_ACCOUNT, str(event.account_id)),
                Claim(AGENT_EMAIL, email_key(event.email)),
                Claim(agents_of(event.account_id), own),
            )
        case AgentRemoved():
            return (
                Release(AGENT_EMAIL, email_key(event.email)),
                Release(agents_of(event.account_id), own),
            )
        case AgentBlocked() | AgentUnblocked():
            return ()
        case _:
            assert_never(event)


def topic(event: Event) -> str:
    """The routing key of an event."""
    happened = {
        AgentCreated: "created",
        AgentRemoved: "removed",
        AgentBlocked: "blocked",
        AgentUnblocked: "unblocked",
    }
    return f"agent.{happened[type(event)]}.{event.region}"


def owner(state: State) -> str:
    """The client of the account that the agent works for."""
    return state.created.client


def email_used(_email: str) -> Rejected:
    """The refusal of an e-mail address that another agent has."""
    return EmailUsed("another agent has this e-mail address")


AGENT: Aggregate[Command, Event, State] = Aggregate(
    category="agent",
    events=(AgentCreated, AgentRemoved, AgentBlocked, AgentUnblocked),
    decide=decide,
    evolve=evolve,
    guards=guards,
    topic=topic,
    owner=owner,
    refusals={AGENT_EMAIL: email_used, OPEN_ACCOUNT: account_not_found},
)
