"""Services without a store, to compare with: the same routes behind the same shell.

python -m bench.stand_ins put PORT          PUT /buy_order, decided in memory and forgotten
python -m bench.stand_ins get PORT FILE     GET /buy_orders, always answered with FILE
python -m bench.stand_ins outside PORT      fraud police and payment provider, who agree at once;
                                            PUT /silence and DELETE /silence have the police say
                                            nothing, and speak again
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, cast
from uuid import UUID

from fastapi import FastAPI, Query, Request, Response
from starlette.routing import Route

from bench.orders import PRICE
from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Outcome, Submission
from codebase.engine.log.extent import Extent
from codebase.foundation.observability import logs
from codebase.foundation.settings import Settings, load_settings
from codebase.model.buy_orders.buy_order import Price
from codebase.model.money import Currency
from codebase.services.create_buy_order.service import create_app
from codebase.services.fetch_buy_orders.service import PAGE_SIZE_MAX
from codebase.views.accounts.accounts import Account
from codebase.views.accounts.agents import Agent
from codebase.views.buy_orders.buy_orders import Page
from codebase.views.buy_orders.prices import Prices
from codebase.web import shell

LOG_ID = "000000000000"


class ForgetfulBus:
    """Decides like the command bus, and keeps nothing."""

    def __init__(self) -> None:
        self._position = 0

    async def execute(self, submission: Submission) -> Outcome:
        """The outcome that the command has on an empty stream."""
        self._position += 1
        aggregate = submission.aggregate
        return Outcome(
            state=aggregate.fold(aggregate.decide(submission.command, None)),
            stream_id=submission.stream_id,
            version=1,
            positions={0: self._position},
            recorded_at=datetime.now(UTC),
            replayed=False,
            changed=True,
        )

    @property
    def extent(self) -> Extent:
        """As of a log that keeps everything."""
        return Extent(LOG_ID, {0: self._position})

    async def extent_for(self, _seen: Extent) -> Extent:
        """The same, whatever a client has seen."""
        return self.extent

    async def ready(self) -> str | None:
        """It always is."""
        return None


class OnePrice:
    """The same price at all times."""

    def current(self, _currency: Currency) -> Price | None:
        """What orders are placed at."""
        return PRICE

    async def ready(self) -> str | None:
        """It always is."""
        return None


def put_without_storage() -> FastAPI:
    """The app of create_buy_order, with nothing behind it."""
    return create_app(cast("CommandBus", ForgetfulBus()), cast("Prices", OnePrice()))


def get_constant(content: bytes) -> FastAPI:
    """Routes of query services, with the parameters that they validate, without their queries."""
    app = shell.service_app("constant", checks={})

    @app.get("/buy_orders", response_model=Page)
    async def get_buy_orders(
        last_reference: UUID | None = None,  # noqa: ARG001 - validated, as in the service
        page_size: Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX)] = 10,  # noqa: ARG001 - the same
    ) -> Response:
        return Response(content, media_type="application/json")

    @app.get("/accounts/{account_id}", response_model=Account)
    async def get_account(account_id: UUID) -> Response:  # noqa: ARG001 - validated too
        return Response(content, media_type="application/json")

    @app.get("/accounts/{account_id}/agents/{agent_id}", response_model=Agent)
    async def get_agent(account_id: UUID, agent_id: UUID) -> Response:  # noqa: ARG001 - the same
        return Response(content, media_type="application/json")

    return app


def outside() -> FastAPI:
    """The fraud police, and a payment provider."""
    app = shell.service_app("outside", checks={})
    speaks = asyncio.Event()
    speaks.set()
    clear = b'{"code":200,"message":{"isFraud":false,"score":0,"reasons":[]}}'

    async def look(_request: Request) -> Response:
        await speaks.wait()
        return Response(clear, media_type="application/json")

    async def charge(_request: Request) -> Response:
        return Response(b"{}", media_type="application/json")

    async def known(_request: Request) -> Response:
        return Response(b"{}", HTTPStatus.NOT_FOUND, media_type="application/json")

    async def silence(request: Request) -> Response:
        if request.method == "PUT":
            speaks.clear()
        else:
            speaks.set()
        return Response(status_code=HTTPStatus.NO_CONTENT)

    app.router.routes += [
        Route("/service/fraudpolice/api/v1/transaction/", look, methods=["POST"]),
        Route("/charges", charge, methods=["POST"]),
        Route("/charges/{charge}", known),
        Route("/silence", silence, methods=["PUT", "DELETE"]),
    ]
    return app


async def _serve(app: FastAPI, settings: Settings, port: int) -> None:
    with logs.configured(settings, service="stand_in"):
        await shell.serve(shell.assemble([app], settings), settings, port)


def main(arguments: list[str]) -> None:
    """Serve what the arguments name until SIGTERM."""
    match arguments:
        case ["put", port]:
            app = put_without_storage()
        case ["outside", port]:
            app = outside()
        case ["get", port, file]:
            app = get_constant(Path(file).read_bytes())
        case _:
            sys.exit(__doc__)
    shell.run(_serve(app, load_settings(), int(port)))


if __name__ == "__main__":
    main(sys.argv[1:])
