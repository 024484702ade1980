"""Migrations go up, down and up again, with data, in company, and after an accident."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest

from codebase.foundation.errors import ConfigurationError
from codebase.operations.migrate import (
    MIGRATION_LOCK,
    MIGRATIONS,
    apply_all,
    migrate,
    roll_back,
)
from codebase.registry import SYSTEM
from codebase.views.buy_orders.settings import BuyOrderSettings
from tests.integration.flow import eventually, place_orders

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import PostgresUnderTest
    from tests.databases import Databases

FOLDERS = {"write_model": "write_model_owner_url", "read_model": "read_model_owner_url"}
SCHEMA = """
    SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name NOT LIKE '%yoyo%' ORDER BY 1, 2
"""
SPENT_GRANTED_AND_LIMIT = """
    SELECT sum(s.spent), sum(s.granted), b.limit_value
    FROM budget AS b JOIN budget_share AS s USING (name)
    GROUP BY b.limit_value
"""
HEADS_AND_SHARES = (
    "SELECT partition, position, recorded_at::text FROM log_head ORDER BY 1",
    "SELECT name, partition, spent, granted FROM budget_share ORDER BY 1, 2",
    "SELECT is_log_closed()",
)
INSERT_EVENT = """
    INSERT INTO event VALUES (0, 1, %s, 'test', 1, 'Tested', NULL, '{}', '{}', now())
"""


def schema_of(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(SCHEMA).fetchall()


@pytest.mark.parametrize("store", FOLDERS)
def test_every_migration_can_be_taken_back(store: str) -> None:
    names = {path.name for path in (MIGRATIONS / store).glob("*.sql")}
    ups = {name for name in names if not name.endswith(".rollback.sql")}
    assert ups
    assert {name.replace(".sql", ".rollback.sql") for name in ups} == names - ups


@pytest.mark.parametrize("store", FOLDERS)
def test_every_migration_goes_up_down_and_up_again(store: str, databases: Databases) -> None:
    url = databases.settings.required(FOLDERS[store])
    newest = schema_of(url)
    count = len(list((MIGRATIONS / store).glob("*.rollback.sql")))
    for steps in range(1, count + 1):
        taken_back = roll_back(store, url, count=steps)
        assert len(taken_back) == steps
        assert sorted(apply_all(store, url)) == sorted(taken_back)
        assert schema_of(url) == newest


def test_the_read_model_goes_down_and_up_with_data(databases: Databases) -> None:
    url = databases.settings.required("read_model_owner_url")
    with databases.as_read_model_owner() as connection:
        connection.execute(
            "INSERT INTO buy_order (id, client, placed_at, currency, currency_amount, btc_rate,"
            " btc_amount, price_source) VALUES (%s, 'a', now(), 'EUR', 1, 1, 1, 'demo')",
            [uuid4()],
        )
    assert roll_back("read_model", url)
    assert apply_all("read_model", url)


def test_what_was_parked_before_parked_streams_were_counted_is_counted(
    databases: Databases,
) -> None:
    url = databases.settings.required("read_model_owner_url")
    names = [one.name for one in (MIGRATIONS / "read_model").glob("*.rollback.sql")]
    roll_back("read_model", url, count=sum(name >= "0011" for name in names))
    with databases.as_read_model_owner() as connection:
        connection.execute(
            "INSERT INTO projection_checkpoint (projector, partition)"
            " VALUES ('a', 0), ('a', 1), ('b', 0)"
        )
        connection.execute(
            "INSERT INTO parked_stream (projector, stream_id, partition, category, reason)"
            " VALUES ('a', gen_random_uuid(), 1, 'agent', ''),"
            " ('a', gen_random_uuid(), 1, 'agent', ''), ('a', gen_random_uuid(), 1, 'account', '')"
        )
    apply_all("read_model", url)
    with databases.as_read_model_owner() as connection:
        counted = connection.execute(
            "SELECT projector, partition, parked_streams, parked_by_category"
            " FROM projection_checkpoint ORDER BY 1, 2"
        ).fetchall()
    assert counted == [("a", 0, 0, {}), ("a", 1, 3, {"agent": 2, "account": 1}), ("b", 0, 0, {})]


def test_a_log_with_events_in_it_is_not_taken_away(databases: Databases) -> None:
    url = databases.settings.required("write_model_owner_url")
    with databases.as_owner() as connection:
        connection.execute(INSERT_EVENT, [uuid4()])
    with pytest.raises(psycopg.Error, match="the event log is not empty"):
        roll_back("write_model", url)
    with databases.as_owner() as connection:
        assert connection.execute("SELECT count(*) FROM event").fetchone() == (1,)


def back_to_heads_that_are_written(databases: Databases) -> str:
    """Take back what came when heads were no longer written; returns the owner's address."""
    url = databases.settings.required("write_model_owner_url")
    names = [one.name for one in (MIGRATIONS / "write_model").glob("*.rollback.sql")]
    roll_back("write_model", url, count=sum(name >= "0013" for name in names))
    return url


