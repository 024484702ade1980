"""Every service does what its OpenAPI document says, whatever it is sent (schemathesis)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import pytest
import schemathesis
import uvloop
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from codebase.registry import SYSTEM
from codebase.web.runtime import Runtime
from codebase.web.shell import assemble, serving
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from codebase.foundation.settings import Settings
    from tests.databases import Databases

EXAMPLES = 40
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


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


@pytest.fixture(scope="module")
def urls(
    new_databases: Callable[[], Databases], free_port: Callable[[], int]
) -> Iterator[dict[str, str]]:
    """Where each service is."""
    ports = {name: free_port() for name in SYSTEM.names()}
    found = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    of_contexts = {
        "BTC_PRICE_SOURCES": "demo",
        "BTC_PRICE_URL": found["btc_price"],
        "BLOCK_AGENT_URL": found["block_agent"],
    }
    with pytest.MonkeyPatch.context() as environment:
        for variable, value in of_contexts.items():
            environment.setenv(variable, value)
        everything = Everything(new_databases().settings, ports)
        everything.start()
    yield found
    everything.stop()


@pytest.fixture(scope="module")
def known(urls: dict[str, str]) -> dict[str, str]:
    """Names of parameters, each with a value that stands for something that is there."""
    account = {"name": "Ada", "email": f"{uuid4()}@example.org", "region": "emea", "vip": True}
    opened = httpx.post(f"{urls['create_account']}/accounts", json=account)
    account_id = opened.raise_for_status().json()["id"]
    agents = f"{urls['create_agent']}/accounts/{account_id}/agents"
    agent = {"name": "Bo", "email": f"{uuid4()}@example.org"}
    agent_id = httpx.post(agents, json=agent).raise_for_status().json()["id"]
    asked = httpx.post(f"{urls['compliance']}/block_agent/{agent_id}")
    return {
        "account_id": account_id,
        "agent_id": agent_id,
        "email": agent["email"],
        "request_id": asked.raise_for_status().json()["id"],
        "month": "2026-11",
    }


# The services run beside, in a thread, and draw their pauses from there meanwhile.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize("name", SYSTEM.names())
def test_a_service_keeps_to_its_document(
    urls: dict[str, str], known: dict[str, str], name: str
) -> None:
    schema = schemathesis.openapi.from_url(f"{urls[name]}/openapi.json")
    for operation in schema.get_all_operations():
        keeps_to_its_document(operation.ok(), known)


def keeps_to_its_document(operation: schemathesis.APIOperation, known: dict[str, str]) -> None:
    """Send one operation what its document allows, and what it forbids."""
    cases = st.one_of(
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )

    @given(case=cases, of_known=st.booleans())
    @examples(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case, of_known: bool) -> None:  # noqa: FBT001 - drawn
        if of_known:
            case.path_parameters |= {
                parameter: known[parameter]
                for parameter in case.path_parameters
                if parameter in known
            }
        case.call_and_validate(checks=CHECKS, timeout=PATIENCE_SECONDS)

    check()
