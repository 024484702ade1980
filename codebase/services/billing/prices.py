"""Prices of use, as they were set: what holds, what is to come, and what has been."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel

from codebase.model.accounts.account import Region
from codebase.model.accounts.usage import FIRST_PRICES
from codebase.model.money import Currency
from codebase.web.pages import PageSize
from codebase.web.schemas import example

VERSION_MAX = 2**31 - 1
LastPrice = Annotated[
    int | None,
    Query(
        ge=1,
        le=VERSION_MAX,
        examples=[4],
        description="The `number` of the last item of the page before; without it, the first page.",
    ),
]


class PriceState(StrEnum):
    """What has become of a price: another one for the same day replaced it, or a later day came."""

    HOLDS = "holds"
    COMING = "coming"
    OVER = "over"
    REPLACED = "replaced"


PRICE = {
    "number": 4,
    "region": "emea",
    "from_day": "2030-01-01",
    "price_per_hour": "1.2500",
    "currency": "EUR",
    "set_at": "2026-11-28T09:30:00.000000Z",
    "state": "coming",
}


class PriceOfUse(BaseModel):
    """What an hour of an agent's use costs in a region, from the first moment of a day in UTC on.

    `number` is its place among all prices that were set, from 1.
    """

    model_config = example(**PRICE)

    number: int
    region: Region
    from_day: date
    price_per_hour: Decimal
    currency: Currency
    set_at: datetime
    state: PriceState


class PricePage(BaseModel):
    """Prices, the latest set first; `last_reference` leads to earlier ones, null on an empty page.

    Before the first price of a region that was set, the one that the system began with holds.
    """

    model_config = example(items=[PRICE], last_reference=4, size=500)

    items: list[PriceOfUse]
    last_reference: int | None
    size: PageSize


def price_page(rows: Sequence[Sequence[Any]], size: int) -> PricePage:
    """The rows of `queries.PRICES`, as they are answered."""
    items = [
        PriceOfUse(
            number=number,
            region=Region(region),
            from_day=from_day,
            price_per_hour=per_hour,
            currency=FIRST_PRICES[Region(region)].currency,
            set_at=set_at,
            state=PriceState(state),
        )
        for number, region, from_day, per_hour, set_at, state in rows
    ]
    return PricePage(items=items, last_reference=items[-1].number if items else None, size=size)
