# ruff: noqa: S608 - the statements are this file's own
"""`orderly verify` finds each kind of damage, and finds nothing where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from codebase.engine.log.codec import encode
from codebase.engine.log.events import NewEvent
from codebase.engine.log.identifiers import new_event_id, partition_of
from codebase.model.accounts.account import ACCOUNT, AccountOpened, Region
from codebase.model.accounts.agent import AGENT, AgentCreated, AgentRemoved, Because
from codebase.model.aggregate import Aggregate, Require
from codebase.operations import parked
from codebase.operations.terminal import Advance
from codebase.operations.verify import claims, positions, ranges, verify
from codebase.registry import SYSTEM
from tests.databases import Databases, settings_for
from tests.integration.flow import (
    eventually,
    heads,
    is_projected,
    meta,
    order_event,
    place_orders,
    projecting,
    query,
    waits_for_a_lock,
    write,
)
from tests.integration.good_log import write_good_log

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
        ("UPDATE budget_share SET spent = 1 WHERE partition = 0", "budget order_book_btc: 1"),
        ("UPDATE budget_share SET granted = granted + 1", "its limit is 100"),
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


@pytest.fixture(scope="module")
def good(new_databases: Callable[[], Databases]) -> Databases:
    """A log in which everything has happened, to clone."""
    made = new_databases()
    write_good_log(made)
    with made.as_owner() as owner:
        # Whoever closed an account a second time may have made others wait for its agents.
        owner.execute("DELETE FROM claim_hold")
    return made


@pytest.fixture
def log(good: Databases) -> Iterator[Databases]:
    """This test's own copy of the good log."""
    names = [f"{store}_{uuid4().hex}" for store in ("write_model", "read_model")]
    urls = ("write_model_owner_url", "read_model_owner_url")
    for name, url in zip(names, urls, strict=True):
        template = good.settings.required(url).rsplit("/", 1)[1].split("?")[0]
        good.server.create_database(name, template)
    yield Databases(good.server, settings_for(good.server, *names))
    for name in names:
        good.server.drop_database(name)


