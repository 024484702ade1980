"""A rebuild beside the tables that serve: the same rows, nobody disturbed, nothing half-done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import Cursor

from codebase.engine.projections.logged_events import LoggedEvent
from codebase.foundation.settings import Settings
from codebase.operations import parked
from codebase.operations.rebuild import RebuildError, Report, rebuild
from codebase.operations.terminal import Advance
from codebase.registry import SYSTEM
from codebase.views.buy_orders.buy_orders import BUY_ORDERS
from tests.integration.flow import (
    ROOT,
    eventually,
    is_projected,
    order_event,
    order_ids,
    place_orders,
    projecting,
    query,
    sample_event,
    write,
)

if TYPE_CHECKING:
    from tests.databases import Databases

SHAPE = """
    SELECT indexname, replace(indexdef, 'public.', ''), relacl::text
    FROM pg_indexes JOIN pg_class ON relname = tablename
    WHERE tablename = 'buy_order' AND schemaname = 'public'
      AND relnamespace = 'public'::regnamespace
    ORDER BY indexname
"""
CHECKS = """
    SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = 'public.buy_order'::regclass ORDER BY conname
"""
STATES_IN_THE_LOG = """
    SELECT state FROM pg_stat_activity WHERE application_name = 'rebuild' AND datname = %s
