"""What billing knows, asked for by request: waits for what the client has seen, and reckons."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from uuid import UUID

from fastapi import Request

from codebase.foundation.clock import Clock
from codebase.model.accounts.account import Region, account_not_found
from codebase.model.accounts.usage import Month
from codebase.services.billing import queries
from codebase.services.billing.invoices import (
    Invoice,
    Invoices,
    Standing,
    charges_of_regions,
    invoice_of,
    invoices_of,
    kept_invoices_of,
    period_at,
    standings_of,
)
from codebase.services.billing.kept_months import MonthKeeper
from codebase.services.billing.prices import PricePage, price_page
from codebase.views.accounts.months import chosen_month
from codebase.views.accounts.usage_intervals import MONTH_ARGUMENTS, charges_by_region
from codebase.web.consistent_reads import ConsistentReads, Query
from codebase.web.group_read import Row
from codebase.web.shell import caller_of


class Ledger:
    """Billing's tables, read.

    Args:
        reads: of the store that billing fills.
        regions: that it looks after.
        keeper: keeps the sums of months that are over.
        now: up to when a running month is charged.
    """

    def __init__(
        self,
        reads: ConsistentReads,
        regions: Sequence[Region],
        keeper: MonthKeeper,
        now: Clock,
    ) -> None:
        self.regions = regions
        self.now = now
        self._reads = reads
        self._keeper = keeper
        self._kept = reads.query(queries.KEPT_INVOICES, queries.KEPT_ARGUMENTS)
        self._kept_regions = reads.query(queries.KEPT_REGIONS, queries.KEPT_REGIONS_ARGUMENTS)
        self._prices_now = reads.query(queries.PRICES_NOW, queries.PRICES_NOW_ARGUMENTS)
        self._prices = reads.query(
            queries.PRICES, queries.PRICE_ARGUMENTS, categories=("price_list",)
        )
        self._standings = reads.query(queries.REGIONS, queries.REGION_ARGUMENTS)
        self._by_region = reads.query(queries.USE_BY_REGION, MONTH_ARGUMENTS)
        self._by_account = reads.query(queries.USE_BY_ACCOUNT, MONTH_ARGUMENTS)
        self._lines = reads.query(
            queries.INVOICES,
            queries.INVOICE_ARGUMENTS,
            asking_for_parked=queries.ASKING_FOR_PARKED_INVOICE,
        )

    def month(self, text: str | None) -> Month:
        """The month that `text` names, else the running one."""
        return chosen_month(text, self.now())

    async def standings(self, request: Request) -> list[Standing]:
        """What there is in each region at the moment."""
        rows = await self._reads.fetch(request, self._standings, True)  # noqa: FBT003 - a row asked for
        prices = await self._reads.fetch(request, self._prices_now, self.now())
        return standings_of(rows, ((region, per_hour) for region, per_hour in prices), self.regions)

    async def prices(self, request: Request, last_reference: int | None, size: int) -> PricePage:
        """Prices that were set, the latest first."""
        rows = await self._reads.fetch(request, self._prices, last_reference, size, self.now())
        return price_page(rows, size)

    async def invoices(self, request: Request, month: Month, size: int) -> Invoices:
        """The month's largest invoices."""
        period = period_at(month, self.now())
        if period.is_complete:
            kept = await self._kept_rows(request, month, self._kept, size)
            if kept:
                return kept_invoices_of(period, kept)
        rows = await self._reads.fetch(request, self._by_account, month.begin, period.charged_until)
        return invoices_of(period, rows, size)

    async def invoice(self, request: Request, account_id: UUID, month: Month) -> Invoice:
        """One account's invoice.

        Raises:
            NotFound: there is no such account, or it is another client's.
            StreamParked: the account, or an agent of it, is parked: the sum might be wrong.
        """
        caller, period = caller_of(request), period_at(month, self.now())
        client = caller.only_client
        asked = (client, account_id, month.begin, period.charged_until)
        found = invoice_of(
            account_id, period, await self._reads.fetch(request, self._lines, *asked)
        )
        if found is None:
            raise account_not_found(account_id)
        return found

    async def billed(
        self, request: Request, months: Sequence[Month]
    ) -> list[Mapping[Region, Decimal]]:
        """What was billed in each of the months, by region."""
        asked = (self._billed_in(request, month) for month in months)
        return await asyncio.gather(*asked)

    async def _billed_in(self, request: Request, month: Month) -> Mapping[Region, Decimal]:
        now = self.now()
        if month.is_over(now):
            kept = await self._kept_rows(request, month, self._kept_regions)
            if kept:
                return charges_of_regions(kept[0][0])
        return charges_by_region(
            await self._reads.fetch(request, self._by_region, month.begin, month.up_to(now))
        )

    async def _kept_rows(
        self, request: Request, month: Month, query: Query, *more: int
    ) -> list[Row]:
        """What is kept of a month that is over, which is kept if it is not; none if it cannot be.

        It is only once the tables hold all that the log holds: until then every event might delete
        it again.
        """
        asked = (month.begin.date(), *more)
        found = await self._reads.fetch(request, query, *asked)
        if found or not await self._reads.hold_all(request) or not await self._keeper.keep(month):
            return found
        return await self._reads.fetch(request, query, *asked)
