"""Buy orders as the services make them, for measurements below HTTP."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any
from uuid import uuid4

from bench.lab import as_owner
from codebase.engine.commands.fingerprint import Content, Fingerprints
from codebase.engine.commands.round import Round
from codebase.engine.commands.submission import Pending, Submission
from codebase.engine.log.events import NewEvent
from codebase.engine.log.identifiers import creation_stream_id
from codebase.foundation.settings import Settings
from codebase.model.actor import Actor
from codebase.model.buy_orders.buy_order import BUY_ORDER, ORDER_BOOK, PlaceBuyOrder, Price
from codebase.model.money import Currency

CLIENT = "local"
FINGERPRINTS = Fingerprints({"bench": bytes(32)})
PRICE = Price(currency=Currency.EUR, rate=Decimal("48478.88"), source="demo")

FILL_LOG = """
    INSERT INTO event (partition, position, stream_id, category, version, type, idempotence_key,
                       data, meta, recorded_at)
    SELECT 0, number, gen_random_uuid(), %(category)s, 1, %(type)s, key,
           %(data)s::jsonb || jsonb_build_object('idempotence_key', key),
           %(meta)s::jsonb || jsonb_build_object('event_id', gen_random_uuid()),
           now() - (%(until)s - number) * interval '1 millisecond'
    FROM (
        SELECT number, gen_random_uuid()::text AS key
        FROM generate_series(%(after)s + 1, %(until)s) AS number
        OFFSET 0 -- so that one order has one key
    ) AS orders
"""
MOVE_HEAD = "UPDATE log_head SET position = %(until)s, recorded_at = now()"
SPEND = """
    UPDATE budget_share SET spent = spent + %(orders)s * %(btc)s
    WHERE name = %(name)s AND partition = 0
"""


def submission() -> Submission:
    """A new order, as the service submits it."""
    key = str(uuid4())
    return Submission(
        aggregate=BUY_ORDER,
        stream_id=creation_stream_id(CLIENT, BUY_ORDER.category, key),
        command=PlaceBuyOrder(
            client=CLIENT,
            idempotence_key=key,
            currency=Currency.EUR,
            currency_amount=Decimal("123.45"),
            price=PRICE,
        ),
        idempotence_key=key,
        content=Content(key.encode()),
        actor=Actor(CLIENT),
        command_id=uuid4().hex,
        creates=True,
    )


def new_events(count: int) -> list[NewEvent]:
    """The events of `count` new orders, as the command bus appends them."""
    return asyncio.run(_new_events(count))


async def _new_events(count: int) -> list[NewEvent]:
    loop = asyncio.get_running_loop()
    pending = [Pending(submission(), loop.create_future()) for _ in range(count)]
    return Round(pending, {}, 1, FINGERPRINTS).new_events


def fill_log(settings: Settings, until: int, after: int = 0) -> None:
    """Bring a log of one partition from `after` to `until` events, by SQL.

    Only the owner can, and nobody does in operation: heads and budgets are set to fit by hand.
    """
    [event] = new_events(1)
    data: dict[str, Any] = json.loads(event.data)
    with as_owner(settings, "write_model") as connection:
        values = {
            "category": event.category,
            "type": event.type,
            "data": event.data,
            "meta": event.meta,
            "after": after,
            "until": until,
        }
        connection.execute(FILL_LOG, values)
        connection.execute(MOVE_HEAD, {"until": until})
        spent = {"orders": until - after, "btc": Decimal(data["btc_amount"]), "name": ORDER_BOOK}
        connection.execute(SPEND, spent)
        connection.execute("VACUUM (ANALYZE) event")
