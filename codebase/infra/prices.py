"""The prices that orders are placed at: fetched in the background, looked up without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from time import monotonic

import httpx
from pydantic import BaseModel, ValidationError

from codebase.infra import logs
from codebase.infra.settings import Settings
from codebase.model.buy_order import Price
from codebase.model.money import Currency

FETCH_DEADLINE_SECONDS = 2.0
PAUSE_SECONDS = 2.0
PAUSE_AFTER_FAILURE_SECONDS = 0.25


class FetchedPrice(BaseModel):
    """What btc_price answers, as far as it matters here."""

    currency: Currency
    rate: Decimal
    source: str
    age_s: float


class FetchedRecord(BaseModel):
    """The prices of all currencies."""

    prices: list[FetchedPrice]


class Prices:
    """The latest price of every currency, and how old it is.

    Ages are judged by a monotonic clock from the age that btc_price reported, so that clocks that
    differ or jump do not matter.

    Args:
        settings: where btc_price is, and how old a price may be.
        token: sent to btc_price when it wants one.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = f"{settings.btc_price_url}/record"
        self._max_age_seconds = settings.btc_price_max_age_s
        self._headers = {"X-Token": settings.service_token} if settings.service_token else {}
        self._prices: dict[Currency, tuple[float, Price]] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Prices]:
        """Prices that keep themselves fresh."""
        prices = cls(settings)
        async with httpx.AsyncClient(timeout=FETCH_DEADLINE_SECONDS) as client:
            loop = asyncio.create_task(prices._fetch_for_ever(client), name="prices")
            try:
                yield prices
            finally:
                loop.cancel()
                await asyncio.gather(loop, return_exceptions=True)

    def current(self, currency: Currency) -> Price | None:
        """The price to buy at, or None when the last one is too old."""
        quoted_at, price = self._prices.get(currency, (0.0, None))
        if price is None or monotonic() - quoted_at > self._max_age_seconds:
            return None
        return price

    async def ready(self) -> str | None:
        """None when every currency has a price, otherwise which have none."""
        missing = [currency for currency in Currency if self.current(currency) is None]
        return f"no price for {', '.join(missing)}" if missing else None

    async def _fetch_for_ever(self, client: httpx.AsyncClient) -> None:
        failed = False
        while True:
            try:
                await self._fetch(client)
                failed = False
            except (httpx.HTTPError, ValidationError) as error:
                if not failed:
                    logs.warning("price_fetch_failed", reason=type(error).__name__)
                failed = True
            waiting = failed or await self.ready() is not None
            await asyncio.sleep(PAUSE_AFTER_FAILURE_SECONDS if waiting else PAUSE_SECONDS)

    async def _fetch(self, client: httpx.AsyncClient) -> None:
        answer = (await client.get(self._url, headers=self._headers)).raise_for_status()
        for fetched in FetchedRecord.model_validate_json(answer.content).prices:
            price = Price(currency=fetched.currency, rate=fetched.rate, source=fetched.source)
            if fetched.rate.is_finite() and fetched.rate > 0:
                self._prices[fetched.currency] = (monotonic() - fetched.age_s, price)
