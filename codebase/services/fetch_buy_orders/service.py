"""Shows buy orders: `GET /buy_orders`, page by page, newest first, and `GET /buy_orders/{id}`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Query, Request, Response
from pydantic import BaseModel
from pydantic_core import to_json

from codebase.infra import consistency
from codebase.infra.checkpoints import Checkpoints
from codebase.infra.group_read import GroupRead, ReadModel
from codebase.infra.http import caller_of, service_app
from codebase.infra.problems import Behind
from codebase.infra.runtime import Runtime
from codebase.model.money import Currency
from codebase.model.refusals import NotFound
from codebase.services.fetch_buy_orders import queries

PORT = 8778
PROJECTOR = "read_model_sync"
PAGE_SIZE_MAX = 1000


class BuyOrder(BaseModel):
    """A placed order; amounts are decimal strings, times UTC."""

    id: UUID
    created_at: str
    currency: Currency
    currency_amount: str
    btc_rate: str
    btc_amount: str


class Page(BaseModel):
    """Orders, newest first; `last_reference` leads to older ones, and is null on an empty page."""

    rows: list[BuyOrder]
    last_reference: UUID | None


def create_app(
    read_model: ReadModel, checkpoints: Checkpoints, consistency_wait_seconds: float
) -> FastAPI:
    """The service, given the read model and how far it is."""
    app = service_app("fetch_buy_orders", checks={"read_model": read_model.ready})
    pages_of_client = GroupRead(read_model, queries.PAGES_OF_CLIENT, queries.PAGE_ARGUMENTS)
    pages_of_all = GroupRead(read_model, queries.PAGES_OF_ALL, queries.PAGE_ARGUMENTS)
    orders = GroupRead(read_model, queries.ORDERS_BY_ID, queries.ORDER_ARGUMENTS)

    async def up_to_date(request: Request) -> None:
        wanted = consistency.sent(request.scope["headers"])
        if wanted and not await checkpoints.covers(wanted, consistency_wait_seconds):
            raise Behind

    async def order(client: str | None, order_id: UUID) -> list[tuple[Any, ...]]:
        return await orders.fetch(client, order_id)

    @app.get("/buy_orders", response_model=Page)
    async def get_buy_orders(
        request: Request,
        last_reference: UUID | None = None,
        page_size: Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX)] = 10,
    ) -> Response:
        """The orders after `last_reference`, the last row of the page before."""
        await up_to_date(request)
        caller = caller_of(request)
        client = None if caller.is_admin else caller.name
        pages = pages_of_all if caller.is_admin else pages_of_client
        rows = await pages.fetch(client, last_reference, page_size)
        if not rows and last_reference and not await order(client, last_reference):
            raise NotFound("last_reference names no order")
        shown = [shown_order(row) for row in rows]
        last = shown[-1]["id"] if shown else None
        return json_response({"rows": shown, "last_reference": last})

    @app.get("/buy_orders/{order_id}", response_model=BuyOrder)
    async def get_buy_order(request: Request, order_id: UUID) -> Response:
        """One order."""
        await up_to_date(request)
        caller = caller_of(request)
        rows = await order(None if caller.is_admin else caller.name, order_id)
        if not rows:
            raise NotFound("there is no such order")
        return json_response(shown_order(rows[0]))

    return app


def shown_order(row: Sequence[Any]) -> dict[str, str]:
    """A row as clients see it; only an order at a made-up price says where the price came from."""
    order_id, placed_at, currency, currency_amount, btc_rate, btc_amount, price_source = row
    shown = {
        "id": str(order_id),
        "created_at": placed_at.isoformat(timespec="microseconds"),
        "currency": currency,
        "currency_amount": currency_amount,
        "btc_rate": btc_rate,
        "btc_amount": btc_amount,
    }
    if price_source == "demo":
        shown["price_source"] = price_source
    return shown


def json_response(content: object) -> Response:
    """An answer without the detour through FastAPI's serialisation."""
    return Response(to_json(content), media_type="application/json")


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with its connections."""
    settings = runtime.settings
    async with ReadModel.open(settings) as read_model:
        checkpoints = Checkpoints(settings.required("read_model_url"), PROJECTOR)
        try:
            yield create_app(read_model, checkpoints, settings.consistency_wait_ms / 1000)
        finally:
            await checkpoints.close()
