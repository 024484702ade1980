"""Months that are over are added up once, and again when something of them arrives after all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.model.accounts.account import Region
from codebase.model.accounts.usage import Month
from codebase.operations import parked
from codebase.operations.rebuild import rebuild
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.billing.kept_months import PAUSE_SECONDS, MonthKeeper, keep_month
from codebase.services.billing.projections import billing
from codebase.web import consistent_reads
from tests.integration.flow import eventually, is_projected, query
from tests.integration.histories import (
    EDGES,
    MONTHS,
    Happened,
    World,
    busy,
    charged,
    write_history,
)
from tests.integration.test_billing import billing_at_work, by, get
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

OVER = MONTHS[:-1]
FEBRUARY = Month(2024, 2)
BLOCKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
      AND application_name = 'billing'
"""


WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
READ_KEPT = """
    SELECT FROM billing_month JOIN billing_month_account USING (month)
    JOIN billing_account ON id = account_id
"""


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Whether tables hold what the log holds is not asked in a moment, but in time."""
    if "behind" not in request.node.name:
        monkeypatch.setattr(consistent_reads, "MOMENT_SECONDS", PATIENCE_SECONDS)


def project(databases: Databases, happened: Sequence[Happened]) -> None:
    """Into the log, and from there into billing's tables."""
    write_history(databases, happened)
    with billing_at_work(databases.settings):
        eventually(lambda: is_projected(databases, "billing"))


def kept(databases: Databases) -> list[str]:
    """The months that are kept."""
    rows = query(
        databases.as_read_model_owner(), "SELECT month::text FROM billing_month ORDER BY 1"
    )
    return [row[0][:7] for row in rows]


def findings(settings: Settings) -> list[str]:
    return verify(settings, SYSTEM.aggregates, [billing(None)], say=lambda _: None)


def check_months(databases: Databases, happened: Sequence[Happened]) -> None:
    """What is answered of every month that is over is what the log says, by another way."""
    answers = get(databases.settings, *(f"/invoices?month={month}&size=1000" for month in OVER))
    for month, answer in zip(OVER, answers, strict=True):
        lines = by(charged(happened, month.begin, month.end), "account_id")
        told = answer.json()
        assert told["count"] == len(lines)
        assert {
            UUID(each["account_id"]): (each["agents"], Decimal(each["total"]))
            for each in told["invoices"]
        } == {one: (len(its), sum(line.amount for line in its)) for one, its in lines.items()}
        totals = [Decimal(each["total"]) for each in told["invoices"]]
        assert totals == sorted(totals, reverse=True)
        assert sum(map(Decimal, told["totals"].values())) == sum(totals)


@pytest.mark.parametrize("seed", [21, 22])
def test_a_month_that_is_over_is_kept_by_who_asks_first(databases: Databases, seed: int) -> None:
    happened = busy(seed).happened
    project(databases, happened)
    live = get(databases.settings, "/invoices?month=2024-05", "/invoices?month=2024-06")
    assert kept(databases) == []
    assert [answer.json()["is_complete"] for answer in live] == [False, False]
    check_months(databases, happened)
    assert kept(databases) == [str(month) for month in OVER]
    check_months(databases, happened)
    assert findings(databases.settings) == []


def test_what_is_kept_is_what_is_answered_until_a_rebuild(databases: Databases) -> None:
    happened = busy(23).happened
    project(databases, happened)
    check_months(databases, happened)
    with databases.as_read_model_owner() as owner:
        owner.execute(
            "UPDATE billing_month_account SET total = total + 1000000"
            " WHERE (month, account_id) = (SELECT month, account_id FROM billing_month_account"
            " ORDER BY month, account_id LIMIT 1)"
        )
        owner.execute("UPDATE billing_month SET accounts = 77 WHERE month = '2024-02-01'")
    (answer,) = get(databases.settings, "/invoices?month=2024-02")
    assert answer.json()["count"] == 77
    found = findings(databases.settings)
    assert len(found) == 2
    assert "billing_month_account" in found[0]
    assert "billing_month 2024-02-01: 77 accounts" in found[1]
    report = rebuild(databases.settings, billing(None), "billing_agents", say=lambda _: None)
    assert report.differing_rows == 0
    assert kept(databases) == []
    check_months(databases, happened)
    assert findings(databases.settings) == []


@pytest.mark.parametrize("view", ["billing_accounts", "billing_agents", "billing_prices"])
def test_a_rebuild_of_what_it_follows_from_forgets_what_is_kept(
    databases: Databases, view: str
) -> None:
    project(databases, busy(24).happened)
    get(databases.settings, "/invoices?month=2024-02")
    assert kept(databases) == ["2024-02"]
    assert rebuild(databases.settings, billing(None), view, say=lambda _: None).differing_rows == 0
    assert kept(databases) == []
    assert query(databases.as_read_model_owner(), "SELECT * FROM billing_month_account") == []


def test_what_arrives_late_has_its_month_added_up_again(databases: Databases) -> None:
    world = World()
    account = world.open(EDGES[0], Region.EMEA, vip=False)
    agent = world.create(EDGES[1], account)
    project(databases, world.happened)
    before = len(world.happened)
    check_months(databases, world.happened)
    assert kept(databases) == [str(month) for month in OVER]
    world.block(EDGES[2] + timedelta(days=3), agent)
    project(databases, world.happened[before:])
    assert kept(databases) == ["2023-12", "2024-01"]
    check_months(databases, world.happened)
    assert kept(databases) == [str(month) for month in OVER]
    assert findings(databases.settings) == []


