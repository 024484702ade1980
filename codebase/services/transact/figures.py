"""How transactions end, and how many have not, and since when: what loses them is seen here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from prometheus_client import Counter, Gauge

from codebase.engine.commands.submission import Outcome
from codebase.foundation.background import in_background
from codebase.foundation.clock import Clock, utc_now
from codebase.foundation.errors import ServiceUnavailable
from codebase.foundation.observability.figures import not_summed
from codebase.foundation.postgres import DeadlinedConnection, trouble
from codebase.foundation.settings import Settings
from codebase.foundation.standing import Standing
from codebase.model.payments.transaction import DECIDED, Status
from codebase.views.payments.transaction_day import OPEN, OPEN_MAX, Open

COUNT = Gauge("orderly_transactions_open", "Transactions that have not ended.", ["status"])
OLDEST = Gauge("orderly_transactions_oldest_seconds", "Age of the oldest of these.", ["status"])
# Each process counts all that there are.
not_summed("orderly_transactions_open", max)
not_summed("orderly_transactions_oldest_seconds", max)

ENDED = Counter(
    "orderly_transactions_ended", "Transactions by how this process has ended them.", ["status"]
)
# From the first one on there is something to compare with. Another service makes them ALERTED.
for ending in sorted(DECIDED - {Status.ALERTED}):
    ENDED.labels(ending.value)

COUNT_INTERVAL_SECONDS = 10.0


def count_end(outcome: Outcome) -> None:
    """Count the transaction, if it is this step with which it has ended."""
    if outcome.changed and not outcome.replayed and outcome.state.status in DECIDED:
        ENDED.labels(outcome.state.status.value).inc()


@asynccontextmanager
async def counting(settings: Settings, now: Clock = utc_now) -> AsyncIterator[None]:
    """Count now and then, as the read model has them; what cannot be counted stays as it was."""
    connection = DeadlinedConnection(
        settings.required("read_model_url"),
        "read_model",
        application="transact figures",
        deadline_seconds=settings.database_deadline_seconds,
    )
    try:
        async with in_background(_count_for_ever(connection, now), "transaction figures"):
            yield
    finally:
        await connection.close()


async def _count_for_ever(connection: DeadlinedConnection, now: Clock) -> None:
    standing = Standing("read_model", "count transactions that have not ended")
    while True:
        try:
            await _count(connection, now)
        except (ServiceUnavailable, psycopg.Error) as error:
            standing.failed(trouble(error))
        else:
            standing.succeeded()
        await asyncio.sleep(COUNT_INTERVAL_SECONDS)


async def _count(connection: DeadlinedConnection, now: Clock) -> None:
    asked = {"clients": [None], "most": [OPEN_MAX]}
    opened = await connection.get()
    # A plan from when the table was small would go through all of it.
    cursor = await connection.in_time(opened.execute(OPEN, asked, prepare=False))
    moment = now()
    for _, *row in await cursor.fetchall():
        found = Open(*row)
        age = (moment - found.oldest).total_seconds() if found.oldest else 0.0
        COUNT.labels(found.status).set(found.transactions)
        OLDEST.labels(found.status).set(max(0.0, age))
