"""Public sources of the bitcoin price, each asked in its own words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from codebase.infra.clock import Clock
from codebase.infra.settings import ConfigurationError, Settings
from codebase.model.btc_price import Quote, demo_quote, parse_rate
from codebase.model.money import Currency

DEMO = "demo"


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


def chosen_sources(settings: Settings) -> tuple[str, ...]:
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


async def ask(
    client: httpx.AsyncClient, name: str, currency: Currency, settings: Settings, now: Clock
) -> Quote:
    """One quote from one source.

    Raises:
        SourceError: no answer in time, or none that makes sense.
    """
    if name == DEMO:
        return demo_quote(currency, now())
    source = SOURCES[name]
    base = getattr(settings, f"{name}_url")
    try:
        answer = (await client.get(base + source.path(currency))).raise_for_status().json()
        rate = parse_rate(source.rate(answer, currency))
    except httpx.HTTPError as error:
        raise SourceError(f"{name}: {type(error).__name__}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, StopIteration) as error:
        raise SourceError(f"{name}: the answer makes no sense") from error
    return Quote(currency=currency, rate=rate, source=name, quoted_at=now())
