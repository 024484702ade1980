"""Requests of before they were in the log: each is entered there, and leaves its old table."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import kwargs_row
from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Submission
from codebase.engine.projections.blame import describe
from codebase.foundation.background import in_background
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.observability import logs
from codebase.foundation.postgres import connect_async, trouble
from codebase.foundation.settings import Settings
from codebase.foundation.standing import Standing
from codebase.foundation.validation import adapter
from codebase.model.accounts.compliance_case import (
    COMPLIANCE_CASE,
    RequestTakenOver,
    TakeOver,
    case_of,
)
from codebase.model.actor import Actor
from codebase.model.refusals import Rejected

BATCH_ROWS = 200
LONGEST_PAUSE_SECONDS = 5.0

# As the event has them. Another process that is at it is waited for: until all are entered nobody
# may ask for more, or it would be done first. What an open one waits for is found out anew.
READ_SOME = """
    SELECT id AS request_id, agent_id, action, reason, requested_by, requested_at, sent_at,
           answered_at, CASE WHEN answered_at IS NOT NULL THEN state END AS outcome,
           CASE WHEN answered_at IS NOT NULL THEN detail END AS detail
    FROM compliance_request
    WHERE id <> ALL (%(left)s)
    ORDER BY number
    LIMIT %(rows)s
    FOR UPDATE
"""
REMOVE = "DELETE FROM compliance_request WHERE id = ANY (%(read)s) AND id <> ALL (%(left)s)"


def event_of(**row: Any) -> RequestTakenOver:  # noqa: ANN401 - as Postgres has it
    """A row of `READ_SOME`."""
    event: RequestTakenOver = adapter(RequestTakenOver).validate_python(row)
    return event


class Takeover:
    """One task's work, which ends.

    Args:
        settings: the store's address.
        bus: running.
    """

    def __init__(self, settings: Settings, bus: CommandBus) -> None:
        self._url = settings.required("read_model_projector_url")
        self._bus = bus
        self._left: list[UUID] = []
        self._standing = Standing("read_model", "give up what was asked before")
        self._waiting_for: str | None = "what was asked before is being taken over"

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Begun on entering; what is not finished on leaving goes on at the next start."""
        async with in_background(self._work(), "takeover"):
            yield

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
        # Whatever it is: nobody may ask for more before this ends, and a restart does no better.
        retrying = AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.1, max=LONGEST_PAUSE_SECONDS),
            before_sleep=self._tell,
        )
        await retrying(self._take_all)
        self._waiting_for = None
        self._standing.succeeded()

    def _tell(self, tried: RetryCallState) -> None:
        error = tried.outcome.exception() if tried.outcome else None
        if isinstance(error, psycopg.Error | ServiceUnavailable | OSError):
            problem = trouble(error)
        else:
            problem = describe(error)
        self._waiting_for = f"what was asked before is not taken over: {problem}"
        self._standing.failed(problem, error)

    async def _take_all(self) -> None:
        async with await connect_async(self._url, "compliance takeover") as store:
            while await self._take_some(store):
                pass

    async def _take_some(self, store: psycopg.AsyncConnection[Any]) -> bool:
        """Whether there were any. Rows go when their events are there."""
        async with store.transaction(), store.cursor(row_factory=kwargs_row(event_of)) as cursor:
            await cursor.execute(READ_SOME, {"left": self._left, "rows": BATCH_ROWS})
            events = await cursor.fetchall()
            of_agents = defaultdict[UUID, list[RequestTakenOver]](list)
            for event in events:
                of_agents[event.agent_id].append(event)
            await asyncio.gather(*map(self._enter_in_order, of_agents.values()))
            read = [event.request_id for event in events]
            await cursor.execute(REMOVE, {"read": read, "left": self._left})
        if events:
            logs.info("requests_taken_over", requests=len(events))
        return bool(events)

    async def _enter_in_order(self, events: Iterable[RequestTakenOver]) -> None:
        for event in events:
            case, actor = case_of(event.agent_id), Actor(event.requested_by, is_admin=True)
            entering = TakeOver(taken_over=event)
            try:
                await self._bus.execute(
                    Submission.without_key(COMPLIANCE_CASE, case, entering, actor)
                )
            except Rejected as refusal:
                # Its key stands for another request by now.
                logs.error("request_not_taken_over", request=str(event.request_id), error=refusal)
                self._left.append(event.request_id)
