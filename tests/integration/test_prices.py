"""Prices of use: set once by administrators, for days to come, and what was used keeps its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from codebase.engine.commands.bus import CommandBus
from codebase.foundation.clock import Clock
from codebase.foundation.settings import Settings
from codebase.model.accounts.account import Region
from codebase.model.accounts.price_list import PRICE_LIST_ID, PriceSet
from codebase.operations import parked
from codebase.operations.rebuild import rebuild
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.billing.projections import billing
from codebase.services.set_price.service import create_app
from codebase.web.shell import assemble
from tests.integration.flow import eventually, is_projected
from tests.integration.histories import EDGES, Happened, World, charged, hours, write_history
from tests.integration.test_billing import billing_at_work, get

if TYPE_CHECKING:
    from tests.databases import Databases

FACTOR = "a second factor of a test"
CALLERS = {"boss": "admin", "other": "admin", "watcher": "operator", "shop": "client"}
TOKENS = tuple(
    f"{name}:{role}:{sha256(name.encode()).hexdigest()}" for name, role in CALLERS.items()
)
NOVEMBER = datetime(2026, 11, 28, 12, tzinfo=UTC)
PRICE = {"region": "emea", "from_day": "2026-12-10", "price_per_hour": "1.25"}
SHOWN = {
    "region": "emea",
    "from_day": "2026-12-10",
    "price_per_hour": "1.2500",
    "currency": "EUR",
}

Client = httpx.AsyncClient
Story = Callable[[Client], Awaitable[None]]


class Hand:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.at = NOVEMBER

    def __call__(self) -> datetime:
        return self.at


def with_service(databases: Databases, story: Story, now: Clock = lambda: NOVEMBER) -> None:
    settings = databases.settings.model_copy(update={"api_tokens": TOKENS, "two_fa": FACTOR})

    async def told() -> None:
        async with CommandBus.open(settings) as bus:
            transport = httpx.ASGITransport(app=assemble([create_app(bus, now)], settings))
            async with Client(transport=transport, base_url="http://127.0.0.1") as client:
                await story(client)

    asyncio.run(told())


async def put(
    client: Client, body: object, *, key: str | None = None, who: str = "boss", **headers: str
) -> httpx.Response:
    sent = {"X-Token": who, "TWO-FA": FACTOR, **headers}
    if key is not None:
        sent["Idempotency-Key"] = key
    return await client.post("/prices", json=body, headers=sent)


def prices_in_log(databases: Databases) -> list[tuple[str, str, str]]:
    with databases.as_owner() as log:
        return log.execute(
            "SELECT data ->> 'region', data ->> 'from_day', data ->> 'per_hour' FROM event"
            " WHERE category = 'price_list' ORDER BY version"
        ).fetchall()


def test_a_price_is_set_and_a_repeat_is_answered_as_before(databases: Databases) -> None:
    clock = Hand()

    async def story(client: Client) -> None:
        first = await put(client, PRICE, key="1")
        assert (first.status_code, first.json()) == (201, SHOWN)
        assert (first.headers["Outcome"], "Idempotent-Replayed" in first.headers) == (
            "done",
            False,
        )
        # Long after that day has begun.
        clock.at += timedelta(days=60)
        again = await put(client, PRICE, key="1")
        assert (again.status_code, again.json()) == (201, SHOWN)
        assert (again.headers["Outcome"], again.headers["Idempotent-Replayed"]) == ("done", "true")
        without_key = await put(client, PRICE)
        assert (without_key.status_code, without_key.headers["Outcome"]) == (201, "unchanged")

    with_service(databases, story, clock)
    assert prices_in_log(databases) == [("emea", "2026-12-10", "1.2500")]


def test_a_key_is_one_clients_for_one_price(databases: Databases) -> None:
    other = {**PRICE, "price_per_hour": "2"}

    async def story(client: Client) -> None:
        assert (await put(client, PRICE, key="1")).status_code == 201
        reused = await put(client, other, key="1")
        assert (reused.status_code, reused.json()["type"]) == (
            422,
            "/problems/idempotence-key-reused",
        )
        others = await put(client, other, key="1", who="other")
        assert (others.status_code, others.json()["price_per_hour"]) == (201, "2.0000")

    with_service(databases, story)
    assert [price for *_, price in prices_in_log(databases)] == ["1.2500", "2.0000"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("region", "mars"),
        ("region", None),
        ("from_day", "2026-12"),
        ("from_day", "2026-02-30"),
        ("from_day", 20261210),
        ("from_day", "2026-12-10T00:00:00Z"),
        ("from_day", None),
        ("price_per_hour", "0"),
        ("price_per_hour", "-1"),
        ("price_per_hour", "1.00001"),
        ("price_per_hour", "1e3"),
        ("price_per_hour", "1000000"),
        ("price_per_hour", True),
        ("price_per_hour", None),
    ],
)
def test_what_is_wrong_is_said_of_its_field(
    databases: Databases, field: str, value: object
) -> None:
    async def story(client: Client) -> None:
        for body in ({**PRICE, field: value}, {k: v for k, v in PRICE.items() if k != field}):
            answer = await put(client, body)
            assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])
        unknown = await put(client, {**PRICE, "until": "2027-01-01"})
        assert list(unknown.json()["errors"]) == ["until"]

    with_service(databases, story)
    assert prices_in_log(databases) == []


def test_no_price_is_set_for_a_day_that_has_begun(databases: Databases) -> None:
    async def story(client: Client) -> None:
        for day in ("2026-11-28", "2026-10-31"):
            answer = await put(client, {**PRICE, "from_day": day})
            assert (answer.status_code, answer.json()["type"]) == (
                409,
                "/problems/price-too-early",
            )
            assert answer.json()["detail"].startswith("from_day must be after today")
            assert answer.json()["today"] == "2026-11-28"
        assert (await put(client, {**PRICE, "from_day": "2026-11-29"})).status_code == 201

    with_service(databases, story)
    assert len(prices_in_log(databases)) == 1


def test_administrators_set_prices_with_their_second_factor(databases: Databases) -> None:
    async def story(client: Client) -> None:
        for who in ("watcher", "shop"):
            assert (await put(client, PRICE, who=who)).status_code == 403
        assert (await put(client, PRICE, **{"TWO-FA": "guess"})).status_code == 403
        nobody = await client.post("/prices", json=PRICE, headers={"TWO-FA": FACTOR})
        assert nobody.status_code == 401

    with_service(databases, story)
    assert prices_in_log(databases) == []


# What is charged.


@pytest.fixture
def projected(databases: Databases) -> Iterator[tuple[Settings, World, Any]]:
    """A world with two changes of a price in February, each of them set twice."""
    world = World()
    account = world.open(EDGES[0], Region.EMEA, vip=True)
    agent = world.create(EDGES[0], account)
    world.set_price(EDGES[1], Region.EMEA, date(2024, 2, 11), "2.0000")
    world.set_price(EDGES[1], Region.EMEA, date(2024, 2, 11), "3.0001")
    world.set_price(EDGES[1], Region.NAM, date(2024, 2, 12), "9.0000")
    world.set_price(EDGES[1], Region.EMEA, date(2024, 6, 1), "5.0000")
    world.block(datetime(2024, 2, 20, tzinfo=UTC), agent)
    world.unblock(datetime(2024, 2, 25, tzinfo=UTC), agent)
    world.set_price(EDGES[2], Region.EMEA, date(2024, 2, 26), "0.4000")
    world.set_price(EDGES[2], Region.EMEA, date(2024, 2, 26), "0.5000")
    write_history(databases, world.happened)
    with billing_at_work(databases.settings):
        eventually(lambda: is_projected(databases, "billing"))
    return databases.settings, world, account


def test_a_month_is_charged_in_parts_and_rounded_once(
    projected: tuple[Settings, World, Any],
) -> None:
    settings, world, account = projected
    before, after, invoice, page, whole, regions = get(
        settings,
        f"/invoices/{account}?month=2024-01",
        f"/invoices/{account}?month=2024-03",
        f"/invoices/{account}?month=2024-02",
        f"/invoices/{account}/page?month=2024-02",
        "/invoices?month=2024-02",
        "/regions",
    )
    assert [part["price_per_hour"] for part in before.json()["prices"]] == ["1.1850"]
    assert [part["price_per_hour"] for part in after.json()["prices"]] == ["0.5000"]
    told = invoice.json()
    assert told["price_per_hour"] == "0.5000"
    assert [(part["begins"], part["price_per_hour"]) for part in told["prices"]] == [
        ("2024-02-01T00:00:00Z", "1.1850"),
        ("2024-02-11T00:00:00Z", "3.0001"),
        ("2024-02-26T00:00:00Z", "0.5000"),
    ]
    (line,) = told["lines"]
    assert [part["hours"] for part in line["parts"]] == [
        hours(timedelta(days=days)) for days in (10, 10, 4)
    ]
    # 240 h at 1.1850, 240 h at 3.0001, 96 h at 0.5000.
    assert (line["amount"], told["total"]) == ("1052.42", "1052.42")
    (expected,) = charged(world.happened, EDGES[2], EDGES[4])
    assert expected.amount == Decimal("1052.42")
    assert whole.json()["totals"] == {"EUR": "1052.42"}
    for text in ("3.0001", "from 2024-02-11", "240:00:00 at 3.0001"):
        assert text in page.text
    now = {one["region"]: one["price_per_hour"] for one in regions.json()["regions"]}
    assert now == {"emea": "0.5000", "nam": "9.0000", "apac": "0.9760"}


def test_prices_are_listed_page_by_page_with_what_became_of_them(
    projected: tuple[Settings, World, Any],
) -> None:
    settings, *_ = projected
    (everything,) = get(settings, "/prices")
    states = [
        (one["number"], one["price_per_hour"], one["state"]) for one in everything.json()["items"]
    ]
    assert states == [
        (6, "0.5000", "holds"),
        (5, "0.4000", "replaced"),
        (4, "5.0000", "coming"),
        (3, "9.0000", "holds"),
        (2, "3.0001", "over"),
        (1, "2.0000", "replaced"),
    ]
    found, reference = [], None
    while True:
        parameters = {"size": "2"} | ({"last_reference": str(reference)} if reference else {})
        (answer,) = get(settings, "/prices", params=parameters)
        page = answer.json()
        if not page["items"]:
            assert page["last_reference"] is None
            break
        found += page["items"]
        reference = page["last_reference"]
    assert found == everything.json()["items"]
    for name, value in (("size", "0"), ("last_reference", "x"), ("last_reference", "0")):
        (refused,) = get(settings, "/prices", params={name: value})
        assert (refused.status_code, list(refused.json()["errors"])) == (422, [name])


def test_an_event_that_came_late_leaves_the_month_before_as_it_was(databases: Databases) -> None:
    world = World()
    account = world.open(EDGES[0], Region.EMEA, vip=False)
    world.create(EDGES[0], account)
    late = PriceSet(region=Region.EMEA, from_day=date(2024, 1, 10), per_hour=Decimal("7.0000"))
    world.happened.append(Happened(EDGES[2], PRICE_LIST_ID, 1, late))
    write_history(databases, world.happened)
    with billing_at_work(databases.settings):
        eventually(lambda: is_projected(databases, "billing"))
    january, february = get(
        databases.settings,
        f"/invoices/{account}?month=2024-01",
        f"/invoices/{account}?month=2024-02",
    )
    assert [one["price_per_hour"] for one in january.json()["prices"]] == ["1.1850"]
    assert [one["price_per_hour"] for one in february.json()["prices"]] == ["7.0000"]
    assert verify(databases.settings, SYSTEM.aggregates, [billing(None)], say=lambda _: None) == []


def test_prices_changed_by_hand_are_found_and_mended(
    databases: Databases, projected: tuple[Settings, World, Any]
) -> None:
    settings, *_ = projected

    def found() -> list[str]:
        return verify(settings, SYSTEM.aggregates, [billing(None)], say=lambda _: None)

    assert found() == []
    with databases.as_read_model_owner() as owner:
        owner.execute("UPDATE billing_price SET per_hour = 4 WHERE version = 2")
    assert found() == [f"billing_price {PRICE_LIST_ID}: per_hour is 4, the log says 3.0001"]
    with databases.as_read_model_owner() as owner:
        owner.execute("DELETE FROM billing_price WHERE version = 5")
    assert f"billing_price {PRICE_LIST_ID}: is missing" in found()
    assert (
        rebuild(settings, billing(None), "billing_prices", say=lambda _: None).differing_rows == 2
    )
    assert found() == []


def test_a_price_that_is_parked_is_said_and_holds_once_it_flows(databases: Databases) -> None:
    with databases.as_read_model_owner() as owner:
        owner.execute("ALTER TABLE billing_price ADD CONSTRAINT picky CHECK (per_hour <> 2)")
    world = World()
    account = world.open(EDGES[0], Region.EMEA, vip=False)
    world.create(EDGES[0], account)
    world.set_price(EDGES[1], Region.EMEA, date(2024, 2, 1), "2.0000")
    write_history(databases, world.happened)
    settings = databases.settings
    with billing_at_work(settings):
        eventually(lambda: is_projected(databases, "billing"))
    (listed,) = get(settings, "/invoices?month=2024-02")
    assert listed.headers["Parked-Streams"] == "1"
    assert listed.json()["totals"] == {"EUR": f"{29 * 24 * Decimal('1.1850'):.2f}"}
    with databases.as_read_model_owner() as owner:
        owner.execute("ALTER TABLE billing_price DROP CONSTRAINT picky")
    assert parked.retry(settings, billing(None), PRICE_LIST_ID) == 1
    (listed,) = get(settings, "/invoices?month=2024-02")
    assert listed.json()["totals"] == {"EUR": f"{29 * 24 * Decimal(2):.2f}"}
