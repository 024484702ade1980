"""The view of what was asked of compliance: each request, and what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, LiteralString
from uuid import UUID

from fastapi import Request
from psycopg import Cursor, sql
from pydantic import BaseModel, TypeAdapter

from codebase.engine.log.codec import decode
from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, of_type, write
from codebase.foundation.clock import utc_now
from codebase.model.accounts.compliance_case import (
    COMPLIANCE_CASE,
    RequestAnswered,
    RequestMade,
    RequestSent,
    RequestTakenOver,
)
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.parked import is_parked
from codebase.web.personal import Personal
from codebase.web.schemas import example

Action = Literal["block", "unblock"]


class State(StrEnum):
    """How far a request is."""

    WAITING = "waiting"
    SENT = "sent"
    DONE = "done"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestRow:
    """A request; `id` is the case that it is in, `version` that of the event that it began with."""

    id: UUID
    version: int
    request_id: UUID
    agent_id: UUID
    action: str
    reason: str | None
    requested_by: str
    requested_at: datetime
    state: str
    detail: str | None
    sent_at: datetime | None
    answered_at: datetime | None


INSERT_MADE = """
    INSERT INTO compliance_asked (id, version, request_id, agent_id, action, reason, requested_by,
                                  requested_at, state, detail, sent_at, answered_at)
    SELECT event.stream_id, event.version, made.request_id, made.agent_id, made.action, made.reason,
           made.requested_by, coalesce(made.requested_at, event.recorded_at),
           coalesce(made.outcome, CASE WHEN made.sent_at IS NULL THEN 'waiting' ELSE 'sent' END),
           made.detail, made.sent_at, made.answered_at
    FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(recorded_at)b::timestamptz[],
                %(data)b::text[]::jsonb[])
        AS event (stream_id, version, recorded_at, data),
        jsonb_to_record(event.data) AS made (
            request_id uuid, agent_id uuid, action text, reason text, requested_by text,
            requested_at timestamptz, outcome text, detail text, sent_at timestamptz,
            answered_at timestamptz
        )
    ON CONFLICT DO NOTHING
"""

NOTE_SENT = """
    UPDATE compliance_asked AS asked
    SET state = 'sent', sent_at = event.recorded_at
    FROM unnest(%(recorded_at)b::timestamptz[], %(data)b::text[]::jsonb[])
        AS event (recorded_at, data)
    WHERE asked.request_id = (event.data ->> 'request_id')::uuid AND asked.sent_at IS NULL
"""

NOTE_ANSWER = """
    UPDATE compliance_asked AS asked
    SET state = event.data ->> 'outcome', detail = event.data ->> 'detail',
        sent_at = coalesce(asked.sent_at, event.recorded_at), answered_at = event.recorded_at
    FROM unnest(%(recorded_at)b::timestamptz[], %(data)b::text[]::jsonb[])
        AS event (recorded_at, data)
    WHERE asked.request_id = (event.data ->> 'request_id')::uuid AND asked.answered_at IS NULL
"""

# The oldest first.
FORGET_ANSWERED = """
    DELETE FROM compliance_asked
    WHERE request_id = ANY (ARRAY(
        SELECT request_id FROM compliance_asked
        WHERE answered_at < now() - make_interval(days => %(days)s)
        ORDER BY answered_at
        LIMIT %(rows)s
    ))
"""


def apply(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Insert what was asked for, then note what became of it."""
    write(cursor, INSERT_MADE, of_type(events, RequestMade, RequestTakenOver))
    write(cursor, NOTE_SENT, of_type(events, RequestSent))
    write(cursor, NOTE_ANSWER, of_type(events, RequestAnswered))