def test_what_was_parked_is_added_once_it_flows(databases: Databases) -> None:
    with databases.as_read_model_owner() as owner:
        owner.execute("ALTER TABLE billing_agent ADD CONSTRAINT picky CHECK (region <> 'nam')")
    world = World()
    for region in (Region.NAM, Region.EMEA):
        last = world.create(EDGES[1], world.open(EDGES[0], region, vip=False))
    project(databases, world.happened)
    (without,) = get(databases.settings, "/invoices?month=2024-02")
    assert (without.json()["count"], without.headers["Parked-Streams"]) == (1, "1")
    assert kept(databases) == ["2024-02"]
    with databases.as_read_model_owner() as owner:
        owner.execute("ALTER TABLE billing_agent DROP CONSTRAINT picky")
    (stream,) = parked.list_parked(databases.settings)
    assert stream.stream_id != last
    assert parked.retry(databases.settings, billing(None), stream.stream_id) == 1
    assert kept(databases) == []
    check_months(databases, world.happened)


def test_nothing_is_kept_of_tables_that_are_behind(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    account = world.open(EDGES[0], Region.EMEA, vip=False)
    agent = world.create(EDGES[1], account)
    project(databases, world.happened)
    before = len(world.happened)
    world.block(EDGES[2], agent)
    write_history(databases, world.happened[before:])
    (behind,) = get(databases.settings, "/invoices?month=2024-02")
    assert behind.json()["count"] == 1
    assert kept(databases) == []
    with billing_at_work(databases.settings):
        eventually(lambda: is_projected(databases, "billing"))
    monkeypatch.setattr(consistent_reads, "MOMENT_SECONDS", PATIENCE_SECONDS)
    (caught_up,) = get(databases.settings, "/invoices?month=2024-02")
    assert caught_up.json()["count"] == 0
    assert kept(databases) == ["2024-02"]


def test_nobody_changes_a_month_while_it_is_added_up(databases: Databases) -> None:
    world = World()
    account = world.open(EDGES[0], Region.EMEA, vip=False)
    agent = world.create(EDGES[1], account)
    project(databases, world.happened)
    before = len(world.happened)
    world.block(EDGES[2] + timedelta(days=1), agent)
    settings = databases.settings
    with (
        connect(settings.required("read_model_projector_url"), "test") as store,
        ExitStack() as at_work,
    ):
        with store.transaction(), store.cursor(binary=True) as cursor:
            assert keep_month(cursor, FEBRUARY, "billing", settings.partitions, PATIENCE_SECONDS)
            write_history(databases, world.happened[before:])
            at_work.enter_context(billing_at_work(settings))
            eventually(lambda: query(databases.as_read_model_owner(), BLOCKED)[0][0])
            assert not is_projected(databases, "billing")
        eventually(lambda: is_projected(databases, "billing"))
    assert kept(databases) == []


def test_no_month_is_kept_of_a_store_that_nobody_fills(databases: Databases) -> None:
    settings = databases.settings
    with (
        connect(settings.required("read_model_projector_url"), "test") as store,
        store.transaction(),
        store.cursor(binary=True) as cursor,
    ):
        assert not keep_month(cursor, FEBRUARY, "billing", settings.partitions, PATIENCE_SECONDS)
    assert kept(databases) == []


def test_the_page_of_a_kept_month_is_as_before_it_was_kept(databases: Databases) -> None:
    happened = busy(25).happened
    project(databases, happened)
    # Who cannot see where the log ends keeps nothing.
    blind = databases.settings.model_copy(update={"write_model_head_url": None})
    (live,) = get(blind, "/?month=2024-03")
    assert kept(databases) == []
    first, second = (get(databases.settings, "/?month=2024-03")[0].text for _ in range(2))
    assert kept(databases) == [str(Month(2024, 3).plus(back)) for back in range(-5, 1)]
    assert live.text == first == second


def test_a_rebuild_and_a_read_of_what_is_kept_wait_for_each_other_in_one_order(
    databases: Databases,
) -> None:
    project(databases, busy(26).happened)
    get(databases.settings, "/invoices?month=2024-03")
    assert kept(databases)
    with (
        ThreadPoolExecutor(2) as others,
        databases.as_read_model_owner() as long_read,
        databases.as_read_model_owner() as watcher,
    ):

        def are_waiting(count: int) -> bool:
            return watcher.execute(WAITING).fetchone() == (count,)

        with long_read.transaction():
            long_read.execute("SELECT FROM billing_account")
            rebuilding = others.submit(
                rebuild, databases.settings, billing(None), "billing_accounts", say=lambda _: None
            )
            eventually(lambda: are_waiting(1))
            reading = others.submit(query, databases.as_read_model_owner(), READ_KEPT)
            eventually(lambda: are_waiting(2) or reading.done())
        reading.result()
        assert rebuilding.result().differences == []


def test_a_month_that_cannot_be_kept_is_left_alone_for_a_while(databases: Databases) -> None:
    project(databases, busy(27).happened)
    now = 0.0
    keeper = MonthKeeper(databases.settings, "billing", clock=lambda: now)
    with databases.as_read_model_owner() as somebody, somebody.transaction():
        somebody.execute("LOCK TABLE projection_checkpoint")
        assert not asyncio.run(keeper.keep(FEBRUARY))
    now = PAUSE_SECONDS - 1
    assert not asyncio.run(keeper.keep(FEBRUARY))
    now = PAUSE_SECONDS
    # The second time it is kept already.
    assert [asyncio.run(keeper.keep(FEBRUARY)) for _ in range(2)] == [True, True]
    assert kept(databases) == [str(FEBRUARY)]
