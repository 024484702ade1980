"""What was asked of compliance, and what became of it: its one table that no log can bring back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from pydantic import BaseModel

from codebase.engine.commands.fingerprint import Content, Fingerprints
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.postgres import DeadlinedConnection, trouble
from codebase.foundation.settings import Settings
from codebase.model.refusals import KeyReused
from codebase.web.personal import Personal
from codebase.web.schemas import example

DURABLE = "-c synchronous_commit=on"
"""The store itself may be configured to lose its last moments, which the log brings back."""

CATEGORY = "compliance_request"
"""Of the ids that are derived from idempotence keys."""

Action = Literal["block", "unblock"]

INSERT_REQUEST = """
    INSERT INTO compliance_request (id, agent_id, action, reason, requested_by, fingerprint)
    VALUES (%(id)s, %(agent_id)s, %(action)s, %(reason)s, %(requested_by)s, %(fingerprint)s)
    ON CONFLICT (id) DO NOTHING
"""

READ_REQUEST = """
    SELECT request.id, request.agent_id, agent.name AS agent_name, request.action, request.reason,
           request.requested_by, request.requested_at, request.state, request.detail,
           request.sent_at, request.answered_at, request.fingerprint
    FROM compliance_request AS request
    LEFT JOIN compliance_agent AS agent ON agent.id = request.agent_id
    WHERE request.id = %(id)s
"""

# Newest first.
READ_PAGE = """
    SELECT request.id, request.agent_id, agent.name AS agent_name, request.action, request.reason,
           request.requested_by, request.requested_at, request.state, request.detail,
           request.sent_at, request.answered_at, request.fingerprint
    FROM compliance_request AS request
    LEFT JOIN compliance_agent AS agent ON agent.id = request.agent_id
    WHERE request.number < (
        CASE WHEN %(reference)s::uuid IS NULL THEN 9223372036854775807
        ELSE (SELECT number FROM compliance_request WHERE id = %(reference)s::uuid) END
    )
    ORDER BY request.number DESC
    LIMIT %(size)s
"""

LOOK = "SELECT FROM compliance_request LIMIT 1"

COUNT_OPEN = """
    SELECT count(*) FILTER (WHERE state = 'waiting') AS waiting,
           count(*) FILTER (WHERE state = 'sent') AS sent
    FROM compliance_request
    WHERE answered_at IS NULL
"""

# The last one asked for is the one that will count.
OPEN_ACTIONS = """
    SELECT DISTINCT ON (agent_id) agent_id, action
    FROM compliance_request
    WHERE answered_at IS NULL AND agent_id = ANY (%(agent_ids)s)
    ORDER BY agent_id, number DESC
"""

# The oldest first.
FORGET_ANSWERED = """
    DELETE FROM compliance_request
    WHERE id = ANY (ARRAY(
        SELECT id FROM compliance_request
        WHERE answered_at < now() - make_interval(days => %(days)s)
        ORDER BY answered_at
        LIMIT %(rows)s
    ))
"""


class State(StrEnum):
    """How far a request is."""

    WAITING = "waiting"
    SENT = "sent"
    DONE = "done"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


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


class StoredRequest(ComplianceRequest):
    """A row: what clients see, and what tells a repeat from another request with the same key."""

    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRequest:
    """What somebody asks for; `id` is the same for a repeat, if the client gave it a key."""

    id: UUID
    agent_id: UUID
    action: Action
    reason: str | None
    requested_by: str
    content: Content


@dataclass(frozen=True, kw_only=True, slots=True)
class Open:
    """How many requests have no answer yet: not on their way, and on their way."""

    waiting: int
    sent: int


class Requests:
    """The table of requests, for an event loop.

    Args:
        connection: for the role that writes to the store, with `DURABLE`.
        looker: another one, for `ready`: whoever is busy is not therefore unready.
        fingerprints: tell repeats from other requests.
    """

    def __init__(
        self,
        connection: DeadlinedConnection,
        looker: DeadlinedConnection,
        fingerprints: Fingerprints,
    ) -> None:
        self._connection = connection
        self._looker = looker
        self._fingerprints = fingerprints
        # A connection does one thing at a time, and whoever waits for it is not late yet.
        self._turn = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, fingerprints: Fingerprints) -> AsyncIterator[Requests]:
        """Connected when needed; the connections are closed on leaving."""
        connection, looker = (
            DeadlinedConnection(
                settings.required("read_model_projector_url"),
                "read_model",
                application="compliance",
                deadline_seconds=settings.database_deadline_seconds,
                options=DURABLE,
            )
            for _ in range(2)
        )
        try:
            yield cls(connection, looker, fingerprints)
        finally:
            await connection.close()
            await looker.close()

    async def ready(self) -> str | None:
        """None when requests can be stored, otherwise what is wrong."""
        try:
            connection = await self._looker.get()
            await self._looker.in_time(connection.execute(LOOK))
        except (ServiceUnavailable, psycopg.Error) as error:
            return trouble(error)
        return None

    async def add(self, request: NewRequest) -> tuple[Asked, bool]:
        """Store a request; durable when this returns.

        Returns:
            The request as it was stored, and whether that was before.

        Raises:
            KeyReused: the same key stands for another request.
            ServiceUnavailable: not known whether it was stored; the same key finds out.
        """
        is_new = await self._insert(request)
        while (found := await self.find(request.id)) is None:
            # It was there, and so old that it was forgotten in between.
            is_new = await self._insert(request)
        if not self._fingerprints.is_of(found.fingerprint, request.content):
            raise KeyReused("this idempotence key already stands for another request")
        asked = Asked(**found.model_dump(include=set(Asked.model_fields)))
        return asked, not is_new

    async def _insert(self, request: NewRequest) -> bool:
        """Whether it was not there already."""
        values = {name: getattr(request, name) for name in request.__slots__}
        values["fingerprint"] = self._fingerprints.of(values.pop("content"))
        async with self._turn:
            connection = await self._connection.get()
            inserted = await self._connection.in_time(connection.execute(INSERT_REQUEST, values))
        return inserted.rowcount == 1

    async def find(self, request_id: UUID) -> StoredRequest | None:
        """One request."""
        rows = await self._fetch(StoredRequest, READ_REQUEST, {"id": request_id})
        return rows[0] if rows else None

    async def page(self, reference: UUID | None, size: int) -> Sequence[StoredRequest]:
        """At most `size` requests, newest first, those before the one that `reference` names."""
        return await self._fetch(StoredRequest, READ_PAGE, {"reference": reference, "size": size})

    async def open_requests(self) -> Open:
        """How many there are."""
        counted: Open = (await self._fetch(Open, COUNT_OPEN, {}))[0]
        return counted

    async def open_actions(self, agent_ids: Collection[UUID]) -> Mapping[UUID, Action]:
        """What was asked for last and has no answer yet, by agent."""
        rows = await self._fetch(_OpenAction, OPEN_ACTIONS, {"agent_ids": list(agent_ids)})
        return {row.agent_id: row.action for row in rows}

    async def _fetch(self, kind: type[Any], query: str, values: Mapping[str, Any]) -> list[Any]:
        async def rows() -> list[Any]:
            connection = await self._connection.get()
            async with connection.cursor(row_factory=class_row(kind)) as cursor:
                await cursor.execute(query, values)
                return await cursor.fetchall()

        async with self._turn:
            return await self._connection.in_time(rows())


@dataclass(frozen=True, kw_only=True, slots=True)
class _OpenAction:
    agent_id: UUID
    action: Action
