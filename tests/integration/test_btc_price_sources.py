"""Prices from sources that fail in every way that sources do, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from codebase.foundation.http_session import http_session
from codebase.foundation.settings import Settings
from codebase.foundation.tokens import new_token
from codebase.model.money import Currency
from codebase.services.btc_price.board import PriceBoard
from codebase.services.btc_price.service import create_app
from codebase.views.buy_orders.prices import Prices
from codebase.views.buy_orders.settings import BuyOrderSettings
from tests.clocks import on_a_pushed_clock, push_the_clock
from tests.integration.shell import Server, in_time, running
from tests.patience import NEVER_SECONDS

Ports = Callable[[], int]
TIMEOUT_SECONDS = NEVER_SECONDS
"""Of a source; it passes when the test puts the clock forward."""

NONSENSE = {
    "NaN": b'{"data":{"base":"BTC","currency":"%s","amount":"NaN"}}',
    "a bare NaN": b'{"data":{"base":"BTC","currency":"%s","amount":NaN}}',
    "zero": b'{"data":{"base":"BTC","currency":"%s","amount":"0"}}',
    "another pair": b'{"data":{"base":"ETH","currency":"%s","amount":"100.00"}}',
    "no data": b'{"currency":"%s"}',
    "a list": b'["%s"]',
    "no JSON": b"<html>%s</html>",
    "deep": b"[" * 60_000 + b"%s",
    "long": b" " * 100_000 + b"%s",
}


class Exchange:
    """A fake public source. `rate` answers; `broken` says how it fails instead."""

    def __init__(self, name: str, rate: str = "100.00") -> None:
        self.name = name
        self.rate = rate
        self.broken: str | None = None
        self.asked = 0
        self.left = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            if self.broken not in {"hangs", "hangs up"}:
                writer.write(self.reply(request.split()[1].decode()))
            if self.broken != "hangs up":
                # Until its client has what it wanted, or no more hope.
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.left += 1
            writer.close()

    def reply(self, path: str) -> bytes:
        currency = next(one for one in Currency if one in path.upper())
        body = self.body(currency)
        status = b"500 Internal Server Error" if self.broken == "500" else b"200 OK"
        head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        return head % (status, len(body)) + body

    def body(self, currency: str) -> bytes:
        if self.broken in NONSENSE:
            return NONSENSE[self.broken] % currency.encode()
        known: dict[str, str] = {
            "coinbase": f'{{"data":{{"base":"BTC","currency":"{currency}",'
            f'"amount":"{self.rate}"}}}}',
            "kraken": f'{{"error":[],"result":{{"XXBTZ{currency}":{{"c":["{self.rate}","1"]}}}}}}',
            "bitstamp": f'{{"last":"{self.rate}","open":1}}',
        }
        return known[self.name].encode()


class Market:
    """Three fake sources, and a board that asks them when it is told to."""

    def __init__(self) -> None:
        self.coinbase = Exchange("coinbase")
        self.kraken = Exchange("kraken", "101.00")
        self.bitstamp = Exchange("bitstamp", "102.00")
        self.seconds = 1_000.0
        self.board: PriceBoard
        self.settings: Settings

    @property
    def sources(self) -> tuple[Exchange, ...]:
        return (self.coinbase, self.kraken, self.bitstamp)

    @classmethod
    @asynccontextmanager
    async def open(cls, free_port: Ports, **settings: Any) -> AsyncIterator[Market]:  # noqa: ANN401
        market = cls()
        async with AsyncExitStack() as stack:
            urls = {}
            for source in market.sources:
                port = free_port()
                server = await asyncio.start_server(source.answer, "127.0.0.1", port)
                stack.callback(server.close)
                urls[f"{source.name}_url"] = f"http://127.0.0.1:{port}"
            given: dict[str, Any] = {"btc_price_source_timeout_seconds": TIMEOUT_SECONDS} | urls
            market.settings = BuyOrderSettings(**given | settings)
            client = await stack.enter_async_context(httpx.AsyncClient())
            market.board = PriceBoard(market.settings, client, clock=lambda: market.seconds)
            yield market

    async def price(self, after_seconds: float = 15) -> tuple[str, str] | None:
        """Source and rate after one more round."""
        self.seconds += after_seconds
        asking = asyncio.create_task(self.board.ask_once())
        if any(source.broken == "hangs" for source in self.sources):
            await self.only_those_that_hang_are_waited_for()
            push_the_clock(TIMEOUT_SECONDS)
        await asking
        price = self.board.price(Currency.USD)
        return (price[0].source, str(price[0].rate)) if price else None

    async def only_those_that_hang_are_waited_for(self) -> None:
        """Every source has been asked for every currency, and all others have answered."""

        def is_so(source: Exchange, before: int) -> bool:
            done = source.asked if source.broken == "hangs" else source.left
            return done >= before + len(Currency)

        before = [source.asked for source in self.sources]
        while not all(map(is_so, self.sources, before)):  # noqa: ASYNC110 - two counts, no event
            await asyncio.sleep(0.01)


def test_sources_are_preferred_in_order_and_a_broken_one_is_passed_over(free_port: Ports) -> None:
    async def scenario() -> None:
        async with Market.open(free_port) as market:
            assert await market.price() == ("coinbase", "100.00")
            for broken in ("hangs up", "500", *NONSENSE):
                market.coinbase.broken = broken
                assert await market.price() == ("kraken", "101.00"), broken
            market.coinbase.broken = "hangs up"
            market.kraken.broken = "500"
            assert await market.price() == ("bitstamp", "102.00")
            market.coinbase.broken = None
            assert await market.price() == ("coinbase", "100.00")

    in_time(scenario)


def test_dead_sources_keep_a_price_waiting_for_one_deadline_between_them(free_port: Ports) -> None:
    async def scenario() -> None:
        async with Market.open(free_port) as market:
            market.coinbase.broken = market.kraken.broken = "hangs"
            assert await market.price() == ("bitstamp", "102.00")
            market.kraken.broken = None
            assert await market.price() == ("kraken", "101.00")

    on_a_pushed_clock(scenario())


def test_a_jump_is_held_back_until_a_second_source_agrees(free_port: Ports) -> None:
    async def scenario() -> None:
        async with Market.open(free_port) as market:
            await market.price()
            market.kraken.broken = market.bitstamp.broken = "500"
            market.coinbase.rate = "200.00"
            assert await market.price() == ("coinbase", "100.00")
            market.kraken.broken = None
            assert await market.price() == ("kraken", "101.00")
            market.kraken.rate = "201.00"
            assert await market.price() == ("coinbase", "200.00")

    in_time(scenario)


def test_in_an_outage_the_last_price_stands_goes_stale_and_ends(free_port: Ports) -> None:
    async def scenario() -> None:
        async with Market.open(free_port, btc_price_max_age_s=100) as market:
            await market.price()
            for source in market.sources:
                source.broken = "hangs up"
            app = create_app(market.board)
            async with running([app], free_port()) as server:
                assert await market.price(after_seconds=20) == ("coinbase", "100.00")
                told = (await server.ask("GET", "/buy?currency=USD")).json
                assert (told["stale"], told["age_s"], told["rate"]) == (False, 20, "100.00")
                await market.price(after_seconds=75)
                told = (await server.ask("GET", "/buy?currency=USD")).json
                assert (told["stale"], told["age_s"]) == (True, 95)
                assert (await server.ask("GET", "/readyz")).status == 200
                assert await market.price(after_seconds=6) is None
                reply = await server.ask("GET", "/buy?currency=USD")
                assert (reply.status, reply.json["type"]) == (503, "/problems/unavailable")
                assert (await server.ask("GET", "/record")).json == {"prices": []}
                assert "price" in (await server.ask("GET", "/readyz")).json["errors"]
                market.bitstamp.broken = None
                market.bitstamp.rate = "900.00"
                assert await market.price() == ("bitstamp", "900.00")

    in_time(scenario)


def test_a_made_up_price_says_so_and_never_replaces_a_real_one(free_port: Ports) -> None:
    async def scenario() -> None:
        async with Market.open(free_port, development=True, btc_price_max_age_s=100) as market:
            for source in market.sources:
                source.broken = "hangs up"
            first = await market.price()
            assert first is not None
            assert first[0] == "demo"
            market.kraken.broken = None
            assert await market.price() == ("kraken", "101.00")
            market.kraken.broken = "hangs up"
            assert await market.price() == ("kraken", "101.00")
            late = await market.price(after_seconds=200)
            assert late is not None
            assert late[0] == "demo"

    in_time(scenario)


def test_a_currency_that_nobody_trades_is_refused(free_port: Ports) -> None:
    async def scenario() -> None:
        async with (
            Market.open(free_port) as market,
            running([create_app(market.board)], free_port()) as server,
        ):
            for path in ("/buy", "/buy?currency=", "/buy?currency=usd", "/buy?currency=CHF"):
                reply = await server.ask("GET", path)
                assert (reply.status, list(reply.json["errors"])) == (422, ["currency"])

    in_time(scenario)


async def eventually(prices: Prices, source: str | None) -> None:
    """Wait until orders would be placed at a price of `source`."""
    while True:
        price = prices.current(Currency.USD)
        if (price.source if price else None) == source:
            return
        await asyncio.sleep(0.01)


def test_orders_find_the_price_of_a_service_that_starts_later_and_keep_it_when_it_dies(
    free_port: Ports,
) -> None:
    async def scenario() -> None:
        async with Market.open(free_port) as market:
            await market.price()
            port = free_port()
            settings = BuyOrderSettings(
                btc_price_url=f"http://127.0.0.1:{port}", btc_price_max_age_s=60
            )
            async with http_session() as session, Prices.open(settings, session) as prices:
                assert prices.current(Currency.USD) is None
                assert "USD" in str(await prices.ready())
                async with running([create_app(market.board)], port):
                    await eventually(prices, "coinbase")
                    assert await prices.ready() is None
                assert prices.current(Currency.USD) is not None

    in_time(scenario)


def test_the_price_is_found_with_a_token_when_the_service_wants_one(free_port: Ports) -> None:
    async def scenario() -> None:
        secret, entry = new_token("services", "client")
        async with Market.open(free_port) as market:
            await market.price()
            app = create_app(market.board)
            async with running([app], free_port(), api_tokens=(entry,)) as server:
                settings = BuyOrderSettings(btc_price_url=url(server), service_token=secret)
                async with http_session() as session, Prices.open(settings, session) as prices:
                    await eventually(prices, "coinbase")

    in_time(scenario)


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"
