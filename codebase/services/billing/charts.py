"""The charts of billing's page: what was billed, one chart for each currency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from codebase.model.accounts.account import Region
from codebase.model.accounts.usage import Month
from codebase.views.accounts.charts import charts_by_currency
from codebase.web.charts import Chart

MONTHS_SHOWN = 6


def months_up_to(last: Month) -> list[Month]:
    """The months that the charts show, in order."""
    return [last.plus(back) for back in range(1 - MONTHS_SHOWN, 1)]


def charts_of(
    months: Sequence[Month],
    billed: Sequence[Mapping[Region, Decimal]],
    regions: Sequence[Region],
) -> list[Chart]:
    """One chart for each currency that the regions are charged in.

    Args:
        months: shown, in order.
        billed: in each of the months, by region.
        regions: looked after.
    """
    return charts_by_currency(
        title="Billed by month",
        groups=[str(month) for month in months],
        values={region: [each.get(region, Decimal(0)) for each in billed] for region in regions},
    )
