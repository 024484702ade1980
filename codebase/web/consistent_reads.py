"""Reads that never overtake what their client has written or seen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from time import monotonic
from typing import Any, NamedTuple

from fastapi import Request

from codebase.engine.log.end_watch import EndWatch
from codebase.engine.log.extent import Extent
from codebase.engine.projections.freshness import Freshness
from codebase.engine.projections.waiting_room import TooManyWaitingError, WaitingRoom
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.settings import Settings
from codebase.web import consistency_token, parked
from codebase.web.exchange import Exchange, exchange_of
from codebase.web.group_read import NOBODY, GroupRead, ReadModel, Row
from codebase.web.problems import Behind, HttpProblem, StreamParked

WATCH_SHARE = 0.25
"""Of the time that a request waits, how much a look at the log may take."""

MOMENT_SECONDS = 0.25
"""How long tables may take to hold what the log holds, for them to count as up to date."""


class Query(NamedTuple):
    """A query, and the categories of streams that its answers may lack while they are parked."""

    read: GroupRead
    categories: Collection[str] | None


class ConsistentReads:
    """The tables of one projector, read by requests that may carry a Consistency-Token.

    Args:
        read_model: connections to the store.
        projector: whose tables they are.
        freshness: how far it is.
        settings: how long a request waits for what its token names; how many partitions there are.
    """

    def __init__(
        self, read_model: ReadModel, projector: str, freshness: Freshness, settings: Settings
    ) -> None:
        self._read_model = read_model
        self._projector = projector
        self._freshness = freshness
        self._wait_seconds = settings.consistency_wait_ms / 1000
        self._partitions = settings.partitions
        self.ready = read_model.ready

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, projector: str) -> AsyncIterator[ConsistentReads]:
        """Reads of what the projector of that name fills; connections are closed on leaving."""
        async with ReadModel.open(settings) as read_model:
            freshness = freshness_of(settings, projector)
            try:
                yield cls(read_model, projector, freshness, settings)
            finally:
                await freshness.close()

    def query(
        self,
        query: str,
        arguments: Sequence[str],
        *,
        categories: Collection[str] | None = None,
        asking_for_parked: str = NOBODY,
    ) -> Query:
        """A query for `fetch`; see `GroupRead` for what it takes and returns.

        Args:
            query: SQL.
            arguments: names of its parameters.
            categories: of streams that an answer may lack while they are parked: see web/parked.py.
                None means all that the projector follows, which is right for any list.
            asking_for_parked: see `GroupRead`; for reads that name a stream.
        """
        read = GroupRead(self._read_model, query, arguments, self._projector, asking_for_parked)
        return Query(read, categories)

    async def fetch(self, request: Request, query: Query, *values: Any) -> list[Row]:  # noqa: ANN401 - any type that psycopg binds
        """What `query` finds for `values`, once it holds everything that the client has seen.

        Rows and checkpoints come from one snapshot, so that not even a read model that went back
        after a crash passes for up to date.

        Raises:
            Behind: not in time.
            InvalidInputError: the client's header is malformed, or names an unknown partition.
            HttpProblem: too many are waiting.
            StreamParked: `values` name a stream that is parked.
            ServiceUnavailable: the store does not answer.
        """
        exchange = exchange_of(request.scope)
        partitions = max(self._partitions, len(self._freshness.reached.positions))
        sent = consistency_token.taken_from(exchange, request.scope["headers"], partitions)
        deadline = monotonic() + self._wait_seconds
        wanted = await self._wanted(sent, exchange)
        while True:
            held = [
                await self._reach(token, sent, deadline, exchange.caller.name) for token in wanted
            ]
            found = await query.read.fetch(*values)
            if all(map(found.reached.holds, held)):
                if found.asks_for_parked:
                    raise StreamParked
                parked.note(request.scope, found.parked, query.categories)
                return found.rows
            self._freshness.observe(found.reached)

    async def _wanted(self, sent: consistency_token.Sent, exchange: Exchange) -> list[Extent]:
        """What the answer has to hold.

        Whoever says nothing has seen what it had written by this process, if it was here.
        """
        if sent.wants_latest:
            log = await self._freshness.log_end()
            if log is None:
                raise ServiceUnavailable(
                    "write_model", "does not tell its end, for which Consistency-Token: latest asks"
                )
            return [log, *sent.named]
        own = None if sent.named else exchange.last_written.of(exchange.caller.name)
        return [own] if own is not None else sent.named

    async def _reach(
        self, token: Extent, sent: consistency_token.Sent, deadline: float, caller: str
    ) -> Extent:
        """What the read model holds by now of what a token stands for, which is all that counts."""
        known = {
            partition: position
            for partition, position in token.positions.items()
            if partition < self._partitions or partition in self._freshness.reached.positions
        }
        seen = replace(token, positions=known or consistency_token.BEGINNING)
        seconds = max(0.0, deadline - monotonic())
        try:
            held = await self._freshness.reach(seen, seconds, caller)
        except TooManyWaitingError as error:
            raise too_many_waiting(error) from None
        if held is None:
            raise Behind
        if token is sent.header and self._freshness.reached.log_id in {None, token.log_id}:
            consistency_token.refuse_unknown(token.positions.keys() - known.keys())
        return held

    async def hold_all(self, request: Request) -> bool:
        """Whether the tables hold everything that the log holds now, or will in a moment."""
        log = await self._freshness.log_end()
        if log is None:
            return False
        caller = exchange_of(request.scope).caller.name
        try:
            return await self._freshness.reach(log, MOMENT_SECONDS, caller) is not None
        except TooManyWaitingError:
            return False

    @property
    def extent(self) -> Extent:
        """How far the tables are, and in which log: for a service that writes to no log itself."""
        return self._freshness.reached

    async def extent_for(self, seen: Extent) -> Extent:
        """The log, as far as it has to be known to tell what of `seen` is in it.

        Where nobody can look, what is of the log of these tables is taken to be in it.
        """
        reached = self._freshness.reached
        if reached.log_id == seen.log_id and reached.holds(seen):
            return reached
        log = await self._freshness.log_end()
        if log is not None:
            return log
        known = {p: at for p, at in seen.positions.items() if p < self._partitions}
        return Extent(reached.log_id or seen.log_id, known)


def freshness_of(settings: Settings, projector: str) -> Freshness:
    """How far the projector of that name is; whoever opens it closes it."""
    look_seconds = settings.consistency_wait_ms / 1000 * WATCH_SHARE
    return Freshness(
        settings.required("read_model_url"),
        projector,
        WaitingRoom(
            settings.share_of(settings.consistency_waiting_max),
            settings.share_of(settings.consistency_waiting_max_per_caller),
        ),
        EndWatch(settings.write_model_head_url, look_seconds),
    )


def too_many_waiting(error: TooManyWaitingError) -> HttpProblem:
    """The answer to one who might wait, but for all the others who do."""
    return HttpProblem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "too-many-waiting",
        str(error),
        headers={"Retry-After": "1"},
    )
