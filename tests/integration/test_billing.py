"""Billing: invoices equal what the log says by another reckoning, whatever happened on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from psycopg import Connection, Cursor

from codebase.engine.log.identifiers import partition_of
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projector import projector_team
from codebase.foundation.errors import ConfigurationError
from codebase.foundation.failpoints import EXIT_STATUS
from codebase.foundation.settings import Settings, extended
from codebase.foundation.worker import Team
from codebase.model.accounts.account import Region
from codebase.operations import parked
from codebase.operations.rebuild import Report, rebuild
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.billing import queries
from codebase.services.billing.invoices import (
    invoice_of,
    invoices_of,
    period_at,
)
from codebase.services.billing.one_per_store import refuse_beside_another
from codebase.services.billing.projections import billing
from codebase.services.billing.service import create_app
from codebase.views.accounts.settings import AccountSettings
from codebase.views.accounts.usage_intervals import MONTH_ARGUMENTS, charges_by_region
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.shell import assemble
from tests.integration.flow import (
    at_work,
    eventually,
    is_projected,
    is_relayed,
    problem_of,
    query,
    relaying,
    running,
)
from tests.integration.histories import (
    EDGES,
    LATER,
    MONTHS,
    Charged,
    Happened,
    World,
    busy,
    charged,
    hours,
    logged,
    opened,
    worlds,
    write_history,
)
from tests.logs import OURS, name_log
from tests.patience import NEVER_SECONDS
from tests.processes import status_of

if TYPE_CHECKING:
    from tests.databases import Databases

# Kind one: the projection alone, driven by hypothesis.


@pytest.fixture(scope="module")
def store(new_databases: Callable[[], Databases]) -> Iterator[Connection[Any]]:
    """A read model whose every use is rolled back."""
    made = new_databases()
    with psycopg.connect(made.settings.required("read_model_projector_url")) as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.commit()
        yield connection


def apply_in_batches(
    cursor: Cursor[Any], events: Sequence[LoggedEvent], sizes: Sequence[int], region: Region | None
) -> None:
    """As a projector would, in batches of some sizes; each batch comes a second time."""
    rest, turn = list(events), 0
    while rest:
        size = sizes[turn % len(sizes)]
        batch, rest, turn = rest[:size], rest[size:], turn + 1
        for _ in range(2):
            billing(region).apply(cursor, batch)


def ask(
    cursor: Cursor[Any], statement: str, arguments: Sequence[str], *values: object
) -> list[Any]:
    """The rows for one request, as a group read gets them."""
    named = dict(zip(arguments, ([value] for value in values), strict=True))
    rows = cursor.execute(statement, named).fetchall()
    return [row[1:] for row in rows]


def check_invoices(
    cursor: Cursor[Any], happened: Sequence[Happened], region: Region | None = None
) -> None:
    """Every invoice of every month, its sums and those of the regions, are as they must be."""
    for month in MONTHS:
        period = period_at(month, LATER)
        since, until = month.begin, period.charged_until
        expected = [
            line for line in charged(happened, since, until) if region in {None, line.region}
        ]
        for account_id, account in opened(happened).items():
            found = invoice_of(
                account_id,
                period,
                ask(
                    cursor,
                    queries.INVOICES,
                    queries.INVOICE_ARGUMENTS,
                    None,
                    account_id,
                    since,
                    until,
                ),
            )
            if region not in {None, account.region}:
                assert found is None
                continue
            assert found is not None
            mine = [line for line in expected if line.account_id == account_id]
            assert lines_of(found.lines) == sorted(
                (line.agent_id, hours(line.used), line.amount) for line in mine
            )
            assert found.total == sum(line.amount for line in mine)
        by_account = ask(cursor, queries.USE_BY_ACCOUNT, MONTH_ARGUMENTS, since, until)
        sums = invoices_of(period, by_account, 1000)
        assert {(each.account_id, each.agents, each.total) for each in sums.invoices} == {
            (account_id, len(lines), sum(line.amount for line in lines))
            for account_id, lines in by(expected, "account_id").items()
        }
        by_region = ask(cursor, queries.USE_BY_REGION, MONTH_ARGUMENTS, since, until)
        assert charges_by_region(by_region) == {
            name: sum(line.amount for line in lines)
            for name, lines in by(expected, "region").items()
        }


def by(lines: Sequence[Charged], field: str) -> dict[Any, list[Charged]]:
    groups: dict[Any, list[Charged]] = {}
    for line in lines:
        groups.setdefault(getattr(line, field), []).append(line)
    return groups


def lines_of(lines: Sequence[Any]) -> list[tuple[UUID, str, Decimal]]:
    return sorted((line.agent_id, line.hours, line.amount) for line in lines)


@given(
    world=worlds(),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    region=st.sampled_from([None, Region.EMEA]),
)
@examples(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_invoices_equal_those_computed_from_the_whole_log(
    store: Connection[Any], world: World, sizes: list[int], region: Region | None
) -> None:
    try:
        with store.cursor(binary=True) as cursor:
            apply_in_batches(cursor, logged(world.happened), sizes, region)
            check_invoices(cursor, world.happened, region)
    finally:
        store.rollback()


@given(world=worlds(), data=st.data())
@examples(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_an_event_that_comes_again_changes_nothing_however_late(
    store: Connection[Any], world: World, data: st.DataObject
) -> None:
    events = logged(world.happened)
    again = data.draw(st.lists(st.sampled_from(events), max_size=8))
    try:
        with store.cursor(binary=True) as cursor:
            billing(None).apply(cursor, events)
            for event in again:
                billing(None).apply(cursor, [event])
            check_invoices(cursor, world.happened)
    finally:
        store.rollback()


# Kind two: the log, the projector and the service.


@contextmanager
def billing_at_work(settings: Settings, region: Region | None = None) -> Iterator[Team]:
    with at_work(projector_team(settings, billing(region))) as team:
        yield team


def caught_up(databases: Databases, region: Region | None = None) -> bool:
    return is_projected(databases, billing(region).name)


@asynccontextmanager
async def client_of(
    settings: Settings, now: Callable[[], datetime] = lambda: LATER
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a billing service in this process, whose clock stands still."""
    own = extended(settings, AccountSettings)
    async with ConsistentReads.open(settings, billing(own.billing_region).name) as reads:
        app = assemble([create_app(reads, own, {"read_model": reads.ready}, now)], settings)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client


