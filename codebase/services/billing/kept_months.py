"""Months that are over, added up once: what accounts used in them does not change any more.

Whoever asks first for a month has it kept. While it is added up the projector is held off by the
checkpoints' lock, for as long as one read of all agents takes. An event from before the month's end
may arrive later all the same, out of another partition or because it was parked: whatever applies
it deletes what is kept of that month, under the same lock, and it is added up again.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection, Cursor
from psycopg.types.json import Jsonb

from codebase.engine.projections.checkpoint import STORE_OPTIONS
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.foundation.postgres import connect, trouble
from codebase.foundation.settings import Settings
from codebase.model.accounts.account import Region
from codebase.model.accounts.price_list import Held, parts_within
from codebase.model.accounts.usage import Interval, Month, Tariff, microseconds_within
from codebase.model.money import NOTHING
from codebase.services.billing import queries
from codebase.services.billing.invoices import AccountUse, uses_of
from codebase.views.accounts.usage_intervals import tariff_of

logger = logging.getLogger(__name__)

TABLES = ("billing_month", "billing_month_account")

# The month's own row only, without which nobody looks at its accounts': there may be very many of
# those, and whoever applies an event has a deadline. They go when the month is kept again.
FORGET = """
    DELETE FROM billing_month
    WHERE month >= (
        SELECT date_trunc('month', min(recorded_at) AT TIME ZONE 'UTC')::date
        FROM unnest(%(recorded_at)b::timestamptz[]) AS recorded_at
    )
"""

# In the order in which everybody locks them.
LOCK_CHECKPOINTS = """
    SELECT FROM projection_checkpoint WHERE projector = %(projector)s
    ORDER BY partition
    FOR UPDATE
"""
IS_KEPT = "SELECT FROM billing_month WHERE month = %(month)s"
FORGET_ACCOUNTS = "DELETE FROM billing_month_account WHERE month = %(month)s"
KEEP_MONTH = """
    INSERT INTO billing_month (month, accounts, regions)
    VALUES (%(month)s, %(accounts)s, %(regions)s)
"""
KEEP_ACCOUNTS = """
    COPY billing_month_account (month, account_id, agents, microseconds, total) FROM STDIN
"""

LEAVE_SO_MUCH_TIME = "SELECT set_config('statement_timeout', %(milliseconds)s::text, true)"
LOCK_WAIT_MILLISECONDS = 1_000
PAUSE_SECONDS = 300.0
"""After a month could not be kept: whoever tries holds the projector off meanwhile."""

READ_KEPT = "SELECT month, accounts, regions FROM billing_month ORDER BY month"
READ_PRICES = "SELECT region, holds_from, per_hour FROM billing_price ORDER BY version"
READ_AGENTS = """
    SELECT agent.account_id, agent.region, agent.usage
    FROM billing_agent AS agent JOIN billing_account AS account ON account.id = agent.account_id
    ORDER BY agent.account_id
"""
READ_KEPT_ACCOUNTS = """
    SELECT account_id, agents, microseconds, total FROM billing_month_account
    WHERE month = %(month)s
"""
FETCH = 2_000


def forget_months(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Delete what is kept of the month of the earliest event, and of those after it."""
    if events:
        recorded_at = [event.recorded_at for event in events]
        cursor.execute(FORGET, {"recorded_at": recorded_at}, prepare=True)


