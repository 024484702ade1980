"""What billing remembers: accounts, and when each of their agents was in use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.types.multirange import Multirange

from codebase.engine.log.codec import decode
from codebase.engine.log.events import RecordedEvent
from codebase.engine.messages.topology import Subscription
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, Projector, columns
from codebase.model.accounts.account import ACCOUNT, AccountClosed, AccountOpened, Region
from codebase.model.accounts.agent import AGENT, AgentCreated, AgentRemoved
from codebase.model.accounts.usage import usage_of
from codebase.views.accounts.intervals import multirange

INSERT_OPENED = """
    INSERT INTO billing_account (id, client, name, region, vip, opened_at)
    SELECT event.stream_id, opened.client, opened.name, opened.region, opened.vip,
           event.recorded_at
    FROM unnest(%(stream_id)b::uuid[], %(type)b::text[], %(recorded_at)b::timestamptz[],
                %(data)b::text[]::jsonb[])
        AS event (stream_id, type, recorded_at, data),
        jsonb_to_record(event.data) AS opened (client text, name text, region text, vip boolean)
    WHERE event.type = 'AccountOpened'
      AND (%(region)s::text IS NULL OR opened.region = %(region)s::text)
    ON CONFLICT DO NOTHING
"""

CLOSE = """
    UPDATE billing_account AS account
    SET closed_at = coalesce(account.closed_at, event.recorded_at)
    FROM unnest(%(stream_id)b::uuid[], %(type)b::text[], %(recorded_at)b::timestamptz[])
        AS event (stream_id, type, recorded_at)
    WHERE account.id = event.stream_id AND event.type = 'AccountClosed'
"""

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

# Each event switches use on or off, until the agent's next one. What an agent had been in use
# before the first of them stays; what these add is joined to it.
SWITCH = """
    UPDATE billing_agent AS agent
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
            JOIN billing_agent AS known ON known.id = event.stream_id
            WHERE event.version > known.version
        ) AS switch
        GROUP BY stream_id
    ) AS changed
    WHERE agent.id = changed.stream_id
"""


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
    parameters = {**columns(events), "region": region}
    # Planned anew for every batch: a plan made while the table was small would read all of it.
    cursor.execute(INSERT_OPENED, parameters, prepare=False)
    if any(event.type == AccountClosed.__name__ for event in events):
        cursor.execute(CLOSE, parameters, prepare=False)


def apply_to_agents(
    region: Region | None, cursor: Cursor[Any], events: Sequence[LoggedEvent]
) -> None:
    """Create agents, and switch their use on and off."""
    created = [event for event in events if event.type == AgentCreated.__name__]
    if created:
        cursor.execute(INSERT_CREATED, {**columns(created), "region": region}, prepare=False)
    cursor.execute(SWITCH, columns(events), prepare=False)


def expected_accounts(
    region: Region | None, account_id: UUID, recorded: Sequence[RecordedEvent]
) -> Iterable[AccountRow]:
    """The row that an account's stream comes to."""
    closed_at = None
    opened: tuple[AccountOpened, datetime] | None = None
    for row in recorded:
        match decode(row, ACCOUNT):
            case AccountOpened() as event:
                opened = event, row.recorded_at
            case AccountClosed():
                closed_at = row.recorded_at
    if opened and region in {None, opened[0].region}:
        event, opened_at = opened
        yield AccountRow(
            id=account_id,
            client=event.client,
            name=event.name,
            region=event.region,
            vip=event.vip,
            opened_at=opened_at,
            closed_at=closed_at,
        )


def expected_agents(
    region: Region | None, agent_id: UUID, recorded: Sequence[RecordedEvent]
) -> Iterable[AgentRow]:
    """The row that an agent's stream comes to, by the model's own reckoning of use."""
    history = [(row.recorded_at, decode(row, AGENT)) for row in recorded]
    if not history or not isinstance(history[0][1], AgentCreated):
        return  # its creation was set aside, and nothing follows from the rest
    created_at, created = history[0]
    if region in {None, created.region}:
        removals = [at for at, event in history if isinstance(event, AgentRemoved)]
        yield AgentRow(
            id=agent_id,
            account_id=created.account_id,
            name=created.name,
            region=created.region,
            created_at=created_at,
            removed_at=removals[0] if removals else None,
            usage=multirange(usage_of(history)),
            version=recorded[-1].version,
        )


def billing(region: Region | None) -> Projector:
    """The projector of one region, or of all; a store has one of them."""
    return Projector(
        name=f"billing_{region}" if region else "billing",
        projections=(
            Projection(
                name="billing_accounts",
                categories=frozenset({ACCOUNT.category}),
                tables=("billing_account",),
                apply=partial(apply_to_accounts, region),
                expected_rows=partial(expected_accounts, region),
            ),
            Projection(
                name="billing_agents",
                categories=frozenset({AGENT.category}),
                tables=("billing_agent",),
                apply=partial(apply_to_agents, region),
                expected_rows=partial(expected_agents, region),
            ),
        ),
    )


def subscription(region: Region | None) -> Subscription:
    """What the projector of a region wants to be told of."""
    name = billing(region).name
    if region is None:
        return Subscription(name=name, topics=("account.#", "agent.#"))
    return Subscription(name=name, topics=(f"account.*.{region}.#", f"agent.*.{region}"))
