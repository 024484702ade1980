"""What tests of the way from the log to the read model share."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import pika
import psycopg
from psycopg import Connection, Cursor

from codebase.engine.log.appending import APPEND, append_parameters
from codebase.engine.log.codec import encode
from codebase.engine.log.events import NewEvent
from codebase.engine.log.identifiers import new_event_id, partition_of
from codebase.engine.messages.relay import relay_team
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, Projector, columns
from codebase.engine.projections.projector import projector_team
from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation.settings import Settings
from codebase.foundation.worker import Team
from codebase.model.aggregate import Aggregate
from codebase.model.buy_orders.buy_order import BuyOrderPlaced, guards, topic
from codebase.model.money import Currency
from codebase.registry import SYSTEM
from tests import processes
from tests.held import held
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.conftest import PostgresUnderTest
    from tests.databases import Databases

ROOT = Path(__file__).parents[2]


def eventually(condition: Callable[[], object], what: str = "") -> None:
    """Return as soon as the condition holds; fail when it never does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what or condition}"
        time.sleep(0.01)


def order_event(settings: Settings, *, amount: str = "100.00") -> NewEvent:
    event = BuyOrderPlaced(
        client="local",
        idempotence_key=str(uuid4()),
        currency=Currency.USD,
        currency_amount=Decimal(amount),
        btc_rate=Decimal("48478.88000000"),
        btc_amount=Decimal("0.00000001"),
        price_source="test",
    )
    stream_id = uuid4()
    return NewEvent(
        unit=0,
        partition=partition_of(stream_id, settings.partitions),
        stream_id=stream_id,
        category="buy_order",
        version=1,
        type="BuyOrderPlaced",
        idempotence_key=event.idempotence_key,
        data=encode(event),
        meta=meta(topic(event), fingerprint=f"USD {amount}"),
        guards=guards(event),
    )


def sample_event(settings: Settings, stream_id: UUID, version: int, value: str) -> NewEvent:
    return NewEvent(
        unit=0,
        partition=partition_of(stream_id, settings.partitions),
        stream_id=stream_id,
        category="test",
        version=version,
        type="Tested",
        idempotence_key=None,
        data=json.dumps({"value": value}),
        meta=meta("test.tested"),
        guards=(),
    )


def meta(routing_key: str, **more: str) -> str:
    """What is noted with the only event of a command; `more` is the fingerprint, if it has one."""
    command_id = uuid4().hex
    return json.dumps(
        {
            "event_id": new_event_id(),
            "correlation_id": command_id,
            "causation_id": command_id,
            "actor": "local",
            "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01",
            "schema": 1,
            "topic": routing_key,
            **more,
        }
    )


# All of a new budget is in one partition; the command bus has it moved when another one is short.
SHARE_BUDGETS = "SELECT move_budget(name, 0::smallint, 0) FROM budget"


def write(databases: Databases, events: Sequence[NewEvent]) -> list[UUID]:
    """Append events as the command services do; returns their streams."""
    url = databases.settings.required("write_model_url")
    with psycopg.connect(url, autocommit=True) as log, log.cursor(binary=True) as cursor:
        row = cursor.execute(APPEND, append_parameters(events)).fetchone()
        if row is not None and "short" in row[4]:
            cursor.execute(SHARE_BUDGETS)
            row = cursor.execute(APPEND, append_parameters(events)).fetchone()
    assert row is not None
    assert not row[3], "nothing is refused"
    return [event.stream_id for event in events]


def place_orders(databases: Databases, count: int) -> list[UUID]:
    return write(databases, [order_event(databases.settings) for _ in range(count)])


def heads(databases: Databases) -> dict[int, int]:
    with databases.as_owner() as log:
        return dict(log.execute("SELECT partition, position FROM log_head").fetchall())


def checkpoints(databases: Databases, projector: str = READ_MODEL) -> dict[int, int]:
    with databases.as_read_model_owner() as store:
        return dict(
            store.execute(
                "SELECT partition, position FROM projection_checkpoint WHERE projector = %s",
                [projector],
            ).fetchall()
        )


def relayed(databases: Databases) -> dict[int, int]:
    with databases.as_owner() as log:
        return dict(log.execute("SELECT partition, position FROM relay_checkpoint").fetchall())


def is_projected(databases: Databases, projector: str = READ_MODEL) -> bool:
    return checkpoints(databases, projector) == heads(databases)


def is_relayed(databases: Databases) -> bool:
    return relayed(databases) == heads(databases)


def truncate_log(databases: Databases) -> None:
    """Take the log back to the first position of every partition, as a restore would."""
    with databases.as_owner() as owner, owner.transaction():
        owner.execute("ALTER TABLE event DISABLE TRIGGER event_is_append_only")
        owner.execute("DELETE FROM event WHERE position > 1")


def order_ids(databases: Databases) -> set[UUID]:
    with databases.as_read_model_owner() as store:
        return {row[0] for row in store.execute("SELECT id FROM buy_order").fetchall()}


def query(connection: Connection[Any], statement: str, *values: object) -> list[Any]:
    with connection:
        return connection.execute(statement.encode(), values or None).fetchall()


def problem_of(team: Team) -> str | None:
    """What the team's readiness check says."""
    check = team.problem()
    try:
        check.send(None)
    except StopIteration as answer:
        return cast("str | None", answer.value)
    raise AssertionError("a readiness check of threads waits for nothing")


