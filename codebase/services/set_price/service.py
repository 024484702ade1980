"""Sets what an hour of use costs in a region, from a day on: `POST /prices`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from http import HTTPStatus

from fastapi import FastAPI
from pydantic import BaseModel

from codebase.engine.commands.bus import CommandBus
from codebase.engine.messages.command_message import Became
from codebase.foundation import needs
from codebase.foundation.clock import Clock, utc_now
from codebase.model.accounts.account import Region
from codebase.model.accounts.price_list import PRICE_LIST, PRICE_LIST_ID, SetPrice
from codebase.model.accounts.usage import FIRST_PRICES
from codebase.model.money import Currency
from codebase.services.set_price.fields import Day, PricePerHour
from codebase.web.fields import FromText
from codebase.web.request_body import RequestBody
from codebase.web.runtime import Runtime
from codebase.web.schemas import example
from codebase.web.shell import (
    Answer,
    Command,
    command,
    require_admin,
    require_two_fa,
    service_app,
)

PORT = 9096
NEEDS = (*needs.COMMANDS, *needs.SECOND_FACTOR)
SEVERAL_PROCESSES = True
OUTCOME = {
    "Outcome": {
        "description": "Whether the day has now a price that it had not before.",
        "required": True,
        "schema": {"type": "string", "enum": [Became.DONE.value, Became.UNCHANGED.value]},
    }
}


class PostPrice(RequestBody):
    """What an hour of an agent's use costs in a region, from a day's first moment in UTC on."""

    model_config = example(region="emea", from_day="2030-01-01", price_per_hour="1.2500")

    region: FromText[Region]
    from_day: Day
    price_per_hour: PricePerHour


class Price(BaseModel):
    """A price, and the day from which it holds, until the next day that has one."""

    model_config = example(
        region="emea", from_day="2030-01-01", price_per_hour="1.2500", currency="EUR"
    )

    region: Region
    from_day: date
    price_per_hour: Decimal
    currency: Currency


def create_app(bus: CommandBus, now: Clock = utc_now) -> FastAPI:
    """The service, given a running command bus; the clock says which days are to come."""
    app = service_app("set_price", checks={"write_model": bus.ready}, log=bus)

    @command(
        app,
        "POST",
        "/prices",
        name="set_price",
        body=PostPrice,
        answer=Price,
        status=HTTPStatus.CREATED,
        summary="Set a price of use",
        headers=OUTCOME,
        problems={409: "`from_day` has begun: what has been used keeps its price."},
        requires=[require_admin, require_two_fa],
    )
    async def set_price(request: Command[PostPrice]) -> Answer:
        """From a day to come; of two prices for one day the later one holds.

        Header `Outcome` says `done`, or `unchanged` when the day has this price already.
        """
        body = request.body
        wanted = SetPrice(
            region=body.region,
            from_day=body.from_day,
            per_hour=body.price_per_hour,
            today=now().date(),
        )
        outcome = await bus.execute(request.submission(PRICE_LIST, PRICE_LIST_ID, wanted))
        price = Price(
            region=body.region,
            from_day=body.from_day,
            price_per_hour=body.price_per_hour,
            currency=FIRST_PRICES[body.region].currency,
        )
        became = Became.DONE if outcome.changed else Became.UNCHANGED
        return Answer.to(outcome, price, Outcome=became)

    return app


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with what it needs."""
    yield create_app(await runtime.command_bus())
