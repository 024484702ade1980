"""The prices of the moment: asked for in a loop, believed with care, kept through an outage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import httpx

from codebase.infra import logs
from codebase.infra.clock import Clock, utc_now
from codebase.infra.settings import Settings
from codebase.model.btc_price import Quote, choose
from codebase.model.money import Currency
from codebase.services.btc_price.sources import DEMO, SourceError, ask, chosen_sources

# Without internet the demo price should not keep a newcomer waiting.
DEVELOPMENT_TIMEOUT_SECONDS = 1.0


class PriceBoard:
    """The last believed price of every currency.

    Args:
        settings: which sources, how often, how far a price may jump, how long it counts.
        client: for the sources.
        now: the clock.
    """

    def __init__(self, settings: Settings, client: httpx.AsyncClient, now: Clock) -> None:
        self._settings = settings
        self._sources = chosen_sources(settings)
        self._client = client
        self._now = now
        self._prices: dict[Currency, Quote] = {}
        self._asked = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, now: Clock = utc_now) -> AsyncIterator[PriceBoard]:
        """A board that keeps itself up to date."""
        timeout = settings.btc_price_source_timeout_seconds
        if settings.development:
            timeout = min(timeout, DEVELOPMENT_TIMEOUT_SECONDS)
        async with httpx.AsyncClient(timeout=timeout, follow_redirects=False) as client:
            board = cls(settings, client, now)
            loop = asyncio.create_task(board._ask_for_ever(timeout), name="price loop")
            try:
                yield board
            finally:
                loop.cancel()
                await asyncio.gather(loop, return_exceptions=True)

    def price(self, currency: Currency) -> Quote | None:
        """The last believed price, or None when it is too old to count."""
        quote = self._prices.get(currency)
        if quote is None or self.age_seconds(quote) > self._settings.btc_price_max_age_s:
            return None
        return quote

    def age_seconds(self, quote: Quote) -> float:
        """How long ago a price was quoted."""
        return max(0.0, (self._now() - quote.quoted_at).total_seconds())

    def is_stale(self, quote: Quote) -> bool:
        """Whether the sources have been silent since, for more than one round."""
        return self.age_seconds(quote) > 2 * self._settings.btc_price_interval_s

    async def ready(self) -> str | None:
        """None when every currency has a price, otherwise which have none."""
        missing = [currency for currency in Currency if self.price(currency) is None]
        return f"no price for {', '.join(missing)}" if missing else None

    async def _ask_for_ever(self, timeout_seconds: float) -> None:
        while True:
            await asyncio.gather(*(self._update(one, timeout_seconds) for one in Currency))
            await asyncio.sleep(self._settings.btc_price_interval_s)

    async def _update(self, currency: Currency, timeout_seconds: float) -> None:
        """Ask all sources at once, so that a dead one costs no time, then prefer in order."""
        answers = await asyncio.gather(
            *(self._ask(name, currency, timeout_seconds) for name in self._sources)
        )
        quotes = [quote for quote in answers if quote is not None]
        real = [quote for quote in quotes if quote.source != DEMO]
        last = self.price(currency)
        if last is not None and last.source != DEMO and not real:
            # A real price, though stale, is better than a made-up one.
            return
        if last is not None and last.source == DEMO and real:
            # A made-up price says nothing about a real one.
            last = None
        jump = Decimal(str(self._settings.btc_price_max_jump))
        chosen = choose(last, real or quotes, jump)
        if chosen is not None:
            self._prices[currency] = chosen
        elif quotes:
            logs.warning("price_held_back", currency=currency, sources=[q.source for q in quotes])

    async def _ask(self, name: str, currency: Currency, timeout_seconds: float) -> Quote | None:
        try:
            async with asyncio.timeout(timeout_seconds):
                return await ask(self._client, name, currency, self._settings, self._now)
        except (SourceError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            logs.info("price_source_failed", source=name, currency=currency, reason=reason)
            return None
