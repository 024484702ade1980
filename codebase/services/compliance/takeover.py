"""Requests of before they were in the log: each is entered there, and leaves its old table."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Submission
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.observability import logs
from codebase.foundation.postgres import connect_async, trouble
from codebase.foundation.settings import Settings
from codebase.model.accounts.compliance_case import (
    COMPLIANCE_CASE,
    Action,
    Outcome,
    RequestTakenOver,
    TakeOver,
    case_of,
)
from codebase.model.actor import Actor
from codebase.model.refusals import Rejected

BATCH_ROWS = 200
LONGEST_PAUSE_SECONDS = 5.0

# In the order in which they were made. Another process that is at it is waited for: until all are
# entered nobody may ask for more, or it would be done first.
READ_SOME = """
    SELECT number, id, agent_id, action, reason, requested_by, requested_at, state, detail, sent_at,
           answered_at
    FROM compliance_request
    WHERE number > %(after)s
    ORDER BY number
    LIMIT %(rows)s
    FOR UPDATE
"""
REMOVE = "DELETE FROM compliance_request WHERE id = ANY (%(ids)s)"


class Takeover:
    """One task's work, which ends.

    Args:
        settings: the store's address.
        bus: running.
    """

    def __init__(self, settings: Settings, bus: CommandBus) -> None:
        self._url = settings.required("read_model_projector_url")
        self._bus = bus
        self._waiting_for: str | None = "what was asked before is being taken over"

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Begun on entering; what is not finished on leaving goes on at the next start."""
        task = asyncio.create_task(self._work(), name="takeover")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def problem(self) -> str | None:
        """None when all is in the log, otherwise what is missing."""
        return self._waiting_for

    def require(self) -> None:
        """Make sure that all is in the log.

        Raises:
            ServiceUnavailable: not yet.
        """
        if self._waiting_for is not None:
            raise ServiceUnavailable("read_model", self._waiting_for)

    async def _work(self) -> None:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((psycopg.Error, ServiceUnavailable, OSError)),
            wait=wait_random_exponential(multiplier=0.1, max=LONGEST_PAUSE_SECONDS),
        )
        await retrying(self._take_all)
        self._waiting_for = None

    async def _take_all(self) -> None:
        after: int | None = 0
        try:
            async with await connect_async(self._url, "compliance takeover") as store:
                while after is not None:
                    after = await self._take_some(store, after)
        except (psycopg.Error, ServiceUnavailable) as error:
            self._waiting_for = f"what was asked before is not taken over: {trouble(error)}"
            raise

    async def _take_some(self, store: psycopg.AsyncConnection[Any], after: int) -> int | None:
        """The number of the last; None: there are no more. Rows go when their events are there."""
        async with store.transaction(), store.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(READ_SOME, {"after": after, "rows": BATCH_ROWS})
            rows = await cursor.fetchall()
            by_agent = defaultdict(list)
            for row in rows:
                by_agent[row["agent_id"]].append(row)
            entered = await asyncio.gather(*map(self._enter_in_order, by_agent.values()))
            await cursor.execute(REMOVE, {"ids": [*chain.from_iterable(entered)]})
        if rows:
            logs.info("requests_taken_over", requests=len(rows))
        return rows[-1]["number"] if rows else None

    async def _enter_in_order(self, rows: Sequence[Mapping[str, Any]]) -> list[UUID]:
        """The ids of those that are in the log now."""
        entered = []
        for row in rows:
            try:
                await self._bus.execute(submission_of(row))
            except Rejected as refusal:
                # Its key stands for another request by now.
                logs.error("request_not_taken_over", request=str(row["id"]), error=refusal)
            else:
                entered.append(row["id"])
        return entered


def submission_of(row: Mapping[str, Any]) -> Submission:
    """What enters a row of `compliance_request` into the case of its agent."""
    is_open = row["answered_at"] is None
    event = RequestTakenOver(
        request_id=row["id"],
        agent_id=row["agent_id"],
        action=Action(row["action"]),
        reason=row["reason"],
        requested_by=row["requested_by"],
        requested_at=row["requested_at"],
        sent_at=row["sent_at"],
        answered_at=row["answered_at"],
        outcome=None if is_open else Outcome(row["state"]),
        # What an open one waits for is found out anew.
        detail=None if is_open else row["detail"],
    )
    return Submission(
        aggregate=COMPLIANCE_CASE,
        stream_id=case_of(event.agent_id),
        command=TakeOver(taken_over=event),
        idempotence_key=None,
        content=Content.of("take_over", {}, {"request_id": event.request_id}),
        actor=Actor(event.requested_by, is_admin=True),
        command_id=uuid4().hex,
    )
