"""Months of VIP customers: from rows to what is answered and drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, Field

from codebase.model.accounts.account import Region
from codebase.model.accounts.usage import FIRST_PRICES, Month
from codebase.model.money import NOTHING, Currency, sums_by_currency
from codebase.views.accounts.charts import charts_by_currency, series_of
from codebase.views.accounts.usage_intervals import charges_by_region
from codebase.web.charts import Chart, bar_chart
from codebase.web.schemas import example

REGIONS = list(Region)


class RegionOfMonth(BaseModel):
    """VIP accounts opened and closed in a month, those standing at its end, and their turnover.

    Turnover is what their agents were charged in the month.
    """

    model_config = example(
        region="emea", opened=3, closed=1, standing=12, turnover="1520.40", currency="EUR"
    )

    region: Region
    opened: int
    closed: int
    standing: int
    turnover: Decimal
    currency: Currency


class MonthOfVips(BaseModel):
    """A month in UTC; one that is not complete is counted up to `counted_until`."""

    month: Annotated[str, Field(examples=["2026-11"])]
    is_complete: bool
    counted_until: datetime
    regions: list[RegionOfMonth]


class Months(BaseModel):
    """The latest month comes last."""

    months: list[MonthOfVips]


def month_of(
    month: Month,
    now: datetime,
    accounts: Iterable[Sequence[Any]],
    use: Iterable[Sequence[Any]],
) -> MonthOfVips:
    """One month, from the rows of `queries.ACCOUNTS` and `queries.USE`."""
    counted = {region: counts for region, *counts in accounts}
    turnover = charges_by_region(use)
    regions = []
    for region in REGIONS:
        opened, closed, standing = counted.get(region, (0, 0, 0))
        regions.append(
            RegionOfMonth(
                region=region,
                opened=opened,
                closed=closed,
                standing=standing,
                turnover=turnover.get(region, NOTHING),
                currency=FIRST_PRICES[region].currency,
            )
        )
    return MonthOfVips(
        month=str(month),
        is_complete=month.is_over(now),
        counted_until=month.up_to(now),
        regions=regions,
    )


def turnover_by_currency(month: MonthOfVips) -> dict[Currency, Decimal]:
    """The turnover of all regions."""
    return sums_by_currency((each.currency, each.turnover) for each in month.regions)


def charts_of(months: Sequence[MonthOfVips]) -> list[Chart]:
    """Turnover, one chart for each currency; how many accounts there were, and new ones."""
    groups = [each.month for each in months]
    turnover = charts_by_currency(
        title="Turnover", groups=groups, values=_by_region(months, "turnover")
    )
    accounts = [
        bar_chart(
            title=title,
            unit="VIP accounts",
            groups=groups,
            series=series_of(_by_region(months, field)),
        )
        for title, field in (("At the month's end", "standing"), ("Opened", "opened"))
    ]
    return [*turnover, *accounts]


def _by_region(months: Sequence[MonthOfVips], field: str) -> Mapping[Region, list[Decimal]]:
    return {
        region: [Decimal(getattr(month.regions[number], field)) for month in months]
        for number, region in enumerate(REGIONS)
    }