@contextmanager
def at_work(team: Team) -> Iterator[Team]:
    team.start()
    try:
        yield team
    finally:
        assert team.stop(PATIENCE_SECONDS), "stops when it is asked to"


@contextmanager
def relaying(settings: Settings) -> Iterator[Team]:
    with at_work(relay_team(settings)) as team:
        yield team


@contextmanager
def projecting(settings: Settings, projector: Projector = SYSTEM.read_model) -> Iterator[Team]:
    with at_work(projector_team(settings, projector)) as team:
        yield team


@contextmanager
def part(name: str, settings: Settings, **extra: str) -> Iterator[BaseProcess]:
    """A relay or a projector in a process of its own, killed on leaving."""
    with running(["tests.integration.run_part", name], settings, **extra) as process:
        yield process


@contextmanager
def running(module: Sequence[str], settings: Settings, **extra: str) -> Iterator[BaseProcess]:
    """A module with its arguments in a process of its own, killed on leaving."""
    environment = {
        field.upper(): str(value)
        for field, value in settings.model_dump(exclude_defaults=True).items()
    }
    inherited = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    process = processes.start_module(module, {**inherited, **environment, **extra})
    try:
        yield process
    finally:
        process.kill()
        process.join()


@contextmanager
def frozen(server: PostgresUnderTest, application: str, database: str = "%") -> Iterator[None]:
    """The server processes of an application's connections do not go on, and do not end."""
    with psycopg.connect(server.superuser_url()) as superuser:
        found = superuser.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND datname LIKE %s",
            [application, database],
        ).fetchall()
    assert found, "there is something to freeze"
    with held(process_id for (process_id,) in found):
        yield


def waits_for_a_lock(server: PostgresUnderTest, application: str) -> bool:
    """Whether a statement of an application waits for somebody else's transaction."""
    waiting = """
        SELECT FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'
    """
    with psycopg.connect(server.superuser_url()) as superuser:
        return superuser.execute(waiting, [application]).fetchone() is not None


OTHERS = """
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
      AND pid <> pg_backend_pid()
"""


def until_nobody_is_connected(databases: Databases) -> None:
    """To the write model. A client's end, or its death, is not that of its backend.

    Until then it counts as connected, has its locks, and may commit what was sent to it.
    """
    with databases.as_owner() as owner:
        until_it_is_alone(owner)


def until_it_is_alone(connection: Connection[Any]) -> None:
    """In its database."""
    eventually(lambda: connection.execute(OTHERS).fetchone() is None, "somebody is connected")


@contextmanager
def channel_to(settings: Settings) -> Iterator[Any]:
    """A channel for a test that interferes with the broker; publishing waits for the confirm."""
    connection = pika.BlockingConnection(pika.URLParameters(settings.required("broker_url")))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
    finally:
        connection.close()


def messages_in(channel: Any, queue: str) -> list[tuple[Any, bytes]]:  # noqa: ANN401 - pika's
    """Take everything out of a queue that is there now: (properties, body), in order."""
    taken = []
    # What was there comes before a message of our own, however long the broker takes.
    last = uuid4().bytes
    channel.basic_publish("", queue, last)
    # A queue with a single active consumer cannot be read with basic.get. One at a time: what comes
    # after the last one stays where it is; what was given back might come in another order.
    channel.basic_qos(prefetch_count=1)
    for method, properties, body in channel.consume(queue):
        if body == last:
            break
        taken.append((properties, body))
        channel.basic_ack(method.delivery_tag)
    channel.cancel()
    channel.basic_ack(method.delivery_tag)
    channel.basic_qos(prefetch_count=0)
    return taken


INSERT_TESTED = """
    INSERT INTO tested (stream_id, version, value, rank)
    SELECT event.stream_id, event.version, event.data ->> 'value',
           (SELECT count(*) FROM tested) + event.nth
    FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(data)b::text[]::jsonb[])
        WITH ORDINALITY AS event (stream_id, version, data, nth)
"""


def insert_tested(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    cursor.execute(INSERT_TESTED, columns(events))


@dataclass(frozen=True, kw_only=True)
class Tested:
    value: str


def no_commands(_command: object, _state: Tested | None) -> list[Tested]:
    return []


TEST = Aggregate[object, Tested, Tested](
    category="test",
    events=(Tested,),
    decide=no_commands,
    evolve=lambda _state, event: event,
    topic=lambda _event: "test.tested",
)
TESTED = Projection(
    name="tested",
    aggregates=(TEST,),
    tables=("tested",),
    apply=insert_tested,
    expected_rows=lambda _stream_id, _recorded: (),
)
TESTER = Projector(name="tester", projections=(TESTED,))


def create_tested(databases: Databases) -> None:
    """A view that cannot bear the value `poison`, until the constraint is dropped."""
    with databases.as_read_model_owner() as store:
        store.execute(
            "CREATE TABLE tested (stream_id uuid, version integer, value text, rank bigint,"
            " PRIMARY KEY (stream_id, version),"
            " CONSTRAINT palatable CHECK (value <> 'poison'))"
        )


def sample_rows(databases: Databases, stream_id: UUID) -> list[tuple[int, str]]:
    """(version, value) of a stream in the order in which they were applied."""
    statement = "SELECT version, value FROM tested WHERE stream_id = %s ORDER BY rank"
    return query(databases.as_read_model_owner(), statement, stream_id)
