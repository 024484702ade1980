"""Tells what a bitcoin costs: `GET /buy?currency=USD`, and `GET /record` for all currencies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import BaseModel

from codebase.model.buy_orders.btc_price import Quote
from codebase.model.money import Currency
from codebase.model.refusals import Unavailable
from codebase.services.btc_price.board import PriceBoard
from codebase.views.buy_orders.settings import BuyOrderSettings
from codebase.web.runtime import Runtime
from codebase.web.schemas import example
from codebase.web.shell import service_app

PORT = 8779
NEEDS: tuple[str, ...] = ()


class PriceAnswer(BaseModel):
    """The last believed price; `stale` when the sources have been silent since."""

    model_config = example(
        timestamp="2026-11-28T09:30:00.000000Z",
        currency="USD",
        rate="48478.88",
        source="coinbase",
        age_s=3.2,
        stale=False,
    )

    timestamp: datetime
    currency: Currency
    rate: str
    source: str
    age_s: float
    stale: bool


class Record(BaseModel):
    """The last price of every currency that has one."""

    prices: list[PriceAnswer]


def create_app(board: PriceBoard) -> FastAPI:
    """The service, given a price board that keeps itself up to date."""
    app = service_app("btc_price", checks={"price": board.ready})

    def shown(quote: Quote, age_seconds: float) -> PriceAnswer:
        return PriceAnswer(
            timestamp=quote.quoted_at,
            currency=quote.currency,
            rate=format(quote.rate, "f"),
            source=quote.source,
            age_s=round(age_seconds, 3),
            stale=board.is_stale(age_seconds),
        )

    @app.get("/buy")
    async def get_price(
        currency: Annotated[Currency, Query(description="The currency to pay in.")],
    ) -> PriceAnswer:
        """The price to buy at; 503 when the last one is too old."""
        price = board.price(currency)
        if price is None:
            raise Unavailable(f"no price for {currency} is young enough")
        return shown(*price)

    @app.get("/record")
    async def get_record() -> Record:
        """The last price of all currencies."""
        prices = map(board.price, Currency)
        return Record(prices=[shown(*price) for price in prices if price is not None])

    return app


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with its loop."""
    async with PriceBoard.open(runtime.settings_as(BuyOrderSettings)) as board:
        yield create_app(board)
