"""vip_customers: openings, closings and turnover equal what the log says by another reckoning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from psycopg import Connection, Cursor

from codebase.engine.projections.projector import projector_team
from codebase.foundation.failpoints import EXIT_STATUS
from codebase.foundation.settings import Settings
from codebase.model.accounts.account import AccountClosed, AccountOpened, Region
from codebase.model.accounts.usage import Month
from codebase.operations.rebuild import rebuild
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.vip_customers import queries
from codebase.services.vip_customers.months import MonthOfVips, month_of
from codebase.services.vip_customers.projections import VIP_CUSTOMERS
from codebase.services.vip_customers.service import create_app
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.shell import assemble
from tests.integration.flow import (
    at_work,
    eventually,
    is_projected,
    query,
    relaying,
    running,
)
from tests.integration.histories import (
    CURRENCY,
    EDGES,
    LATER,
    MONTHS,
    Happened,
    World,
    busy,
    charged,
    logged,
    worlds,
    write_history,
)
from tests.patience import NEVER_SECONDS
from tests.processes import status_of

if TYPE_CHECKING:
    from tests.databases import Databases

Figures = tuple[int, int, int, Decimal]


@pytest.fixture(scope="module")
def store(new_databases: Callable[[], Databases]) -> Iterator[Connection[Any]]:
    """A read model whose every use is rolled back."""
    made = new_databases()
    with psycopg.connect(made.settings.required("read_model_projector_url")) as connection:
        yield connection


def expected(happened: Sequence[Happened], month: Month, region: Region) -> Figures:
    """(opened, closed, standing, turnover), counted one by one."""
    end = min(month.end, LATER)
    events = [one for one in happened if one.category == "account" and one.at < end]
    mine = [one for one in events if one.event.vip and one.event.region == region]
    openings = [one for one in mine if isinstance(one.event, AccountOpened)]
    closings = [one for one in mine if isinstance(one.event, AccountClosed)]
    lines = charged(happened, month.begin, end)
    return (
        sum(one.at >= month.begin for one in openings),
        sum(one.at >= month.begin for one in closings),
        len(openings) - len(closings),
        sum((line.amount for line in lines if line.vip and line.region == region), Decimal(0)),
    )


def figures(month: MonthOfVips) -> dict[Region, Figures]:
    return {
        each.region: (each.opened, each.closed, each.standing, each.turnover)
        for each in month.regions
    }


def month_in(cursor: Cursor[Any], month: Month) -> MonthOfVips:
    """A month as the service would find it, seen from `LATER`."""

    def ask(statement: str, until: datetime) -> list[Any]:
        named = {"since": [month.begin], "until": [until]}
        rows = cursor.execute(statement, named).fetchall()
        return [row[1:] for row in rows]

    accounts = ask(queries.ACCOUNTS, month.end)
    return month_of(month, LATER, accounts, ask(queries.USE, month.up_to(LATER)))


def check_months(cursor: Cursor[Any], happened: Sequence[Happened]) -> None:
    for month in MONTHS:
        found = figures(month_in(cursor, month))
        assert found == {region: expected(happened, month, region) for region in Region}


@given(world=worlds(), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4))
@examples(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_months_equal_those_computed_from_the_whole_log(
    store: Connection[Any], world: World, sizes: list[int]
) -> None:
    # What happens after the moment of looking is not there yet.
    happened = [one for one in world.happened if one.at < LATER]
    rest, turn = logged(happened), 0
    try:
        with store.cursor(binary=True) as cursor:
            while rest:
                size, turn = sizes[turn % len(sizes)], turn + 1
                for _ in range(2):
                    VIP_CUSTOMERS.apply(cursor, rest[:size])
                rest = rest[size:]
            check_months(cursor, happened)
    finally:
        store.rollback()


@contextmanager
def following(settings: Settings) -> Iterator[None]:
    with at_work(projector_team(settings, VIP_CUSTOMERS)):
        yield


def caught_up(databases: Databases) -> bool:
    return is_projected(databases, VIP_CUSTOMERS.name)


def check_store(databases: Databases, happened: Sequence[Happened]) -> None:
    assert any(one.category == "agent" and one.event.vip for one in happened), "use is counted"
    with databases.as_read_model_owner() as owner, owner.cursor(binary=True) as cursor:
        check_months(cursor, happened)
    assert verify(databases.settings, SYSTEM.aggregates, [VIP_CUSTOMERS], say=lambda _: None) == []


@pytest.mark.parametrize("place", ["projector_before_commit", "projector_after_apply"])
def test_one_that_is_killed_again_and_again_counts_what_it_must(
    databases: Databases, free_port: Callable[[], int], place: str
) -> None:
    happened = busy(9).happened
    write_history(databases, happened[:100])
    small = databases.settings.model_copy(update={"projector_batch": 20})
    for _ in range(3):
        command = ["codebase", "serve", "vip_customers", "--port", str(free_port())]
        with running(command, small, ORDERLY_FAILPOINT=place) as process:
            assert status_of(process) == EXIT_STATUS
    write_history(databases, happened[100:])
    with following(small):
        eventually(lambda: caught_up(databases))
    check_store(databases, happened)


def test_it_starts_with_the_whole_history_and_goes_on_live(
    databases: Databases, with_broker: Settings
) -> None:
    happened = busy(12, steps=400).happened
    write_history(databases, happened[:250])
    with relaying(with_broker), following(with_broker):
        for start in range(250, len(happened), 25):
            write_history(databases, happened[start : start + 25])
            eventually(lambda: caught_up(databases))
    check_store(databases, happened)


def test_the_broker_brings_the_news_of_vips_and_of_agents(
    databases: Databases, with_broker: Settings
) -> None:
    slow = with_broker.model_copy(update={"read_model_check_seconds": NEVER_SECONDS})
    world = World()
    with following(slow), relaying(slow):
        account = world.open(EDGES[0], Region.APAC, vip=True)
        write_history(databases, world.happened)
        eventually(lambda: rows(databases, "SELECT count(*) FROM vip_account") == 1)
        world.create(EDGES[1], account)
        write_history(databases, world.happened[1:])
        eventually(lambda: rows(databases, "SELECT count(*) FROM vip_agent") == 1)
        world.close(EDGES[2], account)
        write_history(databases, world.happened[2:])
        eventually(lambda: rows(databases, "SELECT count(closed_at) FROM vip_account") == 1)


def rows(databases: Databases, statement: str) -> int:
    return int(query(databases.as_read_model_owner(), statement)[0][0])


def test_a_rebuild_while_it_works_changes_nothing(databases: Databases) -> None:
    happened = busy(13, agents=60, steps=1500).happened
    write_history(databases, happened[:1000])
    with following(databases.settings):
        eventually(lambda: caught_up(databases))
        for view, more in (
            ("vip_agents", happened[1000:1200]),
            ("vip_accounts", happened[1200:]),
        ):
            write_history(databases, more)
            report = rebuild(databases.settings, VIP_CUSTOMERS, view, say=lambda _: None)
            assert report.differing_rows == 0
        eventually(lambda: caught_up(databases))
    check_store(databases, happened)


@asynccontextmanager
async def client_of(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a vip_customers in this process, whose clock stands still."""
    async with ConsistentReads.open(settings, VIP_CUSTOMERS.name) as reads:
        app = create_app(reads, settings, {"read_model": reads.ready}, lambda: LATER)
        transport = httpx.ASGITransport(app=assemble([app], settings))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client


