"""Buy orders as the services make them, for measurements below HTTP."""

from __future__ import annotations

from decimal import Decimal
from uuid import uuid4

from bench import deciding
from bench.filling import insert_copies, settle, templates_of
from bench.lab import as_owner
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Submission
from codebase.engine.log.events import NewEvent
from codebase.engine.log.identifiers import creation_stream_id
from codebase.foundation.settings import Settings
from codebase.model.actor import Actor
from codebase.model.aggregate import Spend
from codebase.model.buy_orders.buy_order import BUY_ORDER, PlaceBuyOrder, Price
from codebase.model.money import Currency

CLIENT = "local"
PRICE = Price(currency=Currency.EUR, rate=Decimal("48478.88"), source="demo")

COPIES = """
    CROSS JOIN (
        SELECT number, gen_random_uuid()::text AS key
        FROM generate_series(%(after)s + 1, %(until)s) AS number
        OFFSET 0 -- so that one order has one key
    ) AS copy
"""
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
    return deciding.new_events([submission() for _ in range(count)])


def fill_log(settings: Settings, until: int, after: int = 0) -> None:
    """Bring a log of one partition from `after` to `until` events: copies of one order."""
    order = submission()
    assert order.idempotence_key is not None  # noqa: S101 - orders have one
    [event] = deciding.new_events([order])
    [spend] = [guard for guard in event.guards if isinstance(guard, Spend)]
    templates = templates_of(settings, [event])
    with as_owner(settings, "write_model") as owner:
        insert_copies(
            owner,
            templates,
            COPIES,
            columns={
                "position": "copy.number",
                "stream_id": "gen_random_uuid()",
                "recorded_at": "now() - (%(until)s - copy.number) * interval '1 millisecond'",
            },
            texts={
                order.idempotence_key: "copy.key",
                # What says which command it was says so of one order too.
                order.command_id: "copy.key",
            },
            values={"after": after, "until": until},
        )
        settle(owner)
        spent = {"orders": until - after, "btc": spend.amount, "name": spend.name}
        owner.execute(SPEND, spent)
