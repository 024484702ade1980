"""What is charged: invoices and their sums, from rows of use; amounts become decimal strings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from codebase.model.accounts.account import Region
from codebase.model.accounts.usage import PRICES, Month, charge, in_hours, total_charge
from codebase.model.money import NOTHING, Currency, sums_by_currency
from codebase.web.personal import Personal


class Standing(BaseModel):
    """What there is in a region at the moment; the price is for an hour of an agent's use."""

    region: Region
    accounts: int
    closed_accounts: int
    agents: int
    in_use: int
    blocked: int
    price_per_hour: Decimal
    currency: Currency


class Period(BaseModel):
    """A month in UTC; one that is not complete is charged up to `charged_until`."""

    month: str
    is_complete: bool
    charged_until: datetime


class Line(BaseModel):
    """What an agent costs in a month; `hours` is hours:minutes:seconds of use, exactly."""

    agent_id: UUID
    name: Personal[str]
    hours: str
    amount: Decimal


class Invoice(Period):
    """What an account's agents cost in a month; the total is the sum of the lines."""

    account_id: UUID
    account_name: Personal[str]
    is_closed: bool
    region: Region
    currency: Currency
    price_per_hour: Decimal
    total: Decimal
    lines: list[Line]


class Sum(BaseModel):
    """An invoice without its lines; `hours` of all agents together."""

    account_id: UUID
    account_name: Personal[str]
    is_closed: bool
    region: Region
    agents: int
    hours: str
    total: Decimal
    currency: Currency


class Invoices(Period):
    """The largest invoices of a month, out of `count`; `totals` are those of all."""

    count: int
    totals: dict[Currency, Decimal]
    invoices: list[Sum]


def period_at(month: Month, now: datetime) -> Period:
    """The month, seen from the moment `now`."""
    return Period(month=str(month), is_complete=month.is_over(now), charged_until=month.up_to(now))


def standings_of(rows: Iterable[Sequence[Any]], regions: Iterable[Region]) -> list[Standing]:
    """The rows of `queries.REGIONS`, and nothing for regions that they lack."""
    counted = {region: counts for region, *counts in rows}
    standings = []
    for region in regions:
        accounts, closed, in_use, blocked = counted.get(region, (0, 0, 0, 0))
        price = PRICES[region]
        standings.append(
            Standing(
                region=region,
                accounts=accounts,
                closed_accounts=closed,
                agents=in_use + blocked,
                in_use=in_use,
                blocked=blocked,
                price_per_hour=price.per_hour,
                currency=price.currency,
            )
        )
    return standings


def invoice_of(account_id: UUID, period: Period, rows: Sequence[Sequence[Any]]) -> Invoice | None:
    """The invoice that the rows of `queries.INVOICES` come to; None when there are none."""
    if not rows:
        return None
    account_name, region, is_closed = rows[0][:3]
    price = PRICES[Region(region)]
    lines = [
        Line(
            agent_id=agent_id,
            name=name,
            hours=in_hours(microseconds),
            amount=charge(microseconds, price),
        )
        for *_, agent_id, name, microseconds in rows
        if agent_id is not None
    ]
    return Invoice(
        **period.model_dump(),
        account_id=account_id,
        account_name=account_name,
        is_closed=is_closed,
        region=Region(region),
        currency=price.currency,
        price_per_hour=price.per_hour,
        total=sum((line.amount for line in lines), start=NOTHING),
        lines=lines,
    )


def invoices_of(period: Period, rows: Iterable[Sequence[Any]], size: int) -> Invoices:
    """The rows of `queries.USE_BY_ACCOUNT` as sums, the largest first, `size` of them."""
    sums = [_sum_of(row) for row in rows]
    sums.sort(key=lambda each: (-each.total, each.account_name, each.account_id))
    return Invoices(
        **period.model_dump(),
        count=len(sums),
        totals=sums_by_currency((each.currency, each.total) for each in sums),
        invoices=sums[:size],
    )


def _sum_of(row: Sequence[Any]) -> Sum:
    account_id, name, region, is_closed, microseconds = row
    price = PRICES[Region(region)]
    return Sum(
        account_id=account_id,
        account_name=name,
        is_closed=is_closed,
        region=Region(region),
        agents=len(microseconds),
        hours=in_hours(sum(microseconds)),
        total=total_charge(microseconds, price),
        currency=price.currency,
    )