def get(settings: Settings, *paths: str, **options: Any) -> list[httpx.Response]:  # noqa: ANN401
    async def ask_all() -> list[httpx.Response]:
        async with client_of(settings) as client:
            return [await client.get(path, **options) for path in paths]

    return asyncio.run(ask_all())


@pytest.fixture
def followed(databases: Databases) -> tuple[Settings, list[Happened]]:
    """(settings, a history that has been projected)."""
    happened = busy(14).happened
    write_history(databases, happened)
    with following(databases.settings):
        eventually(lambda: caught_up(databases))
    return databases.settings, happened


def test_months_are_answered_in_exact_decimals(
    followed: tuple[Settings, list[Happened]],
) -> None:
    settings, happened = followed
    (answer,) = get(settings, "/months?count=6")
    months = answer.json()["months"]
    assert [each["month"] for each in months] == [str(month) for month in MONTHS]
    assert [each["is_complete"] for each in months] == [True] * 5 + [False]
    assert months[-1]["counted_until"] == "2024-05-20T12:00:00Z"
    for month, found in zip(MONTHS, months, strict=True):
        for one in found["regions"]:
            opened, closed, standing, turnover = expected(happened, month, Region(one["region"]))
            assert one == {
                "region": one["region"],
                "opened": opened,
                "closed": closed,
                "standing": standing,
                "turnover": f"{turnover:.2f}",
                "currency": CURRENCY[one["region"]],
            }


def test_the_page_shows_the_months_and_charts(
    followed: tuple[Settings, list[Happened]],
) -> None:
    settings, happened = followed
    (page,) = get(settings, "/?month=2024-03")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.count('role="img"') == 4
    *_, turnover = expected(happened, Month(2024, 3), Region.EMEA)
    assert turnover
    assert f"{turnover:,.2f} EUR" in page.text


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"month": "2024-13"}, "month"),
        ({"month": ""}, "month"),
        ({"count": "0"}, "count"),
        ({"count": "37"}, "count"),
        ({"count": "x"}, "count"),
    ],
)
def test_bad_parameters_are_named(
    databases: Databases, parameters: dict[str, str], field: str
) -> None:
    for answer in get(databases.settings, "/", "/months", params=parameters):
        assert answer.status_code == 422
        assert list(answer.json()["errors"]) == [field]


def test_it_is_for_administrators(databases: Databases) -> None:
    entries = tuple(
        f"{name}:{role}:{sha256(name.encode()).hexdigest()}"
        for name, role in (("ann", "client"), ("boss", "admin"))
    )
    guarded = databases.settings.model_copy(update={"api_tokens": entries})
    for name, status in (("boss", 200), ("ann", 403), ("nobody", 401)):
        for answer in get(guarded, "/", "/months", headers={"X-Token": name}):
            assert answer.status_code == status


def test_accounts_that_are_no_vips_are_not_remembered(databases: Databases) -> None:
    world = World()
    world.create(EDGES[0], world.open(EDGES[0], Region.NAM, vip=False))
    kept: list[UUID] = [world.open(EDGES[0], Region.NAM, vip=True)]
    kept.append(world.create(EDGES[0], kept[0]))
    write_history(databases, world.happened)
    with following(databases.settings):
        eventually(lambda: caught_up(databases))
    found = query(
        databases.as_read_model_owner(),
        "SELECT id FROM vip_account UNION ALL SELECT id FROM vip_agent",
    )
    assert found == [(each,) for each in kept]
