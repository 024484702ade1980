"""Accounts and agents as they are listed: what the log says, page by page, found by an index."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from psycopg import Connection, sql

from codebase.engine.projections.projection import Projector
from codebase.engine.projections.projector import projector_team
from codebase.operations.rebuild import rebuild
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from codebase.services.fetch_accounts import service as fetch_accounts
from codebase.services.fetch_agents import service as fetch_agents
from codebase.views.accounts import accounts as of_accounts
from codebase.views.accounts import agents as of_agents
from codebase.views.accounts.accounts import ACCOUNTS
from codebase.views.accounts.agents import AGENTS
from codebase.web.consistent_reads import ConsistentReads
from codebase.web.shell import assemble
from tests.integration.flow import at_work, eventually, is_projected
from tests.integration.histories import World, busy, logged, worlds, write_history

if TYPE_CHECKING:
    from tests.databases import Databases

VIEWS = Projector(name="read_model_sync", projections=(ACCOUNTS, AGENTS))
ALICE, BOB = "alice", "bob"

# Names that repeat, so that the id decides, and names whose order depends on who compares.
FILL_ACCOUNTS = """
    INSERT INTO account (id, client, name, email, region, vip, closed_at)
    SELECT gen_random_uuid(), CASE WHEN number %% 3 = 0 THEN 'bob' ELSE 'alice' END,
           (ARRAY['Zoe', 'zoe', 'Éva', 'a b', 'ab', 'A'])[number %% 6 + 1] || number / 40,
           number || '@x.example', 'emea', false,
           CASE WHEN number %% 10 = 0 THEN now() END
    FROM generate_series(1, %s) AS number
"""
FILL_AGENTS = """
    INSERT INTO agent (id, account_id, client, name, email, blocked, removed_at)
    SELECT gen_random_uuid(), %s, 'alice', 'agent ' || number / 7, number || '@Agents.example',
           number %% 2 = 0, CASE WHEN number %% 10 = 0 THEN now() END
    FROM generate_series(1, %s) AS number
"""
INSERT_ACCOUNT = """
    INSERT INTO account (id, client, name, email, region, vip)
    VALUES (%s, 'alice', %s, 'new@x.example', 'nam', true)
