"""The view of agents: one row for each, also when it is removed; others are listed by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor, sql
from pydantic import BaseModel

from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, of_type, write
from codebase.model.accounts.agent import (
    AGENT,
    AgentBlocked,
    AgentCreated,
    AgentRemoved,
    AgentUnblocked,
)
from codebase.model.accounts.agent import (
    Agent as State,
)
from codebase.views.accounts.histories import agent_history
from codebase.views.accounts.pages_by_name import pages_by_name
from codebase.web.pages import PageSize
from codebase.web.parked import asking_by_id, is_parked
from codebase.web.personal import Personal
from codebase.web.schemas import example


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


def apply(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Insert who was created, then note what became of them."""
    write(cursor, INSERT_CREATED, of_type(events, AgentCreated))
    write(cursor, CHANGE, of_type(events, AgentBlocked, AgentUnblocked, AgentRemoved))


def expected_rows(agent_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[AgentRow]:
    """The row that an agent's stream comes to, by the model's fold."""
    history = agent_history(recorded)
    if history is not None:
        created = history.state.created
        yield AgentRow(
            id=agent_id,
            account_id=created.account_id,
            client=created.client,
            name=created.name,
            email=created.email,
            blocked=history.state.is_blocked,
            removed_at=history.ended_at,
        )


AGENTS = Projection(
    name="agents",
    aggregates=(AGENT,),
    tables=("agent",),
    apply=apply,
    expected_rows=expected_rows,
)


BO = {
    "id": "3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe",
    "account_id": "6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11",
    "name": "Bo Lind",
    "email": "bo.lind@blue.example",
    "blocked": False,
}


class Agent(BaseModel):
    """An agent of an account."""

    model_config = example(**BO)

    id: UUID
    account_id: UUID
    name: Personal[str]
    email: Personal[str]
    blocked: bool

    @classmethod
    def of(cls, agent: State) -> Agent:
        """What is shown of an agent; from the log, before there is a row."""
        created = agent.created
        return cls(
            id=created.agent_id,
            account_id=created.account_id,
            name=created.name,
            email=created.email,
            blocked=agent.is_blocked,
        )


class AgentPage(BaseModel):
    """Agents by name; `last_reference` leads to the next ones, and is null on an empty page."""

    items: list[Agent]
    last_reference: UUID | None
    size: PageSize


# For everybody's rows the client is NULL, see Caller.only_client.
PAGE_OF_ACCOUNT_ARGUMENTS = ("clients", "accounts", "references", "sizes")
AGENT_ARGUMENTS = ("clients", "accounts", "ids")
EMAIL_ARGUMENTS = ("clients", "emails")

PAGES = pages_by_name("agent", Agent.model_fields, "removed_at")
CATEGORIES = frozenset({AGENT.category})
ASKING_FOR_PARKED = asking_by_id("agent")
ASKING_FOR_PARKED_ACCOUNT = asking_by_id("account", "accounts")
ASKING_FOR_PARKED_BY_EMAIL = (
    sql.SQL("""
    SELECT asked.ordinal
    FROM unnest(%(clients)b::text[], %(emails)b::text[])
        WITH ORDINALITY AS asked (client, email, ordinal)
    CROSS JOIN LATERAL (
        SELECT FROM agent AS found
        CROSS JOIN LATERAL ({is_parked}) AS parked
        WHERE lower(found.email) >= lower(asked.email)
          AND lower(found.email) <= lower(asked.email)
          AND found.removed_at IS NULL
          AND (asked.client IS NULL OR found.client = asked.client)
        ORDER BY lower(found.email)
        LIMIT 1
    ) AS its_agent
""")
    .format(is_parked=is_parked("found", "id"))
    .as_string()
)

# A request for an account that is not there, or not the client's, gets no row. The
# account is compared as the first part of the order: see pages_by_name.py.
PAGES_OF_ACCOUNT = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL,
           page.items::text, page.items -> -1 ->> 'id'
    FROM unnest(%(clients)b::text[], %(accounts)b::uuid[], %(references)b::uuid[],
                %(sizes)b::integer[])
        WITH ORDINALITY AS asked (client, account_id, reference, size, ordinal)
    JOIN account
        ON account.id = asked.account_id AND account.closed_at IS NULL
       AND (asked.client IS NULL OR account.client = asked.client)
    LEFT JOIN agent AS boundary
        ON boundary.id = asked.reference AND boundary.account_id = asked.account_id
    LEFT JOIN LATERAL (
        SELECT json_agg(found) AS items
        FROM (
            SELECT id, account_id, name, email, blocked
            FROM agent
            WHERE account_id <= asked.account_id AND removed_at IS NULL
              AND (account_id, name, id) > (
                  asked.account_id,
                  CASE WHEN asked.reference IS NULL THEN '' ELSE boundary.name END,
                  coalesce(asked.reference, '00000000-0000-0000-0000-000000000000')
              )
            ORDER BY account_id, name, id
            LIMIT asked.size
        ) AS found
    ) AS page ON true
"""

AGENTS_BY_ID = """
    SELECT asked.ordinal, row_to_json(shown)::text
    FROM unnest(%(clients)b::text[], %(accounts)b::uuid[], %(ids)b::uuid[])
        WITH ORDINALITY AS asked (client, account_id, id, ordinal)
    JOIN agent AS found ON found.id = asked.id AND found.account_id = asked.account_id
    CROSS JOIN LATERAL (
        SELECT found.id, found.account_id, found.name, found.email, found.blocked
    ) AS shown
    WHERE found.removed_at IS NULL AND (asked.client IS NULL OR found.client = asked.client)
"""

AGENTS_BY_EMAIL = """
    SELECT asked.ordinal, row_to_json(shown)::text
    FROM unnest(%(clients)b::text[], %(emails)b::text[])
        WITH ORDINALITY AS asked (client, email, ordinal)
    JOIN agent AS found ON lower(found.email) = lower(asked.email) AND found.removed_at IS NULL
    CROSS JOIN LATERAL (
        SELECT found.id, found.account_id, found.name, found.email, found.blocked
    ) AS shown
    WHERE asked.client IS NULL OR found.client = asked.client
"""
