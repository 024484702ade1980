"""Charts of regions: a region has the same colour on every page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from codebase.model.accounts.account import Region
from codebase.model.accounts.usage import FIRST_PRICES
from codebase.web.charts import Chart, Series, bar_chart

COLOURS = {region: number for number, region in enumerate(Region)}


def series_of(values: Mapping[Region, Sequence[Decimal]]) -> list[Series]:
    """Bars for each region; `values` has one for each group of the chart."""
    return [
        Series(name=region, values=its, colour=COLOURS[region]) for region, its in values.items()
    ]


def charts_by_currency(
    *, title: str, groups: Sequence[str], values: Mapping[Region, Sequence[Decimal]]
) -> list[Chart]:
    """What regions were charged: one chart for each currency that they are charged in.

    Args:
        title: what is shown, in words.
        groups: along the axis.
        values: for each region, one amount for each of `groups`.
    """
    return [
        bar_chart(
            title=title,
            unit=currency,
            groups=groups,
            series=series_of(
                {one: its for one, its in values.items() if FIRST_PRICES[one].currency == currency}
            ),
        )
        for currency in sorted({FIRST_PRICES[region].currency for region in values})
    ]
