"""What is charged: invoices and their sums, from rows of use; amounts become decimal strings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field

from codebase.model.accounts.account import Region
from codebase.model.accounts.usage import (
    PRICES,
    Month,
    charge,
    in_hours,
    in_iso8601,
    total_charge,
)
from codebase.model.money import NOTHING, Currency, sums_by_currency
from codebase.web.personal import Personal
from codebase.web.schemas import example

Duration = Annotated[
    str,
    # Not the format `duration` of JSON Schema, which is RFC 3339's and knows no parts of a second.
    Field(
        description="ISO 8601: hours, minutes and seconds.",
        pattern=r"^PT[0-9]+H[0-9]{1,2}M[0-9]{1,2}\.[0-9]{6}S$",
    ),
]


class Standing(BaseModel):
    """What there is in a region at the moment; the price is for an hour of an agent's use."""

    model_config = example(
        region="emea",
        accounts=12,
        closed_accounts=3,
        agents=40,
        in_use=38,
        blocked=2,
        price_per_hour="1.1850",
        currency="EUR",
    )

    region: Region
    accounts: int
    closed_accounts: int
    agents: int
    in_use: int
    blocked: int
    price_per_hour: Decimal
    currency: Currency


NOVEMBER = {
    "month": "2026-11",
    "is_complete": False,
    "charged_until": "2026-11-28T09:30:00.000000Z",
}
BLUE = {
    "account_id": "6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11",
    "account_name": "Blue",
    "is_closed": False,
    "region": "emea",
    "currency": "EUR",
}
BO = {
    "agent_id": "3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe",
    "name": "Bo Lind",
    "hours": "26:30:00.250000",
    "duration": "PT26H30M0.250000S",
    "amount": "31.40",
}


class Period(BaseModel):
    """A month in UTC; one that is not complete is charged up to `charged_until`."""

    model_config = example(**NOVEMBER)

    month: str
    is_complete: bool
    charged_until: datetime


class Line(BaseModel):
    """What an agent costs in a month; `hours` is hours:minutes:seconds of use, exactly.

    `duration` is the same in ISO 8601.
    """

    model_config = example(**BO)

    agent_id: UUID
    name: Personal[str]
    hours: str
    duration: Duration
    amount: Decimal


class Invoice(Period):
    """What an account's agents cost in a month; the total is the sum of the lines."""

    model_config = example(**NOVEMBER, **BLUE, price_per_hour="1.1850", total="31.40", lines=[BO])

    account_id: UUID
    account_name: Personal[str]
    is_closed: bool
    region: Region
    currency: Currency
    price_per_hour: Decimal
    total: Decimal
    lines: list[Line]


class Sum(BaseModel):
    """An invoice without its lines; `hours` of all agents together, and as a `duration`."""

    model_config = example(
        **BLUE, agents=1, hours="26:30:00.250000", duration="PT26H30M0.250000S", total="31.40"
    )

    account_id: UUID
    account_name: Personal[str]
    is_closed: bool
    region: Region
    agents: int
    hours: str
    duration: Duration
    total: Decimal
    currency: Currency


class Invoices(Period):
    """The largest invoices of a month, out of `count`; `totals` are those of all."""

    model_config = example(
        **NOVEMBER,
        count=1,
        totals={"EUR": "31.40"},
        invoices=[
            {
                **BLUE,
                "agents": 1,
                "hours": BO["hours"],
                "duration": BO["duration"],
                "total": "31.40",
            }
        ],
    )

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
            duration=in_iso8601(microseconds),
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
    price, together = PRICES[Region(region)], sum(microseconds)
    return Sum(
        account_id=account_id,
        account_name=name,
        is_closed=is_closed,
        region=Region(region),
        agents=len(microseconds),
        hours=in_hours(together),
        duration=in_iso8601(together),
        total=total_charge(microseconds, price),
        currency=price.currency,
    )
