"""The same aggregate saved by the PyPI package `eventsourcing`, with its Postgres recorder.

https://eventsourcing.readthedocs.io
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from uuid import UUID, uuid4

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate

from bench.lab import PASSWORD
from bench.orders import CLIENT, PRICE
from codebase.embedded.databases import OWNER
from codebase.model.buy_orders.bitcoin import btc_for

AMOUNT = Decimal("123.45")


class BuyOrder(Aggregate):
    """An order with the fields of ours."""

    def __init__(
        self,
        *,
        client: str,
        idempotence_key: str,
        currency: str,
        currency_amount: Decimal,
        btc_rate: Decimal,
        btc_amount: Decimal,
        price_source: str,
    ) -> None:
        self.client = client
        self.idempotence_key = idempotence_key
        self.currency = currency
        self.currency_amount = currency_amount
        self.btc_rate = btc_rate
        self.btc_amount = btc_amount
        self.price_source = price_source


class Orders(Application[UUID]):
    """Places orders."""

    def place(self) -> None:
        """Save a new order."""
        self.save(
            BuyOrder(
                client=CLIENT,
                idempotence_key=str(uuid4()),
                currency=PRICE.currency.value,
                currency_amount=AMOUNT,
                btc_rate=PRICE.rate,
                btc_amount=btc_for(AMOUNT, PRICE.rate),
                price_source=PRICE.source,
            )
        )


@contextmanager
def orders_in(port: int, database: str, connections: int) -> Iterator[Orders]:
    """The rival on a database of its own, with a connection for each thread."""
    orders = Orders(
        env={
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": database,
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(port),
            "POSTGRES_USER": OWNER,
            "POSTGRES_PASSWORD": PASSWORD,
            "POSTGRES_POOL_SIZE": str(connections),
            "POSTGRES_MAX_OVERFLOW": "0",
        }
    )
    try:
        yield orders
    finally:
        orders.close()
