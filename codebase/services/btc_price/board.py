"""The prices of the moment: asked for in a loop, believed with care, kept through an outage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from time import monotonic

import httpx

from codebase.foundation.background import in_background
from codebase.foundation.clock import Clock, utc_now
from codebase.foundation.observability import logs
from codebase.model.buy_orders.btc_price import Quote, choose
from codebase.model.money import Currency
from codebase.services.btc_price.sources import DEMO, SourceError, ask, chosen_sources
from codebase.views.buy_orders.settings import BuyOrderSettings

# Without internet the demo price should not keep a newcomer waiting.
DEVELOPMENT_TIMEOUT_SECONDS = 1.0
ROUNDS_UNTIL_STALE = 2


class PriceBoard:
    """The last believed price of every currency.

    Args:
        settings: which sources, how often, how far a price may jump, how long it counts.
        client: for the sources.
        now: the wall clock, which clients are shown.
        clock: seconds that only go up, by which ages are judged.

    Raises:
        ConfigurationError: an unknown source, or a made-up price outside development.
    """

    def __init__(
        self,
        settings: BuyOrderSettings,
        client: httpx.AsyncClient,
        now: Clock = utc_now,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._settings = settings
        self._sources = chosen_sources(settings)
        self._max_jump = Decimal(str(settings.btc_price_max_jump))
        self._client = client
        self._now = now
        self._clock = clock
        self._prices: dict[Currency, tuple[Quote, float]] = {}
        self._failing: set[tuple[str, Currency]] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: BuyOrderSettings) -> AsyncIterator[PriceBoard]:
        """A board that keeps itself up to date."""
        async with httpx.AsyncClient(follow_redirects=False) as client:
            board = cls(settings, client)
            async with in_background(board._ask_for_ever(), "price loop"):
                yield board

    def price(self, currency: Currency) -> tuple[Quote, float] | None:
        """The last believed price and its age in seconds, or None when it is too old to count."""
        if currency not in self._prices:
            return None
        quote, believed_at = self._prices[currency]
        age_seconds = self._clock() - believed_at
        return (quote, age_seconds) if age_seconds <= self._settings.btc_price_max_age_s else None

    def is_stale(self, age_seconds: float) -> bool:
        """Whether the sources have been silent since, for more than one round."""
        return age_seconds > ROUNDS_UNTIL_STALE * self._settings.btc_price_interval_s

    async def ready(self) -> str | None:
        """None when every currency has a price, otherwise what is wrong."""
        missing = [currency for currency in Currency if self.price(currency) is None]
        return f"no price for {', '.join(missing)}" if missing else None

    async def ask_once(self) -> None:
        """Ask every source about every currency, and believe what can be believed."""
        await asyncio.gather(*map(self._update, Currency))

    async def _ask_for_ever(self) -> None:
        while True:
            await self.ask_once()
            await asyncio.sleep(self._settings.btc_price_interval_s)

    async def _update(self, currency: Currency) -> None:
        """Ask all sources at once, so that a dead one costs no time, then prefer in order."""
        asked_at = self._clock()
        answers = await asyncio.gather(*(self._ask(name, currency) for name in self._sources))
        quotes = [quote for quote in answers if quote is not None]
        chosen = self._choose(currency, quotes)
        if chosen is not None:
            self._prices[currency] = (chosen, asked_at)

    def _choose(self, currency: Currency, quotes: list[Quote]) -> Quote | None:
        """What to believe; a made-up price only where there is no real one, of now or of before."""
        believed = self.price(currency)
        last = believed[0] if believed and believed[0].source != DEMO else None
        real = [quote for quote in quotes if quote.source != DEMO]
        if not real:
            return None if last else next(iter(quotes), None)
        chosen = choose(last, real, self._max_jump)
        if chosen is None:
            sources = [quote.source for quote in real]
            logs.warning("price_held_back", currency=currency, sources=sources)
        return chosen

    async def _ask(self, name: str, currency: Currency) -> Quote | None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                quote = await ask(self._client, name, currency, self._settings, self._now)
        except (SourceError, TimeoutError) as error:
            self._note_failure(name, currency, str(error) or "no answer in time")
            return None
        if (name, currency) in self._failing:
            self._failing.remove((name, currency))
            logs.info("price_source_back", source=name, currency=currency)
        return quote

    def _note_failure(self, name: str, currency: Currency, reason: str) -> None:
        """Said once, and not again every few seconds of an outage."""
        if (name, currency) not in self._failing:
            self._failing.add((name, currency))
            logs.warning("price_source_failed", source=name, currency=currency, reason=reason)

    @property
    def _timeout_seconds(self) -> float:
        configured = self._settings.btc_price_source_timeout_seconds
        if self._settings.development:
            return min(configured, DEVELOPMENT_TIMEOUT_SECONDS)
        return configured
