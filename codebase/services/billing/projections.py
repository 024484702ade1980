"""What billing remembers: accounts, when each of their agents was in use, and prices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.types.multirange import Multirange

from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, Projector, of_type, write
from codebase.model.accounts.account import ACCOUNT, AccountClosed, AccountOpened, Region
from codebase.model.accounts.agent import AGENT, AgentCreated
from codebase.services.billing.kept_months import TABLES as KEPT
from codebase.services.billing.kept_months import check_kept_months, forget_months
from codebase.views.accounts.accounts import closing
from codebase.views.accounts.histories import account_history, agent_history
from codebase.views.accounts.prices_of_use import prices_projection
from codebase.views.accounts.usage_intervals import switching, usage_of_history

INSERT_OPENED = """
    INSERT INTO billing_account (id, client, name, region, vip, opened_at)
    SELECT event.stream_id, opened.client, opened.name, opened.region, opened.vip,
           event.recorded_at
    FROM unnest(%(stream_id)b::uuid[], %(recorded_at)b::timestamptz[], %(data)b::text[]::jsonb[])
        AS event (stream_id, recorded_at, data),
        jsonb_to_record(event.data) AS opened (client text, name text, region text, vip boolean)
    WHERE %(region)s::text IS NULL OR opened.region = %(region)s::text
    ON CONFLICT DO NOTHING
"""

CLOSE = closing("billing_account")

INSERT_CREATED = """
    INSERT INTO billing_agent (id, account_id, name, region, created_at, usage, version)
    SELECT event.stream_id, created.account_id, created.name, created.region, event.recorded_at,
           '{}', 0
    FROM unnest(%(stream_id)b::uuid[], %(recorded_at)b::timestamptz[], %(data)b::text[]::jsonb[])
        AS event (stream_id, recorded_at, data),
        jsonb_to_record(event.data) AS created (account_id uuid, name text, region text)
    WHERE %(region)s::text IS NULL OR created.region = %(region)s::text
    ON CONFLICT DO NOTHING
"""

SWITCH = switching("billing_agent")


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountRow:
    """An account of this billing, open or closed."""

    id: UUID
    client: str
    name: str
    region: str
    vip: bool
    opened_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentRow:
    """An agent of this billing; `version` is that of its last event."""

    id: UUID
    account_id: UUID
    name: str
    region: str
    created_at: datetime
    removed_at: datetime | None
    usage: Multirange[datetime]
    version: int


def apply_to_accounts(
    region: Region | None, cursor: Cursor[Any], events: Sequence[LoggedEvent]
) -> None:
    """Open and close accounts."""
    write(cursor, INSERT_OPENED, of_type(events, AccountOpened), region=region)
    write(cursor, CLOSE, of_type(events, AccountClosed))


def apply_to_agents(
    region: Region | None, cursor: Cursor[Any], events: Sequence[LoggedEvent]
) -> None:
    """Create agents, and switch their use on and off."""
    write(cursor, INSERT_CREATED, of_type(events, AgentCreated), region=region)
    write(cursor, SWITCH, events)


def expected_accounts(
    region: Region | None, account_id: UUID, recorded: Sequence[RecordedEvent]
) -> Iterable[AccountRow]:
    """The row that an account's stream comes to."""
    history = account_history(recorded)
    if history and region in {None, history.state.opened.region}:
        opened = history.state.opened
        yield AccountRow(
            id=account_id,
            client=opened.client,
            name=opened.name,
            region=opened.region,
            vip=opened.vip,
            opened_at=history.began_at,
            closed_at=history.ended_at,
        )


def expected_agents(
    region: Region | None, agent_id: UUID, recorded: Sequence[RecordedEvent]
) -> Iterable[AgentRow]:
    """The row that an agent's stream comes to, by the model's own reckoning of use."""
    history = agent_history(recorded)
    if history and region in {None, history.state.created.region}:
        created = history.state.created
        yield AgentRow(
            id=agent_id,
            account_id=created.account_id,
            name=created.name,
            region=created.region,
            created_at=history.began_at,
            removed_at=history.ended_at,
            usage=usage_of_history(history),
            version=history.version,
        )


def billing(region: Region | None) -> Projector:
    """The projector of one region, or of all; a store has one of them."""
    own = (
        Projection(
            name="billing_accounts",
            aggregates=(ACCOUNT,),
            tables=("billing_account",),
            apply=partial(apply_to_accounts, region),
            expected_rows=partial(expected_accounts, region),
        ),
        Projection(
            name="billing_agents",
            aggregates=(AGENT,),
            tables=("billing_agent",),
            apply=partial(apply_to_agents, region),
            expected_rows=partial(expected_agents, region),
        ),
        prices_projection("billing_prices", "billing_price", region),
    )
    return Projector(
        name=f"billing_{region}" if region else "billing",
        projections=tuple(map(forgetting_months, own)),
        check_kept=check_kept_months,
    )


def forgetting_months(projection: Projection) -> Projection:
    """The projection, by which what is kept of months is deleted that its events change."""

    def apply(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
        projection.apply(cursor, events)
        forget_months(cursor, events)

    return replace(projection, apply=apply, kept=KEPT)