class MonthKeeper:
    """Adds up a month that is over, and keeps the sums.

    Args:
        settings: where the store is; how long a month may take.
        projector: who fills the tables.
        clock: seconds that only ever grow.
    """

    def __init__(
        self, settings: Settings, projector: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = settings.required("read_model_projector_url")
        self._deadline_seconds = settings.command_deadline_seconds
        self._partitions = settings.partitions
        self._projector = projector
        self._one_at_a_time = asyncio.Lock()
        self._clock = clock
        self._try_at = clock()

    async def keep(self, month: Month) -> bool:
        """Keep the month, unless it is kept already; whether it is now.

        Where that has failed nobody tries again for some minutes.
        """
        async with self._one_at_a_time:
            if self._clock() < self._try_at:
                return False
            try:
                return await asyncio.to_thread(self._keep, month)
            except psycopg.Error as error:
                self._try_at = self._clock() + PAUSE_SECONDS
                logger.warning("month %s cannot be kept: %s", month, trouble(error))
                return False

    def _keep(self, month: Month) -> bool:
        options = f"{STORE_OPTIONS} -c lock_timeout={LOCK_WAIT_MILLISECONDS}"
        with (
            connect(self._url, "keep_month", options=options) as store,
            store.transaction(),
            store.cursor(binary=True) as cursor,
        ):
            return keep_month(
                cursor, month, self._projector, self._partitions, self._deadline_seconds
            )


def keep_month(
    cursor: Cursor[Any], month: Month, projector: str, partitions: int, seconds: float
) -> bool:
    """Keep the month in a transaction of its own, in which nobody else changes billing's tables.

    Args:
        cursor: in that transaction.
        month: which is over.
        projector: who fills the tables.
        partitions: how many the log has.
        seconds: for all of it.

    Returns:
        Whether it is kept: not before the projector has begun with every partition.
    """
    ends_at = time.monotonic() + seconds
    _leave_time(cursor, ends_at)
    if len(cursor.execute(LOCK_CHECKPOINTS, {"projector": projector}).fetchall()) < partitions:
        return False
    begin = month.begin.date()
    if cursor.execute(IS_KEPT, {"month": begin}).fetchone() is not None:
        return True
    asked = {"since": [month.begin], "until": [month.end]}
    rows = cursor.execute(queries.USE_BY_ACCOUNT, asked).fetchall()
    uses = uses_of(row[1:] for row in rows)
    regions = Jsonb({region: str(total) for region, total in totals_by_region(uses).items()})
    _leave_time(cursor, ends_at)
    cursor.execute(FORGET_ACCOUNTS, {"month": begin})
    cursor.execute(KEEP_MONTH, {"month": begin, "accounts": len(uses), "regions": regions})
    _leave_time(cursor, ends_at)
    with cursor.copy(KEEP_ACCOUNTS) as copy:
        for one in uses:
            copy.write_row((begin, one.account_id, one.agents, one.microseconds, one.total))
    return True


def _leave_time(cursor: Cursor[Any], ends_at: float) -> None:
    """The next statement may take what is left."""
    left = max(1, int((ends_at - time.monotonic()) * 1000))
    cursor.execute(LEAVE_SO_MUCH_TIME, {"milliseconds": left})


def totals_by_region(uses: Iterable[AccountUse]) -> Mapping[Region, Decimal]:
    """What the use in each region comes to; nothing for a region without use."""
    totals: dict[Region, Decimal] = {}
    for one in uses:
        totals[one.region] = totals.get(one.region, NOTHING) + one.total
    return totals


# What `verify` compares: the model's own reckoning, from intervals and prices, without the SQL that
# the sums are made with.


def check_kept_months(store: Connection[Any]) -> Iterator[str]:
    """A sentence for each sum of a kept month that does not follow from agents and prices."""
    kept = store.execute(READ_KEPT).fetchall()
    if not kept:
        return
    added_up = _add_up(store, [Month(month.year, month.month) for month, *_ in kept])
    for month, accounts, regions in kept:
        expected = added_up[month]
        rows = store.execute(READ_KEPT_ACCOUNTS, {"month": month}).fetchall()
        yield from _differing(
            month, {account_id: tuple(use) for account_id, *use in rows}, expected
        )
        told = _totals(expected)
        if (accounts, regions) != (len(expected), told):
            yield (
                f"billing_month {month}: {accounts} accounts, {regions},"
                f" the log says {len(expected)}, {told}"
            )


def _differing(
    month: date, found: Mapping[UUID, Any], expected: Mapping[UUID, Use]
) -> Iterator[str]:
    for account_id in sorted(found.keys() | expected.keys()):
        kept, wanted = found.get(account_id), expected.get(account_id)
        if kept != (wanted and wanted[:3]):
            yield (
                f"billing_month_account {month} {account_id}: {_told(kept)},"
                f" the log says {_told(wanted)}"
            )


def _totals(accounts: Mapping[UUID, Use]) -> Mapping[str, str]:
    totals: dict[str, Decimal] = {}
    for *_, total, region in accounts.values():
        totals[region] = totals.get(region, NOTHING) + total
    return {region: str(total) for region, total in totals.items()}


Use = tuple[int, int, Decimal, str]
"""Agents, microseconds, total and region of an account in a month."""


def _add_up(store: Connection[Any], months: Sequence[Month]) -> dict[date, dict[UUID, Use]]:
    prices = [
        Held(region=Region(region), holds_from=begin, per_hour=per_hour)
        for region, begin, per_hour in store.execute(READ_PRICES).fetchall()
    ]
    added: dict[date, dict[UUID, Use]] = {month.begin.date(): {} for month in months}
    tariffs = {
        (region.value, month): _tariff(prices, region, month)
        for region in Region
        for month in months
    }
    with store.cursor("agents_of_kept_months") as cursor:
        cursor.itersize = FETCH
        cursor.execute(READ_AGENTS)
        for account_id, region, usage in cursor:
            intervals = [Interval(one.lower, one.upper) for one in usage]
            for month in months:
                line = _line(*tariffs[region, month], intervals)
                _add(added[month.begin.date()], account_id, region, line)
    return added


def _tariff(
    prices: Sequence[Held], region: Region, month: Month
) -> tuple[Sequence[datetime], Tariff]:
    """The bounds of the month's parts, and what each of them costs."""
    parts = parts_within(prices, region, month.begin, month.end)
    return [*(part.begin for part in parts), month.end], tariff_of(parts)


def _line(
    bounds: Sequence[datetime], tariff: Tariff, intervals: Sequence[Interval]
) -> tuple[int, Decimal]:
    used = [microseconds_within(intervals, begin, end) for begin, end in itertools.pairwise(bounds)]
    return sum(used), tariff.charge(used)


def _add(
    accounts: dict[UUID, Use], account_id: UUID, region: str, line: tuple[int, Decimal]
) -> None:
    used, amount = line
    if used:
        agents, before, total, _ = accounts.get(account_id, (0, 0, NOTHING, region))
        accounts[account_id] = (agents + 1, before + used, total + amount, region)


def _told(use: Sequence[Any] | None) -> str:
    return "nothing" if use is None else f"{use[0]} agents, {use[1]} microseconds, {use[2]}"
