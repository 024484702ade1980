"""A poison event stops its own stream and nothing else, and comes back in order."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from psycopg import Connection

from codebase.engine.log.identifiers import partition_of
from codebase.engine.projections import set_aside
from codebase.engine.projections.logged_events import LoggedEvent, read_events
from codebase.engine.projections.projection import Projector
from codebase.foundation.settings import Settings
from codebase.operations import parked
from tests.integration.flow import (
    TEST,
    TESTED,
    TESTER,
    create_tested,
    eventually,
    is_projected,
    part,
    projecting,
    query,
    relaying,
    sample_event,
    sample_rows,
    until_it_is_alone,
    write,
)

if TYPE_CHECKING:
    from tests.databases import Databases

DROP_CHECK = "ALTER TABLE tested DROP CONSTRAINT palatable"
PARK = """
    INSERT INTO parked_stream (projector, stream_id, partition, category, reason)
    VALUES ('tester', %(stream_id)s, 0, %(category)s, 'a test')
"""
PARK_MANY = """
    INSERT INTO parked_stream (projector, stream_id, partition, category, reason)
    SELECT 'tester', gen_random_uuid(), 0, 'test', 'a test' FROM generate_series(1, 2000)
"""
COUNT_OF_BEFORE = """
    UPDATE projection_checkpoint AS checkpoint
    SET parked_streams = (
        SELECT count(*) FROM parked_stream
        WHERE projector = checkpoint.projector AND partition = checkpoint.partition
    )
"""
NOTE_ARRIVALS = """
    CREATE FUNCTION note_arrival() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        'BEGIN INSERT INTO arrived (stream_id) VALUES (NEW.stream_id); RETURN NULL; END';
    CREATE TRIGGER note_arrival AFTER INSERT ON tested
        FOR EACH ROW EXECUTE FUNCTION note_arrival()
