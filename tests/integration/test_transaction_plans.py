"""What is listed and counted of card transactions is found by indexes, however many there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from codebase.views.payments import alerts, silences, transaction_day, transactions
from codebase.web.group_read import with_checkpoints
from tests.integration.test_pages import blocks, nodes, plan

if TYPE_CHECKING:
    from tests.databases import Databases

ROWS = 100_000
BUSY, QUIET, NOBODY = "client 0", "client 1", "nobody"
"""Who has nearly everything, who has about a row in a thousand, and who has none."""
FILL = """
    INSERT INTO card_transaction (id, client, requested_at, status, status_at, order_id, order_name,
                                  order_cost, order_currency, payment_method, payment_type, amount,
                                  currency, card_brand, card_last_four)
    SELECT gen_random_uuid(), 'client 0',
           '2026-11-28 12:00+00'::timestamptz - number * interval '1 minute',
           CASE WHEN number %% 500 = 1 THEN 'PENDING' ELSE 'PAYMENT_COMPLETE' END, now(), '1',
           'A lamp', 1, 'INR', 'any', 'wallet', 1.10, 'INR', 'visa', '1111'
    FROM generate_series(1, %(rows)s) AS number
"""
# After the statistics were made: by these an index without the client is as good as one with it.
SOME_ARE_QUIET = """
    UPDATE card_transaction SET client = 'client 1'
    WHERE extract(minute FROM requested_at) = 59
      AND extract(hour FROM requested_at)::integer % 16 = 9
"""
FILL_ALERTS = """
    INSERT INTO alert (id, transaction_id, channel, client, raised_at, state, state_at, amount,
                       currency, card_brand, card_last_four, score, rules, refused)
    SELECT gen_random_uuid(), gen_random_uuid(), 'email', 'client 0',
           '2026-11-28 12:00+00'::timestamptz - number * interval '1 minute',
           CASE WHEN number %% 2 = 1 THEN 'dead' ELSE 'sent' END, now(), 1, 'INR', 'visa', '1111',
           '60', '{}', '{}'
    FROM generate_series(1, %(rows)s) AS number
"""
# The latest thousands have lapsed; one holds that was begun before them.
FILL_SILENCES = """
    INSERT INTO alert_silence (id, begun_at, client, ends_at, reason, author)
    SELECT gen_random_uuid(), '2026-11-27 12:00+00'::timestamptz - number * interval '1 minute',
           'client 0',
           '2026-11-28 12:00+00'::timestamptz
           + CASE number WHEN %(rows)s THEN 1 ELSE -1 END * number * interval '1 second',
           'a reason', 'boss'
    FROM generate_series(1, %(rows)s) AS number
"""
NOON = "2026-11-28 12:00+00"
SINCE = "2026-11-27 13:00+00"
DEEP = "SELECT id FROM {} ORDER BY {}, id OFFSET 1000 LIMIT 1"


@pytest.fixture(scope="module")
def connection(new_databases: Callable[[], Databases]) -> Iterator[psycopg.Connection]:
    databases = new_databases()
    with databases.as_read_model_owner() as owner:
        owner.execute(FILL, {"rows": ROWS})
        owner.execute(FILL_ALERTS, {"rows": ROWS})
        owner.execute(FILL_SILENCES, {"rows": ROWS})
        owner.execute("ANALYZE card_transaction, alert, alert_silence")
        owner.execute(SOME_ARE_QUIET)
    with psycopg.connect(
        databases.settings.required("read_model_url"), autocommit=True
    ) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        yield connection


def carried_out(
    connection: psycopg.Connection, query: str, names: Sequence[str], *values: object
) -> dict[str, Any]:
    arguments = {name: [value] for name, value in zip(names, values, strict=True)}
    return plan(connection, with_checkpoints(query), {**arguments, "projector": "read_model_sync"})


def looks_at(found: dict[str, Any], table: str) -> set[str]:
    return {node["Node Type"] for node in nodes(found) if node.get("Relation Name") == table}


@pytest.mark.parametrize("client", [None, BUSY, QUIET, NOBODY])
@pytest.mark.parametrize("status", [None, "PENDING", "PAYMENT_COMPLETE", "ALERTED"])
def test_a_page_of_any_depth_touches_its_rows(
    connection: psycopg.Connection, client: str | None, status: str | None
) -> None:
    deep = connection.execute(DEEP.format("card_transaction", "requested_at")).fetchone()
    assert deep
    for query in (transactions.pages(), transaction_day.newest()):
        for reference in (None, deep[0]):
            names = transactions.PAGE_ARGUMENTS
            found = carried_out(connection, query, names, client, status, reference, 10)
            assert looks_at(found, "card_transaction") <= {"Index Scan", "Index Only Scan"}
            assert blocks(found) <= 80


@pytest.mark.parametrize("state", [None, "dead", "silenced"])
def test_a_page_of_alerts_touches_its_rows(
    connection: psycopg.Connection, state: str | None
) -> None:
    deep = connection.execute(DEEP.format("alert", "raised_at")).fetchone()
    assert deep
    for reference in (None, deep[0]):
        found = carried_out(connection, alerts.pages(), alerts.PAGE_ARGUMENTS, state, reference, 10)
        assert looks_at(found, "alert") <= {"Index Scan", "Index Only Scan"}
        assert blocks(found) <= 40


@pytest.mark.parametrize("client", [None, BUSY, QUIET, NOBODY])
def test_the_last_hours_are_counted_without_a_look_at_those_before(
    connection: psycopg.Connection, client: str | None
) -> None:
    """A day has 1,380 of the 100,000 rows."""
    names = transaction_day.DAY_ARGUMENTS
    found = carried_out(connection, transaction_day.DAY, names, client, SINCE, 5000)
    assert looks_at(found, "card_transaction") <= {"Index Scan", "Index Only Scan"}
    assert blocks(found) <= (120 if client in {None, BUSY} else 10)


def test_no_more_than_so_many_are_counted_and_these_are_the_newest(
    connection: psycopg.Connection,
) -> None:
    for client in (None, BUSY):
        rows = connection.execute(
            transaction_day.DAY, {"clients": [client], "sinces": [SINCE], "most": [50]}
        ).fetchall()
        assert sum(row[4] for row in rows) == 50
        assert {row[1].hour for row in rows} == {11}
    found = carried_out(
        connection, transaction_day.DAY, transaction_day.DAY_ARGUMENTS, None, SINCE, 50
    )
    assert blocks(found) <= 20


@pytest.mark.parametrize("client", [None, BUSY, QUIET, NOBODY])
def test_what_is_on_its_way_is_counted_by_the_oldest_of_each_state(
    connection: psycopg.Connection, client: str | None
) -> None:
    names = transaction_day.OPEN_ARGUMENTS
    found = carried_out(connection, transaction_day.OPEN, names, client, 20)
    assert looks_at(found, "card_transaction") <= {"Index Scan", "Index Only Scan"}
    assert blocks(found) <= 80


def test_a_silence_that_holds_is_found_without_those_that_are_over(
    connection: psycopg.Connection,
) -> None:
    names = silences.HOLDING_ARGUMENTS
    found = carried_out(connection, silences.holding(), names, NOON, 100)
    assert looks_at(found, "alert_silence") == {"Index Scan"}
    assert blocks(found) <= 20
    [held] = connection.execute(silences.holding(), {"moments": [NOON], "sizes": [100]}).fetchall()
    assert len(json.loads(held[1])) == 1
