"""Public sources of the bitcoin price, each asked in its own words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random

from codebase.foundation.clock import Clock
from codebase.foundation.errors import ConfigurationError
from codebase.model.buy_orders.btc_price import Quote, demo_quote, parse_rate
from codebase.model.money import Currency
from codebase.views.buy_orders.settings import BuyOrderSettings

DEMO = "demo"
ANSWER_BYTES_MAX = 65_536

# What reading a foreign JSON text can end in: things missing, of another type, nested too deep.
NONSENSE = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    StopIteration,
    RecursionError,
)


class SourceError(Exception):
    """A source did not answer, or its answer cannot be believed."""


@dataclass(frozen=True, slots=True)
class Source:
    """A public price: where to ask, and where in the answer the rate is."""

    path: Callable[[Currency], str]
    rate: Callable[[Any, Currency], object]


def _of_coinbase(answer: Any, currency: Currency) -> object:  # noqa: ANN401 - any JSON
    data = answer["data"]
    if data["currency"] != currency or data["base"] != "BTC":
        raise SourceError("coinbase: answered about another pair")
    return data["amount"]


SOURCES: Mapping[str, Source] = {
    "coinbase": Source(
        path=lambda currency: f"/v2/prices/buy?currency={currency}", rate=_of_coinbase
    ),
    "kraken": Source(
        path=lambda currency: f"/0/public/Ticker?pair=XBT{currency}",
        rate=lambda answer, _: next(iter(answer["result"].values()))["c"][0],
    ),
    "bitstamp": Source(
        path=lambda currency: f"/api/v2/ticker/btc{currency.lower()}/",
        rate=lambda answer, _: answer["last"],
    ),
}


def chosen_sources(settings: BuyOrderSettings) -> tuple[str, ...]:
    """The configured sources, in order; the demo source comes last and in development only.

    Raises:
        ConfigurationError: an unknown source, or `demo` outside development.
    """
    names = settings.btc_price_sources
    unknown = set(names) - {*SOURCES, DEMO}
    if unknown:
        raise ConfigurationError(f"BTC_PRICE_SOURCES: there is no {', '.join(sorted(unknown))}")
    if DEMO in names and not settings.development:
        raise ConfigurationError("BTC_PRICE_SOURCES: demo is for the embedded run only")
    if settings.development and DEMO not in names:
        return (*names, DEMO)
    return names


# A connection that breaks once is often there again at once; the caller bounds the whole.
once_more = retry(
    retry=retry_if_exception_type(httpx.TransportError),
    wait=wait_random(0.02, 0.2),
    stop=stop_after_attempt(2),
    reraise=True,
)


async def ask(
    client: httpx.AsyncClient, name: str, currency: Currency, settings: BuyOrderSettings, now: Clock
) -> Quote:
    """One quote from one source; the caller sets the deadline.

    Raises:
        SourceError: no answer, or none that makes sense; its text does not repeat the answer.
    """
    if name == DEMO:
        return demo_quote(currency, now())
    source = SOURCES[name]
    url = getattr(settings, f"{name}_url") + source.path(currency)
    try:
        answer = json.loads(await once_more(_fetch)(client, url))
        rate = parse_rate(source.rate(answer, currency))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceError(type(error).__name__) from error
    except NONSENSE as error:
        raise SourceError("the answer makes no sense") from error
    return Quote(currency=currency, rate=rate, source=name, quoted_at=now())


async def _fetch(client: httpx.AsyncClient, url: str) -> bytes:
    answer = bytearray()
    async with client.stream("GET", url) as response:
        response.raise_for_status()
        async for part in response.aiter_bytes():
            answer += part
            if len(answer) > ANSWER_BYTES_MAX:
                raise SourceError("the answer is too long")
    return bytes(answer)
