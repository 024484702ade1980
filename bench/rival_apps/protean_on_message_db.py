"""PUT /buy_order by Protean: an event-sourced aggregate on message-db.

    python protean_on_message_db.py PORT HOST:PORT/DATABASE USER PASSWORD CONNECTIONS

https://docs.proteanhq.com
"""

from __future__ import annotations

import logging
import sys

from fastapi import FastAPI
from order import CLIENT, RATE, SOURCE, PutBuyOrder, btc_for, serve
from protean import Domain, apply, current_domain, handle
from protean.fields import Identifier, String
from protean.integrations.fastapi import DomainContextMiddleware

domain = Domain(name="orders")


@domain.event(part_of="BuyOrder")
class BuyOrderPlaced:
    """What happened."""

    order_id = Identifier(required=True)
    client = String(required=True)
    idempotence_key = String(required=True)
    currency = String(required=True)
    currency_amount = String(required=True)
    btc_rate = String(required=True)
    btc_amount = String(required=True)
    price_source = String(required=True)


@domain.command(part_of="BuyOrder")
class PlaceBuyOrder:
    """The command; the key is the order's id, so that an order is placed once."""

    order_id = Identifier(identifier=True)
    currency = String(required=True)
    amount = String(required=True)
    btc_amount = String(required=True)


@domain.aggregate(event_sourced=True)
class BuyOrder:
    """An order with the fields of ours."""

    order_id = Identifier(identifier=True)
    client = String()
    idempotence_key = String()
    currency = String()
    currency_amount = String()
    btc_rate = String()
    btc_amount = String()
    price_source = String()

    @apply
    def placed(self, event: BuyOrderPlaced) -> None:
        """The order after it was placed."""
        self.order_id = event.order_id
        self.client = event.client
        self.idempotence_key = event.idempotence_key
        self.currency = event.currency
        self.currency_amount = event.currency_amount
        self.btc_rate = event.btc_rate
        self.btc_amount = event.btc_amount
        self.price_source = event.price_source


@domain.command_handler(part_of=BuyOrder)
class BuyOrderCommands:
    """Places orders."""

    @handle(PlaceBuyOrder)
    def place(self, command: PlaceBuyOrder) -> str:
        """Place the order; its id."""
        order = BuyOrder(order_id=command.order_id)
        order.raise_(
            BuyOrderPlaced(
                order_id=command.order_id,
                client=CLIENT,
                idempotence_key=command.order_id,
                currency=command.currency,
                currency_amount=command.amount,
                btc_rate=str(RATE),
                btc_amount=command.btc_amount,
                price_source=SOURCE,
            )
        )
        current_domain.repository_for(BuyOrder).add(order)
        return str(order.order_id)


def main(port: int, place: str, user: str, password: str, connections: int) -> None:
    """Serve on `port`."""
    logging.disable(logging.WARNING)
    domain.config["event_store"] = {
        "provider": "message_db",
        "database_uri": f"postgresql://{user}:{password}@{place}",
        "max_connections": connections,
    }
    domain.config["command_processing"] = "sync"
    domain.config["event_processing"] = "async"
    domain.init(traverse=False)
    app = FastAPI()
    app.add_middleware(DomainContextMiddleware, route_domain_map={"/buy_order": domain})

    # Protean waits for its store, so that FastAPI has to call it in a thread.
    @app.put("/buy_order", status_code=201)
    def put_buy_order(body: PutBuyOrder) -> dict[str, str]:
        command = PlaceBuyOrder(
            order_id=body.idempotence_key,
            currency=body.currency,
            amount=str(body.amount),
            btc_amount=str(btc_for(body.amount)),
        )
        with domain.domain_context():
            return {"id": domain.process(command, asynchronous=False)}

    serve(app, port)


if __name__ == "__main__":
    port, place, user, password, connections = sys.argv[1:]
    main(int(port), place, user, password, int(connections))
