"""Pages of decisions and listings read about what they show, whatever lies between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import Connection

from codebase.views.payments import fraud_queries
from tests.integration.test_pages import blocks, nodes, plan

if TYPE_CHECKING:
    from tests.databases import Databases

# One of a thousand is denied, of ten clients.
FILL_DECISIONS = """
    INSERT INTO fraud_decision
    SELECT md5(number::text)::uuid, 1, md5('t' || number)::uuid, 'client ' || number % 10,
           '2026-11-28 12:00+00'::timestamptz - number * interval '1 second', number % 1001 = 0,
           'rules', 0, 'hash', '{}', '{}', '{}', '{}', 0, number
    FROM generate_series(1, 30000) AS number
"""
# The latest thousands are over; what holds was listed before them.
FILL_LISTINGS = """
    INSERT INTO fraud_listing
    SELECT md5(number::text)::uuid, 1, 'block', 'client', 'client ' || number,
           '2026-11-28 12:00+00'::timestamptz
           + CASE WHEN number % 1000 = 0 THEN number * interval '1 day' ELSE - interval '1 day' END,
           'a reason', '2026-11-20 12:00+00'::timestamptz - number * interval '1 second', number, 0
    FROM generate_series(1, 30000) AS number
"""
FILL_LABELS = """
    INSERT INTO fraud_label
    SELECT md5('l' || number)::uuid, md5('t' || number)::uuid, 'confirmed', 'a reason',
           '2026-11-28 12:00+00'::timestamptz - number * interval '1 second'
    FROM generate_series(1, 30000) AS number
"""
NOON = "2026-11-28 12:00+00"
DEEP = """
    SELECT md5(id::text || ' ' || version::text)::uuid FROM fraud_decision
    WHERE denied AND client = 'client 5' ORDER BY as_of DESC OFFSET 1 LIMIT 1
"""


@pytest.fixture(scope="module")
def store(new_databases: Callable[[], Databases]) -> Iterator[Connection[Any]]:
    made = new_databases()
    with made.as_read_model_owner() as owner:
        owner.execute(FILL_DECISIONS)
        owner.execute(FILL_LISTINGS)
        owner.execute(FILL_LABELS)
        owner.execute("VACUUM (ANALYZE) fraud_decision, fraud_listing, fraud_label")
    with psycopg.connect(made.settings.required("read_model_url"), autocommit=True) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        yield connection


def scans_of(found: dict[str, Any], table: str) -> set[str]:
    return {node["Node Type"] for node in nodes(found) if node.get("Relation Name") == table}


@pytest.mark.parametrize("client", [None, "client 5", "nobody"])
@pytest.mark.parametrize("denied", [None, True, False])
@pytest.mark.parametrize("is_deep", [False, True])
def test_a_page_of_decisions_reads_no_others(
    *, store: Connection[Any], client: str | None, denied: bool | None, is_deep: bool
) -> None:
    reference = store.execute(DEEP).fetchone() if is_deep else (None,)
    assert reference is not None
    arguments = {
        "clients": [client],
        "references": [reference[0]],
        "sizes": [2],
        "denied": [denied],
    }
    found = plan(store, fraud_queries.DECISIONS, arguments)
    assert scans_of(found, "fraud_decision") <= {"Index Scan", "Index Only Scan"}
    if client != "nobody":
        assert found["Actual Rows"] == (1 if is_deep and client and denied else 2)
    # A few levels of some indexes, and a block for each row.
    assert blocks(found) <= 50


@pytest.mark.parametrize("nth", [None, 20_000])
def test_a_page_of_listings_reads_none_that_are_over(
    store: Connection[Any], nth: int | None
) -> None:
    known = store.execute("SELECT md5(%s)::uuid", [str(nth)]).fetchone()
    assert known is not None
    arguments = {
        "references": [known[0] if nth else None],
        "sizes": [10],
        "moments": [NOON],
    }
    found = plan(store, fraud_queries.LISTINGS, arguments)
    assert scans_of(found, "fraud_listing") == {"Index Scan"}
    assert found["Actual Rows"] == 10
    assert blocks(found) <= 50


@pytest.mark.parametrize("query", ["RULES", "TOTALS"])
def test_rules_are_measured_without_reading_every_label(store: Connection[Any], query: str) -> None:
    found = plan(store, getattr(fraud_queries, query), {"latest": [10], "labels": [10]})
    for table in ("fraud_label", "fraud_decision"):
        assert scans_of(found, table) <= {"Index Scan", "Index Only Scan"}
    # Of each a few levels of an index and a block, and of a labelled one its transaction.
    assert blocks(found) <= 200
