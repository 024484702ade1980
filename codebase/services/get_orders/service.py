"""The older face of `GET /buy_orders`: `GET /get_orders/?start=0&page_size=10`, newest first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, Field

from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation import needs
from codebase.foundation.errors import invalid
from codebase.model.money import Currency
from codebase.views.buy_orders import buy_orders
from codebase.views.buy_orders.buy_orders import ShownOrder, page_of
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.pages import LastReference
from codebase.web.parked import LISTS
from codebase.web.runtime import Runtime
from codebase.web.schemas import example
from codebase.web.shell import caller_of, service_app

PORT = 8020
NEEDS = needs.QUERIES
SEVERAL_PROCESSES = True
PAGE_SIZE_MAX = 1000
START_MAX = 10_000
"""What comes before is read and left out: whoever wants to go deeper follows the links."""


class OlderOrder(BaseModel):
    """A placed order; amounts are decimal strings, times UTC."""

    model_config = example(
        UUID="3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe",
        TIMESTAMP="2026-11-28T09:30:00.000000Z",
        AMOUNT="69.00",
        CURRENCY="EUR",
        EXCHANGE_RATE="48478.88000000",
        BITCOIN_AMOUNT="0.00142331",
    )

    id: UUID = Field(serialization_alias="UUID")
    placed_at: datetime = Field(serialization_alias="TIMESTAMP")
    amount: str = Field(serialization_alias="AMOUNT")
    currency: Currency = Field(serialization_alias="CURRENCY")
    rate: str = Field(serialization_alias="EXCHANGE_RATE")
    btc_amount: str = Field(serialization_alias="BITCOIN_AMOUNT")


class OlderPage(BaseModel):
    """Orders, newest first; `_links` leads to older ones, and is null where there are none."""

    data: list[OlderOrder]
    links: str | None = Field(
        serialization_alias="_links",
        examples=[
            "/get_orders/?last_reference=3f493fce-6c0a-4e20-8c1c-15c8fca1b8fe&page_size=10",
        ],
    )


def create_app(reads: ConsistentReads) -> FastAPI:
    """The service, given a read model."""
    app = service_app("get_orders", checks={"read_model": reads.ready})
    pages = reads.query(
        buy_orders.PAGES, buy_orders.PAGE_ARGUMENTS, categories=buy_orders.CATEGORIES
    )

    @app.get("/get_orders/", responses=LISTS)
    async def get_orders(
        request: Request,
        start: Annotated[
            int, Query(ge=0, le=START_MAX, description="How many of the newest are left out.")
        ] = 0,
        page_size: Annotated[
            int, Query(ge=1, le=PAGE_SIZE_MAX, description="How many rows a page has at most.")
        ] = 10,
        last_reference: LastReference = None,
    ) -> OlderPage:
        """The orders after the first `start`, or after `last_reference`, as `_links` names it."""
        if start and last_reference is not None:
            raise invalid("start", "must not be given together with last_reference")
        client, size = caller_of(request).only_client, start + page_size
        rows = await reads.fetch(request, pages, client, last_reference, size)
        found = page_of(rows)[start:]
        return OlderPage(data=list(map(_older, found)), links=_next(found, page_size))

    return app


def _older(order: ShownOrder) -> OlderOrder:
    return OlderOrder(
        id=order.id,
        placed_at=order.placed_at,
        amount=order.currency_amount,
        currency=Currency(order.currency),
        rate=order.btc_rate,
        btc_amount=order.btc_amount,
    )


def _next(found: list[ShownOrder], page_size: int) -> str | None:
    """Where older orders are; there are none after a page that is not full."""
    if len(found) < page_size:
        return None
    return f"/get_orders/?last_reference={found[-1].id}&page_size={page_size}"


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with its connections."""
    async with ConsistentReads.open(runtime.settings, READ_MODEL) as reads:
        yield create_app(reads)
