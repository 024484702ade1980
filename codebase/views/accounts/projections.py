"""The views of accounts and agents: one row for each, also when it is gone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor

from codebase.engine.log.codec import fold
from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, columns
from codebase.model.accounts.account import ACCOUNT, AccountClosed, AccountOpened
from codebase.model.accounts.agent import AGENT, AgentCreated, AgentRemoved
from codebase.views.accounts.rows import AccountRow, AgentRow, account_row, agent_row

INSERT_OPENED = """
    INSERT INTO account (id, client, name, email, region, vip)
    SELECT event.stream_id, opened.client, opened.name, opened.email, opened.region, opened.vip
    FROM unnest(%(stream_id)b::uuid[], %(data)b::text[]::jsonb[]) AS event (stream_id, data),
        jsonb_to_record(event.data) AS opened (
            client text, name text, email text, region text, vip boolean
        )
"""

CLOSE = """
    UPDATE account SET closed_at = event.recorded_at
    FROM unnest(%(stream_id)b::uuid[], %(recorded_at)b::timestamptz[])
        AS event (stream_id, recorded_at)
    WHERE account.id = event.stream_id
"""

INSERT_CREATED = """
    INSERT INTO agent (id, account_id, client, name, email, blocked)
    SELECT event.stream_id, created.account_id, created.client, created.name, created.email, false
    FROM unnest(%(stream_id)b::uuid[], %(data)b::text[]::jsonb[]) AS event (stream_id, data),
        jsonb_to_record(event.data) AS created (
            account_id uuid, client text, name text, email text
        )
"""

# What several events of one agent come to is decided by the last one of each kind.
CHANGE = """
    UPDATE agent
    SET blocked = coalesce(changed.blocked, agent.blocked),
        removed_at = coalesce(changed.removed_at, agent.removed_at)
    FROM (
        SELECT stream_id,
               (array_agg(type = 'AgentBlocked' ORDER BY version DESC)
                   FILTER (WHERE type IN ('AgentBlocked', 'AgentUnblocked')))[1] AS blocked,
               max(recorded_at) FILTER (WHERE type = 'AgentRemoved') AS removed_at
        FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(type)b::text[],
                    %(recorded_at)b::timestamptz[])
            AS event (stream_id, version, type, recorded_at)
        GROUP BY stream_id
    ) AS changed
    WHERE agent.id = changed.stream_id
"""


def apply_to_accounts(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Insert who was opened, then note who was closed."""
    _execute(cursor, INSERT_OPENED, _of_type(events, AccountOpened))
    _execute(cursor, CLOSE, _of_type(events, AccountClosed))


def apply_to_agents(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Insert who was created, then note what became of them."""
    created = _of_type(events, AgentCreated)
    _execute(cursor, INSERT_CREATED, created)
    _execute(cursor, CHANGE, [each for each in events if each.type != AgentCreated.__name__])


def _of_type(events: Sequence[LoggedEvent], kind: type[Any]) -> list[LoggedEvent]:
    return [event for event in events if event.type == kind.__name__]


def _execute(cursor: Cursor[Any], statement: str, events: Sequence[LoggedEvent]) -> None:
    if events:
        # Planned anew for every batch: a plan from when the table was small would read all of it.
        cursor.execute(statement, columns(events), prepare=False)


def expected_accounts(_account_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[AccountRow]:
    """The row that an account's stream comes to, by the model's fold."""
    if _begins_with(recorded, AccountOpened):
        account = fold(ACCOUNT, recorded)
        yield account_row(account, _time_of(recorded, AccountClosed))


def expected_agents(_agent_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[AgentRow]:
    """The row that an agent's stream comes to, by the model's fold."""
    if _begins_with(recorded, AgentCreated):
        agent = fold(AGENT, recorded)
        yield agent_row(agent, _time_of(recorded, AgentRemoved))


def _begins_with(recorded: Sequence[RecordedEvent], kind: type[Any]) -> bool:
    """Whether there is anything to fold: without its first event nothing follows from the rest."""
    return bool(recorded) and recorded[0].type == kind.__name__


def _time_of(recorded: Sequence[RecordedEvent], kind: type[Any]) -> datetime | None:
    times = [row.recorded_at for row in recorded if row.type == kind.__name__]
    return times[-1] if times else None


ACCOUNTS = Projection(
    name="accounts",
    categories=frozenset({ACCOUNT.category}),
    tables=("account",),
    apply=apply_to_accounts,
    expected_rows=expected_accounts,
)

AGENTS = Projection(
    name="agents",
    categories=frozenset({AGENT.category}),
    tables=("agent",),
    apply=apply_to_agents,
    expected_rows=expected_agents,
)
