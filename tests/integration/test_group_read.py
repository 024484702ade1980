"""Plans of group reads: kept while they are good, and forgotten before they do harm."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from codebase.foundation.errors import ServiceUnavailable
from codebase.views.accounts import accounts as of_accounts
from codebase.views.accounts import agents as of_agents
from codebase.views.accounts.pages_by_name import PAGE_ARGUMENTS
from codebase.views.buy_orders import buy_orders as of_orders
from codebase.web import group_read
from codebase.web.group_read import GroupRead, ReadModel
from tests.collector import left_by_each
from tests.integration.flow import waits_for_a_lock

if TYPE_CHECKING:
    from psycopg import Connection

    from tests.databases import Databases

ROWS = 20_000
ONE = UUID(int=1)

# Autovacuum would have plans made anew, a minute later.
WITHOUT_AUTOVACUUM = (
    "ALTER TABLE buy_order SET (autovacuum_enabled = off)",
    "ALTER TABLE account SET (autovacuum_enabled = off)",
    "ALTER TABLE agent SET (autovacuum_enabled = off)",
)
FILL = (
    """
    INSERT INTO buy_order
    SELECT gen_random_uuid(), 'local', now(), 'USD', 1, 1, 1, 'demo'
    FROM generate_series(1, %(rows)s)
    """,
    """
    INSERT INTO account (id, client, name, email, region, vip)
    SELECT gen_random_uuid(), 'local', 'account ' || number, number || '@x.example', 'emea', false
    FROM generate_series(1, %(rows)s) AS number
    """,
    """
    INSERT INTO agent (id, account_id, client, name, email, blocked)
    SELECT gen_random_uuid(), gen_random_uuid(), 'local', 'agent ' || number,
           number || '@x.example', false
    FROM generate_series(1, %(rows)s) AS number
    """,
)
TUPLES_READ = """
    SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables
    WHERE relname IN ('buy_order', 'account', 'agent')
"""
# Ours as soon as this statement is over, and not when the server has a moment.
TELL_STATISTICS = """
    SELECT asked.ordinal, pg_stat_force_next_flush()::text
    FROM unnest(%(times)b::integer[]) WITH ORDINALITY AS asked (times, ordinal)
