"""Group reads: all requests that wait for the same query share one round trip.

The counterpart of group commit. Requests that arrive while a query runs form the next one: there is
no added latency when idle, and the number of connections does not grow with that of the clients.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from json import loads
from time import monotonic
from typing import Any
from weakref import WeakSet

import psycopg
from prometheus_client import Gauge, Histogram
from psycopg import sql

from codebase.engine.log.extent import Extent
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.postgres import DeadlinedConnection, trouble
from codebase.foundation.settings import Settings
from codebase.foundation.standing import Standing

# What a query finds, how far the projector was at that very moment, and what it had parked: one
# statement sees one snapshot. There is a row also when nothing is found. Which requests ask for
# what is parked is looked up only while something is: Postgres runs a query inside CASE, that
# needs nothing from outside, once and when it comes to it.
WITH_CHECKPOINTS = """
    SELECT reached.log_id, reached.positions, reached.parked,
           CASE WHEN reached.parked IS NOT NULL
                THEN (SELECT jsonb_agg(ordinal)::text FROM ({asking_for_parked}) AS asking) END,
           found.*
    FROM (
        SELECT max(log_id) AS log_id, jsonb_object_agg(partition, position)::text AS positions,
               jsonb_agg(parked_by_category) FILTER (WHERE parked_streams > 0)::text AS parked
        FROM projection_checkpoint
        WHERE projector = %(projector)s::text
    ) AS reached
    LEFT JOIN ({query}) AS found ON true
"""
NOBODY = "SELECT NULL::bigint AS ordinal WHERE false"

LOOK = "SELECT FROM projection_checkpoint LIMIT 1"

# What requests name comes in arrays, so that a plan made for one of them is right for all, and
# planning takes three times as long as reading a page. But a plan that was made when a table was
# empty must not stay for long while it is filled: it would go through all of it.
KEEP_PLANS = "-c plan_cache_mode=force_generic_plan"
FORGET_PLANS = "DISCARD PLANS"
KEEP_PLANS_SECONDS = 1.0

READ_BATCH_MAX = 64
READ_QUEUE_MAX = 10_000

BATCH_SIZE = Histogram(
    "orderly_read_batch_size",
    "Requests per group read.",
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
CONNECTIONS = Gauge(
    "orderly_read_connections", "Connections to the read model: idle, or busy.", ["state"]
)
WAITING = Gauge("orderly_reads_waiting", "Requests that wait for a connection to the read model.")

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The rows for one request, and what the read model was like that they are of.

    Args:
        rows: found.
        reached: how far the projector was.
        parked: category -> number of streams that the projector had parked.
        asks_for_parked: whether what was asked for is one of them.
    """

    rows: list[Row]
    reached: Extent
    parked: Mapping[str, int]
    asks_for_parked: bool


Waiting = tuple[Sequence[Any], asyncio.Future[Found]]


class Reader:
    """One connection that queries are asked over.

    Args:
        connection: to the read model, with `KEEP_PLANS` among its options.
    """

    def __init__(self, connection: DeadlinedConnection) -> None:
        self._connection = connection
        self._planned_at = monotonic()
        self.close = connection.close

    async def rows(self, query: str, arguments: Mapping[str, Any]) -> list[Row]:
        """What a query finds.

        Raises:
            ServiceUnavailable: no answer in time, or no connection.
        """
        return await self._connection.in_time(
            self._rows(await self._connection.get(), query, arguments)
        )

    async def _rows(
        self, connection: psycopg.AsyncConnection[Any], query: str, arguments: Mapping[str, Any]
    ) -> list[Row]:
        async with connection.cursor(binary=True) as cursor:
            if monotonic() - self._planned_at > KEEP_PLANS_SECONDS:
                await cursor.execute(FORGET_PLANS, prepare=False)
                self._planned_at = monotonic()
            await cursor.execute(query, arguments, prepare=True)
            return await cursor.fetchall()


class ReadModel:
    """The connections of one process to the read model.

    Args:
        settings: the read model's address, how many connections, the deadline of a query.
    """

    def __init__(self, settings: Settings) -> None:
        standing = Standing("read_model", "answer")
        self._readers = [_reader(settings, standing) for _ in range(settings.read_connections)]
        self._idle = list(self._readers)
        # Of its own: whoever is busy is not therefore unready.
        self._looker = _reader(settings, standing)
        self.deadline_seconds = settings.command_deadline_seconds
        self._queries: deque[GroupRead] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        OPEN.add(self)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[ReadModel]:
        """Connections are made when they are needed, and closed here."""
        read_model = cls(settings)
        try:
            yield read_model
        finally:
            OPEN.discard(read_model)
            await asyncio.gather(*read_model._workers, return_exceptions=True)
            for reader in (*read_model._readers, read_model._looker):
                await reader.close()

    @property
    def idle_connections(self) -> int:
        """How many of them have nothing to do."""
        return len(self._idle)

    @property
    def busy_connections(self) -> int:
        """How many of them are being read from."""
        return len(self._readers) - len(self._idle)

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return sum(map(len, self._queries))

    async def ready(self) -> str | None:
        """None when the read model answers, otherwise what is wrong."""
        try:
            await self._looker.rows(LOOK, {})
        except (ServiceUnavailable, psycopg.Error) as error:
            return trouble(error)
        return None

    def wake(self, query: GroupRead) -> None:
        """Somebody waits for `query`: give it a connection as soon as one is free."""
        if query not in self._queries:
            self._queries.append(query)
        if self._idle:
            worker = asyncio.create_task(self._serve(self._idle.pop()), name="group read")
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _serve(self, reader: Reader) -> None:
        try:
            while self._queries:
                await self._queries.popleft().run(reader)
        finally:
            self._idle.append(reader)


