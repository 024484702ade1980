"""How an order is placed, whichever face of the system it comes through."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Submission
from codebase.engine.log.identifiers import creation_stream_id
from codebase.model.buy_orders.buy_order import BUY_ORDER, PlaceBuyOrder
from codebase.model.money import Currency
from codebase.views.buy_orders.prices import Prices
from codebase.web.shell import Command

NAME = "put_buy_order"
"""What the command is known by, in fingerprints that are stored."""


def submission(
    request: Command[Any], key: str, currency: Currency, amount: Decimal, prices: Prices
) -> Submission:
    """What the command bus gets.

    Args:
        request: who asks.
        key: of this order, among those of its client.
        currency: of the amount.
        amount: above 0, two decimals.
        prices: of the moment.
    """
    client = request.caller.name
    return Submission(
        aggregate=BUY_ORDER,
        stream_id=creation_stream_id(client, BUY_ORDER.category, key),
        command=PlaceBuyOrder(
            client=client,
            idempotence_key=key,
            currency=currency,
            currency_amount=amount,
            price=prices.current(currency),
        ),
        idempotence_key=key,
        content=content_of(currency, amount),
        actor=request.actor,
        command_id=request.request_id,
        traceparent=request.traceparent,
        creates=True,
    )


def content_of(currency: Currency, amount: Decimal) -> Content:
    """What is to be bought, wherever the key stands; written out, as this is asked most often."""
    name, text = currency.value, str(amount)
    details = {"amount": text, "currency": name}
    return Content.of(NAME, details, {}, unkeyed=lambda: f"{name} {text}")
