"""A context that nothing outside its folder knows goes all the way through the system.

`tests/parcels` is what somebody writes who adds a context: an aggregate with a claim and a budget,
a view with its migration, a command service and a query service, and the line of a registry.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from codebase.foundation.settings import Settings, extended
from codebase.operations.asyncapi import document
from codebase.operations.migrate import migrate, roll_back
from codebase.operations.rebuild import rebuild
from codebase.operations.verify import verify
from codebase.registry import SYSTEM, System
from codebase.web.runtime import Runtime
from codebase.web.server import serving
from codebase.web.shell import assemble
from tests.integration.flow import query
from tests.parcels.context import PARCEL_CONTEXT, ParcelSettings

if TYPE_CHECKING:
    from tests.databases import Databases

WITH_PARCELS = System(contexts=(*SYSTEM.contexts, PARCEL_CONTEXT))
FLOW = ("event_relay", "read_model_sync", "store_parcel", "fetch_parcels")


@pytest.fixture
def settings(databases: Databases, with_broker: Settings) -> ParcelSettings:
    """Of stores that have been brought to the newest schema with the context in it."""
    settings = extended(with_broker, ParcelSettings)
    applied = migrate(settings, WITH_PARCELS.contexts)
    assert applied == ["read_model/9001_create_parcel"]
    assert databases.settings.partitions == settings.partitions
    return settings


@asynccontextmanager
async def at_work(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The system's own relay and read model, and the context's services, on one port."""
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(Runtime.open(settings, WITH_PARCELS.contexts))
        apps = [
            await stack.enter_async_context(WITH_PARCELS.load(name).open_service(runtime))
            for name in FLOW
        ]
        port = await stack.enter_async_context(serving(assemble(apps, settings), settings, 0))
        url = f"http://127.0.0.1:{port}"
        yield await stack.enter_async_context(httpx.AsyncClient(base_url=url))


def story(settings: Settings, tell: Callable[[httpx.AsyncClient], Any]) -> None:
    async def told() -> None:
        async with at_work(settings) as client:
            await tell(client)

    asyncio.run(told())


async def store(client: httpx.AsyncClient, locker: str, weight: str, key: str) -> httpx.Response:
    body = {"locker": locker, "weight_kg": weight}
    return await client.post("/parcels", json=body, headers={"Idempotency-Key": key})


def test_a_context_goes_from_its_command_to_its_page_and_to_verify(
    databases: Databases, settings: ParcelSettings
) -> None:
    async def tell(client: httpx.AsyncClient) -> None:
        key = uuid4().hex
        first = await store(client, "A1", "60.00", key)
        again = await store(client, "A1", "60.00", key)
        assert (first.status_code, again.content) == (201, first.content)
        assert again.headers["Idempotent-Replayed"] == "true"

        taken = await store(client, "A1", "1.00", uuid4().hex)
        assert (taken.status_code, taken.json()["detail"]) == (409, "the locker is in use")
        heavy = await store(client, "B2", "60.00", uuid4().hex)
        assert (heavy.status_code, heavy.json()["left_kg"]) == (409, "40.00")

        parcel_id = first.json()["id"]
        freed = await client.delete(f"/parcels/{parcel_id}")
        assert freed.status_code == 202
        assert (await store(client, "A1", "40.00", uuid4().hex)).status_code == 201

        page = (await client.get("/parcels?size=1")).json()
        rest = (await client.get(f"/parcels?last_reference={page['last_reference']}")).json()
        shown = {each["id"]: each for each in (*page["items"], *rest["items"])}
        assert len(shown) == 2
        assert shown[parcel_id]["is_taken"] is True
        assert {each["locker"] for each in shown.values()} == {"A1"}

    story(settings, tell)
    said: list[str] = []
    projectors = [WITH_PARCELS.read_model]
    assert verify(settings, WITH_PARCELS.aggregates, projectors, say=said.append) == []

    with databases.as_read_model_owner() as store_of_views:
        store_of_views.execute("UPDATE parcel SET weight_kg = weight_kg + 1")
    assert len(verify(settings, WITH_PARCELS.aggregates, projectors, say=said.append)) == 2
    report = rebuild(settings, WITH_PARCELS.read_model, "parcels", say=said.append)
    assert report.differing_rows == 2
    assert verify(settings, WITH_PARCELS.aggregates, projectors, say=said.append) == []


def test_its_events_are_in_the_published_document() -> None:
    text = str(document(WITH_PARCELS.aggregates, WITH_PARCELS.messages()))
    assert "Routing keys begin with `parcel.`" in text
    assert "ParcelTaken" in text
    assert "ParcelTaken" not in str(document(SYSTEM.aggregates, SYSTEM.messages()))


def test_its_services_are_found_beside_the_others() -> None:
    assert set(WITH_PARCELS.names()) - set(SYSTEM.names()) == {"store_parcel", "fetch_parcels"}
    assert WITH_PARCELS.port_of("store_parcel") == 8901


def test_a_log_that_holds_its_events_is_no_riddle_to_verify_without_it(
    databases: Databases, settings: ParcelSettings
) -> None:
    """A release that lacks the context says that it does not know these events."""

    async def tell(client: httpx.AsyncClient) -> None:
        assert (await store(client, "A1", "1.00", uuid4().hex)).status_code == 201

    story(settings, tell)
    found = verify(settings, SYSTEM.aggregates, [SYSTEM.read_model], say=lambda _: None)
    assert any("no event ParcelStored in category parcel" in each for each in found)
    assert query(databases.as_owner(), "SELECT count(*) FROM event") == [(1,)]


def test_its_migrations_are_taken_back_before_the_others(
    databases: Databases, settings: ParcelSettings
) -> None:
    url = settings.required("read_model_owner_url")
    assert roll_back("read_model", url, WITH_PARCELS.contexts, count=1) == [
        "read_model/9001_create_parcel"
    ]
    tables = "SELECT to_regclass('parcel') IS NULL, to_regclass('buy_order') IS NOT NULL"
    assert query(databases.as_read_model_owner(), tables) == [(True, True)]