@pytest.mark.parametrize("closed", [False, True])
def test_a_log_goes_back_to_heads_that_are_written_and_comes_again(
    databases: Databases, *, closed: bool
) -> None:
    place_orders(databases, 3)
    with databases.as_owner() as owner:
        owner.execute("SELECT close_log()" if closed else "SELECT open_log()")
        before = [owner.execute(each).fetchall() for each in HEADS_AND_SHARES]
        url = back_to_heads_that_are_written(databases)
        assert [owner.execute(each).fetchall() for each in HEADS_AND_SHARES] == before
        if closed:
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                place_orders(databases, 1)
        else:
            # By the functions of then, which move the head.
            place_orders(databases, 2)
            before = [owner.execute(each).fetchall() for each in HEADS_AND_SHARES]
        assert apply_all("write_model", url)
        assert [owner.execute(each).fetchall() for each in HEADS_AND_SHARES] == before
        owner.execute("SELECT open_log()")
        place_orders(databases, 2)
        last = "SELECT max(position) FROM event GROUP BY partition ORDER BY 1"
        heads = "SELECT position FROM log_head WHERE position > 0 ORDER BY 1"
        assert owner.execute(heads).fetchall() == owner.execute(last).fetchall()


def test_a_head_that_says_something_else_than_the_log_is_not_forgotten(
    databases: Databases,
) -> None:
    place_orders(databases, 3)
    url = back_to_heads_that_are_written(databases)
    with databases.as_owner() as owner:
        owner.execute("UPDATE log_head SET position = position + 1 WHERE partition = 0")
    with pytest.raises(
        psycopg.Error, match=r"partition 0 of the log ends at \d, and its head says"
    ):
        apply_all("write_model", url)
    with databases.as_owner() as owner:
        owner.execute("UPDATE log_head SET position = position - 1 WHERE partition = 0")
    assert apply_all("write_model", url)


def test_a_dump_of_before_is_restored_where_todays_schema_was(
    postgres_server: PostgresUnderTest, databases: Databases, tmp_path: Path
) -> None:
    """As the operations guide says. A dump takes away what it knows, as what it was then."""
    place_orders(databases, 3)
    url, file = back_to_heads_that_are_written(databases), tmp_path / "dump"
    dump, restore = (postgres_server.program(name) for name in ("pg_dump", "pg_restore"))
    subprocess.run([dump, "--format=custom", f"--file={file}", url], check=True)
    with databases.as_owner() as owner:
        before = [owner.execute(each).fetchall() for each in HEADS_AND_SHARES]
        apply_all("write_model", url)
        owner.execute("DROP OWNED BY CURRENT_USER")
    options = ["--clean", "--if-exists", "--single-transaction", "--dbname", url]
    subprocess.run([restore, *options, file], check=True)
    migrate(databases.settings, SYSTEM.contexts)
    place_orders(databases, 2)
    with databases.as_owner() as owner:
        (heads, shares, _) = [owner.execute(each).fetchall() for each in HEADS_AND_SHARES]
    assert sum(row[1] for row in heads) == sum(row[1] for row in before[0]) + 2
    assert sum(row[2] for row in shares) > sum(row[2] for row in before[1])


def test_two_migrations_at_once_take_turns(
    postgres_server: PostgresUnderTest, databases: Databases
) -> None:
    missing = [
        each
        for store, field in FOLDERS.items()
        for each in roll_back(store, databases.settings.required(field))
    ]
    with ThreadPoolExecutor(2) as pool:
        applied = list(pool.map(migrate, [databases.settings] * 2, [SYSTEM.contexts] * 2))
    # Each store has a lock of its own, so that each of the two may have been first at one.
    assert sorted(chain(*applied)) == sorted(missing)
    assert postgres_server.port


