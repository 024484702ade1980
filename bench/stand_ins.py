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

import uvicorn
import uvloop
from fastapi import FastAPI, Query, Response
from starlette.types import Receive, Scope, Send

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
CLEAR = b'{"code":200,"message":{"isFraud":false,"score":0,"reasons":[]}}'


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


class Outside:
    """The fraud police, and a payment provider: an ASGI application that does nothing else.

    What it needs is no part of what is measured, and it shares two cores with that.
    """

    def __init__(self) -> None:
        self._speaks = asyncio.Event()
        self._speaks.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; its body is read and forgotten."""
        while (await receive()).get("more_body"):
            pass
        status, body = await self._answer(scope["method"], scope["path"])
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, method: str, path: str) -> tuple[HTTPStatus, bytes]:
        match method, path:
            case "POST", "/service/fraudpolice/api/v1/transaction/":
                await self._speaks.wait()
                return HTTPStatus.OK, CLEAR
            case ("POST", "/charges") | ("GET", "/readyz"):
                return HTTPStatus.OK, b"{}"
            case "PUT", "/silence":
                self._speaks.clear()
                return HTTPStatus.OK, b"{}"
            case "DELETE", "/silence":
                self._speaks.set()
                return HTTPStatus.OK, b"{}"
            case _:
                # Such as GET /charges/ID: nothing has been charged that somebody doubts.
                return HTTPStatus.NOT_FOUND, b"{}"


def serve_outside(port: int) -> None:
    """Serve both until SIGTERM."""
    config = uvicorn.Config(
        Outside(), port=port, http="httptools", lifespan="off", log_config=None, access_log=False
    )
    uvloop.run(uvicorn.Server(config).serve())


async def _serve(app: FastAPI, settings: Settings, port: int) -> None:
    with logs.configured(settings, service="stand_in"):
        await shell.serve(shell.assemble([app], settings), settings, port)


def main(arguments: list[str]) -> None:
    """Serve what the arguments name until SIGTERM."""
    match arguments:
        case ["put", port]:
            app = put_without_storage()
        case ["outside", port]:
            serve_outside(int(port))
            return
        case ["get", port, file]:
            app = get_constant(Path(file).read_bytes())
        case _:
            sys.exit(__doc__)
    shell.run(_serve(app, load_settings(), int(port)))


if __name__ == "__main__":
    main(sys.argv[1:])