def test_a_log_in_which_everything_has_happened_is_as_it_should_be(
    log: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is looked at in many small ranges."""
    types = {row[0] for row in query(log.as_owner(), "SELECT DISTINCT type FROM event")}
    assert types == {event.__name__ for each in SYSTEM.aggregates for event in each.events}
    assert query(log.as_owner(), "SELECT FROM command_note")
    assert verify(log.settings, SYSTEM.aggregates, SYSTEM.projectors(), say=print) == []
    with projecting(log.settings):
        eventually(lambda: is_projected(log))
    assert check(log) == []
    monkeypatch.setattr(ranges, "EVENTS_PER_RANGE", 7)
    monkeypatch.setattr(positions, "POSITIONS_PER_STATEMENT", 7)
    assert check(log) == []


READERS = ("write_model_reader_url", "read_model_url")
IN_A_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'verify' AND datname = ANY (%s) AND xact_start IS NOT NULL
"""

LATER = "type = 'AgentBlocked' AND version > 1 AND idempotence_key IS NOT NULL"
"""An event that is not the first of its stream."""


@pytest.mark.parametrize(
    ("target", "damage", "sentence"),
    [
        pytest.param(
            "position > 2",
            "UPDATE event SET meta = meta || jsonb_build_object('event_id', ("
            "  SELECT meta ->> 'event_id' FROM event WHERE partition = {partition} AND position = 1"
            ")) WHERE {here}",
            "log: the events at {partition}:1, {place} have one id",
            id="two events with one id",
        ),
        pytest.param(
            "type = 'AgentBlocked'",
            """UPDATE event SET meta = meta || '{{"topic": "agent.created.emea"}}' WHERE {here}""",
            "log: the event at {place} of stream {stream} has the topic agent.created.emea, the",
            id="a wrong topic",
        ),
        pytest.param(
            LATER,
            "UPDATE event SET meta = meta - 'fingerprint' WHERE {here}",
            "log: the event at {place} of stream {stream} has a key and no fingerprint",
            id="a missing fingerprint",
        ),
        pytest.param(
            LATER,
            """UPDATE event SET meta = meta || '{{"fingerprint": "ab12"}}' WHERE {here}""",
            "log: the event at {place} of stream {stream} has a fingerprint of no known form",
            id="a changed fingerprint",
        ),
        pytest.param(
            "idempotence_key IS NULL",
            """UPDATE event SET meta = meta || '{{"fingerprint": "EUR 1.00"}}' WHERE {here}""",
            "log: the event at {place} of stream {stream} has a fingerprint and no key",
            id="a fingerprint where none belongs",
        ),
        pytest.param(
            "version = 2 AND idempotence_key IS NOT NULL",
            "UPDATE event SET idempotence_key = (SELECT idempotence_key FROM event"
            " WHERE {here}) WHERE stream_id = '{stream}' AND version = 1",
            "log: the event at {place} of stream {stream} has the key of the one at {partition}:",
            id="a second event with its stream's first key",
        ),
        pytest.param(
            "version = 3 AND idempotence_key IS NOT NULL",
            "DROP INDEX event_idempotence_key; UPDATE event SET idempotence_key = ("
            "  SELECT idempotence_key FROM event WHERE stream_id = '{stream}' AND version = 2"
            ") WHERE {here}",
            "log: the event at {place} of stream {stream} has the key of the one at {partition}:",
            id="two later events with one key",
        ),
        pytest.param(
            LATER,
            "UPDATE event SET meta = meta || jsonb_build_object('causation_id', ("
            "  SELECT meta ->> 'causation_id' FROM event"
            "  WHERE stream_id = '{stream}' AND version = 1)) WHERE {here}",
            "log: the event at {place} of stream {stream} has a key and is not the first of its",
            id="a key in the middle of a command",
        ),
        pytest.param(
            LATER,
            "INSERT INTO command_note"
            " (partition, stream_id, client, idempotence_key, fingerprint, version)"
            " SELECT partition, stream_id, meta ->> 'actor', idempotence_key, 'USD 1.00', 1"
            " FROM event WHERE {here}",
            "note: stream {stream} has one of a command that did something, at {place}",
            id="a note against an event",
        ),
        pytest.param(
            LATER,
            "INSERT INTO command_note (partition, stream_id, idempotence_key, fingerprint, version)"
            " SELECT partition, stream_id, idempotence_key, 'USD 1.00', 1 FROM event WHERE {here}",
            "note: stream {stream} has one of a command that did something, at {place}",
            id="a note of nobody knows whom against an event",
        ),
        pytest.param(
            "type = 'AccountOpened'",
            "INSERT INTO command_note (partition, stream_id, idempotence_key, fingerprint, version)"
            " VALUES ({partition}, '{stream}', 'new', 'USD 1.00', 9)",
            "note: stream {stream} has one about version 9, of ",
            id="a note beyond its stream",
        ),
        pytest.param(
            "type = 'AccountOpened'",
            "INSERT INTO command_note (partition, stream_id, idempotence_key, fingerprint, version)"
            " VALUES ({partition}, '00000000-0000-0000-0000-000000000000', 'new', 'USD 1.00', 1)",
            "note: stream 00000000-0000-0000-0000-000000000000 has one about version 1, of 0",
            id="a note of a stream that is not there",
        ),
        pytest.param(
            "type = 'AccountOpened'",
            "INSERT INTO command_note (partition, stream_id, idempotence_key, fingerprint, version)"
            " VALUES (9, '{stream}', 'new', '?', 1)",
            "note: stream {stream} has one in partition 9, where it is not found",
            id="a note in another partition",
        ),
        pytest.param(
            "type = 'AccountOpened'",
            "INSERT INTO command_note (partition, stream_id, idempotence_key, fingerprint, version)"
            " VALUES ({partition}, '{stream}', 'new', '?', 1)",
            "note: stream {stream} has one with a fingerprint of no known form",
            id="a note with a changed fingerprint",
        ),
        pytest.param(
            "position = 5",
            "UPDATE event SET recorded_at = (SELECT recorded_at FROM event"
            " WHERE partition = {partition} AND position = 4) WHERE {here}",
            "log: the event at {place} is no younger than the one before it",
            id="neighbours with one time",
        ),
        *(
            pytest.param(
                LATER,
                f"UPDATE event SET meta = meta - '{name}' WHERE {{here}}",
                f"log: the event at {{place}} of stream {{stream}} has no {name}",
                id=f"no {name}",
            )
            for name in ("event_id", "correlation_id", "causation_id", "actor", "schema", "topic")
        ),
        *(
            pytest.param(
                LATER,
                f"UPDATE event SET meta = jsonb_set(meta, '{{{{{name}}}}}', '\"\"') WHERE {{here}}",
                f"log: the event at {{place}} of stream {{stream}} has no valid {name}",
                id=f"an empty {name}",
            )
            for name in ("event_id", "correlation_id", "causation_id", "actor", "schema")
        ),
        pytest.param(
            "type = 'AgentRemoved'",
            """UPDATE event SET data = data || '{{"email": "x@y.example"}}' WHERE {here}""",
            "log: the event at {place} of stream {stream} gives back a agent_email that it did not",
            id="a release of what was never claimed",
        ),
        pytest.param(
            "type = 'AgentCreated' AND NOT EXISTS (SELECT FROM event AS later WHERE"
            " later.stream_id = event.stream_id AND later.type = 'AgentRemoved')",
            """UPDATE event SET data = data || '{{"account_id":
            "00000000-0000-0000-0000-000000000000"}}' WHERE {here}""",
            "log: the event at {place} of stream {stream} requires a open_account that nobody held",
            id="an agent of an account that never was",
        ),
    ],
)
def test_a_log_that_contradicts_itself_is_found(
    log: Databases, target: str, damage: str, sentence: str
) -> None:
    where = tamper(log, target, damage)
    found = verify(log.settings, SYSTEM.aggregates, [], say=print)
    assert any(each.startswith(sentence.format(**where)) for each in found)


def tamper(log: Databases, target: str, damage: str) -> dict[str, Any]:
    """Change the log around the first event that is `target`, as only its owner can."""
    with log.as_owner() as owner:
        row = owner.execute(
            "SELECT partition, position, stream_id FROM event WHERE "
            f"{target} ORDER BY partition, position LIMIT 1".encode()
        ).fetchone()
        assert row is not None, "there is an event to tamper with"
        partition, position, stream_id = row
        where = {
            "partition": partition,
            "position": position,
            "place": f"{partition}:{position}",
            "stream": stream_id,
            "here": f"partition = {partition} AND position = {position}",
        }
        owner.execute(f"{UNLOCK} {damage.format(**where)}".encode())
    return where


# The account's only event again, as its end: one more event, and one more position.
CLOSE_BY_HAND = """
    INSERT INTO event
    SELECT event.partition, head.position + 1, stream_id, category, version + 1, 'AccountClosed',
           NULL, data - 'name',
           (meta - 'fingerprint') || jsonb_build_object(
               'event_id', gen_random_uuid(), 'topic', 'account.closed.emea.standard'),
           head.recorded_at + interval '1 microsecond'
    FROM event JOIN log_head AS head USING (partition)
    WHERE partition = {partition} AND event.position = {position};
    DELETE FROM claim WHERE stream_id = '{stream}';
"""
FIND_AN_ACCOUNT_WITHOUT_AGENTS = """
    SELECT partition, position, stream_id FROM event
    WHERE type = 'AccountOpened'
      AND EXISTS (SELECT FROM claim WHERE claim.stream_id = event.stream_id)
      AND NOT EXISTS (SELECT FROM claim WHERE kind = 'agents_of/' || event.stream_id)
    LIMIT 1
"""
WITH_AGENTS = """
    type = 'AccountOpened'
    AND EXISTS (SELECT FROM claim WHERE kind = 'agents_of/' || event.stream_id)
"""


def test_an_account_that_was_closed_while_its_agents_live_is_found(log: Databases) -> None:
    where = tamper(log, WITH_AGENTS, CLOSE_BY_HAND)
    found = verify(log.settings, SYSTEM.aggregates, [], say=print)
    (closed,) = query(
        log.as_owner(),
        "SELECT partition, position FROM event WHERE stream_id = %s AND version = 2",
        where["stream"],
    )
    agents = query(
        log.as_owner(),
        "SELECT stream_id FROM claim WHERE kind = %s ORDER BY 1",
        f"agents_of/{where['stream']}",
    )
    assert len(agents) > 1
    assert found == [
        f"log: the event at {closed[0]}:{closed[1]} of stream {where['stream']} left nobody with"
        f" a claim of agents_of/{where['stream']}, and stream {agent} has one"
        for (agent,) in agents
    ]


def new_id(log: Databases, partition: int) -> UUID:
    """The id of a stream that belongs into a partition."""
    ids = iter(uuid4, None)
    return next(one for one in ids if partition_of(one, log.settings.partitions) == partition)


def by_hand(
    log: Databases, aggregate: Aggregate[Any, Any, Any], stream_id: UUID, *events: object
) -> None:
    """Append events to a new stream: they claim what they claim, and require nothing."""
    command = meta("")
    write(
        log,
        [
            NewEvent(
                unit=0,
                partition=partition_of(stream_id, log.settings.partitions),
                stream_id=stream_id,
                category=aggregate.category,
                version=version,
                type=type(event).__name__,
                idempotence_key=None,
                data=encode(event),
                meta=json.dumps(
                    json.loads(command)
                    | {"event_id": new_event_id(), "topic": aggregate.topic(event)}
                ),
                guards=[each for each in aggregate.guards(event) if not isinstance(each, Require)],
            )
            for version, event in enumerate(events, 1)
        ],
    )


def account_opened(account_id: UUID, email: str) -> AccountOpened:
    return AccountOpened(
        account_id=account_id, client="alice", name="x", email=email, region=Region.NAM, vip=False
    )


def agent_created(agent_id: UUID, account_id: UUID) -> AgentCreated:
    return AgentCreated(
        agent_id=agent_id,
        account_id=account_id,
        client="alice",
        name="x",
        email=f"{agent_id}@x.example",
        region=Region.NAM,
        vip=False,
    )


def agent_removed(agent_id: UUID, account_id: UUID) -> AgentRemoved:
    return AgentRemoved(
        agent_id=agent_id,
        account_id=account_id,
        client="alice",
        email=f"{agent_id}@x.example",
        region=Region.NAM,
        vip=False,
        because=Because.REMOVED,
    )


def closed_account(log: Databases) -> tuple[UUID, int, int]:
    """Stream, partition and position of a closing."""
    statement = """
        SELECT stream_id, partition, position FROM event
        WHERE type = 'AccountClosed' ORDER BY partition, position LIMIT 1
    """
    (found,) = query(log.as_owner(), statement)
    return found  # type: ignore[no-any-return]


def last_place(log: Databases, partition: int) -> str:
    return f"{partition}:{heads(log)[partition]}"


def test_an_agent_that_came_when_its_account_was_closed_is_found(log: Databases) -> None:
    """In whatever partition: there by its position, elsewhere because it was not taken along."""
    account_id, partition, position = closed_account(log)
    for other in heads(log):
        agent_id = new_id(log, other)
        by_hand(log, AGENT, agent_id, agent_created(agent_id, account_id))
        place = last_place(log, other)
        found = verify(log.settings, SYSTEM.aggregates, [], say=print)
        left_behind = (
            f"log: the event at {partition}:{position} of stream {account_id} left nobody with"
            f" a claim of agents_of/{account_id}, and stream {agent_id} has one"
        )
        without = f"log: the event at {place} of stream {agent_id} requires a open_account"
        assert left_behind in found
        assert any(each.startswith(without) for each in found) == (other == partition)


def test_an_agent_that_came_and_went_when_its_account_was_closed_is_found(log: Databases) -> None:
    account_id, partition, _ = closed_account(log)
    agent_id = new_id(log, partition)
    events = agent_created(agent_id, account_id), agent_removed(agent_id, account_id)
    by_hand(log, AGENT, agent_id, *events)
    place = f"{partition}:{heads(log)[partition] - 1}"
    assert verify(log.settings, SYSTEM.aggregates, [], say=print) == [
        f"log: the event at {place} of stream {agent_id} requires a open_account that nobody held"
    ]


def test_an_agent_that_came_before_its_account_is_found(log: Databases) -> None:
    account_id, agent_id = new_id(log, 0), new_id(log, 0)
    by_hand(log, AGENT, agent_id, agent_created(agent_id, account_id))
    place = last_place(log, 0)
    by_hand(log, ACCOUNT, account_id, account_opened(account_id, "x@y.example"))
    assert verify(log.settings, SYSTEM.aggregates, [], say=print) == [
        f"log: the event at {place} of stream {agent_id} requires a open_account that nobody held"
    ]


def test_an_address_that_two_had_at_once_is_found(log: Databases) -> None:
    first, second = new_id(log, 0), new_id(log, 0)
    by_hand(log, ACCOUNT, first, account_opened(first, "x@y.example"))
    with log.as_owner() as owner:
        owner.execute("DELETE FROM claim WHERE value = 'x@y.example'")
    by_hand(log, ACCOUNT, second, account_opened(second, "X@y.example"))
    place = last_place(log, 0)
    lacking, twice = verify(log.settings, SYSTEM.aggregates, [], say=print)
    assert lacking == f"claim: stream {first} lacks its account_email"
    assert twice == (
        f"log: the event at {place} of stream {second} claims a account_email"
        f" that stream {first} held"
    )


def test_what_is_written_meanwhile_is_no_difference(
    log: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orders, claims, notes and rows of a log that is at work, looked at in many small ranges."""
    monkeypatch.setattr(ranges, "EVENTS_PER_RANGE", 7)
    with projecting(log.settings), ThreadPoolExecutor(1) as at_work:
        writing = at_work.submit(write_good_log, log, name="more")
        while not writing.done():
            assert check(log) == []
        writing.result()
        eventually(lambda: is_projected(log))
        assert check(log) == []


def test_no_snapshot_outlives_a_range(log: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "EVENTS_PER_RANGE", 7)
    names = [log.settings.required(url).rsplit("/", 1)[1].split("?")[0] for url in READERS]
    opened: list[int] = []

    @contextmanager
    def progress(_total: int) -> Iterator[Advance]:
        with psycopg.connect(log.server.superuser_url(), autocommit=True) as superuser:

            def advance(_count: int) -> None:
                row = superuser.execute(IN_A_TRANSACTION, [names]).fetchone()
                assert row is not None
                opened.append(row[0])

            yield advance

    verify(log.settings, SYSTEM.aggregates, [SYSTEM.read_model], say=print, progress=progress)
    assert len(opened) > 10
    assert set(opened) == {0}


def test_claims_are_read_in_pieces_and_in_no_transaction(
    log: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "CLAIMS_PER_STATEMENT", 7)
    with ranges.open_store(log.settings.required("write_model_reader_url")) as connection:
        read = []
        for claim in claims.read_claims(connection):
            read.append(tuple(claim))
            assert connection.info.transaction_status == TransactionStatus.IDLE
    there = query(log.as_owner(), "SELECT kind, value, stream_id::text FROM claim")
    assert sorted(read) == sorted(there)
    assert len(read) > 3 * claims.CLAIMS_PER_STATEMENT


def test_what_is_claimed_after_the_bounds_were_read_is_no_difference(log: Databases) -> None:
    """Claims are read later than the log's end, and not all of them stand there any more."""
    with ThreadPoolExecutor(1) as at_work:
        with log.as_owner() as holder, holder.transaction():
            holder.execute("LOCK TABLE claim")
            found = at_work.submit(check, log)
            eventually(lambda: waits_for_a_lock(log.server, "verify"))
            row = holder.execute(FIND_AN_ACCOUNT_WITHOUT_AGENTS).fetchone()
            assert row is not None
            holder.execute(
                CLOSE_BY_HAND.format(partition=row[0], position=row[1], stream=row[2]).encode()
            )
        assert found.result() == []
    assert check(log) == []


def test_rows_without_any_log_are_found(databases: Databases) -> None:
    with databases.as_read_model_owner() as owner:
        owner.execute(
            "INSERT INTO buy_order VALUES (%s, 'x', now(), 'USD', 1, 1, 1, 'x')", [uuid4()]
        )
    assert len(check(databases)) == 1
    assert len(query(databases.as_read_model_owner(), "SELECT id FROM buy_order")) == 1
