"""Pages of any depth cost the same: an index finds the first row, and no sort follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from codebase.views.buy_orders import buy_orders
from codebase.web.group_read import with_checkpoints

if TYPE_CHECKING:
    from tests.databases import Databases

ROWS = 200_000
FILL = """
    INSERT INTO buy_order
    SELECT gen_random_uuid(), 'client ' || number %% %(clients)s,
           now() - number * interval '1 second', 'USD', 1, 1, 1, 'demo'
    FROM generate_series(1, %(rows)s) AS number
"""
DEEP = """
    SELECT id FROM buy_order WHERE client = 'client 0' ORDER BY placed_at, id OFFSET 1000 LIMIT 1
"""


@pytest.fixture
def connection(databases: Databases, request: pytest.FixtureRequest) -> psycopg.Connection:
    """A store with orders of ten clients, or of as many as a test says."""
    with databases.as_read_model_owner() as owner:
        owner.execute(FILL, {"rows": ROWS, "clients": getattr(request, "param", 10)})
        owner.execute("ANALYZE buy_order")
    return psycopg.connect(databases.settings.required("read_model_url"), autocommit=True)


def plan(connection: psycopg.Connection, query: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The plan that was carried out, with how many blocks it touched."""
    row = connection.execute(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", arguments
    ).fetchone()
    assert row
    found: dict[str, Any] = row[0][0]["Plan"]
    return found


def blocks(found: dict[str, Any]) -> int:
    return int(found["Shared Hit Blocks"] + found["Shared Read Blocks"])


def nodes(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's node and all below it."""
    yield found
    for child in found.get("Plans", ()):
        yield from nodes(child)


def is_of_orders(node: dict[str, Any]) -> bool:
    return node.get("Relation Name") == "buy_order"


# Where one client has everything, an index without the client looks as good as one with it.
@pytest.mark.parametrize(
    "connection", [10, 1], indirect=True, ids=["ten clients", "one has everything"]
)
@pytest.mark.parametrize("client", [None, "client 0", "nobody"])
def test_every_page_is_found_by_an_index_and_costs_the_same(
    connection: psycopg.Connection, client: str | None
) -> None:
    deep = connection.execute(DEEP).fetchone()
    assert deep
    costs = []
    with connection:
        for reference in (None, deep[0]):
            arguments = {
                "clients": [client],
                "references": [reference],
                "sizes": [10],
                "projector": "read_model_sync",
            }
            found = plan(connection, with_checkpoints(buy_orders.PAGES), arguments)
            assert not [node for node in nodes(found) if node["Node Type"].endswith("Sort")]
            of_orders = [node for node in nodes(found) if is_of_orders(node)]
            assert {node["Node Type"] for node in of_orders} <= {"Index Scan", "Index Only Scan"}
            assert found["Actual Rows"] == (1 if client == "nobody" else 10)
            costs.append(blocks(found))
    # A few levels of two indexes, and a block for each row.
    assert max(costs) <= 30, f"blocks touched: first page {costs[0]}, deep page {costs[1]}"
    assert costs[1] <= costs[0] + 10, f"blocks touched: first page {costs[0]}, deep page {costs[1]}"


def test_pages_of_several_clients_in_one_round_trip_stay_apart(
    connection: psycopg.Connection,
) -> None:
    arguments: dict[str, list[Any]] = {
        "clients": ["client 1", "client 2", "nobody", "client 1"],
        "references": [None, None, None, UUID(int=0)],
        "sizes": [3, 5, 5, 5],
    }
    with connection:
        rows = connection.execute(buy_orders.PAGES, arguments).fetchall()
        owners = {
            row[0]: {
                found[0]
                for found in connection.execute(
                    "SELECT client FROM buy_order WHERE id = ANY (%s)",
                    [[one[2] for one in rows if one[0] == row[0]]],
                )
            }
            for row in rows
        }
    assert [row[0] for row in rows] == [1] * 3 + [2] * 5 + [3, 4]
    assert {ordinal: names for ordinal, names in owners.items() if names} == {
        1: {"client 1"},
        2: {"client 2"},
    }
    known = {row[0]: row[1] for row in rows}
    assert known == {1: True, 2: True, 3: True, 4: False}