def test_a_migration_that_was_killed_half_way_is_run_again(databases: Databases) -> None:
    """The row that yoyo locks with outlives a kill -9, and would stop every later run."""
    url = databases.settings.required("read_model_owner_url")
    newest = schema_of(url)
    roll_back("read_model", url)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_HALF_WAY],
        env={"URL": url},
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -9, killed.stderr.decode()
    assert apply_all("read_model", url)
    assert schema_of(url) == newest


KILLED_HALF_WAY = """
import os, signal
from codebase.operations import migrate
backend = migrate._backend(os.environ["URL"])
execute = type(backend).apply_one
def apply_then_die(self, *arguments, **options):
    execute(self, *arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
type(backend).apply_one = apply_then_die
migrate.apply_all("read_model", os.environ["URL"])
"""


def test_another_number_of_partitions_is_refused_by_name(databases: Databases) -> None:
    other = databases.settings.model_copy(update={"partitions": databases.settings.partitions + 1})
    with pytest.raises(ConfigurationError, match="PARTITIONS"):
        migrate(other, SYSTEM.contexts)


def test_a_limit_below_what_is_spent_leaves_nothing_to_spend(databases: Databases) -> None:
    with databases.as_owner() as connection:
        connection.execute("SELECT move_budget(name, 0::smallint, 100) FROM budget")
        connection.execute("UPDATE budget_share SET spent = 60 WHERE partition = 0")
    smaller = BuyOrderSettings(**databases.settings.model_dump(), order_book_limit_btc=Decimal(50))
    migrate(smaller, SYSTEM.contexts)
    with databases.as_owner() as connection:
        row = connection.execute(SPENT_GRANTED_AND_LIMIT).fetchone()
    assert row == (60, 60, 60)


def test_only_the_owner_changes_the_schema_and_nobody_changes_history(
    new_databases: Callable[[], Databases],
) -> None:
    made = new_databases()
    with made.as_owner() as owner:
        owner.execute(INSERT_EVENT, [uuid4()])
    attempts = {
        "write_model_owner_url": [
            "UPDATE event SET data = '{}'",
            "DELETE FROM event",
            "TRUNCATE event",
        ],
        "write_model_url": [
            "INSERT INTO event SELECT * FROM event",
            "UPDATE log_partition SET closed = true",
            "SELECT close_log()",
            "DELETE FROM claim",
            "UPDATE budget_share SET spent = 0",
            "SELECT set_budget_limit('order_book_btc', 1000)",
            "UPDATE relay_checkpoint SET position = 0",
            "CREATE TABLE mine ()",
            "ALTER TABLE event DISABLE TRIGGER ALL",
        ],
        "write_model_relay_url": [
            "DELETE FROM event",
            "SELECT append('{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}')",
            "SELECT * FROM claim",
        ],
        "write_model_reader_url": ["DELETE FROM event", "UPDATE relay_checkpoint SET position = 0"],
        "write_model_head_url": [
            "SELECT FROM event",
            "SELECT FROM claim",
            "SELECT FROM budget",
            "SELECT FROM relay_checkpoint",
            "UPDATE log_identity SET id = '0123456789ab'",
            "SELECT FROM log_partition",
        ],
        "read_model_url": [
            "DELETE FROM buy_order",
            "UPDATE projection_checkpoint SET position = 0",
        ],
        "read_model_projector_url": ["DROP TABLE buy_order", "CREATE TABLE mine ()"],
    }
    for field, statements in attempts.items():
        with psycopg.connect(made.settings.required(field), autocommit=True) as connection:
            for statement in statements:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)


def test_a_migration_that_waits_for_another_holds_no_snapshot(databases: Databases) -> None:
    waiting = """
        SELECT backend_xmin IS NULL FROM pg_stat_activity
        WHERE application_name = 'migration' AND state = 'idle' AND query LIKE '%advisory_lock%'
    """
    with databases.as_owner() as first, ThreadPoolExecutor(1) as at_work:
        first.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
        second = at_work.submit(migrate, databases.settings, SYSTEM.contexts)
        eventually(lambda: first.execute(waiting).fetchone() == (True,))
        assert not second.done()
        first.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
        assert second.result() == []
