"""PUT /buy_order by python-cqrs: an order and its event in one transaction, by the outbox.

    python python_cqrs.py PORT HOST:PORT/DATABASE USER PASSWORD CONNECTIONS

the package python-cqrs
"""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal

import cqrs
import di
from cqrs.bootstrap import requests as bootstrap
from cqrs.container.scope import ScopeStrategy
from cqrs.outbox.sqlalchemy import Base
from di import dependent
from fastapi import FastAPI
from order import CLIENT, RATE, SOURCE, PutBuyOrder, btc_for, serve
from sqlalchemy import Numeric, Text, Uuid
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Mapped, mapped_column

EVENT = "buy_order_placed"


class OrderRow(Base):
    """The business row; the key is unique, so that an order is placed once."""

    __tablename__ = "buy_order"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    client: Mapped[str] = mapped_column(Text)
    idempotence_key: Mapped[str] = mapped_column(Text, unique=True)
    currency: Mapped[str] = mapped_column(Text)
    currency_amount: Mapped[Decimal] = mapped_column(Numeric)
    btc_rate: Mapped[Decimal] = mapped_column(Numeric)
    btc_amount: Mapped[Decimal] = mapped_column(Numeric)
    price_source: Mapped[str] = mapped_column(Text)


class Placed(cqrs.Response):
    """The answer."""

    order_id: str


class PlaceBuyOrder(cqrs.Request[Placed]):
    """The command."""

    idempotence_key: str
    currency: str
    amount: Decimal


@dataclass(frozen=True)
class BuyOrderPlaced:
    """What happened, as others are told."""

    order_id: str
    client: str
    idempotence_key: str
    currency: str
    currency_amount: str
    btc_rate: str
    btc_amount: str
    price_source: str


class PlaceBuyOrderHandler(cqrs.RequestHandler[PlaceBuyOrder]):
    """Writes both rows and commits."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._outbox = cqrs.SqlAlchemyOutboxedEventRepository(session)

    async def handle(self, request: PlaceBuyOrder) -> Placed:
        """Place the order."""
        row = OrderRow(
            id=uuid.uuid4(),
            client=CLIENT,
            idempotence_key=request.idempotence_key,
            currency=request.currency,
            currency_amount=request.amount,
            btc_rate=RATE,
            btc_amount=btc_for(request.amount),
            price_source=SOURCE,
        )
        self._session.add(row)
        placed = BuyOrderPlaced(
            order_id=str(row.id),
            client=row.client,
            idempotence_key=row.idempotence_key,
            currency=row.currency,
            currency_amount=str(row.currency_amount),
            btc_rate=str(row.btc_rate),
            btc_amount=str(row.btc_amount),
            price_source=row.price_source,
        )
        self._outbox.add(
            cqrs.NotificationEvent[BuyOrderPlaced](event_name=EVENT, topic="orders", payload=placed)
        )
        await self._outbox.commit()
        return Placed(order_id=str(row.id))


def main(port: int, place: str, user: str, password: str, connections: int) -> None:
    """Serve on `port`."""
    logging.disable(logging.WARNING)
    cqrs.OutboxedEventMap.register(EVENT, cqrs.NotificationEvent[BuyOrderPlaced])
    url = f"postgresql+asyncpg://{user}:{password}@{place}"
    engine = create_async_engine(url, pool_size=connections, max_overflow=0)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as opened:
            yield opened

    container = di.Container()
    container.bind(di.bind_by_type(dependent.Dependent(session, scope="request"), AsyncSession))
    mediator = bootstrap.bootstrap(
        di_container=container,
        commands_mapper=lambda mapper: mapper.bind(PlaceBuyOrder, PlaceBuyOrderHandler),
        scope_strategy=ScopeStrategy.SEND,
    )

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield
        await engine.dispose()

    app = FastAPI(lifespan=life)

    @app.put("/buy_order", status_code=201)
    async def put_buy_order(body: PutBuyOrder) -> dict[str, str]:
        command = PlaceBuyOrder(
            idempotence_key=body.idempotence_key, currency=body.currency, amount=body.amount
        )
        placed = await mediator.send(command)
        return {"id": placed.order_id}

    serve(app, port)


if __name__ == "__main__":
    port, place, user, password, connections = sys.argv[1:]
    main(int(port), place, user, password, int(connections))