"""

ASKED: dict[str, tuple[str, tuple[str, ...], list[Any]]] = {
    "orders": (of_orders.PAGES, of_orders.PAGE_ARGUMENTS, [None, None, 10]),
    "an order": (of_orders.ORDERS_BY_ID, of_orders.ORDER_ARGUMENTS, [None, ONE]),
    "accounts": (of_accounts.PAGES, PAGE_ARGUMENTS, ["local", None, 10]),
    "an account": (of_accounts.ACCOUNTS_BY_ID, of_accounts.ACCOUNT_ARGUMENTS, [None, ONE]),
    "a report": (of_accounts.REPORT_PAGES, of_accounts.REPORT_ARGUMENTS, [None, ONE, None, 10]),
    "agents": (of_agents.PAGES, PAGE_ARGUMENTS, [None, None, 10]),
    "an agent": (of_agents.AGENTS_BY_ID, of_agents.AGENT_ARGUMENTS, [None, ONE, ONE]),
    "an account's agents": (
        of_agents.PAGES_OF_ACCOUNT,
        of_agents.PAGE_OF_ACCOUNT_ARGUMENTS,
        [None, ONE, None, 10],
    ),
    "an agent by e-mail": (of_agents.AGENTS_BY_EMAIL, of_agents.EMAIL_ARGUMENTS, [None, "1@y"]),
}


def tuples_read(owner: Connection[Any]) -> int:
    row = owner.execute(TUPLES_READ).fetchone()
    assert row
    return int(row[0])


def test_a_plan_from_when_the_store_was_empty_is_not_used_for_long(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_read, "KEEP_PLANS_SECONDS", 0.0)
    settings = databases.settings.model_copy(update={"read_connections": 1})
    read: dict[str, int] = {}

    async def scenario() -> None:
        async with ReadModel.open(settings) as read_model:
            tell = GroupRead(read_model, TELL_STATISTICS, ["times"], "read_model_sync")
            queries = {
                what: GroupRead(read_model, query, arguments, "read_model_sync")
                for what, (query, arguments, _) in ASKED.items()
            }
            with databases.as_read_model_owner() as owner:
                for statement in WITHOUT_AUTOVACUUM:
                    owner.execute(statement)
                for what, query in queries.items():
                    await query.fetch(*ASKED[what][2])
                for statement in FILL:
                    owner.execute(statement, {"rows": ROWS})
                owner.execute("SELECT pg_stat_force_next_flush()")
                await tell.fetch(1)
                before = tuples_read(owner)
                for what, query in queries.items():
                    await query.fetch(*ASKED[what][2])
                    await tell.fetch(1)
                    read[what] = tuples_read(owner) - before - sum(read.values())

    asyncio.run(scenario())
    assert {what: tuples for what, tuples in read.items() if tuples > 20} == {}


def test_whoever_has_all_connections_busy_is_ready_all_the_same(databases: Databases) -> None:
    settings = databases.settings.model_copy(update={"read_connections": 2})

    async def scenario() -> None:
        async with ReadModel.open(settings) as read_model:
            queries = [GroupRead(read_model, *ASKED["orders"][:2], "nobody") for _ in range(2)]
            with databases.as_read_model_owner() as owner, owner.transaction():
                owner.execute("LOCK TABLE buy_order")
                asked = [asyncio.create_task(query.fetch(None, None, 1)) for query in queries]
                while not waits_for_a_lock(databases.server, "query_service"):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                assert read_model.busy_connections == 2
                assert await read_model.ready() is None
                assert not any(each.done() for each in asked)
            await asyncio.gather(*asked)

    asyncio.run(scenario())


FULL_DISK = """
    CREATE FUNCTION full_disk() RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$
"""
ASK_FULL_DISK = """
    SELECT asked.ordinal, full_disk()
    FROM unnest(%(times)b::integer[]) WITH ORDINALITY AS asked (times, ordinal)
"""


def test_a_store_that_refuses_leaves_no_requests_behind_for_the_collector(
    databases: Databases,
) -> None:
    with databases.as_read_model_owner() as owner:
        owner.execute(FULL_DISK)

    async def scenario() -> None:
        async with ReadModel.open(databases.settings) as read_model:
            query = GroupRead(read_model, ASK_FULL_DISK, ["times"], "read_model_sync")

            async def ask() -> None:
                with pytest.raises(ServiceUnavailable, match=r"refuses .DiskFull 53100"):
                    await query.fetch(1)

            await ask()
            assert await left_by_each(ask) < 1

    asyncio.run(scenario())


def test_requests_do_not_wait_for_a_plan_each(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan is made once, for whatever is asked by whomever, and then kept."""
    monkeypatch.setattr(group_read, "KEEP_PLANS_SECONDS", 3600.0)
    counted = """
        SELECT asked.ordinal, generic_plans, custom_plans
        FROM unnest(%(times)b::integer[]) WITH ORDINALITY AS asked (times, ordinal)
        CROSS JOIN (
            SELECT sum(generic_plans) AS generic_plans, sum(custom_plans) AS custom_plans
            FROM pg_prepared_statements WHERE statement NOT LIKE '%%pg_prepared_statements%%'
        ) AS kept
    """
    settings = databases.settings.model_copy(update={"read_connections": 1})

    async def scenario() -> None:
        async with ReadModel.open(settings) as read_model:
            pages = GroupRead(read_model, *ASKED["orders"][:2], "read_model_sync")
            plans = GroupRead(read_model, counted, ["times"], "read_model_sync")
            for turn in range(20):
                asked = [pages.fetch("local", uuid4(), 10) for _ in range(1 + turn % 3)]
                await asyncio.gather(*asked)
            assert (await plans.fetch(1)).rows == [(20, 0)]

    asyncio.run(scenario())
