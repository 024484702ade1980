"""The view of agents for compliance: found by the beginning of a name, by address, or by an id."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, LiteralString
from uuid import UUID

from fastapi import Request
from psycopg import Cursor, sql
from pydantic import BaseModel, TypeAdapter

from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, of_type, write
from codebase.model.accounts.account import Region
from codebase.model.accounts.agent import AGENT, AgentCreated
from codebase.model.refusals import NotFound
from codebase.views.accounts.histories import agent_history
from codebase.web.consistent_reads import ConsistentReads, Query
from codebase.web.exchange import caller_of
from codebase.web.pages import PageSize
from codebase.web.parked import is_parked
from codebase.web.personal import Personal
from codebase.web.schemas import example


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


COMPLIANCE_AGENTS = Projection(
    name="compliance_agents",
    aggregates=(AGENT,),
    tables=("compliance_agent",),
    apply=apply,
    expected_rows=expected_rows,
)


class Agent(BaseModel):
    """An agent that has not been removed."""

    model_config = example(
        id="3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe",
        account_id="6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11",
        name="Bo Lind",
        email="bo.lind@blue.example",
        region="emea",
        blocked=False,
    )

    id: UUID
    account_id: UUID
    name: Personal[str]
    email: Personal[str]
    region: Region
    blocked: bool


class AgentPage(BaseModel):
    """Agents by name; `last_reference` leads to the next ones, and is null on an empty page."""

    items: list[Agent]
    last_reference: UUID | None
    size: PageSize


# A page begins after the agent that `references` names, who may have been removed meanwhile; its
# first column says whether there ever was one.
PAGES = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL, page.items::text
    FROM ({asked}) AS asked
    LEFT JOIN compliance_agent AS boundary ON boundary.id = asked.reference
    CROSS JOIN LATERAL (
        SELECT lower(boundary.name) COLLATE "C" AS name,
               coalesce(asked.reference, '00000000-0000-0000-0000-000000000000') AS id
    ) AS start
    LEFT JOIN LATERAL (
        SELECT json_agg(json_build_object(
            'id', id, 'account_id', account_id, 'name', name, 'email', email, 'region', region,
            'blocked', is_blocked
        )) AS items
        FROM ({found}) AS found
    ) AS page ON true
"""

BY_NAME: LiteralString = """
    SELECT lower(prefix) COLLATE "C" AS prefix, reference, size, ordinal
    FROM unnest(%(prefixes)b::text[], %(references)b::uuid[], %(sizes)b::integer[])
        WITH ORDINALITY AS given (prefix, reference, size, ordinal)
"""
# Those whose names begin alike; everybody for an empty beginning. U+10FFFF comes after every other
# character.
ALIKE: LiteralString = """
    SELECT id, account_id, name, email, region, is_blocked FROM compliance_agent
    WHERE {who}
      AND (lower(name) COLLATE "C", id) > (greatest(start.name, asked.prefix), start.id)
      AND lower(name) COLLATE "C" < asked.prefix || chr(1114111)
    ORDER BY lower(name) COLLATE "C", id
    LIMIT asked.size
"""
BY_ID: LiteralString = """
    SELECT id, reference, size, ordinal
    FROM unnest(%(ids)b::uuid[], %(references)b::uuid[], %(sizes)b::integer[])
        WITH ORDINALITY AS given (id, reference, size, ordinal)
"""
# The one with an id, or else those of the account with that id.
WITH_ID: LiteralString = """
    (
        SELECT id, account_id, name, email, region, is_blocked FROM compliance_agent
        WHERE id = asked.id AND removed_at IS NULL AND asked.reference IS NULL
    )
    UNION ALL
    (
        SELECT id, account_id, name, email, region, is_blocked FROM compliance_agent
        WHERE account_id = asked.id AND removed_at IS NULL
          AND (lower(name) COLLATE "C", id) > (coalesce(start.name, ''), start.id)
        ORDER BY lower(name) COLLATE "C", id
        LIMIT asked.size
    )
"""
BY_EMAIL: LiteralString = """
    SELECT email, NULL::uuid AS reference, ordinal
    FROM unnest(%(emails)b::text[]) WITH ORDINALITY AS given (email, ordinal)
"""
WITH_EMAIL: LiteralString = """
    SELECT id, account_id, name, email, region, is_blocked FROM compliance_agent
    WHERE lower(email) = lower(asked.email) AND removed_at IS NULL
"""


def _pages(asked: LiteralString, found: LiteralString, who: LiteralString = "") -> str:
    parts = {"asked": sql.SQL(asked), "found": sql.SQL(found).format(who=sql.SQL(who))}
    return sql.SQL(PAGES).format(**parts).as_string()


AGENTS_BY_NAME = _pages(BY_NAME, ALIKE, "removed_at IS NULL")
BLOCKED_BY_NAME = _pages(BY_NAME, ALIKE, "is_blocked AND removed_at IS NULL")
AGENTS_BY_ID = _pages(BY_ID, WITH_ID)
AGENT_BY_EMAIL = _pages(BY_EMAIL, WITH_EMAIL)
ASKING_FOR_PARKED = (
    sql.SQL("""
    SELECT asked.ordinal
    FROM unnest(%(ids)b::uuid[]) WITH ORDINALITY AS asked (id, ordinal)
    CROSS JOIN LATERAL ({is_parked}) AS parked
""")
    .format(is_parked=is_parked("asked", "id"))
    .as_string()
)

UNSTORABLE = re.compile("[\0\ud800-\udfff]")
LIST = TypeAdapter(list[Agent])


class Agents:
    """The projected agents, read.

    Args:
        reads: of the store that compliance's projector fills.
    """

    def __init__(self, reads: ConsistentReads) -> None:
        self._reads = reads
        query = partial(reads.query, categories={AGENT.category})
        by_name = ("prefixes", "references", "sizes")
        self._by_name = {
            False: query(AGENTS_BY_NAME, by_name),
            True: query(BLOCKED_BY_NAME, by_name),
        }
        self._by_email = query(AGENT_BY_EMAIL, ("emails",))
        by_id = ("ids", "references", "sizes")
        self._by_id = query(AGENTS_BY_ID, by_id, asking_for_parked=ASKING_FOR_PARKED)

    async def page(
        self, request: Request, search: str, *, blocked: bool, reference: UUID | None, size: int
    ) -> AgentPage:
        """Agents that `search` finds.

        Args:
            request: whose consistency token counts.
            search: the beginning of a name, an e-mail address, or the id of an agent or account.
            blocked: only those who are blocked; for names.
            reference: the last agent of the page before.
            size: of a page.

        Raises:
            NotFound: `reference` names no agent.
            StreamParked: `search` is the id of an agent that is parked.
            HttpProblem: 403 for an operator who searches by name or e-mail address.
        """
        search = search.strip()
        if UNSTORABLE.search(search):
            return AgentPage(items=[], last_reference=None, size=size)
        query, values = self._chosen(request, search, reference, size, blocked=blocked)
        [(is_known, found)] = await self._reads.fetch(request, query, *values)
        if not is_known:
            raise NotFound("last_reference names no agent")
        items = LIST.validate_json(found) if found else []
        return AgentPage(items=items, last_reference=items[-1].id if items else None, size=size)

    def _chosen(
        self, request: Request, search: str, reference: UUID | None, size: int, *, blocked: bool
    ) -> tuple[Query, tuple[object, ...]]:
        with suppress(ValueError):
            return self._by_id, (UUID(search), reference, size)
        if search:
            caller_of(request).require_to_see_personal_values()
        if "@" in search:
            return self._by_email, (search,)
        return self._by_name[blocked], (search, reference, size)
