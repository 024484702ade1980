"""Reads that never overtake what their client has written or seen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, NamedTuple

from fastapi import Request

from codebase.engine.projections.freshness import Freshness
from codebase.foundation.settings import Settings
from codebase.web import consistency_token, parked
from codebase.web.group_read import NOBODY, GroupRead, ReadModel, Row
from codebase.web.problems import Behind, StreamParked


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
        wait_seconds: how long a request waits for what its token names.
    """

    def __init__(
        self, read_model: ReadModel, projector: str, freshness: Freshness, wait_seconds: float
    ) -> None:
        self._read_model = read_model
        self._projector = projector
        self._freshness = freshness
        self._wait_seconds = wait_seconds
        self.ready = read_model.ready

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, projector: str) -> AsyncIterator[ConsistentReads]:
        """Reads of what the projector of that name fills; connections are closed on leaving."""
        async with ReadModel.open(settings) as read_model:
            freshness = Freshness(settings.required("read_model_url"), projector)
            try:
                yield cls(read_model, projector, freshness, settings.consistency_wait_ms / 1000)
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
            StreamParked: `values` name a stream that is parked.
            ServiceUnavailable: the store does not answer.
        """
        wanted = consistency_token.sent(request.scope["headers"])
        deadline = monotonic() + self._wait_seconds
        while await self._freshness.covers(wanted, max(0.0, deadline - monotonic())):
            found = await query.read.fetch(*values)
            if all(found.checkpoints.get(one, 0) >= at for one, at in wanted.items()):
                if found.asks_for_parked:
                    raise StreamParked
                parked.note(request.scope, found.parked, query.categories)
                return found.rows
            self._freshness.observe(found.checkpoints)
        raise Behind
