"""Every service of the system, in one process and on one event loop, each on a port of its own."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest
import uvloop

from codebase.registry import SYSTEM
from codebase.services.price_record import service as price_record
from codebase.web import apps
from codebase.web.runtime import Runtime
from codebase.web.shell import assemble, serving
from tests.integration.flow import eventually
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from codebase.foundation.settings import Settings


class Everything:
    """Every service on a port of its own, on one event loop in a thread."""

    def __init__(self, settings: Settings, ports: dict[str, int]) -> None:
        self._settings = settings
        self._ports = ports
        self._stop = asyncio.Event()
        self._started: Future[None] = Future()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._work()])

    def start(self) -> None:
        self._thread.start()
        self._started.result(PATIENCE_SECONDS)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "stops within its deadline"
        self._loop.close()

    async def _work(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                runtime = await stack.enter_async_context(
                    Runtime.open(self._settings, SYSTEM.contexts)
                )
                for name, port in self._ports.items():
                    opening = SYSTEM.load(name).open_service(runtime)
                    app = assemble([await stack.enter_async_context(opening)], self._settings)
                    await stack.enter_async_context(serving(app, self._settings, port))
                self._started.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            raise


def is_ready(url: str) -> bool:
    """Whether a service can be used by now; one that does not listen yet cannot."""
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.ConnectError:
        return False


@contextmanager
def every_service(settings: Settings, free_port: Callable[[], int]) -> Iterator[dict[str, str]]:
    """Where each service is, by its name, once all of them can be used."""
    ports = {name: free_port() for name in SYSTEM.names()}
    found = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    of_contexts = {
        "BTC_PRICE_SOURCES": "demo",
        "BTC_PRICE_URL": found["btc_price"],
        "BLOCK_AGENT_URL": found["block_agent"],
        "PAYMENT_PROVIDER_URL": found["payment_provider"],
        "FRAUD_POLICE_URL": found["fraud_police"],
    }
    with (
        tempfile.TemporaryDirectory() as home,
        psycopg.connect(settings.required("write_model_owner_url"), autocommit=True) as owner,
        pytest.MonkeyPatch.context() as environment,
    ):
        # Databases of tests are clones, in which reactions act only if they are told to.
        owner.execute("SELECT reaction.adopt()")
        for variable, value in of_contexts.items():
            environment.setenv(variable, value)
        here = settings.model_copy(update={"orderly_home": Path(home)})
        everything = Everything(here, ports)
        # Who looks at many things at once on one loop has to wait for his answers.
        environment.setattr(apps, "CHECK_DEADLINE_SECONDS", PATIENCE_SECONDS)
        environment.setattr(price_record, "DEADLINE_SECONDS", PATIENCE_SECONDS)
        everything.start()
        try:
            for name, url in found.items():
                eventually(lambda url=url: is_ready(url), f"{name} is not ready")  # type: ignore[misc]
            yield found
        finally:
            everything.stop()