def _reader(settings: Settings, standing: Standing) -> Reader:
    connection = DeadlinedConnection(
        settings.required("read_model_url"),
        "read_model",
        application="query_service",
        deadline_seconds=settings.database_deadline_seconds,
        options=KEEP_PLANS,
        standing=standing,
    )
    return Reader(connection)


# Each service has its own, and several services may share a process.
OPEN: WeakSet[ReadModel] = WeakSet()
CONNECTIONS.labels("idle").set_function(lambda: sum(each.idle_connections for each in OPEN))
CONNECTIONS.labels("busy").set_function(lambda: sum(each.busy_connections for each in OPEN))
WAITING.set_function(lambda: sum(each.waiting for each in OPEN))


class GroupRead:
    """One query, asked for many requests at a time.

    Args:
        read_model: whose connections it uses.
        query: takes one array per argument, unnested WITH ORDINALITY; the ordinal, from 1, is the
            first column of every row that it returns.
        arguments: the names of the query's parameters.
        projector: who fills the tables that the query reads.
        asking_for_parked: a query for the ordinals of those requests that ask for a stream that the
            projector has parked; see web/parked.py.
    """

    def __init__(
        self,
        read_model: ReadModel,
        query: str,
        arguments: Sequence[str],
        projector: str,
        asking_for_parked: str = NOBODY,
    ) -> None:
        self._read_model = read_model
        self._projector = projector
        self._query = with_checkpoints(query, asking_for_parked)
        self._arguments = arguments
        self._waiting: deque[Waiting] = deque()

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    async def fetch(self, *values: Any) -> Found:  # noqa: ANN401 - any type that psycopg binds
        """What is found for one request; `values` in the order of `arguments`.

        Raises:
            ServiceUnavailable: no answer in time.
        """
        if len(self._waiting) >= READ_QUEUE_MAX:
            raise ServiceUnavailable("read_model", "too many queries are waiting")
        found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.append((values, found))
        self._read_model.wake(self)
        try:
            async with asyncio.timeout(self._read_model.deadline_seconds):
                return await found
        except TimeoutError:
            raise ServiceUnavailable("read_model", "no answer in time") from None
        finally:
            # What is raised knows this frame: with the future that would be a circle.
            del found

    async def run(self, reader: Reader) -> None:
        """Answer everyone who waits at the moment, up to a batch."""
        take = min(len(self._waiting), READ_BATCH_MAX)
        taken = [self._waiting.popleft() for _ in range(take)]
        batch = [(values, found) for values, found in taken if not found.done()]
        if self._waiting:
            self._read_model.wake(self)
        if not batch:
            return
        BATCH_SIZE.observe(len(batch))
        try:
            await self._answer(reader, batch)
        except ServiceUnavailable as error:
            # It knows the frames that it came through: with the batch, which knows it, that would
            # be a circle, which only the collector takes apart.
            _refuse(batch, error.with_traceback(None))
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked
            _refuse(batch, error)

    async def _answer(self, reader: Reader, batch: list[Waiting]) -> None:
        columns = zip(*(values for values, _ in batch), strict=True)
        arguments = dict(zip(self._arguments, map(list, columns), strict=True))
        named = {**arguments, "projector": self._projector}
        fetched = await reader.rows(self._query, named)
        log_id, *texts = fetched[0][:4]
        positions, parked, asking = (loads(text) if text else () for text in texts)
        numbered = {int(partition): position for partition, position in dict(positions).items()}
        reached, by_category = Extent(log_id, numbered), _added_up(parked)
        answers: list[list[Row]] = [[] for _ in batch]
        for _, _, _, _, ordinal, *row in fetched:
            if ordinal is not None:
                answers[ordinal - 1].append(tuple(row))
        for ordinal, ((_, found), rows) in enumerate(zip(batch, answers, strict=True), start=1):
            if not found.done():
                found.set_result(Found(rows, reached, by_category, ordinal in asking))


def _refuse(batch: Iterable[Waiting], error: Exception) -> None:
    for _, found in batch:
        if not found.done():
            found.set_exception(error)


def _added_up(of_partitions: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    """Category -> number, over all partitions."""
    counted: Counter[str] = Counter()
    for by_category in of_partitions:
        counted.update(by_category)
    return counted


def with_checkpoints(query: str, asking_for_parked: str = NOBODY) -> str:
    """The query, and as its first columns the projector's log, how far it is, what it has parked.

    All but the first are JSON texts: partition -> position; for each partition, category -> number
    of streams; the ordinals of requests that ask for one of them.
    """
    parts = {"query": sql.SQL(query), "asking_for_parked": sql.SQL(asking_for_parked)}
    return sql.SQL(WITH_CHECKPOINTS).format(**parts).as_string()
