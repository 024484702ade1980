"""Accounts by name, and the agents that work for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from codebase.model.accounts.account import Account
from codebase.model.accounts.agent import Agent


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountRow:
    """One account; `closed_at` is None while it is open."""

    id: UUID
    client: str
    name: str
    email: str
    region: str
    vip: bool
    closed_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentRow:
    """One agent; `removed_at` is None while it is there."""

    id: UUID
    account_id: UUID
    client: str
    name: str
    email: str
    blocked: bool
    removed_at: datetime | None


def account_row(account: Account, closed_at: datetime | None) -> AccountRow:
    """The row that an account becomes; `closed_at` is when the log recorded its end, in UTC."""
    opened = account.opened
    return AccountRow(
        id=opened.account_id,
        client=opened.client,
        name=opened.name,
        email=opened.email,
        region=opened.region,
        vip=opened.vip,
        closed_at=closed_at,
    )


def agent_row(agent: Agent, removed_at: datetime | None) -> AgentRow:
    """The row that an agent becomes; `removed_at` is when the log recorded its end, in UTC."""
    created = agent.created
    return AgentRow(
        id=created.agent_id,
        account_id=created.account_id,
        client=created.client,
        name=created.name,
        email=created.email,
        blocked=agent.is_blocked,
        removed_at=removed_at,
    )
