"""Shows buy orders: `GET /buy_orders`, page by page, newest first, and `GET /buy_orders/{id}`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import FastAPI, Query, Request, Response
from pydantic_core import to_json

from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation import needs
from codebase.model.refusals import NotFound
from codebase.views.buy_orders import buy_orders
from codebase.views.buy_orders.buy_orders import BuyOrder, Page, ShownOrder, page_of
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.pages import LastReference
from codebase.web.parked import LISTS, NAMES_ONE
from codebase.web.runtime import Runtime
from codebase.web.shell import caller_of, service_app

PORT = 8778
NEEDS = needs.QUERIES
SEVERAL_PROCESSES = True
PAGE_SIZE_MAX = 1000


def create_app(reads: ConsistentReads) -> FastAPI:
    """The service, given a read model."""
    app = service_app("fetch_buy_orders", checks={"read_model": reads.ready})
    pages = reads.query(
        buy_orders.PAGES, buy_orders.PAGE_ARGUMENTS, categories=buy_orders.CATEGORIES
    )
    orders = reads.query(
        buy_orders.ORDERS_BY_ID,
        buy_orders.ORDER_ARGUMENTS,
        categories=(),
        asking_for_parked=buy_orders.ASKING_FOR_PARKED,
    )

    @app.get("/buy_orders", response_model=Page, responses=LISTS)
    async def get_buy_orders(
        request: Request,
        last_reference: LastReference = None,
        page_size: Annotated[
            int, Query(ge=1, le=PAGE_SIZE_MAX, description="How many rows a page has at most.")
        ] = 10,
    ) -> Response:
        """The orders after `last_reference`, the last row of the page before."""
        client = caller_of(request).only_client
        rows = await reads.fetch(request, pages, client, last_reference, page_size)
        shown = [order.answer() for order in page_of(rows)]
        last = shown[-1]["id"] if shown else None
        return json_response({"rows": shown, "last_reference": last})

    @app.get("/buy_orders/{order_id}", response_model=BuyOrder, responses=NAMES_ONE)
    async def get_buy_order(request: Request, order_id: UUID) -> Response:
        """One order."""
        client = caller_of(request).only_client
        rows = await reads.fetch(request, orders, client, order_id)
        if not rows:
            raise NotFound("there is no such order")
        return json_response(ShownOrder._make(rows[0]).answer())

    return app


def json_response(content: object) -> Response:
    """An answer without the detour through FastAPI's serialisation."""
    return Response(to_json(content), media_type="application/json")


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with its connections."""
    async with ConsistentReads.open(runtime.settings, READ_MODEL) as reads:
        yield create_app(reads)