"""
SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'rebuild%'"


def again(settings: Settings) -> tuple[Report, list[str]]:
    said: list[str] = []
    return rebuild(settings, SYSTEM.read_model, "buy_orders", say=said.append), said


def project(databases: Databases, count: int) -> None:
    place_orders(databases, count)
    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))


def rows(databases: Databases) -> list[Any]:
    return query(databases.as_read_model_owner(), "SELECT * FROM buy_order ORDER BY id")


def test_a_rebuild_ends_with_the_same_rows_indexes_checks_and_privileges(
    databases: Databases,
) -> None:
    # A log of which the view is a part.
    write(databases, [sample_event(databases.settings, uuid4(), 1, "one")])
    project(databases, 200)
    owner = databases.as_read_model_owner
    before = rows(databases), query(owner(), SHAPE), query(owner(), CHECKS)
    report, said = again(databases.settings)
    assert (report.events, report.differing_rows) == (200, 0)
    assert any(sentence.startswith("no difference at") for sentence in said)
    assert (rows(databases), query(owner(), SHAPE), query(owner(), CHECKS)) == before
    assert query(owner(), SCHEMAS) == []
    # The roles of the services can go on, in the table that is now another one.
    with psycopg.connect(databases.settings.required("read_model_url")) as reader:
        assert reader.execute("SELECT count(*) FROM buy_order").fetchone() == (200,)
    project(databases, 10)
    assert len(rows(databases)) == 210


def test_a_rebuild_repairs_and_reports_what_was_wrong(databases: Databases) -> None:
    project(databases, 30)
    right = rows(databases)
    with databases.as_read_model_owner() as owner:
        ids = [row[0] for row in owner.execute("SELECT id FROM buy_order ORDER BY id").fetchall()]
        owner.execute("DELETE FROM buy_order WHERE id = %s", [ids[0]])
        owner.execute("UPDATE buy_order SET client = 'mallory' WHERE id = %s", [ids[1]])
        # Equal as a number, and yet another answer to the client.
        owner.execute("UPDATE buy_order SET btc_rate = 48478.880 WHERE id = %s", [ids[2]])
    report, said = again(databases.settings)
    assert report.differing_rows == 3
    assert sum("the log says" in sentence for sentence in said) == 3
    assert rows(databases) == right


def test_orders_and_queries_go_on_during_a_rebuild(databases: Databases) -> None:
    orders = place_orders(databases, 500)
    stop = threading.Event()
    failures: list[Exception] = []

    def keep_placing() -> None:
        while not stop.is_set():
            orders.extend(place_orders(databases, 10))

    def keep_reading() -> None:
        url = databases.settings.required("read_model_url")
        try:
            with psycopg.connect(url, autocommit=True, prepare_threshold=0) as reader:
                least = 0
                while not stop.is_set():
                    row = reader.execute("SELECT count(*) FROM buy_order").fetchone()
                    assert row is not None
                    assert row[0] >= least, "a row that was there stays there"
                    least = row[0]
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            failures.append(error)

    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))
        others = [threading.Thread(target=work) for work in (keep_placing, keep_reading)]
        for thread in others:
            thread.start()
        try:
            reports = [again(databases.settings)[0] for _ in range(3)]
        finally:
            stop.set()
            for thread in others:
                thread.join()
        eventually(lambda: is_projected(databases))
    assert failures == []
    assert [report.differing_rows for report in reports] == [0, 0, 0]
    assert order_ids(databases) == set(orders)


def test_a_rebuild_reads_the_log_in_no_transaction_that_outlives_a_chunk(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codebase.operations.rebuild.read_ahead.CHUNK", 10)
    project(databases, 100)
    seen: set[str] = set()

    @contextmanager
    def progress(_total: int) -> Iterator[Advance]:
        with psycopg.connect(databases.server.superuser_url(), autocommit=True) as superuser:

            def advance(_count: int) -> None:
                seen.update(row[0] for row in superuser.execute(STATES_IN_THE_LOG, [log]))

            yield advance

    log = databases.settings.required("write_model_url").rsplit("/", 1)[1]
    rebuild(databases.settings, SYSTEM.read_model, "buy_orders", say=print, progress=progress)
    assert seen
    assert seen <= {"idle", "active"}


@pytest.mark.parametrize(("only_inserts", "needed"), [(False, ("buy_order_pkey",)), (True, ())])
def test_rows_are_written_before_the_indexes_that_nothing_needs_meanwhile(
    databases: Databases, *, only_inserts: bool, needed: tuple[str, ...]
) -> None:
    project(databases, 100)
    indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"
    before = query(databases.as_read_model_owner(), indexes)
    projector = replace(
        SYSTEM.read_model, projections=(replace(BUY_ORDERS, only_inserts=only_inserts),)
    )
    seen: set[tuple[str, ...]] = set()
    rebuild(
        databases.settings,
        projector,
        "buy_orders",
        say=print,
        progress=partial(_seeing_indexes, databases, seen),
    )
    assert seen == {needed}
    assert query(databases.as_read_model_owner(), indexes) == before
    assert len(before) > 1


@contextmanager
def _seeing_indexes(
    databases: Databases, seen: set[tuple[str, ...]], _total: int
) -> Iterator[Advance]:
    indexes = "SELECT indexname FROM pg_indexes WHERE schemaname = 'rebuild_buy_orders'"
    with databases.as_read_model_owner() as owner:

        def advance(_count: int) -> None:
            seen.add(tuple(row[0] for row in owner.execute(indexes).fetchall()))

        yield advance


def test_a_key_that_is_there_twice_is_found_when_the_table_is_full(databases: Databases) -> None:
    project(databases, 5)
    before = rows(databases)

    def twice(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
        BUY_ORDERS.apply(cursor, [*events, *events])

    projector = replace(SYSTEM.read_model, projections=(replace(BUY_ORDERS, apply=twice),))
    with pytest.raises(psycopg.errors.UniqueViolation):
        rebuild(databases.settings, projector, "buy_orders", say=print)
    assert rows(databases) == before
    assert query(databases.as_read_model_owner(), SCHEMAS) == []


def test_a_rebuild_killed_half_way_leaves_the_old_tables_and_the_next_one_starts_clean(
    databases: Databases,
) -> None:
    project(databases, 50)
    before = rows(databases)
    program = (
        "import os, signal\n"
        "from codebase.operations.rebuild import run\n"
        "from codebase.foundation.settings import load_settings\n"
        "from codebase.registry import SYSTEM\n"
        "run._Rebuild._swap = lambda self: os.kill(os.getpid(), signal.SIGKILL)\n"
        "run.rebuild(load_settings(), SYSTEM.read_model, 'buy_orders')\n"
    )
    environment = {
        field.upper(): str(value)
        for field, value in databases.settings.model_dump(exclude_defaults=True).items()
    }
    killed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, **environment}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    owner = databases.as_read_model_owner
    assert query(owner(), SCHEMAS) == [("rebuild_buy_orders",)]
    assert rows(databases) == before
    # The dead one's lock ends with its connection, a moment later.
    eventually(lambda: _succeeds(databases.settings))
    assert rows(databases) == before
    assert query(owner(), SCHEMAS) == []


def _succeeds(settings: Settings) -> bool:
    try:
        return again(settings)[0].differing_rows == 0
    except RebuildError:
        return False


def test_an_event_that_cannot_be_applied_leaves_the_old_tables(databases: Databases) -> None:
    project(databases, 5)
    before = rows(databases)
    with databases.as_read_model_owner() as owner:
        owner.execute("ALTER TABLE buy_order ADD CHECK (currency_amount <> 7) NOT VALID")
    write(databases, [order_event(databases.settings, amount="7.00")])
    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))
    (stream,) = parked.list_parked(databases.settings)
    report, said = again(databases.settings)
    assert "1 parked events are left out" in said
    assert report.differing_rows == 0
    assert rows(databases) == before
    with databases.as_read_model_owner() as owner:
        owner.execute("DELETE FROM parked_event")
        owner.execute("DELETE FROM parked_stream WHERE stream_id = %s", [stream.stream_id])
    with pytest.raises(psycopg.errors.CheckViolation):
        again(databases.settings)
    assert rows(databases) == before
    assert query(databases.as_read_model_owner(), SCHEMAS) == []


def test_two_rebuilds_at_once_are_one_too_many(databases: Databases) -> None:
    project(databases, 3)
    with databases.as_read_model_owner() as owner:
        owner.execute("SELECT pg_advisory_lock(hashtext('rebuild_buy_orders'))")
        with pytest.raises(RebuildError, match="another rebuild"):
            again(databases.settings)


def test_an_unknown_view_is_named_together_with_those_there_are(databases: Databases) -> None:
    with pytest.raises(KeyError, match="there is: buy_orders"):
        rebuild(databases.settings, SYSTEM.read_model, "nonsense")
