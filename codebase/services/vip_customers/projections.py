"""What vip_customers remembers: VIP accounts, when each of their agents was in use, and prices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.types.multirange import Multirange

from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, Projector, of_type, write
from codebase.model.accounts.account import ACCOUNT, AccountClosed, AccountOpened
from codebase.model.accounts.agent import AGENT, AgentCreated
from codebase.views.accounts.accounts import closing
from codebase.views.accounts.histories import account_history, agent_history
from codebase.views.accounts.prices_of_use import prices_projection
from codebase.views.accounts.usage_intervals import switching, usage_of_history

INSERT_OPENED = """
    INSERT INTO vip_account (id, region, opened_at)
    SELECT event.stream_id, opened.region, event.recorded_at
    FROM unnest(%(stream_id)b::uuid[], %(recorded_at)b::timestamptz[], %(data)b::text[]::jsonb[])
        AS event (stream_id, recorded_at, data),
        jsonb_to_record(event.data) AS opened (region text, vip boolean)
    WHERE opened.vip
    ON CONFLICT DO NOTHING
"""

CLOSE = closing("vip_account")

INSERT_CREATED = """
    INSERT INTO vip_agent (id, account_id, region, created_at, usage, version)
    SELECT event.stream_id, created.account_id, created.region, event.recorded_at, '{}', 0
    FROM unnest(%(stream_id)b::uuid[], %(recorded_at)b::timestamptz[], %(data)b::text[]::jsonb[])
        AS event (stream_id, recorded_at, data),
        jsonb_to_record(event.data) AS created (account_id uuid, region text, vip boolean)
    WHERE created.vip
    ON CONFLICT DO NOTHING
"""

SWITCH = switching("vip_agent")


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountRow:
    """A VIP account, open or closed."""

    id: UUID
    region: str
    opened_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentRow:
    """An agent of a VIP account; `version` is that of its last event."""

    id: UUID
    account_id: UUID
    region: str
    created_at: datetime
    removed_at: datetime | None
    usage: Multirange[datetime]
    version: int


def apply_to_accounts(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Open and close VIP accounts."""
    write(cursor, INSERT_OPENED, of_type(events, AccountOpened))
    write(cursor, CLOSE, of_type(events, AccountClosed))


def apply_to_agents(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Create agents, and switch their use on and off."""
    write(cursor, INSERT_CREATED, of_type(events, AgentCreated))
    write(cursor, SWITCH, events)


def expected_accounts(account_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[AccountRow]:
    """The row that an account's stream comes to."""
    history = account_history(recorded)
    if history and history.state.opened.vip:
        yield AccountRow(
            id=account_id,
            region=history.state.opened.region,
            opened_at=history.began_at,
            closed_at=history.ended_at,
        )


def expected_agents(agent_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[AgentRow]:
    """The row that an agent's stream comes to, by the model's own reckoning of use."""
    history = agent_history(recorded)
    if history and history.state.created.vip:
        yield AgentRow(
            id=agent_id,
            account_id=history.state.created.account_id,
            region=history.state.created.region,
            created_at=history.began_at,
            removed_at=history.ended_at,
            usage=usage_of_history(history),
            version=history.version,
        )


VIP_CUSTOMERS = Projector(
    name="vip_customers",
    projections=(
        Projection(
            name="vip_accounts",
            aggregates=(ACCOUNT,),
            tables=("vip_account",),
            apply=apply_to_accounts,
            expected_rows=expected_accounts,
        ),
        Projection(
            name="vip_agents",
            aggregates=(AGENT,),
            tables=("vip_agent",),
            apply=apply_to_agents,
            expected_rows=expected_agents,
        ),
        prices_projection("vip_prices", "vip_price"),
    ),
)

# Agents' routing keys do not say whether their account is a VIP's; their events do.