"""


@pytest.fixture(scope="module")
def store(new_databases: Callable[[], Databases]) -> Iterator[Connection[Any]]:
    """A read model whose every use is rolled back."""
    made = new_databases()
    with psycopg.connect(made.settings.required("read_model_projector_url")) as connection:
        yield connection


@given(world=worlds(), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4))
@examples(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_rows_are_what_became_of_accounts_and_agents(
    store: Connection[Any], world: World, sizes: list[int]
) -> None:
    rest, turn = logged(world.happened), 0
    try:
        with store.cursor(binary=True) as cursor:
            while rest:
                size, turn = sizes[turn % len(sizes)], turn + 1
                VIEWS.apply(cursor, rest[:size])
                rest = rest[size:]
            accounts = cursor.execute("SELECT id, closed_at IS NOT NULL FROM account").fetchall()
            agents = cursor.execute(
                "SELECT id, blocked, removed_at IS NOT NULL FROM agent"
            ).fetchall()
    finally:
        store.rollback()
    assert set(accounts) == {(each, one.is_closed) for each, one in world.accounts.items()}
    assert set(agents) == {
        (each, one.is_blocked, one.is_removed) for each, one in world.agents.items()
    }


def test_verify_and_rebuild_agree_with_what_was_projected(databases: Databases) -> None:
    happened = busy(5, agents=40, steps=600).happened
    write_history(databases, happened[:400])
    with at_work(projector_team(databases.settings, SYSTEM.read_model)):
        eventually(lambda: is_projected(databases, SYSTEM.read_model.name))
        for view in ("accounts", "agents"):
            report = rebuild(databases.settings, SYSTEM.read_model, view, say=lambda _: None)
            assert report.differing_rows == 0
        write_history(databases, happened[400:])
        eventually(lambda: is_projected(databases, SYSTEM.read_model.name))
    assert (
        verify(databases.settings, SYSTEM.aggregates, [SYSTEM.read_model], say=lambda _: None) == []
    )
    with databases.as_read_model_owner() as owner:
        owner.execute(
            "UPDATE agent SET blocked = NOT blocked WHERE id = (SELECT id FROM agent LIMIT 1)"
        )
    assert (
        len(verify(databases.settings, SYSTEM.aggregates, [SYSTEM.read_model], say=lambda _: None))
        == 1
    )


class Listed:
    """Both query services over a store that the test fills, as one client or as everybody."""

    def __init__(self, databases: Databases) -> None:
        self.databases = databases
        with databases.as_read_model_owner() as owner:
            owner.execute("INSERT INTO projection_checkpoint VALUES ('read_model_sync', 0, 7)")

    def ask(self, *requests: tuple[str, str]) -> list[httpx.Response]:
        """The answers to (method, path), one after the other, as an administrator."""
        return asyncio.run(self._ask(requests))

    async def _ask(self, requests: tuple[tuple[str, str], ...]) -> list[httpx.Response]:
        settings = self.databases.settings
        async with ConsistentReads.open(settings, "read_model_sync") as reads:
            apps = [fetch_accounts.create_app(reads), fetch_agents.create_app(reads)]
            transport = httpx.ASGITransport(assemble(apps, settings))
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                return [await client.request(*request) for request in requests]


@pytest.fixture
def listed(databases: Databases) -> Listed:
    return Listed(databases)


def all_pages(listed: Listed, path: str, size: int, between: Callable[[], None]) -> list[Any]:
    """The items of every page, with something done between one page and the next."""
    items: list[Any] = []
    reference = ""
    while True:
        [answer] = listed.ask(("GET", f"{path}?size={size}{reference}"))
        page = answer.raise_for_status().json()
        assert page["size"] == size
        items += page["items"]
        if not page["items"]:
            assert page["last_reference"] is None
            return items
        assert page["last_reference"] == page["items"][-1]["id"]
        reference = f"&last_reference={page['last_reference']}"
        between()


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_pages_are_the_list_while_others_come_and_go(listed: Listed, size: int) -> None:
    with listed.databases.as_read_model_owner() as owner:
        owner.execute(FILL_ACCOUNTS, [60])
        open_ones = owner.execute(
            "SELECT id, name FROM account WHERE closed_at IS NULL ORDER BY name, id"
        ).fetchall()
        vanishing = [each for each, _ in open_ones[3::9]]

        def between() -> None:
            owner.execute(INSERT_ACCOUNT, [uuid4(), f"m{uuid4()}"])
            if vanishing:
                # Perhaps the very one that the next page begins behind.
                owner.execute(
                    "UPDATE account SET closed_at = now() WHERE id = %s", [vanishing.pop(0)]
                )

        shown = [
            (UUID(one["id"]), one["name"]) for one in all_pages(listed, "/accounts", size, between)
        ]
    assert shown == sorted(shown, key=lambda one: (one[1].encode(), one[0]))
    assert len(shown) == len(set(shown))
    stayed = set(open_ones) - {
        one for one in open_ones if one[0] in {e for e, _ in open_ones[3::9]}
    }
    assert stayed <= set(shown)


def test_the_agents_of_an_account_are_a_list_of_their_own(listed: Listed) -> None:
    account_id, other = uuid4(), uuid4()
    with listed.databases.as_read_model_owner() as owner:
        for each in (account_id, other):
            owner.execute(INSERT_ACCOUNT, [each, "Blue"])
            owner.execute(FILL_AGENTS, [each, 50])
        owner.execute("UPDATE agent SET email = 'x/' || email WHERE account_id = %s", [other])
        there = owner.execute(
            "SELECT id FROM agent WHERE account_id = %s AND removed_at IS NULL ORDER BY name, id",
            [account_id],
        ).fetchall()
    shown = all_pages(listed, f"/accounts/{account_id}/agents", 7, lambda: None)
    assert [UUID(one["id"]) for one in shown] == [row[0] for row in there]
    assert len(all_pages(listed, "/agents", 13, lambda: None)) == 2 * len(there)
    one = shown[0]
    path = f"/accounts/{account_id}/agents/{one['id']}"
    report, found, elsewhere, by_email, with_a_slash, gone = listed.ask(
        ("POST", f"/accounts/generate_company_report/{account_id}"),
        ("GET", path),
        ("GET", path.replace(str(account_id), str(other))),
        ("POST", f"/agents/find_agent/{one['email'].upper()}"),
        ("POST", f"/agents/find_agent/x%2F{one['email']}"),
        ("POST", "/agents/find_agent/10@agents.example"),
    )
    assert report.json()["agents"] == shown
    assert report.json()["name"] == "Blue"
    assert found.json() == by_email.json() == one
    assert with_a_slash.json()["account_id"] == str(other)
    assert (elsewhere.status_code, gone.status_code) == (404, 404)
    assert elsewhere.json()["detail"] == f"Agent {one['id']} not found"


def test_what_is_not_there_is_said_as_the_contract_has_it(listed: Listed) -> None:
    nobody = uuid4()
    account, agents, report, reference, malformed = listed.ask(
        ("GET", f"/accounts/{nobody}"),
        ("GET", f"/accounts/{nobody}/agents"),
        ("POST", f"/accounts/generate_company_report/{nobody}"),
        ("GET", f"/agents?last_reference={nobody}"),
        ("GET", "/accounts?last_reference=x&size=1001"),
    )
    for answer in (account, agents, report):
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"Account {nobody} not found"
    assert reference.status_code == 404
    assert malformed.status_code == 422
    assert set(malformed.json()["errors"]) == {"last_reference", "size"}


def test_a_report_without_agents_has_an_empty_list(listed: Listed) -> None:
    account_id = uuid4()
    with listed.databases.as_read_model_owner() as owner:
        owner.execute(INSERT_ACCOUNT, [account_id, "Blue"])
    report, agents = listed.ask(
        ("POST", f"/accounts/generate_company_report/{account_id}"),
        ("GET", f"/accounts/{account_id}/agents"),
    )
    assert report.json()["agents"] == []
    assert agents.json() == {"items": [], "last_reference": None, "size": 500}


def plan(
    connection: Connection[Any], query: str, arguments: dict[str, Any]
) -> list[dict[str, Any]]:
    """Every node of the plan that was carried out."""
    explained = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) {}").format(sql.SQL(query))  # type: ignore[arg-type]
    row = connection.execute(explained, arguments).fetchone()
    assert row
    todo, nodes = [row[0][0]["Plan"]], []
    while todo:
        nodes.append(todo.pop())
        todo += nodes[-1].get("Plans", [])
    return nodes


# Where one client has everything, an index without the client looks as good as one with it.
@pytest.mark.parametrize("owners", [{ALICE, BOB}, {ALICE}], ids=["two owners", "one owner"])
@pytest.mark.parametrize("client", [None, ALICE, "nobody"])
@pytest.mark.parametrize("depth", [0, 1, 15_000], ids=["first", "second", "deep"])
def test_every_page_is_found_by_an_index_and_needs_no_sort(
    databases: Databases, owners: set[str], client: str | None, depth: int
) -> None:
    account_id, another = uuid4(), uuid4()
    with databases.as_read_model_owner() as owner:
        owner.execute(FILL_ACCOUNTS, [30_000])
        owner.execute("UPDATE account SET client = 'alice' WHERE client <> ALL (%s)", [[*owners]])
        owner.execute(INSERT_ACCOUNT, [account_id, "Blue"])
        owner.execute(INSERT_ACCOUNT, [another, "Green"])
        owner.execute(FILL_AGENTS, [account_id, 30_000])
        owner.execute("ANALYZE")
        references = {}
        for table in ("account", "agent"):
            nth = sql.SQL("SELECT id FROM {} WHERE client = 'alice' ORDER BY name, id OFFSET %s")
            row = owner.execute(nth.format(sql.Identifier(table)), [depth]).fetchone()
            references[table] = row[0] if row and depth else None
    of_account = {"references": [references["agent"]], "sizes": [10]}
    asked: list[tuple[str, dict[str, Any]]] = [
        (of_accounts.PAGES, {"references": [references["account"]], "sizes": [10]}),
        (of_agents.PAGES, {"references": [references["agent"]], "sizes": [10]}),
        (of_agents.PAGES_OF_ACCOUNT, {"accounts": [account_id], **of_account}),
        # The one account with agents says nothing about those without.
        (of_agents.PAGES_OF_ACCOUNT, {"accounts": [another], **of_account}),
        (of_accounts.REPORT_PAGES, {"ids": [account_id], **of_account}),
        (of_accounts.REPORT_PAGES, {"ids": [another], **of_account}),
        (of_agents.AGENTS_BY_EMAIL, {"emails": ["17@agents.example"]}),
    ]
    url = databases.settings.required("read_model_url")
    with psycopg.connect(url, autocommit=True) as connection:
        for query, arguments in asked:
            nodes = plan(connection, query, {"clients": [client], **arguments})
            assert not [node for node in nodes if node["Node Type"].endswith("Sort")], json.dumps(
                nodes
            )
            read = {
                node["Node Type"]
                for node in nodes
                if node.get("Relation Name") in {"account", "agent"}
            }
            assert read <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}
            touched = sum(
                (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
                for node in nodes
                if node.get("Relation Name") in {"account", "agent"}
            )
            assert touched <= 13


def test_requests_in_one_round_trip_stay_apart(databases: Databases) -> None:
    with databases.as_read_model_owner() as owner:
        owner.execute(FILL_ACCOUNTS, [300])
        mine = owner.execute(
            "SELECT count(*) FROM account WHERE client = 'bob' AND closed_at IS NULL"
        ).fetchone()
    url = databases.settings.required("read_model_url")
    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute(
            of_accounts.PAGES,
            {
                "clients": [BOB, "nobody", None, BOB],
                "references": [None, None, None, uuid4()],
                "sizes": [1000, 10, 5, 10],
            },
        ).fetchall()
    counted = {row[0]: (row[1], len(json.loads(row[2])) if row[2] else 0) for row in rows if row[0]}
    assert mine
    assert counted == {1: (True, mine[0]), 2: (True, 0), 3: (True, 5), 4: (False, 0)}
