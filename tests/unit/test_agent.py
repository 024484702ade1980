"""The rules of an agent: given what happened, when a command comes, then this follows."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from codebase.model.accounts.account import Account, AccountOpened, Region
from codebase.model.accounts.agent import (
    AGENT,
    AgentBlocked,
    AgentCreated,
    AgentRemoved,
    AgentUnblocked,
    Because,
    BlockAgent,
    Command,
    CreateAgent,
    Event,
    RemoveAgent,
    UnblockAgent,
)
from codebase.model.actor import Actor
from codebase.model.aggregate import Claim, Release, Require
from codebase.model.refusals import Conflict, NotFound, Rejected

ID, ACCOUNT_ID = UUID(int=9), UUID(int=7)
ALICE, BOB, ADMIN = Actor("alice"), Actor("bob"), Actor("root", is_admin=True)
ACCOUNT = Account(
    opened=AccountOpened(
        account_id=ACCOUNT_ID,
        client="alice",
        name="Blue",
        email="a@blue.example",
        region=Region.NAM,
        vip=True,
    )
)
CREATE = CreateAgent(
    agent_id=ID,
    account_id=ACCOUNT_ID,
    account=ACCOUNT,
    actor=ALICE,
    name="Ada",
    email="Ada@blue.example",
)
REMOVE = RemoveAgent(account_id=ACCOUNT_ID, actor=ALICE)
BLOCK = BlockAgent(agent_id=ID, actor=ALICE, reason="a check")
UNBLOCK = UnblockAgent(agent_id=ID, actor=ALICE)
CREATED = AgentCreated(
    agent_id=ID,
    account_id=ACCOUNT_ID,
    client="alice",
    name="Ada",
    email="Ada@blue.example",
    region=Region.NAM,
    vip=True,
)
REMOVED = AgentRemoved(
    agent_id=ID,
    account_id=ACCOUNT_ID,
    client="alice",
    email="Ada@blue.example",
    region=Region.NAM,
    vip=True,
    because=Because.REMOVED,
)
BLOCKED = AgentBlocked(
    agent_id=ID,
    account_id=ACCOUNT_ID,
    client="alice",
    region=Region.NAM,
    vip=True,
    reason="a check",
)
UNBLOCKED = AgentUnblocked(
    agent_id=ID, account_id=ACCOUNT_ID, client="alice", region=Region.NAM, vip=True, reason=None
)


@pytest.mark.parametrize(
    ("given", "when", "then"),
    [
        pytest.param([], CREATE, [CREATED], id="an agent has its account's region and standing"),
        pytest.param([CREATED], CREATE, [], id="a repeat changes nothing"),
        pytest.param([CREATED], replace(CREATE, account=None), [], id="a repeat needs no account"),
        pytest.param([], replace(CREATE, account=None), NotFound, id="no account, no agent"),
        pytest.param(
            [],
            replace(CREATE, account=replace(ACCOUNT, is_closed=True)),
            NotFound,
            id="a closed account takes no agents",
        ),
        pytest.param([], replace(CREATE, actor=BOB), NotFound, id="nor does another client's"),
        pytest.param([], replace(CREATE, actor=ADMIN), [CREATED], id="an administrator may"),
        pytest.param([CREATED], REMOVE, [REMOVED], id="an agent is removed"),
        pytest.param([CREATED, BLOCKED], REMOVE, [REMOVED], id="also while it is blocked"),
        pytest.param([CREATED, REMOVED], REMOVE, [], id="it is removed once"),
        pytest.param([], REMOVE, [], id="what is not there is not removed"),
        pytest.param(
            [CREATED],
            replace(REMOVE, account_id=UUID(int=8)),
            Conflict,
            id="it is removed from its own account only",
        ),
        pytest.param([CREATED], replace(REMOVE, actor=BOB), [], id="to others it is not there"),
        pytest.param([CREATED], BLOCK, [BLOCKED], id="an agent is blocked"),
        pytest.param([CREATED, BLOCKED], BLOCK, [], id="who is blocked stays blocked"),
        pytest.param([CREATED, BLOCKED], UNBLOCK, [UNBLOCKED], id="it is unblocked"),
        pytest.param([CREATED], UNBLOCK, [], id="who is not blocked stays as it is"),
        pytest.param([CREATED, BLOCKED, UNBLOCKED], BLOCK, [BLOCKED], id="it can be blocked again"),
        pytest.param([], BLOCK, NotFound, id="what is not there cannot be blocked"),
        pytest.param([CREATED, REMOVED], BLOCK, NotFound, id="nor what was removed"),
        pytest.param([CREATED], replace(BLOCK, actor=BOB), NotFound, id="nor another client's"),
        pytest.param([CREATED, BLOCKED, REMOVED], UNBLOCK, NotFound, id="removed is for good"),
    ],
)
def test_deciding(given: list[Event], when: Command, then: list[Event] | type[Rejected]) -> None:
    state = AGENT.fold(given)
    if isinstance(then, list):
        assert AGENT.decide(when, state) == then
    else:
        with pytest.raises(then):
            AGENT.decide(when, state)


def test_an_agent_belongs_to_an_account_that_is_open() -> None:
    assert list(AGENT.guards(CREATED)) == [
        Require("open_account", str(ACCOUNT_ID)),
        Claim("agent_email", "ada@blue.example"),
        Claim(f"agents_of/{ACCOUNT_ID}", str(ID)),
    ]
    assert list(AGENT.guards(REMOVED)) == [
        Release("agent_email", "ada@blue.example"),
        Release(f"agents_of/{ACCOUNT_ID}", str(ID)),
    ]
    assert not AGENT.guards(BLOCKED)


@pytest.mark.parametrize(
    ("event", "topic"),
    [
        (CREATED, "agent.created.nam"),
        (REMOVED, "agent.removed.nam"),
        (BLOCKED, "agent.blocked.nam"),
        (UNBLOCKED, "agent.unblocked.nam"),
    ],
)
def test_an_event_goes_to_those_who_follow_its_region(event: Event, topic: str) -> None:
    assert AGENT.topic(event) == topic


def test_an_account_that_was_closed_meanwhile_is_not_found() -> None:
    refusal = AGENT.refusal("open_account", str(ACCOUNT_ID))
    assert isinstance(refusal, NotFound)
    assert refusal.detail == f"Account {ACCOUNT_ID} not found"