"""


def write_values(databases: Databases, stream_id: UUID, first_version: int, *values: str) -> None:
    events = [
        sample_event(databases.settings, stream_id, first_version + nth, value)
        for nth, value in enumerate(values)
    ]
    write(databases, events)


def reached(databases: Databases) -> bool:
    return is_projected(databases, TESTER.name)


def park_one(databases: Databases) -> tuple[UUID, UUID]:
    """(a stream whose second event is poison, a good stream), both with events after it."""
    create_tested(databases)
    bad, good = uuid4(), uuid4()
    write_values(databases, bad, 1, "one")
    write_values(databases, good, 1, "one", "two")
    write_values(databases, bad, 2, "poison", "three")
    write_values(databases, good, 3, "three")
    with projecting(databases.settings, TESTER):
        eventually(lambda: reached(databases))
        write_values(databases, bad, 4, "four")
        write_values(databases, good, 4, "four")
        eventually(lambda: reached(databases))
    return bad, good


def test_only_the_stream_of_the_poison_event_waits(databases: Databases) -> None:
    bad, good = park_one(databases)
    assert sample_rows(databases, bad) == [(1, "one")]
    assert [value for _, value in sample_rows(databases, good)] == ["one", "two", "three", "four"]
    (stream,) = parked.list_parked(databases.settings)
    assert (stream.stream_id, stream.events) == (bad, 3)
    assert stream.reason == "CheckViolation 23514 tested palatable"
    assert counted(databases) == (1, {"test": 1})


def counted(databases: Databases) -> tuple[int, dict[str, int]]:
    """How many streams are parked, and how many of each category, as the checkpoints have it."""
    rows = query(
        databases.as_read_model_owner(),
        "SELECT parked_streams, parked_by_category FROM projection_checkpoint",
    )
    total = sum((Counter(by_category) for _, by_category in rows), start=Counter[str]())
    return sum(streams for streams, _ in rows), dict(total)


def test_what_is_parked_is_counted_whoever_parks_it(databases: Databases) -> None:
    """A release that counts by itself does so as well while it is being replaced."""
    bad, _ = park_one(databases)
    with databases.as_read_model_owner() as owner:
        for category in ("test", "other", "other"):
            owner.execute(PARK, {"stream_id": uuid4(), "category": category})
        owner.execute(COUNT_OF_BEFORE)
    assert counted(databases) == (4, {"test": 2, "other": 2})
    with databases.as_read_model_owner() as owner:
        owner.execute("DELETE FROM parked_stream WHERE stream_id <> %s", [bad])
    assert counted(databases) == (1, {"test": 1})


def test_a_commit_reads_of_the_parked_streams_those_of_its_events_only(
    databases: Databases,
) -> None:
    bad, good = park_one(databases)
    waiting = sample_events(databases, bad, good)
    with databases.as_read_model_owner() as owner, owner.cursor() as cursor:
        # Postgres counts what there is now and then: this time before the many.
        owner.execute("ALTER TABLE parked_stream SET (autovacuum_enabled = off)")
        owner.execute("VACUUM (ANALYZE) parked_stream")
        owner.execute(PARK_MANY)
        # What others have read of it they tell as they go.
        until_it_is_alone(owner)
        owner.execute("SELECT pg_stat_force_next_flush()")
        before = rows_read(owner)
        assert set_aside.parked_streams(cursor, TESTER.name, waiting) == {bad}
        owner.execute("SELECT pg_stat_force_next_flush()")
        assert rows_read(owner) - before == 1


def sample_events(databases: Databases, *streams: UUID) -> list[LoggedEvent]:
    with databases.as_owner() as log:
        events = [
            event
            for partition in range(databases.settings.partitions)
            for event in read_events(log, partition, after=0, limit=1000)
        ]
    return [event for event in events if event.stream_id in streams]


def rows_read(owner: Connection[Any]) -> int:
    row = owner.execute(
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables"
        " WHERE relname = 'parked_stream'"
    ).fetchone()
    assert row
    return int(row[0])


def test_what_is_too_large_for_postgres_is_parked(databases: Databases) -> None:
    create_tested(databases)
    with databases.as_read_model_owner() as owner:
        owner.execute("CREATE INDEX ON tested (value)")
    incompressible = random.Random(1).randbytes(10_000).hex()  # noqa: S311 - repeatable
    bad, good = uuid4(), uuid4()
    write_values(databases, bad, 1, incompressible)
    write_values(databases, good, 1, "one")
    with projecting(databases.settings, TESTER):
        eventually(lambda: reached(databases))
    (stream,) = parked.list_parked(databases.settings)
    assert (stream.stream_id, stream.reason) == (bad, "ProgramLimitExceeded 54000")
    assert sample_rows(databases, good) == [(1, "one")]


def test_it_is_tried_so_often_and_no_more(databases: Databases) -> None:
    create_tested(databases)
    with databases.as_read_model_owner() as owner:
        owner.execute("CREATE SEQUENCE tries")
        owner.execute("GRANT USAGE ON SEQUENCE tries TO projector")
        # A sequence is not rolled back, so it counts the attempts that failed.
        owner.execute("ALTER TABLE tested ADD CHECK (nextval('tries') > 0)")
        owner.execute("ALTER TABLE tested DROP CONSTRAINT palatable")
        owner.execute("ALTER TABLE tested ADD CHECK (value <> 'poison')")
    settings = databases.settings.model_copy(update={"max_attempts": 4})
    write_values(databases, uuid4(), 1, "poison")
    with projecting(settings, TESTER):
        eventually(lambda: reached(databases))
    # The first try belongs to the batch, which here is this one event alone.
    assert query(databases.as_read_model_owner(), "SELECT last_value FROM tries") == [(4,)]


def test_retry_brings_a_stream_back_in_order(databases: Databases) -> None:
    bad, _ = park_one(databases)
    with databases.as_read_model_owner() as owner:
        owner.execute(DROP_CHECK)
    with projecting(databases.settings, TESTER):
        assert parked.retry(databases.settings, TESTER, bad) == 3
        write_values(databases, bad, 5, "five")
        eventually(lambda: reached(databases))
    assert sample_rows(databases, bad) == [
        (1, "one"),
        (2, "poison"),
        (3, "three"),
        (4, "four"),
        (5, "five"),
    ]
    assert parked.list_parked(databases.settings) == []
    with pytest.raises(parked.NotParkedError):
        parked.retry(databases.settings, TESTER, bad)


def test_a_retry_that_fails_changes_nothing(databases: Databases) -> None:
    bad, _ = park_one(databases)
    with pytest.raises(parked.RetryFailedError, match="CheckViolation 23514 tested palatable"):
        parked.retry(databases.settings, TESTER, bad)
    assert sample_rows(databases, bad) == [(1, "one")]
    assert [stream.events for stream in parked.list_parked(databases.settings)] == [3]


def test_everything_that_is_parked_is_retried_in_the_order_of_the_log(
    databases: Databases,
) -> None:
    create_tested(databases)
    streams = [uuid4() for _ in range(5)]
    for stream in streams:
        write_values(databases, stream, 1, "poison" if stream != streams[2] else "bitter", "two")
    with databases.as_read_model_owner() as owner:
        owner.execute("ALTER TABLE tested ADD CONSTRAINT sweet CHECK (value <> 'bitter')")
        owner.execute("CREATE TABLE arrived (number serial, stream_id uuid)")
        owner.execute(NOTE_ARRIVALS)
    with projecting(databases.settings, TESTER):
        eventually(lambda: reached(databases))
        with databases.as_read_model_owner() as owner:
            owner.execute(DROP_CHECK)
        retried = parked.retry_all(databases.settings, TESTER)
    assert (retried.streams, retried.events) == (4, 8)
    assert list(retried.failures) == [streams[2]]
    assert "CheckViolation 23514 tested sweet" in retried.failures[streams[2]]
    assert [stream.stream_id for stream in parked.list_parked(databases.settings)] == [streams[2]]
    arrived = "SELECT stream_id FROM arrived ORDER BY number"
    in_order = [one for one in streams if one != streams[2] for _ in range(2)]
    of_partition = sorted(
        in_order, key=lambda one: partition_of(one, databases.settings.partitions)
    )
    assert [one for (one,) in query(databases.as_read_model_owner(), arrived)] == of_partition
    assert counted(databases) == (1, {"test": 1})


def test_discard_drops_the_first_event_alone_and_remembers_it(databases: Databases) -> None:
    bad, _ = park_one(databases)
    position = parked.discard(databases.settings, TESTER, bad)
    discarded = "SELECT position, stream_id, version, reason FROM discarded_event"
    assert query(databases.as_read_model_owner(), discarded) == [
        (position, bad, 2, "CheckViolation 23514 tested palatable")
    ]
    assert [stream.events for stream in parked.list_parked(databases.settings)] == [2]
    assert parked.retry(databases.settings, TESTER, bad) == 2
    assert sample_rows(databases, bad) == [(1, "one"), (3, "three"), (4, "four")]


def test_many_poisoned_streams_in_one_batch(databases: Databases) -> None:
    create_tested(databases)
    streams = [uuid4() for _ in range(12)]
    for nth, stream in enumerate(streams):
        write_values(databases, stream, 1, "poison" if nth % 3 == 0 else "fine", "after")
    with projecting(databases.settings, TESTER):
        eventually(lambda: reached(databases))
    waiting = {stream.stream_id for stream in parked.list_parked(databases.settings)}
    assert waiting == set(streams[::3])
    for stream in set(streams) - waiting:
        assert sample_rows(databases, stream) == [(1, "fine"), (2, "after")]


def test_an_event_that_kills_the_process_is_parked_too(
    databases: Databases, with_broker: Settings
) -> None:
    create_tested(databases)
    deadly, good = uuid4(), uuid4()
    write_values(databases, good, 1, "one")
    write_values(databases, deadly, 1, "deadly", "two")
    write_values(databases, good, 2, "two")
    deaths = 0
    with relaying(with_broker):
        while not reached(databases):
            with part("killer", with_broker) as process:
                eventually(lambda p=process: p.exitcode is not None or reached(databases))
                deaths += process.exitcode is not None
    # Once in the batch, then on its own as often as any event may fail.
    assert deaths == 1 + databases.settings.max_attempts
    (stream,) = parked.list_parked(databases.settings)
    assert (stream.stream_id, stream.events) == (deadly, 2)
    assert "the process ended" in stream.reason
    assert [value for _, value in sample_rows(databases, good)] == ["one", "two"]


def write_unknown(databases: Databases, stream_id: UUID, version: int) -> None:
    """What a later release has written."""
    event = sample_event(databases.settings, stream_id, version, "later")
    write(databases, [dataclasses.replace(event, type="TestedTwice")])


def test_a_stream_with_an_event_that_this_release_does_not_know_waits(
    databases: Databases,
) -> None:
    create_tested(databases)
    later, good = uuid4(), uuid4()
    write_values(databases, later, 1, "one")
    write_unknown(databases, later, 2)
    write_values(databases, later, 3, "three")
    write_values(databases, good, 1, "one", "two")
    with projecting(databases.settings, TESTER):
        eventually(lambda: reached(databases))
    assert sample_rows(databases, later) == [(1, "one")]
    assert sample_rows(databases, good) == [(1, "one"), (2, "two")]
    (stream,) = parked.list_parked(databases.settings)
    assert (stream.stream_id, stream.events) == (later, 2)
    assert stream.reason == "this release knows no event TestedTwice in category test"


def test_after_an_upgrade_a_retry_brings_what_was_unknown(databases: Databases) -> None:
    create_tested(databases)
    stream = uuid4()
    write_unknown(databases, stream, 1)
    with projecting(databases.settings, TESTER):
        eventually(lambda: reached(databases))
    with pytest.raises(parked.RetryFailedError, match="knows no event TestedTwice"):
        parked.retry(databases.settings, TESTER, stream)

    class TestedTwice:
        """The event of the later release."""

    upgraded = Projector(
        name=TESTER.name,
        projections=(
            dataclasses.replace(
                TESTED, aggregates=(dataclasses.replace(TEST, events=(*TEST.events, TestedTwice)),)
            ),
        ),
    )
    assert parked.retry(databases.settings, upgraded, stream) == 1
    assert sample_rows(databases, stream) == [(1, "later")]
