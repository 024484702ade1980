"""One process at a time leads, and the next takes over when its connection is gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import Connection

from codebase.foundation.leadership import wait_to_lead
from codebase.foundation.postgres import connect
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

LEAD = "SELECT pg_try_advisory_lock(%(work)s)"
KEY = {"work": 7}


@pytest.fixture
def leader(databases: Databases) -> Iterator[Connection[Any]]:
    with connect(databases.settings.required("write_model_url"), "leader") as connection:
        assert wait_to_lead(connection, LEAD, KEY, threading.Event())
        yield connection


@pytest.fixture
def standby(databases: Databases) -> Iterator[Connection[Any]]:
    with connect(databases.settings.required("write_model_url"), "standby") as connection:
        yield connection


def test_whoever_stands_by_takes_over_when_the_leaders_connection_is_gone(
    leader: Connection[Any], standby: Connection[Any]
) -> None:
    stands_by = threading.Event()
    with ThreadPoolExecutor() as pool:
        leads = pool.submit(
            wait_to_lead, standby, LEAD, KEY, threading.Event(), stand_by=stands_by.set
        )
        assert stands_by.wait(PATIENCE_SECONDS)
        assert not leads.done()
        leader.close()
        assert leads.result(PATIENCE_SECONDS)


def test_whoever_does_other_work_leads_at_once(
    leader: Connection[Any], standby: Connection[Any]
) -> None:
    assert not leader.closed
    assert wait_to_lead(standby, LEAD, {"work": 8}, threading.Event())


def test_a_stop_ends_the_wait(leader: Connection[Any], standby: Connection[Any]) -> None:
    assert not leader.closed
    stop = threading.Event()
    assert not wait_to_lead(standby, LEAD, KEY, stop, stand_by=stop.set)
