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
    invoice_of,
    invoices_of,
    period_at,
    standings_of,
)
from codebase.views.accounts.months import chosen_month
from codebase.views.accounts.usage_intervals import MONTH_ARGUMENTS, charges_by_region
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.shell import caller_of


class Ledger:
    """Billing's tables, read.

    Args:
        reads: of the store that billing fills.
        regions: that it looks after.
        now: up to when a running month is charged.
    """

    def __init__(self, reads: ConsistentReads, regions: Sequence[Region], now: Clock) -> None:
        self.regions = regions
        self.now = now
        self._reads = reads
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
        return standings_of(rows, self.regions)

    async def invoices(self, request: Request, month: Month, size: int) -> Invoices:
        """The month's largest invoices."""
        period = period_at(month, self.now())
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
        now = self.now()
        asked = (
            self._reads.fetch(request, self._by_region, month.begin, month.up_to(now))
            for month in months
        )
        return [charges_by_region(rows) for rows in await asyncio.gather(*asked)]
