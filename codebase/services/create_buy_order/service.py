"""Takes buy orders: `PUT /buy_order`, idempotent and durable."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import FastAPI
from pydantic import BaseModel, Field
from pydantic_core import to_json

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Outcome
from codebase.foundation import needs
from codebase.foundation.errors import invalid
from codebase.model.buy_orders.bitcoin import in_btc
from codebase.model.money import Currency
from codebase.views.buy_orders.buy_orders import BuyOrder, ShownOrder
from codebase.views.buy_orders.placing import NAME, submission
from codebase.views.buy_orders.prices import Prices
from codebase.views.buy_orders.settings import BuyOrderSettings
from codebase.web.fields import Amount, FromText
from codebase.web.problems import ProblemDetails
from codebase.web.request_body import RequestBody
from codebase.web.runtime import Runtime
from codebase.web.schemas import example
from codebase.web.shell import LOCATION, Answer, Command, command, service_app

PORT = 8777
NEEDS = (*needs.COMMANDS, *needs.OTHER_SERVICES)
SEVERAL_PROCESSES = True


class PutBuyOrder(RequestBody):
    """Buy bitcoin for `amount` of `currency`, once per `idempotence_key`."""

    # Without a key: whoever tries it out twice would place one order.
    model_config = example(currency="USD", amount="123.45")

    currency: FromText[Currency]
    amount: Amount
    idempotence_key: Annotated[
        FromText[UUID] | None,
        Field(description="Required, here or as the `Idempotency-Key` header."),
    ] = None


class OrderBookLimit(ProblemDetails):
    """The order does not fit into what is left of the order book, which is `left_btc`."""

    model_config = example(
        type="/problems/order-book-limit",
        title="Order book limit",
        status=409,
        detail="the order book has 0.25000000 BTC left; a smaller order may still succeed",
        instance="5d3f0c6a9b1e4f7c8a2d6e9b0c4f1a73",
        left_btc="0.25000000",
    )

    left_btc: str


class BuyOrderAnswer(BaseModel):
    """The order that the key stands for."""

    idempotence_key: UUID
    buy_order: BuyOrder


def create_app(bus: CommandBus, prices: Prices) -> FastAPI:
    """The service, given a running command bus and the prices of the moment."""
    checks = {"write_model": bus.ready, "price": prices.ready}
    app = service_app("create_buy_order", checks=checks, log=bus)

    @command(
        app,
        "PUT",
        "/buy_order",
        name=NAME,
        body=PutBuyOrder,
        answer=BuyOrderAnswer,
        summary="Place a buy order",
        problems={409: OrderBookLimit},
        headers=LOCATION,
    )
    async def put_buy_order(request: Command[PutBuyOrder]) -> Answer:
        """Repeat the request until it is answered: the same key gives the same order."""
        body = request.body
        outcome = await bus.execute(
            submission(request, key_of(request), body.currency, body.amount, prices)
        )
        return answer_of(outcome)

    return app


def key_of(request: Command[PutBuyOrder]) -> str:
    """The key from the body, or from the header; a UUID in its usual form.

    Raises:
        InvalidInputError: there is none, the header's is no UUID, or there are two.
    """
    in_body, in_header = request.body.idempotence_key, request.idempotence_key
    if in_header is None:
        if in_body is None:
            raise invalid("idempotence_key", "is required")
        return str(in_body)
    try:
        key = UUID(in_header)
    except ValueError:
        raise invalid("Idempotency-Key", "must be a UUID") from None
    if in_body not in {None, key}:
        raise invalid("Idempotency-Key", "must be the same as idempotence_key")
    return str(key)


def answer_of(outcome: Outcome) -> Answer:
    """The same answer, whether the order was placed now or long ago."""
    order = outcome.state.order
    assert outcome.recorded_at is not None, "an order that was placed has a time"  # noqa: S101
    shown = ShownOrder(
        id=outcome.stream_id,
        placed_at=outcome.recorded_at,
        # Its value: pydantic takes five times as long to write an enumeration in a dictionary.
        currency=order.currency.value,
        currency_amount=str(order.currency_amount),
        btc_rate=in_btc(order.btc_rate),
        btc_amount=in_btc(order.btc_amount),
        price_source=order.price_source,
    ).answer()
    return Answer(
        to_json({"idempotence_key": order.idempotence_key, "buy_order": shown}),
        headers={"Location": f"/buy_orders/{shown['id']}"},
        positions=outcome.positions,
        replayed=outcome.replayed,
    )


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with what it needs."""
    bus = await runtime.command_bus()
    settings, session = runtime.settings_as(BuyOrderSettings), await runtime.http_session()
    async with Prices.open(settings, session) as prices:
        yield create_app(bus, prices)
