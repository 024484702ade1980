"""The older face of `PUT /buy_order`: `POST /place_order/?currency=eur&amount=69`, or with JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated
from uuid import uuid4

from fastapi import FastAPI
from pydantic import BaseModel, BeforeValidator, Field

from codebase.engine.commands.bus import CommandBus
from codebase.foundation import needs
from codebase.foundation.errors import ServiceUnavailable, invalid
from codebase.model.buy_orders.buy_order import OrderBookLimit
from codebase.model.money import AmountTooLargeError, Currency, parse_amount
from codebase.model.refusals import Unavailable
from codebase.views.buy_orders.placing import NAME, submission
from codebase.views.buy_orders.prices import Prices
from codebase.views.buy_orders.settings import BuyOrderSettings
from codebase.web.fields import digits_of
from codebase.web.openapi_headers import LOCATION
from codebase.web.request_body import RequestBody
from codebase.web.runtime import Runtime
from codebase.web.schemas import example
from codebase.web.shell import Answer, Command, command, service_app

PORT = 8001
NEEDS = (*needs.COMMANDS, *needs.OTHER_SERVICES)
SEVERAL_PROCESSES = True


class Wanted(RequestBody):
    """What is to be bought; in the query string, in the body, or a part in each."""

    model_config = example(currency="EUR", amount="69")

    currency: Annotated[
        str | None, Field(description="EUR, GBP or USD, in any case.", examples=["EUR"])
    ] = None
    amount: Annotated[
        str | None,
        BeforeValidator(digits_of),
        Field(description="Above 0, at most 2 decimals; a number will do.", examples=["69"]),
    ] = None


class Told(BaseModel):
    """What became of it, in a sentence."""

    model_config = example(data="Order was placed for EUR:69.00")

    data: str


class NotAccepted(Told):
    """It says what: the currency, the amount, or more bitcoin than is left."""

    model_config = example(data="Requested currency unsupported")


class Away(Told):
    """Something needed is away; try again after `Retry-After` seconds."""

    model_config = example(data="API Service unavailable")


class NotAcceptable(Exception):  # noqa: N818 - the status that it leads to
    """What is wanted is refused in this face's own words, which clients compare."""


def create_app(bus: CommandBus, prices: Prices) -> FastAPI:
    """The service, given a running command bus and the prices of the moment."""
    checks = {"write_model": bus.ready, "price": prices.ready}
    app = service_app("place_order", checks=checks, log=bus)

    @command(
        app,
        "POST",
        "/place_order/",
        name=NAME,
        body=Wanted,
        body_is_optional=True,
        query=Wanted,
        answer=Told,
        status=HTTPStatus.CREATED,
        summary="Place a buy order",
        problems={406: NotAccepted, 503: Away},
        headers=LOCATION,
    )
    async def place_order(request: Command[Wanted]) -> Answer:
        """A new order each time, unless there is an `Idempotency-Key`."""
        try:
            currency = _currency(_given("currency", request))
            amount = _amount(_given("amount", request))
            key = request.idempotence_key or str(uuid4())
            outcome = await bus.execute(submission(request, key, currency, amount, prices))
        except NotAcceptable as refusal:
            return _told(HTTPStatus.NOT_ACCEPTABLE, str(refusal))
        except OrderBookLimit:
            return _told(HTTPStatus.NOT_ACCEPTABLE, "Requested btc value exceeds limit")
        except (Unavailable, ServiceUnavailable):
            unavailable = _told(HTTPStatus.SERVICE_UNAVAILABLE, "API Service unavailable")
            unavailable.headers = {"Retry-After": "1"}
            return unavailable
        told = Told(data=f"Order was placed for {currency}:{amount}")
        location = f"/buy_orders/{outcome.stream_id}"
        return Answer.to(outcome, told, status=HTTPStatus.CREATED, Location=location)

    return app


def _given(name: str, request: Command[Wanted]) -> str:
    """What the client says of `name`, wherever it says it.

    Raises:
        InvalidInputError: two things, or nothing.
    """
    places = (request.query, request.body)
    given: set[str] = {getattr(each, name) for each in places} - {None}
    if not given:
        raise invalid(name, "is required")
    if len(given) > 1:
        raise invalid(name, "must be the same in the address and in the body")
    return given.pop()


def _currency(sent: str) -> Currency:
    try:
        return Currency(sent.upper())
    except ValueError:
        raise NotAcceptable("Requested currency unsupported") from None


def _amount(sent: str) -> Decimal:
    try:
        return parse_amount(sent)
    except AmountTooLargeError:
        raise NotAcceptable("Requested amount exceeds limit") from None
    except ValueError as error:
        raise invalid("amount", str(error)) from None


def _told(status: HTTPStatus, sentence: str) -> Answer:
    return Answer(Told(data=sentence), int(status))


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with what it needs."""
    bus = await runtime.command_bus()
    settings, session = runtime.settings_as(BuyOrderSettings), await runtime.http_session()
    async with Prices.open(settings, session) as prices:
        yield create_app(bus, prices)
