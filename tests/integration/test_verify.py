# ruff: noqa: S608 - the statements are this file's own
"""`orderly verify` finds each kind of damage, and finds nothing where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from codebase.operations import parked
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from tests.integration.flow import (
    eventually,
    is_projected,
    order_event,
    place_orders,
    projecting,
    query,
    write,
)

if TYPE_CHECKING:
    from tests.databases import Databases

UNLOCK = "ALTER TABLE event DISABLE TRIGGER event_is_append_only;"
FIRST = "(SELECT id FROM buy_order ORDER BY id LIMIT 1)"
LAST = "(SELECT id FROM buy_order ORDER BY id DESC LIMIT 1)"
EVENT = "position = 2 AND partition = (SELECT min(partition) FROM event WHERE position = 3)"


def check(databases: Databases) -> list[str]:
    said: list[str] = []
    found = verify(databases.settings, SYSTEM.aggregates, [SYSTEM.read_model], say=said.append)
    assert set(found) <= set(said), "what is found is told"
    return found


def project(databases: Databases, count: int) -> None:
    place_orders(databases, count)
    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))


def test_nothing_differs_after_ordinary_work(databases: Databases) -> None:
    project(databases, 100)
    assert check(databases) == []


def test_a_read_model_that_is_behind_is_not_a_difference(databases: Databases) -> None:
    project(databases, 20)
    place_orders(databases, 20)
    assert check(databases) == []


def test_empty_stores_agree(databases: Databases) -> None:
    assert check(databases) == []


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (f"UPDATE buy_order SET client = 'mallory' WHERE id = {FIRST}", "client is mallory"),
        (f"UPDATE buy_order SET btc_rate = 1 WHERE id = {LAST}", "btc_rate is 1"),
        (f"UPDATE buy_order SET btc_rate = btc_rate + 0.000000000 WHERE id = {LAST}", "btc_rate"),
        (f"DELETE FROM buy_order WHERE id = {FIRST}", "is missing"),
        (f"DELETE FROM buy_order WHERE id = {LAST}", "is missing"),
        (f"UPDATE buy_order SET id = gen_random_uuid() WHERE id = {FIRST}", "has no event"),
        ("UPDATE projection_checkpoint SET position = 1000", "beyond the log"),
    ],
)
def test_a_read_model_changed_by_hand_is_found(
    databases: Databases, damage: str, sentence: str
) -> None:
    project(databases, 30)
    with databases.as_read_model_owner() as owner:
        owner.execute(damage.encode())
    assert any(sentence in found for found in check(databases))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (f"{UNLOCK} DELETE FROM event WHERE {EVENT}", "has nothing between 1 and 3"),
        (f"{UNLOCK} UPDATE event SET version = 2 WHERE {EVENT}", "has versions 2"),
        (
            f"{UNLOCK} UPDATE event SET recorded_at = '2000-01-01' WHERE {EVENT}",
            "is older than the one before it",
        ),
        (f"{UNLOCK} UPDATE event SET type = 'Nonsense' WHERE {EVENT}", "no event Nonsense"),
        (f"{UNLOCK} UPDATE event SET category = 'nonsense' WHERE {EVENT}", "category nonsense"),
        ("UPDATE log_head SET position = position + 1", "and its head says"),
        ("UPDATE budget SET spent = spent + 1", "budget order_book_btc"),
        ("DELETE FROM budget", "budget order_book_btc: is missing"),
        (
            "INSERT INTO claim VALUES ('account_email', 'x@y', gen_random_uuid())",
            "holds a account_email that it never claimed",
        ),
        ("UPDATE relay_checkpoint SET position = 1000", "the relay's checkpoint"),
    ],
)
def test_a_write_model_changed_by_hand_is_found(
    databases: Databases, damage: str, sentence: str
) -> None:
    project(databases, 60)
    with databases.as_owner() as owner:
        owner.execute(damage.encode())
    assert any(sentence in found for found in check(databases))


def test_what_is_parked_or_discarded_is_said_and_is_no_difference(databases: Databases) -> None:
    with databases.as_read_model_owner() as owner:
        owner.execute("ALTER TABLE buy_order ADD CHECK (currency_amount <> 7)")
    write(databases, [order_event(databases.settings, amount="7.00")])
    project(databases, 5)
    said: list[str] = []
    assert verify(databases.settings, SYSTEM.aggregates, [SYSTEM.read_model], say=said.append) == []
    assert said == ["read_model_sync: 1 parked events are left out"]
    (stream,) = parked.list_parked(databases.settings)
    parked.discard(databases.settings, SYSTEM.read_model, stream.stream_id)
    said.clear()
    assert verify(databases.settings, SYSTEM.aggregates, [SYSTEM.read_model], say=said.append) == []
    assert said == ["read_model_sync: 1 discarded events are left out"]


def test_rows_without_any_log_are_found(databases: Databases) -> None:
    with databases.as_read_model_owner() as owner:
        owner.execute(
            "INSERT INTO buy_order VALUES (%s, 'x', now(), 'USD', 1, 1, 1, 'x')", [uuid4()]
        )
    assert len(check(databases)) == 1
    assert len(query(databases.as_read_model_owner(), "SELECT id FROM buy_order")) == 1
