"""What is charged: invoices and their sums, from rows of use; amounts become decimal strings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import chain
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field

from codebase.model.accounts.account import Region
from codebase.model.accounts.usage import (
    FIRST_PRICES,
    Month,
    Part,
    in_hours,
    in_iso8601,
)
from codebase.model.money import NOTHING, Currency, sums_by_currency
from codebase.views.accounts.usage_intervals import parts_of_month, tariff_of
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
    "parts": [],
}


class Period(BaseModel):
    """A month in UTC; one that is not complete is charged up to `charged_until`."""

    model_config = example(**NOVEMBER)

    month: str
    is_complete: bool
    charged_until: datetime


class PriceOfPart(BaseModel):
    """A price for an hour, and from which moment of the month on it holds."""

    model_config = example(begins="2026-11-01T00:00:00.000000Z", price_per_hour="1.1850")

    begins: datetime
    price_per_hour: Decimal


class PartOfLine(PriceOfPart):
    """The use to which a price applies; `hours` and `duration` as those of the line."""

    model_config = example(
        begins="2026-11-01T00:00:00.000000Z",
        price_per_hour="1.1850",
        hours="26:30:00.250000",
        duration="PT26H30M0.250000S",
    )

    hours: str
    duration: Duration


class Line(BaseModel):
    """What an agent costs in a month; `hours` is hours:minutes:seconds of use, exactly.

    `duration` is the same in ISO 8601. A month with several prices has one of `parts` for each;
    what they come to together is exact, and the amount is rounded once. With one there are none.
    """

    model_config = example(**BO)

    agent_id: UUID
    name: Personal[str]
    hours: str
    duration: Duration
    amount: Decimal
    parts: list[PartOfLine]


class Invoice(Period):
    """What an account's agents cost in a month; the total is the sum of the lines.

    `prices` are the month's, in order; `price_per_hour` is the last one of them.
    """

    model_config = example(
        **NOVEMBER,
        **BLUE,
        price_per_hour="1.1850",
        prices=[{"begins": "2026-11-01T00:00:00.000000Z", "price_per_hour": "1.1850"}],
        total="31.40",
        lines=[BO],
    )

    account_id: UUID
    account_name: Personal[str]
    is_closed: bool
    region: Region
    currency: Currency
    price_per_hour: Decimal
    prices: list[PriceOfPart]
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


@dataclass(frozen=True, slots=True)
class AccountUse:
    """What an account used in a month, and what it is charged for that."""

    account_id: UUID
    account_name: str
    region: Region
    is_closed: bool
    agents: int
    microseconds: int
    total: Decimal

    @property
    def currency(self) -> Currency:
        """The one that its region is charged in."""
        return FIRST_PRICES[self.region].currency

    def shown(self) -> Sum:
        """As it is answered."""
        return Sum(
            account_id=self.account_id,
            account_name=self.account_name,
            is_closed=self.is_closed,
            region=self.region,
            agents=self.agents,
            hours=in_hours(self.microseconds),
            duration=in_iso8601(self.microseconds),
            total=self.total,
            currency=self.currency,
        )


def standings_of(
    rows: Iterable[Sequence[Any]], prices: Iterable[tuple[str, Decimal]], regions: Iterable[Region]
) -> list[Standing]:
    """The rows of `queries.REGIONS` and `PRICES_NOW`; nothing for regions that they lack."""
    counted = {region: counts for region, *counts in rows}
    prices_now = dict(prices)
    standings = []
    for region in regions:
        accounts, closed, in_use, blocked = counted.get(region, (0, 0, 0, 0))
        first = FIRST_PRICES[region]
        standings.append(
            Standing(
                region=region,
                accounts=accounts,
                closed_accounts=closed,
                agents=in_use + blocked,
                in_use=in_use,
                blocked=blocked,
                price_per_hour=prices_now.get(region, first.per_hour),
                currency=first.currency,
            )
        )
    return standings


def invoice_of(account_id: UUID, period: Period, rows: Sequence[Sequence[Any]]) -> Invoice | None:
    """The invoice that the rows of `queries.INVOICES` come to; None when there are none."""
    if not rows:
        return None
    account_name, region, is_closed, begins, prices = rows[0][:5]
    parts = parts_of_month(Region(region), begins, prices)
    tariff = tariff_of(parts)
    lines = [
        _line(agent_id, name, microseconds, parts, tariff.charge(microseconds))
        for *_, agent_id, name, microseconds in rows
        if agent_id is not None
    ]
    return Invoice(
        **period.model_dump(),
        account_id=account_id,
        account_name=account_name,
        is_closed=is_closed,
        region=Region(region),
        currency=FIRST_PRICES[Region(region)].currency,
        price_per_hour=parts[-1].per_hour,
        prices=[PriceOfPart(begins=part.begin, price_per_hour=part.per_hour) for part in parts],
        total=sum((line.amount for line in lines), start=NOTHING),
        lines=lines,
    )


def _line(
    agent_id: UUID, name: str, microseconds: Sequence[int], parts: Sequence[Part], amount: Decimal
) -> Line:
    together = sum(microseconds)
    return Line(
        agent_id=agent_id,
        name=name,
        hours=in_hours(together),
        duration=in_iso8601(together),
        amount=amount,
        # With one price they would say the same again, ten thousand times where there are as many.
        parts=[_part_of_line(part, used) for part, used in zip(parts, microseconds, strict=True)]
        if len(parts) > 1
        else [],
    )


def _part_of_line(part: Part, microseconds: int) -> PartOfLine:
    return PartOfLine(
        begins=part.begin,
        price_per_hour=part.per_hour,
        hours=in_hours(microseconds),
        duration=in_iso8601(microseconds),
    )


def invoices_of(period: Period, rows: Iterable[Sequence[Any]], size: int) -> Invoices:
    """The rows of `queries.USE_BY_ACCOUNT` as sums, the largest first, `size` of them."""
    uses = uses_of(rows)
    uses.sort(key=lambda each: (-each.total, each.account_name, each.account_id))
    return Invoices(
        **period.model_dump(),
        count=len(uses),
        totals=sums_by_currency((each.currency, each.total) for each in uses),
        invoices=[use.shown() for use in uses[:size]],
    )


def uses_of(rows: Iterable[Sequence[Any]]) -> list[AccountUse]:
    """What the rows of `queries.USE_BY_ACCOUNT` come to, account by account."""
    return [
        AccountUse(
            account_id=account_id,
            account_name=name,
            region=Region(region),
            is_closed=is_closed,
            agents=len(microseconds),
            microseconds=sum(chain.from_iterable(microseconds)),
            total=tariff_of(parts_of_month(Region(region), begins, prices)).total(microseconds),
        )
        for account_id, name, region, is_closed, begins, prices, microseconds in rows
    ]


def kept_invoices_of(period: Period, rows: Sequence[Sequence[Any]]) -> Invoices:
    """What the rows of `queries.KEPT_INVOICES` say, of which there is at least one."""
    count, regions = rows[0][:2]
    totals = charges_of_regions(regions)
    return Invoices(
        **period.model_dump(),
        count=count,
        totals=sums_by_currency(
            (FIRST_PRICES[region].currency, total) for region, total in totals.items()
        ),
        invoices=[_kept_use(row[2:]).shown() for row in rows if row[2] is not None],
    )


def _kept_use(row: Sequence[Any]) -> AccountUse:
    account_id, name, region, is_closed, agents, microseconds, total = row
    return AccountUse(account_id, name, Region(region), is_closed, agents, microseconds, total)


def charges_of_regions(regions: str) -> Mapping[Region, Decimal]:
    """What a kept month came to in each region, from the JSON that the store has of it."""
    return {Region(region): Decimal(total) for region, total in json.loads(regions).items()}
