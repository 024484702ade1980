"""The prices that orders are placed at: fetched in the background, looked up without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from time import monotonic
from typing import Annotated

from aiohttp import ClientError, ClientSession
from prometheus_client import Gauge
from pydantic import BaseModel, Field, ValidationError

from codebase.foundation.background import in_background
from codebase.foundation.backoff import doubled, with_jitter
from codebase.foundation.observability import logs
from codebase.foundation.observability.figures import not_summed
from codebase.model.buy_orders.buy_order import Price
from codebase.model.money import Currency
from codebase.views.buy_orders.settings import BuyOrderSettings

FETCH_DEADLINE_SECONDS = 2.0
PAUSE_SECONDS = 2.0
FIRST_PAUSE_AFTER_FAILURE_SECONDS = 0.1
LONGEST_PAUSE_AFTER_FAILURE_SECONDS = 2.0

AGE = Gauge(
    "orderly_price_age_seconds", "Age of the price that orders are placed at.", ["currency"]
)
not_summed("orderly_price_age_seconds", max)

# Whatever else a price service might say, this is all that an order can be placed at.
Rate = Annotated[Decimal, Field(gt=0, max_digits=20, decimal_places=8)]
Age = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Monotonic = Callable[[], float]


class FetchedPrice(BaseModel):
    """What btc_price answers, as far as it matters here."""

    currency: Currency
    rate: Rate
    source: str
    age_s: Age


class FetchedRecord(BaseModel):
    """The prices of all currencies."""

    prices: list[FetchedPrice]


class Prices:
    """The latest price of every currency, and how old it is.

    Ages are judged by a monotonic clock, starting from the age that btc_price reported, so that
    wall clocks that differ or jump do not matter.

    Args:
        settings: where btc_price is, what token it wants, and how old a price may be.
        clock: seconds that only go up.
    """

    def __init__(self, settings: BuyOrderSettings, clock: Monotonic = monotonic) -> None:
        self._url = f"{settings.btc_price_url}/record"
        self._max_age_seconds = settings.btc_price_max_age_s
        self._headers = {"X-Token": settings.service_token} if settings.service_token else {}
        self._clock = clock
        self._prices: dict[Currency, tuple[float, Price]] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: BuyOrderSettings, session: ClientSession
    ) -> AsyncIterator[Prices]:
        """Prices that keep themselves fresh."""
        prices = cls(settings)
        async with in_background(prices._fetch_for_ever(session), "prices"):
            yield prices

    def current(self, currency: Currency) -> Price | None:
        """The price to buy at, or None when the last one is too old."""
        quoted_at, price = self._prices.get(currency, (0.0, None))
        if price is None or self._clock() - quoted_at > self._max_age_seconds:
            return None
        return price

    def _age(self, currency: Currency) -> float:
        return self._clock() - self._prices[currency][0]

    async def ready(self) -> str | None:
        """None when every currency has a price, otherwise which have none."""
        missing = [currency for currency in Currency if self.current(currency) is None]
        return f"no price for {', '.join(missing)}" if missing else None

    def take(self, record: FetchedRecord, asked_at: float) -> None:
        """Note the prices of an answer.

        Args:
            record: what btc_price said.
            asked_at: when it was asked, by this object's clock; counting from there, a price may
                seem older than it is, never younger.
        """
        for fetched in record.prices:
            price = Price(currency=fetched.currency, rate=fetched.rate, source=fetched.source)
            self._prices[fetched.currency] = (asked_at - fetched.age_s, price)
            AGE.labels(fetched.currency).set_function(partial(self._age, fetched.currency))

    async def _fetch_for_ever(self, session: ClientSession) -> None:
        failures = 0
        while True:
            try:
                async with asyncio.timeout(FETCH_DEADLINE_SECONDS):
                    await self._fetch(session)
                failures = 0
            except (ClientError, OSError, ValidationError, TimeoutError) as error:
                failures += 1
                if failures == 1:
                    logs.warning("price_fetch_failed", reason=type(error).__name__)
            waiting = await self.ready() is not None
            await asyncio.sleep(_pause(failures or int(waiting)))

    async def _fetch(self, session: ClientSession) -> None:
        asked_at = self._clock()
        async with session.get(
            self._url, headers=self._headers, allow_redirects=False, raise_for_status=True
        ) as answer:
            self.take(FetchedRecord.model_validate_json(await answer.read()), asked_at)


def _pause(failures: int) -> float:
    """Seconds to the next request: even, or short at first and longer with every failure."""
    if not failures:
        return PAUSE_SECONDS
    longest = LONGEST_PAUSE_AFTER_FAILURE_SECONDS
    return with_jitter(doubled(FIRST_PAUSE_AFTER_FAILURE_SECONDS, failures - 1, longest))
