"""The last hours on the page: how many stand how, and what was paid in each hour."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from codebase.model.payments.transaction import DECIDED, Status
from codebase.views.payments.transaction_day import COUNTED_MAX, HOURS, OPEN_MAX, Counted, Open
from codebase.web.charts import Chart, Series, bar_chart

CURRENCIES_SHOWN = 3
"""Those with the most transactions; amounts in different currencies are never added up."""
FRAUD = (Status.FRAUDULENT, Status.ALERTED)
PAID, REFUSED, OPEN = "paid", "refused", "on its way"
COLOURS = {PAID: 0, REFUSED: 1, OPEN: 2}

Amounts = Mapping[tuple[str, datetime], Decimal]
"""(what became of it, hour) -> their sum."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LastHours:
    """The transactions of the last hours; `is_cut_off` if there are more than are counted."""

    by_status: Mapping[Status, int]
    charts: Sequence[Chart]
    other_currencies: Sequence[str]

    @property
    def total(self) -> int:
        """How many were counted."""
        return sum(self.by_status.values())

    @property
    def is_cut_off(self) -> bool:
        """Whether there may be older ones that were not counted."""
        return self.total >= COUNTED_MAX

    @property
    def fraudulent(self) -> int:
        """How many were taken for fraud, whether somebody was told or not."""
        return sum(self.by_status.get(status, 0) for status in FRAUD)


@dataclass(frozen=True, kw_only=True, slots=True)
class OnTheirWay:
    """How many have not ended yet, or that and more, and since when the oldest waits."""

    transactions: int
    is_cut_off: bool
    oldest: datetime | None

    @classmethod
    def of(cls, found: Sequence[Open]) -> OnTheirWay:
        """From what was found of each state."""
        return cls(
            transactions=sum(one.transactions for one in found),
            is_cut_off=any(one.transactions >= OPEN_MAX for one in found),
            oldest=min((one.oldest for one in found if one.oldest), default=None),
        )


def last_hours(found: Sequence[Counted], since: datetime) -> LastHours:
    """What is shown of the hours that begin at `since`."""
    by_status: Counter[Status] = Counter()
    by_currency: Counter[str] = Counter()
    for one in found:
        by_status[Status(one.status)] += one.transactions
        by_currency[one.currency] += one.transactions
    currencies = sorted(by_currency, key=lambda currency: (-by_currency[currency], currency))
    return LastHours(
        by_status=by_status,
        charts=[_chart(currency, found, since) for currency in currencies[:CURRENCIES_SHOWN]],
        other_currencies=sorted(currencies[CURRENCIES_SHOWN:]),
    )


def outcome_of(status: Status) -> str:
    """What became of the money."""
    if status is Status.PAYMENT_COMPLETE:
        return PAID
    return REFUSED if status in DECIDED else OPEN


def _chart(currency: str, found: Sequence[Counted], since: datetime) -> Chart:
    hours = [since + timedelta(hours=number) for number in range(HOURS)]
    amounts = _amounts([one for one in found if one.currency == currency])
    return bar_chart(
        title="Amounts by hour",
        unit=currency,
        groups=[f"{hour:%H}h" for hour in hours],
        series=[
            Series(
                name=name,
                values=[amounts.get((name, hour), Decimal(0)) for hour in hours],
                colour=colour,
            )
            for name, colour in COLOURS.items()
        ],
    )


def _amounts(found: Sequence[Counted]) -> Amounts:
    amounts: defaultdict[tuple[str, datetime], Decimal] = defaultdict(Decimal)
    for one in found:
        amounts[outcome_of(Status(one.status)), one.hour] += one.amount
    return amounts
