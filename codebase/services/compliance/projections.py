"""What compliance remembers of the log: every agent, whether it is blocked, and each request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor

from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, Projector, of_type, write
from codebase.model.accounts.agent import AGENT, AgentCreated
from codebase.views.accounts.compliance_requests import REQUESTS
from codebase.views.accounts.histories import agent_history

INSERT_CREATED = """
    INSERT INTO compliance_agent (id, account_id, name, email, region, is_blocked, created_at,
                                  version)
    SELECT event.stream_id, created.account_id, created.name, created.email, created.region, false,
           event.recorded_at, 0
    FROM unnest(%(stream_id)b::uuid[], %(recorded_at)b::timestamptz[], %(data)b::text[]::jsonb[])
        AS event (stream_id, recorded_at, data),
        jsonb_to_record(event.data) AS created (
            account_id uuid, name text, email text, region text
        )
    ON CONFLICT DO NOTHING
"""

# Of the events that an agent has not seen yet, the last one of each kind counts.
CHANGE = """
    UPDATE compliance_agent AS agent
    SET is_blocked = coalesce(changed.is_blocked, agent.is_blocked),
        removed_at = coalesce(agent.removed_at, changed.removed_at),
        version = changed.version
    FROM (
        SELECT event.stream_id, max(event.version) AS version,
               min(event.recorded_at) FILTER (WHERE event.type = 'AgentRemoved') AS removed_at,
               (
                   array_agg(event.type = 'AgentBlocked' ORDER BY event.version DESC)
                       FILTER (WHERE event.type IN ('AgentBlocked', 'AgentUnblocked'))
               )[1] AS is_blocked
        FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(type)b::text[],
                    %(recorded_at)b::timestamptz[])
            AS event (stream_id, version, type, recorded_at)
        JOIN compliance_agent AS known ON known.id = event.stream_id
        WHERE event.version > known.version
        GROUP BY event.stream_id
    ) AS changed
    WHERE agent.id = changed.stream_id
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentRow:
    """An agent, also a removed one; `version` is that of its last event."""

    id: UUID
    account_id: UUID
    name: str
    email: str
    region: str
    is_blocked: bool
    created_at: datetime
    removed_at: datetime | None
    version: int


def apply(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Create agents, block, unblock and remove them."""
    write(cursor, INSERT_CREATED, of_type(events, AgentCreated))
    write(cursor, CHANGE, events)


def expected_rows(agent_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[AgentRow]:
    """The row that an agent's stream comes to, by the model's fold."""
    history = agent_history(recorded)
    if history is not None:
        created = history.state.created
        yield AgentRow(
            id=agent_id,
            account_id=created.account_id,
            name=created.name,
            email=created.email,
            region=created.region,
            is_blocked=history.state.is_blocked,
            created_at=history.began_at,
            removed_at=history.ended_at,
            version=history.version,
        )


COMPLIANCE = Projector(
    name="compliance",
    projections=(
        Projection(
            name="compliance_agents",
            aggregates=(AGENT,),
            tables=("compliance_agent",),
            apply=apply,
            expected_rows=expected_rows,
        ),
        REQUESTS,
    ),
)
