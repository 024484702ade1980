"""What vip_customers remembers: VIP accounts, and when each of their agents was in use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.types.multirange import Multirange

from codebase.engine.log.codec import decode
from codebase.engine.log.events import RecordedEvent
from codebase.engine.messages.topology import Subscription
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, Projector, columns
from codebase.model.accounts.account import ACCOUNT, AccountClosed, AccountOpened
from codebase.model.accounts.agent import AGENT, AgentCreated, AgentRemoved
from codebase.model.accounts.usage import usage_of
from codebase.views.accounts.intervals import multirange

INSERT_OPENED = """
    INSERT INTO vip_account (id, region, opened_at)
    SELECT event.stream_id, opened.region, event.recorded_at
    FROM unnest(%(stream_id)b::uuid[], %(type)b::text[], %(recorded_at)b::timestamptz[],
                %(data)b::text[]::jsonb[])
        AS event (stream_id, type, recorded_at, data),
        jsonb_to_record(event.data) AS opened (region text, vip boolean)
    WHERE event.type = 'AccountOpened' AND opened.vip
    ON CONFLICT DO NOTHING
"""

CLOSE = """
    UPDATE vip_account AS account
    SET closed_at = coalesce(account.closed_at, event.recorded_at)
    FROM unnest(%(stream_id)b::uuid[], %(type)b::text[], %(recorded_at)b::timestamptz[])
        AS event (stream_id, type, recorded_at)
    WHERE account.id = event.stream_id AND event.type = 'AccountClosed'
"""

INSERT_CREATED = """
    INSERT INTO vip_agent (id, account_id, region, created_at, usage, version)
    SELECT event.stream_id, created.account_id, created.region, event.recorded_at, '{}', 0
    FROM unnest(%(stream_id)b::uuid[], %(recorded_at)b::timestamptz[], %(data)b::text[]::jsonb[])
        AS event (stream_id, recorded_at, data),
        jsonb_to_record(event.data) AS created (account_id uuid, region text, vip boolean)
    WHERE created.vip
    ON CONFLICT DO NOTHING
"""

# Each event switches use on or off, until the agent's next one. What an agent had been in use
# before the first of them stays; what these add is joined to it.
SWITCH = """
    UPDATE vip_agent AS agent
    SET usage = agent.usage * tstzmultirange(tstzrange(NULL, changed.since)) + changed.usage,
        removed_at = coalesce(agent.removed_at, changed.removed_at),
        version = changed.version
    FROM (
        SELECT stream_id, min(recorded_at) AS since, max(version) AS version,
               min(recorded_at) FILTER (WHERE type = 'AgentRemoved') AS removed_at,
               coalesce(
                   range_agg(tstzrange(recorded_at, next_at))
                       FILTER (WHERE type IN ('AgentCreated', 'AgentUnblocked')),
                   '{}'
               ) AS usage
        FROM (
            SELECT event.stream_id, event.version, event.type, event.recorded_at,
                   lead(event.recorded_at) OVER (
                       PARTITION BY event.stream_id ORDER BY event.version
                   ) AS next_at
            FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(type)b::text[],
                        %(recorded_at)b::timestamptz[])
                AS event (stream_id, version, type, recorded_at)
            JOIN vip_agent AS known ON known.id = event.stream_id
            WHERE event.version > known.version
        ) AS switch
        GROUP BY stream_id
    ) AS changed
    WHERE agent.id = changed.stream_id
"""


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
    parameters = columns(events)
    # Planned anew for every batch: a plan made while the table was small would read all of it.
    cursor.execute(INSERT_OPENED, parameters, prepare=False)
    if any(event.type == AccountClosed.__name__ for event in events):
        cursor.execute(CLOSE, parameters, prepare=False)


def apply_to_agents(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Create agents, and switch their use on and off."""
    created = [event for event in events if event.type == AgentCreated.__name__]
    if created:
        cursor.execute(INSERT_CREATED, columns(created), prepare=False)
    cursor.execute(SWITCH, columns(events), prepare=False)


def expected_accounts(account_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[AccountRow]:
    """The row that an account's stream comes to."""
    history = [(row.recorded_at, decode(row, ACCOUNT)) for row in recorded]
    closings = [at for at, event in history if isinstance(event, AccountClosed)]
    for opened_at, event in history:
        if isinstance(event, AccountOpened) and event.vip:
            yield AccountRow(
                id=account_id,
                region=event.region,
                opened_at=opened_at,
                closed_at=closings[0] if closings else None,
            )


def expected_agents(agent_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[AgentRow]:
    """The row that an agent's stream comes to, by the model's own reckoning of use."""
    history = [(row.recorded_at, decode(row, AGENT)) for row in recorded]
    removals = [at for at, event in history if isinstance(event, AgentRemoved)]
    for created_at, event in history:
        if isinstance(event, AgentCreated) and event.vip:
            yield AgentRow(
                id=agent_id,
                account_id=event.account_id,
                region=event.region,
                created_at=created_at,
                removed_at=removals[0] if removals else None,
                usage=multirange(usage_of(history)),
                version=recorded[-1].version,
            )


VIP_CUSTOMERS = Projector(
    name="vip_customers",
    projections=(
        Projection(
            name="vip_accounts",
            categories=frozenset({ACCOUNT.category}),
            tables=("vip_account",),
            apply=apply_to_accounts,
            expected_rows=expected_accounts,
        ),
        Projection(
            name="vip_agents",
            categories=frozenset({AGENT.category}),
            tables=("vip_agent",),
            apply=apply_to_agents,
            expected_rows=expected_agents,
        ),
    ),
)

# Agents' routing keys do not say whether their account is a VIP's; their events do.
SUBSCRIPTION = Subscription(name=VIP_CUSTOMERS.name, topics=("account.*.*.vip", "agent.#"))