def expected_rows(case_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[RequestRow]:
    """The rows that a case comes to, one for each request."""
    rows: dict[UUID, RequestRow] = {}
    for each in recorded:
        event = decode(each, COMPLIANCE_CASE)
        match event:
            case RequestMade() | RequestTakenOver():
                rows[event.request_id] = _row_of(case_id, each, event)
            case RequestSent() if row := rows.get(event.request_id):
                rows[event.request_id] = replace(row, state="sent", sent_at=each.recorded_at)
            case RequestAnswered() if row := rows.get(event.request_id):
                rows[event.request_id] = _answered(row, each, event)
    return rows.values()


def _may_be_forgotten(row: Mapping[str, Any]) -> bool:
    """Nothing is before it is a day old, whatever is configured."""
    answered_at = row["answered_at"]
    return answered_at is not None and answered_at < utc_now() - timedelta(days=1)


def _row_of(
    case_id: UUID, recorded: RecordedEvent, event: RequestMade | RequestTakenOver
) -> RequestRow:
    row = RequestRow(
        id=case_id,
        version=recorded.version,
        request_id=event.request_id,
        agent_id=event.agent_id,
        action=event.action,
        reason=event.reason,
        requested_by=event.requested_by,
        requested_at=recorded.recorded_at,
        state="waiting",
        detail=None,
        sent_at=None,
        answered_at=None,
    )
    if isinstance(event, RequestMade):
        return row
    return replace(
        row,
        requested_at=event.requested_at,
        state=event.outcome or ("sent" if event.sent_at else "waiting"),
        detail=event.detail,
        sent_at=event.sent_at,
        answered_at=event.answered_at,
    )


def _answered(row: RequestRow, recorded: RecordedEvent, event: RequestAnswered) -> RequestRow:
    return replace(
        row,
        state=event.outcome,
        detail=event.detail,
        sent_at=row.sent_at or recorded.recorded_at,
        answered_at=recorded.recorded_at,
    )


COMPLIANCE_REQUESTS = Projection(
    name="compliance_requests",
    aggregates=(COMPLIANCE_CASE,),
    tables=("compliance_asked",),
    apply=apply,
    expected_rows=expected_rows,
    order_in_stream=("version",),
    forgets=_may_be_forgotten,
)

ASKED = {
    "id": "8b1f4f5e-0f6a-4b52-9a6f-2f0d5c1e7a90",
    "agent_id": "3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe",
    "action": "block",
    "reason": "The account is 60 days overdue",
    "requested_by": "compliance desk",
    "requested_at": "2026-11-28T09:30:00.000000Z",
}


class Asked(BaseModel):
    """A request as it was made; this is also what its repeat is answered with."""

    model_config = example(**ASKED)

    id: UUID
    agent_id: UUID
    action: Action
    reason: Personal[str | None]
    requested_by: str
    requested_at: datetime


class ComplianceRequest(Asked):
    """A request and what became of it.

    `detail` says why it was refused, or what it waits for; `agent_name` is null for an agent that
    is not known.
    """

    model_config = example(
        **ASKED,
        agent_name="Bo Lind",
        state="refused",
        detail="there is no such agent",
        sent_at="2026-11-28T09:30:00.010000Z",
        answered_at="2026-11-28T09:30:00.050000Z",
    )

    agent_name: Personal[str | None]
    state: State
    detail: str | None
    sent_at: datetime | None
    answered_at: datetime | None


@dataclass(frozen=True, slots=True)
class Open:
    """How many requests have no answer yet, and the last action asked for, by agent."""

    waiting: int
    sent: int
    actions: Mapping[UUID, Action]


SHOWN = """
    asked.request_id AS id, asked.agent_id, agent.name AS agent_name, asked.action, asked.reason,
    asked.requested_by, asked.requested_at, asked.state, asked.detail, asked.sent_at,
    asked.answered_at
"""


def _shown(query: LiteralString) -> str:
    return sql.SQL(query).format(shown=sql.SQL(SHOWN)).as_string()


REQUESTS_BY_ID = _shown("""
    SELECT wanted.ordinal, row_to_json(found)::text
    FROM unnest(%(ids)b::uuid[]) WITH ORDINALITY AS wanted (id, ordinal)
    CROSS JOIN LATERAL (
        SELECT {shown}
        FROM compliance_asked AS asked
        LEFT JOIN compliance_agent AS agent ON agent.id = asked.agent_id
        WHERE asked.request_id = wanted.id
    ) AS found
""")

# Newest first. An unknown reference is followed by nothing.
PAGES = _shown("""
    SELECT wanted.ordinal, wanted.reference IS NULL OR boundary.request_id IS NOT NULL,
           page.items::text
    FROM unnest(%(references)b::uuid[], %(sizes)b::integer[])
        WITH ORDINALITY AS wanted (reference, size, ordinal)
    LEFT JOIN compliance_asked AS boundary ON boundary.request_id = wanted.reference
    LEFT JOIN LATERAL (
        SELECT json_agg(found) AS items
        FROM (
            SELECT {shown}
            FROM compliance_asked AS asked
            LEFT JOIN compliance_agent AS agent ON agent.id = asked.agent_id
            WHERE (asked.requested_at, asked.request_id) < (
                CASE WHEN wanted.reference IS NULL THEN 'infinity' ELSE boundary.requested_at END,
                coalesce(wanted.reference, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            )
            ORDER BY asked.requested_at DESC, asked.request_id DESC
            LIMIT wanted.size
        ) AS found
    ) AS page ON true
""")

# What was asked for last counts. `agents` as text: an array of arrays has no room for lists of
# different lengths.
ACTIONS_OF = """
    SELECT wanted.ordinal, (
        SELECT json_object_agg(agent_id, action)::text
        FROM (
            SELECT DISTINCT ON (agent_id) agent_id, action
            FROM compliance_asked
            WHERE answered_at IS NULL AND agent_id = ANY (wanted.agents::uuid[])
            ORDER BY agent_id, requested_at DESC, request_id DESC
        ) AS last
    ) AS actions
    FROM unnest(%(agents)b::text[]) WITH ORDINALITY AS wanted (agents, ordinal)
"""

COUNT_OPEN = (
    sql.SQL("""
    SELECT of_agents.ordinal, counted.waiting, counted.sent, of_agents.actions
    FROM ({actions}) AS of_agents
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting,
               count(*) FILTER (WHERE state = 'sent') AS sent
        FROM compliance_asked
        WHERE answered_at IS NULL
    ) AS counted
""")
    .format(actions=sql.SQL(ACTIONS_OF))
    .as_string()
)

ASKING_FOR_PARKED = (
    sql.SQL("""
    SELECT wanted.ordinal
    FROM unnest(%(ids)b::uuid[]) WITH ORDINALITY AS wanted (id, ordinal)
    JOIN compliance_asked AS asked ON asked.request_id = wanted.id
    CROSS JOIN LATERAL ({is_parked}) AS parked
""")
    .format(is_parked=is_parked("asked", "id"))
    .as_string()
)

LIST = TypeAdapter(list[ComplianceRequest])
ACTIONS = TypeAdapter(dict[UUID, Action])


Details = Callable[[Collection[UUID]], Awaitable[Mapping[str, str]]]


class Requests:
    """The projected requests, read.

    Args:
        reads: of the store that compliance's projector fills.
        details: ids of agents -> what the requests about them wait for, by the requests' ids.
    """

    def __init__(self, reads: ConsistentReads, details: Details) -> None:
        self._reads = reads
        self._details = details
        self._by_id = reads.query(REQUESTS_BY_ID, ("ids",), asking_for_parked=ASKING_FOR_PARKED)
        self._pages = reads.query(PAGES, ("references", "sizes"))
        self._open = reads.query(COUNT_OPEN, ("agents",))

    async def find(self, request: Request, request_id: UUID) -> ComplianceRequest | None:
        """One request.

        Raises:
            StreamParked: the case that it is in is parked.
        """
        rows = await self._reads.fetch(request, self._by_id, request_id)
        found = [ComplianceRequest.model_validate_json(text) for (text,) in rows]
        return (await self._explained(found))[0] if found else None

    async def page(
        self, request: Request, reference: UUID | None, size: int
    ) -> list[ComplianceRequest] | None:
        """At most `size` requests, newest first, those before `reference`; None: it is unknown."""
        [(is_known, items)] = await self._reads.fetch(request, self._pages, reference, size)
        if not is_known:
            return None
        return await self._explained(LIST.validate_json(items) if items else [])

    async def open(self, request: Request, agent_ids: Collection[UUID]) -> Open:
        """How many there are, and what is asked for about these agents."""
        agents = f"{{{','.join(map(str, agent_ids))}}}"
        [(waiting, sent, actions)] = await self._reads.fetch(request, self._open, agents)
        return Open(waiting, sent, ACTIONS.validate_json(actions) if actions else {})

    async def _explained(self, found: list[ComplianceRequest]) -> list[ComplianceRequest]:
        """The same, with what those wait for that have no answer yet."""
        unanswered = {each.agent_id for each in found if each.answered_at is None}
        details = await self._details(unanswered)
        for each in found:
            if each.answered_at is None:
                each.detail = details.get(str(each.id))
        return found