def get(settings: Settings, *paths: str, **options: Any) -> list[httpx.Response]:  # noqa: ANN401
    async def ask_all() -> list[httpx.Response]:
        async with client_of(settings) as client:
            return [await client.get(path, **options) for path in paths]

    return asyncio.run(ask_all())


def check_store(databases: Databases, happened: Sequence[Happened]) -> None:
    """The rows of a real run come to the right invoices, and verify finds nothing."""
    with databases.as_read_model_owner() as owner, owner.cursor(binary=True) as cursor:
        check_invoices(cursor, happened)
    assert verify(databases.settings, SYSTEM.aggregates, [billing(None)], say=lambda _: None) == []


@pytest.mark.parametrize("place", ["projector_before_commit", "projector_after_apply"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_billing_that_is_killed_again_and_again_charges_what_it_must(
    databases: Databases, free_port: Callable[[], int], place: str, seed: int
) -> None:
    happened = busy(seed).happened
    write_history(databases, happened[:100])
    small = databases.settings.model_copy(update={"projector_batch": 20})
    for _ in range(3):
        command = ["codebase", "serve", "billing", "--port", str(free_port())]
        with running(command, small, ORDERLY_FAILPOINT=place) as process:
            assert status_of(process) == EXIT_STATUS
    write_history(databases, happened[100:])
    with billing_at_work(small):
        eventually(lambda: caught_up(databases))
    check_store(databases, happened)


def test_it_starts_with_the_whole_history_and_goes_on_live(
    databases: Databases, with_broker: Settings
) -> None:
    happened = busy(3, steps=400).happened
    write_history(databases, happened[:250])
    with relaying(with_broker), billing_at_work(with_broker):
        for start in range(250, len(happened), 25):
            write_history(databases, happened[start : start + 25])
            eventually(lambda: caught_up(databases))
    check_store(databases, happened)


def test_the_broker_brings_the_news_of_its_region_only(
    databases: Databases, with_broker: Settings
) -> None:
    slow = with_broker.model_copy(update={"read_model_check_seconds": NEVER_SECONDS})
    world = World()
    with billing_at_work(slow, Region.EMEA), relaying(slow):
        elsewhere = world.open(EDGES[0], Region.NAM, vip=False)
        world.create(EDGES[0], elsewhere)
        here = world.open(EDGES[0], Region.EMEA, vip=True)
        agent = world.create(EDGES[0], here)
        world.block(EDGES[1], agent)
        write_history(databases, world.happened)
        # The last event of each partition that holds something of this region is its own.
        eventually(lambda: count(databases, "billing_agent", "NOT upper_inf(usage)") == 1)
        # The account may be in another partition than the agent.
        eventually(lambda: count(databases, "billing_account") >= 1)
    assert count(databases, "billing_account") == 1
    regional = AccountSettings(**slow.model_dump(), billing_region=Region.EMEA)
    regions, unknown = get(regional, "/regions", f"/invoices/{elsewhere}?month=2023-12")
    assert [each["region"] for each in regions.json()["regions"]] == ["emea"]
    assert regions.json()["regions"][0]["blocked"] == 1
    assert unknown.status_code == 404


def count(databases: Databases, table: str, condition: str = "true") -> int:
    statement = f"SELECT count(*) FROM {table} WHERE {condition}"  # noqa: S608 - this file's own
    rows = query(databases.as_read_model_owner(), statement)
    return int(rows[0][0])


@pytest.mark.parametrize("fed_by", ["queue", "log"])
def test_a_week_away_is_caught_up_with(
    databases: Databases, with_broker: Settings, fed_by: str
) -> None:
    settings = with_broker if fed_by == "queue" else databases.settings
    happened = busy(5, agents=200, steps=6000).happened
    write_history(databases, happened[:100])
    with relaying(with_broker):
        with billing_at_work(settings):
            eventually(lambda: caught_up(databases))
        write_history(databases, happened[100:])
        eventually(lambda: is_relayed(databases))
        with billing_at_work(settings):
            eventually(lambda: caught_up(databases))
    check_store(databases, happened)


def test_a_rebuild_while_it_works_changes_nothing(databases: Databases) -> None:
    happened = busy(6, agents=60, steps=1500).happened
    write_history(databases, happened[:1000])
    with billing_at_work(databases.settings):
        eventually(lambda: caught_up(databases))
        for view, more in (
            ("billing_agents", happened[1000:1200]),
            ("billing_accounts", happened[1200:]),
        ):
            write_history(databases, more)
            assert rebuilt(databases, view).differing_rows == 0
        eventually(lambda: caught_up(databases))
    check_store(databases, happened)
    options = "SELECT reloptions FROM pg_class WHERE relname = 'billing_agent'"
    assert query(databases.as_read_model_owner(), options) == [(["fillfactor=50"],)]


def rebuilt(databases: Databases, view: str) -> Report:
    return rebuild(databases.settings, billing(None), view, say=lambda _: None)


def test_rows_changed_by_hand_are_found_and_mended(databases: Databases) -> None:
    happened = busy(7).happened
    write_history(databases, happened)
    with billing_at_work(databases.settings):
        eventually(lambda: caught_up(databases))
        with databases.as_read_model_owner() as owner:
            owner.execute(
                "UPDATE billing_agent SET usage = usage - '{[2024-01-05,2024-01-06)}'"
                " WHERE usage && '{[2024-01-05,2024-01-06)}'"
            )
        found = verify(databases.settings, SYSTEM.aggregates, [billing(None)], say=lambda _: None)
        assert found
        assert all(" usage is {" in sentence for sentence in found)
        assert rebuilt(databases, "billing_agents").differing_rows == len(found)
    check_store(databases, happened)


def test_an_agent_whose_creation_was_set_aside_is_left_out(databases: Databases) -> None:
    with databases.as_read_model_owner() as owner:
        owner.execute("ALTER TABLE billing_agent ADD CONSTRAINT picky CHECK (name <> 'agent bad')")
    world = World()
    account = world.open(EDGES[0], Region.EMEA, vip=False)
    bad, good = world.create(EDGES[1], account), world.create(EDGES[1], account)
    world.block(EDGES[2], bad)
    happened = [
        one._replace(event=type(one.event)(**{**fields_of(one.event), "name": "agent bad"}))
        if (one.stream_id, one.version) == (bad, 1)
        else one
        for one in world.happened
    ]
    write_history(databases, happened)
    with billing_at_work(databases.settings):
        eventually(lambda: caught_up(databases))
    (stream,) = parked.list_parked(databases.settings)
    assert (stream.projector, stream.stream_id, stream.events) == ("billing", bad, 2)
    assert parked.parked_by(databases.settings, bad) == ["billing"]
    parked.discard(databases.settings, billing(None), bad)
    assert parked.retry(databases.settings, billing(None), bad) == 1
    assert query(databases.as_read_model_owner(), "SELECT id FROM billing_agent") == [(good,)]
    assert verify(databases.settings, SYSTEM.aggregates, [billing(None)], say=lambda _: None) == []


def fields_of(event: Any) -> dict[str, Any]:  # noqa: ANN401 - any event
    return {name: getattr(event, name) for name in event.__dataclass_fields__}


# One billing in a store.


def test_a_store_has_room_for_one_billing(databases: Databases) -> None:
    happened = busy(8, steps=20).happened
    write_history(databases, happened)
    with billing_at_work(databases.settings, Region.EMEA):
        eventually(lambda: caught_up(databases, Region.EMEA))
    with pytest.raises(ConfigurationError, match="belongs to billing_emea, and not to billing;"):
        asyncio.run(refuse_beside_another(databases.settings, billing(None)))
    asyncio.run(refuse_beside_another(databases.settings, billing(Region.EMEA)))
    # And should it have started at the same moment as the other one:
    with billing_at_work(databases.settings) as team:
        eventually(lambda: "one_billing_per_store" in (problem_of(team) or ""))
    assert count(databases, "projection_checkpoint", "projector = 'billing'") == 0


def test_a_second_billing_does_not_even_start(
    databases: Databases, free_port: Callable[[], int]
) -> None:
    with billing_at_work(databases.settings):
        eventually(lambda: count(databases, "projection_checkpoint") > 0)
    command = ["codebase", "serve", "billing", "--port", str(free_port())]
    with running(command, databases.settings, BILLING_REGION="nam") as process:
        assert status_of(process) == 2


# What is answered.


@pytest.fixture
def answered(databases: Databases) -> Iterator[tuple[Settings, World, UUID]]:
    """(settings, a world, its account with two agents, closed in March), projected."""
    world = World()
    account = world.open(EDGES[0], Region.EMEA, vip=True)
    first, second = world.create(EDGES[0], account), world.create(EDGES[1], account)
    world.block(EDGES[2], first)
    world.unblock(EDGES[2] + timedelta(hours=36), first)
    world.block(EDGES[2] + timedelta(days=5), second)
    world.close(EDGES[4] + timedelta(days=1), account)
    world.create(EDGES[7], world.open(EDGES[7], Region.NAM, vip=False))
    write_history(databases, world.happened)
    with billing_at_work(databases.settings):
        eventually(lambda: caught_up(databases))
    return databases.settings, world, account


def test_an_invoice_has_its_lines_in_exact_decimals(
    answered: tuple[Settings, World, UUID],
) -> None:
    settings, world, account = answered
    (answer,) = get(settings, f"/invoices/{account}?month=2024-02")
    invoice = answer.json()
    expected = charged(world.happened, EDGES[2], EDGES[4])
    assert answer.status_code == 200
    assert {key: invoice[key] for key in ("month", "is_complete", "currency", "is_closed")} == {
        "month": "2024-02",
        "is_complete": True,
        "currency": "EUR",
        "is_closed": True,
    }
    assert {line["agent_id"]: (line["hours"], line["amount"]) for line in invoice["lines"]} == {
        str(line.agent_id): (hours(line.used), f"{line.amount:.2f}") for line in expected
    }
    assert invoice["total"] == f"{sum(line.amount for line in expected):.2f}"
    names = [line["name"] for line in invoice["lines"]]
    assert names == sorted(names)


def test_a_running_month_is_charged_up_to_now_and_says_so(
    answered: tuple[Settings, World, UUID],
) -> None:
    settings, world, account = answered
    running_month, named, coming = get(
        settings, "/invoices", "/invoices?month=2024-05", f"/invoices/{account}?month=2024-06"
    )
    body = running_month.json()
    assert body == named.json()
    assert (body["month"], body["is_complete"]) == ("2024-05", False)
    assert body["charged_until"] == "2024-05-20T12:00:00Z"
    (line,) = charged(world.happened, datetime(2024, 5, 1, tzinfo=UTC), LATER)
    assert body["totals"] == {"USD": f"{line.amount:.2f}"}
    assert coming.json()["lines"] == []
    assert coming.json()["total"] == "0.00"
    assert coming.json()["is_complete"] is False


@pytest.mark.parametrize(
    "month", ["2024-13", "2024-1", "24-01", "x", "2024-01-01", "２０２４-01", ""]
)
def test_what_is_no_month_is_refused(databases: Databases, month: str) -> None:
    for path in ("/", "/invoices", f"/invoices/{uuid4()}", f"/invoices/{uuid4()}/page"):
        (answer,) = get(databases.settings, path, params={"month": month})
        assert answer.status_code == 422
        assert list(answer.json()["errors"]) == ["month"]


def test_an_account_that_there_is_not_has_no_invoice(databases: Databases) -> None:
    account = uuid4()
    for path in (f"/invoices/{account}", f"/invoices/{account}/page"):
        (answer,) = get(databases.settings, path)
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"Account {account} not found"
    (answer,) = get(databases.settings, "/invoices/x")
    assert answer.status_code == 422


def test_nothing_but_its_own_invoices_is_shown_to_a_client(
    answered: tuple[Settings, World, UUID],
) -> None:
    settings, _world, account = answered
    secrets = {name: f"{name}-secret" for name in ("local", "other", "boss")}
    entries = [
        f"{name}:{'admin' if name == 'boss' else 'client'}:{sha256(secret.encode()).hexdigest()}"
        for name, secret in secrets.items()
    ]
    guarded = settings.model_copy(update={"api_tokens": tuple(entries)})
    own = (f"/invoices/{account}", f"/invoices/{account}/page")
    everybodys = ("/", "/regions", "/invoices")

    def statuses(name: str | None, *paths: str) -> list[int]:
        headers = {"X-Token": secrets.get(name, "wrong")} if name else {}
        return [answer.status_code for answer in get(guarded, *paths, headers=headers)]

    assert statuses("boss", *own, *everybodys) == [200] * 5
    assert statuses("local", *own, *everybodys) == [200, 200, 403, 403, 403]
    assert statuses("other", *own, *everybodys) == [404, 404, 403, 403, 403]
    assert statuses("nobody", *own, *everybodys) == [401] * 5
    assert statuses(None, *own, *everybodys) == [401] * 5


def test_the_page_shows_regions_invoices_and_a_chart(
    answered: tuple[Settings, World, UUID],
) -> None:
    settings, _world, account = answered
    page, invoice = get(settings, "/?month=2024-02", f"/invoices/{account}/page?month=2024-02")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert f'href="/invoices/{account}/page?month=2024-02"' in page.text
    assert page.text.count('role="img"') == 2
    told = get(settings, f"/invoices/{account}?month=2024-02")[0].json()
    for shown in (page.text, invoice.text):
        assert f"{told['total']} EUR" in shown
    for line in told["lines"]:
        seconds, _, rest = line["hours"].partition(".")
        assert f">{seconds}<" in invoice.text
        assert f".{rest}" not in invoice.text, "nobody reads microseconds"
        hours, minutes, whole = map(int, seconds.split(":"))
        assert line["duration"] == f"PT{hours}H{minutes}M{whole}.{rest}S"


def test_a_token_is_waited_for(databases: Databases) -> None:
    world = World()
    account = world.open(EDGES[0], Region.EMEA, vip=False)
    write_history(databases, world.happened)
    name_log(databases, OURS)
    partition = partition_of(account, databases.settings.partitions)
    token = {"Consistency-Token": f"{OURS}_{partition}.1"}
    impatient = databases.settings.model_copy(update={"consistency_wait_ms": 50})
    (behind,) = get(impatient, f"/invoices/{account}?month=2023-12", headers=token)
    assert behind.status_code == 503
    assert behind.json()["type"] == "/problems/read-model-behind"
    patient = databases.settings.model_copy(update={"consistency_wait_ms": 30_000})
    with billing_at_work(databases.settings):
        (answer,) = get(patient, f"/invoices/{account}?month=2023-12", headers=token)
    assert answer.status_code == 200


def test_expected_rows_are_those_of_the_region(databases: Databases) -> None:
    happened = busy(9, steps=60).happened
    write_history(databases, happened)
    with billing_at_work(databases.settings, Region.NAM):
        eventually(lambda: caught_up(databases, Region.NAM))
    assert (
        verify(databases.settings, SYSTEM.aggregates, [billing(Region.NAM)], say=lambda _: None)
        == []
    )
    with databases.as_read_model_owner() as owner, owner.cursor(binary=True) as cursor:
        check_invoices(cursor, happened, Region.NAM)
