"""The older address of btc_price's `GET /record`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from aiohttp import ClientError, ClientSession
from fastapi import FastAPI, Response

from codebase.foundation import needs
from codebase.foundation.errors import ServiceUnavailable
from codebase.views.buy_orders.settings import BuyOrderSettings
from codebase.web.runtime import Runtime
from codebase.web.shell import service_app

PORT = 8002
NEEDS = needs.OTHER_SERVICES
DEADLINE_SECONDS = 2.0


class PriceService:
    """btc_price, asked for all that it knows.

    Args:
        settings: where it is, and what token it wants.
        session: of this process.
    """

    def __init__(self, settings: BuyOrderSettings, session: ClientSession) -> None:
        self._url = settings.btc_price_url
        self._headers = {"X-Token": settings.service_token} if settings.service_token else {}
        self._session = session

    async def record(self) -> bytes:
        """What it answers.

        Raises:
            ServiceUnavailable: nothing, or not in time.
        """
        return await self._ask("/record")

    async def ready(self) -> str | None:
        """None while it can be asked."""
        try:
            await self._ask("/readyz")
        except ServiceUnavailable as error:
            return str(error)
        return None

    async def _ask(self, path: str) -> bytes:
        url = f"{self._url}{path}"
        try:
            async with (
                asyncio.timeout(DEADLINE_SECONDS),
                self._session.get(url, headers=self._headers, allow_redirects=False) as answer,
            ):
                content = await answer.read()
        except (ClientError, OSError, TimeoutError) as error:
            raise ServiceUnavailable("btc_price", "does not answer") from error
        if answer.status != HTTPStatus.OK:
            raise ServiceUnavailable("btc_price", f"answers {answer.status}")
        return content


def create_app(prices: PriceService) -> FastAPI:
    """The service, given where prices are."""
    app = service_app("price_record", checks={"btc_price": prices.ready})

    @app.get("/record")
    async def get_record() -> Response:
        """The last price of all currencies, as btc_price tells them."""
        return Response(await prices.record(), media_type="application/json")

    return app


@asynccontextmanager
async def open_service(runtime: Runtime) -> AsyncIterator[FastAPI]:
    """The service with the session of its process."""
    session = await runtime.http_session()
    yield create_app(PriceService(runtime.settings_as(BuyOrderSettings), session))
