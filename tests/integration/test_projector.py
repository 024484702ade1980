"""The projector against real servers: the read model equals the log, whatever happens between."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

import pika
import psycopg
import pytest
from pika.exceptions import ChannelClosedByBroker

from codebase.embedded.private_rabbitmq import USER
from codebase.engine.log.check import LogMismatchError
from codebase.engine.messages.connection import NoAnswerError, blocking_connection, deadline
from codebase.engine.messages.dead_letters import DEAD_LETTERS, declare_dead_letters
from codebase.engine.messages.event_messages import READ_MESSAGES, read_messages
from codebase.engine.messages.listener import Arrival
from codebase.engine.messages.topology import (
    EVENTS,
    POSITIONS,
    declare_projector_queue,
    declare_published,
    declare_queue,
    positions_key,
    projector_queue,
)
from codebase.engine.projections.attempts import note_attempt
from codebase.engine.projections.feed import Delivery
from codebase.engine.projections.logged_events import (
    BY_POSITION,
    LogGapError,
    LoggedEvent,
    read_events,
    read_wanted,
)
from codebase.engine.projections.projector import LEAD, PartitionProjector
from codebase.engine.projections.queue_feed import QueueFeed
from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation.failpoints import EXIT_STATUS
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.registry import SYSTEM
from tests.integration.flow import (
    channel_to,
    checkpoints,
    eventually,
    heads,
    is_projected,
    is_relayed,
    messages_in,
    order_ids,
    part,
    place_orders,
    problem_of,
    projecting,
    query,
    relaying,
    truncate_log,
    waits_for_a_lock,
    write,
)
from tests.integration.jobs import asked
from tests.logs import ANOTHER, OURS, end_log_at, name_log
from tests.patience import NEVER_SECONDS
from tests.processes import status_of

if TYPE_CHECKING:
    from tests.conftest import RabbitUnderTest
    from tests.databases import Databases


def publish(
    settings: Settings, databases: Databases, choose: Callable[[list[bytes]], list[bytes]]
) -> None:
    """Put messages of the log into the projector's queues, as `choose` likes them."""
    with channel_to(settings) as channel, databases.as_owner() as log:
        declare_dead_letters(channel)
        for partition in range(settings.partitions):
            declare_projector_queue(channel, READ_MODEL, ["buy_order"], partition)
            key = {"partition": partition, "after": 0, "limit": 10_000}
            bodies = [row[-1].encode() for row in log.execute(READ_MESSAGES, key).fetchall()]
            for body in choose(bodies):
                channel.basic_publish("", projector_queue(READ_MODEL, partition), body)


def test_the_log_alone_feeds_the_read_model(databases: Databases) -> None:
    orders = place_orders(databases, 2500)
    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))
        orders += place_orders(databases, 10)
        eventually(lambda: is_projected(databases))
    assert order_ids(databases) == set(orders)


class Looks:
    """A feed that tells of nothing, and notes after which looks the log is looked at again."""

    def __init__(self, stop: threading.Event, at_most: int) -> None:
        self.found: list[bool] = []
        self._stop = stop
        self._at_most = at_most

    def open(self) -> None:
        """There is nothing to listen to."""

    def take(self, *, found: bool) -> Sequence[Delivery]:
        if len(self.found) == self._at_most:
            self._stop.set()
        else:
            self.found.append(found)
        return ()

    def settle(self, taken: Sequence[Delivery], rejected: Sequence[tuple[Delivery, str]]) -> None:
        assert not taken
        assert not rejected

    def wake(self) -> None:
        """Nobody waits here."""


@pytest.mark.parametrize(
    ("concern_it", "more", "found"),
    [
        (True, 1, [True, True, False]),
        (False, 1, [True, False, False]),
        (False, 0, [True, True, False]),
    ],
    ids=["its own", "those of others", "as many as it takes"],
)
def test_who_finds_what_concerns_others_does_not_look_again_at_once(
    databases: Databases, *, concern_it: bool, more: int, found: list[bool]
) -> None:
    """Where others write all the time, it would for ever."""
    if concern_it:
        place_orders(databases, 3)
    else:
        write(databases, asked(databases.settings, "bread", "cake"))
    partition, head = max(heads(databases).items(), key=lambda each: each[1])
    settings = databases.settings.model_copy(update={"projector_batch": head + more})
    stop = threading.Event()
    feed = Looks(stop, at_most=len(found))
    PartitionProjector(SYSTEM.read_model, partition, settings, feed, stop).run(stop)
    assert feed.found == found
    assert checkpoints(databases)[partition] == head


def test_a_row_shows_what_was_recorded(databases: Databases) -> None:
    (order,) = place_orders(databases, 1)
    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))
    ((recorded_at,),) = query(databases.as_owner(), "SELECT recorded_at FROM event")
    (row,) = query(databases.as_read_model_owner(), "SELECT * FROM buy_order")
    assert row[0] == order
    assert row[2] == recorded_at
    assert [str(value) for value in (row[1], *row[3:])] == [
        "local",
        "USD",
        "100.00",
        "48478.88000000",
        "1E-8",
        "test",
    ]


def test_relay_and_queue_feed_the_read_model(databases: Databases, with_broker: Settings) -> None:
    with projecting(with_broker), relaying(with_broker):
        orders = place_orders(databases, 1500)
        eventually(lambda: is_projected(databases) and is_relayed(databases))
    assert order_ids(databases) == set(orders)
    with channel_to(with_broker) as channel:
        assert messages_in(channel, DEAD_LETTERS) == []


def test_the_queue_brings_the_news_before_the_projector_would_look(
    databases: Databases, with_broker: Settings
) -> None:
    slow = with_broker.model_copy(update={"read_model_check_seconds": NEVER_SECONDS})
    with projecting(slow), relaying(slow):
        place_orders(databases, 5)
        eventually(lambda: is_projected(databases) and is_taken_up(slow))
        place_orders(databases, 1)
        eventually(lambda: is_projected(databases))


def test_purged_queues_lose_nothing(databases: Databases, with_broker: Settings) -> None:
    orders = place_orders(databases, 50)
    publish(with_broker, databases, lambda bodies: bodies)
    with channel_to(with_broker) as channel:
        for partition in range(with_broker.partitions):
            channel.queue_purge(projector_queue(READ_MODEL, partition))
    with projecting(with_broker):
        eventually(lambda: is_projected(databases))
    assert order_ids(databases) == set(orders)


def test_events_that_are_not_announced_are_found_in_the_log(
    databases: Databases, with_broker: Settings
) -> None:
    with projecting(with_broker), relaying(with_broker):
        orders = place_orders(databases, 5)
        eventually(lambda: is_projected(databases) and is_taken_up(with_broker))
        with channel_to(with_broker) as channel:
            for partition in range(with_broker.partitions):
                queue = projector_queue(READ_MODEL, partition)
                channel.queue_unbind(queue, POSITIONS, positions_key("buy_order", partition))
        orders += place_orders(databases, 40)
        eventually(lambda: is_projected(databases))
    assert order_ids(databases) == set(orders)


def test_a_deleted_queue_is_declared_again(databases: Databases, with_broker: Settings) -> None:
    slow = with_broker.model_copy(update={"read_model_check_seconds": NEVER_SECONDS})
    with projecting(slow), relaying(slow):
        place_orders(databases, 5)
        eventually(lambda: is_projected(databases) and is_taken_up(slow))
        with channel_to(slow) as channel:
            for partition in range(slow.partitions):
                channel.queue_delete(projector_queue(READ_MODEL, partition))
        orders = place_orders(databases, 5)
        eventually(lambda: is_projected(databases))
    assert set(orders) <= order_ids(databases)


def bind_as_before(settings: Settings) -> None:
    """Make the projector's queues as the release did that had every event put into them."""
    with channel_to(settings) as channel:
        declare_published(channel)
        if settings.partitions > 1:
            channel.exchange_declare(READ_MODEL, "headers", durable=True)
            channel.exchange_bind(READ_MODEL, EVENTS, "#")
        for partition in range(settings.partitions):
            queue = projector_queue(READ_MODEL, partition)
            declare_queue(channel, queue, single_active_consumer=True)
            if settings.partitions > 1:
                match = {"x-match": "all", "partition": partition}
                channel.queue_bind(queue, READ_MODEL, arguments=match)
            else:
                channel.queue_bind(queue, EVENTS, "#")


def bindings(server: RabbitUnderTest, settings: Settings) -> set[tuple[str, str]]:
    """(source, destination) of what leads to the projector's queues."""
    host = settings.required("broker_url").rsplit("/", 1)[1]
    found = server.manage("GET", f"bindings/{host}").json()
    return {
        (each["source"], each["destination"])
        for each in found
        if each["source"] and each["destination"].startswith(READ_MODEL)
    }


def test_a_queue_of_an_earlier_release_is_made_anew_once_positions_are_announced(
    databases: Databases, with_broker: Settings, rabbitmq_server: RabbitUnderTest
) -> None:
    slow = with_broker.model_copy(update={"read_model_check_seconds": NEVER_SECONDS})
    bind_as_before(slow)
    orders = place_orders(databases, 50)
    with relaying(slow):
        eventually(lambda: is_relayed(databases))
    with projecting(slow), relaying(slow):
        eventually(lambda: is_projected(databases))
        queues = [projector_queue(READ_MODEL, each) for each in range(slow.partitions)]
        ours = {(POSITIONS, queue) for queue in queues}

        def is_taken_over() -> bool:
            # Each partition notices by an announcement and an event after it.
            orders.extend(place_orders(databases, 8 * slow.partitions))
            return bindings(rabbitmq_server, slow) == ours

        eventually(is_taken_over)
        eventually(lambda: is_projected(databases) and is_relayed(databases))
        orders += place_orders(databases, 10)
        eventually(lambda: is_projected(databases))
    assert order_ids(databases) == set(orders)
    with channel_to(with_broker) as channel:
        assert messages_in(channel, DEAD_LETTERS) == []


def test_a_relay_of_an_earlier_release_brings_the_news_too(
    databases: Databases, with_broker: Settings, rabbitmq_server: RabbitUnderTest
) -> None:
    """It puts whole events into the queue, which is bound as it binds it, and announces nothing."""
    slow = with_broker.model_copy(update={"read_model_check_seconds": NEVER_SECONDS})
    bind_as_before(slow)
    before = bindings(rabbitmq_server, slow)
    with projecting(slow):
        eventually(lambda: is_projected(databases) and is_taken_up(slow))
        orders = place_orders(databases, 50)
        publish_events(slow, databases)
        eventually(lambda: is_projected(databases))
        assert before <= bindings(rabbitmq_server, slow)
    assert order_ids(databases) == set(orders)


def publish_events(settings: Settings, databases: Databases) -> None:
    """Publish the log as it is published to subscribers."""
    with channel_to(settings) as channel, databases.as_owner() as log:
        cursor = log.cursor(binary=True)
        for partition in range(settings.partitions):
            for each in read_messages(cursor, partition, after=0, limit=10_000):
                properties = pika.BasicProperties(headers={"partition": partition})
                channel.basic_publish(EVENTS, each.topic, each.body.encode(), properties)


def test_a_queue_that_may_not_be_read_keeps_its_messages(
    databases: Databases,
    with_broker: Settings,
    rabbitmq_server: RabbitUnderTest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place_orders(databases, 5)
    publish(with_broker, databases, lambda bodies: bodies)
    permissions = f"permissions/{with_broker.required('broker_url').rsplit('/', 1)[1]}/{USER}"
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    # All that declaring needs, and no queue of ours.
    exchanges = "^(events|positions|dead_letters)$"
    rabbitmq_server.manage("PUT", permissions, json={**everything, "read": exchanges})
    with projecting(with_broker):
        eventually(lambda: caplog.text.count("the broker refuses (403 ACCESS_REFUSED)") > 2)
    rabbitmq_server.manage("PUT", permissions, json=everything)
    with channel_to(with_broker) as channel:
        queues = [
            projector_queue(READ_MODEL, partition) for partition in range(with_broker.partitions)
        ]
        kept = [channel.queue_declare(each, passive=True).method.message_count for each in queues]
    assert sum(kept) == 5


def test_only_silence_looks_like_a_dead_queue(
    with_broker: Settings, rabbitmq_server: RabbitUnderTest
) -> None:
    with blocking_connection(with_broker.required("broker_url"), "test") as connection:
        channel = connection.channel()
        with rabbitmq_server.paused(), pytest.raises(NoAnswerError), deadline(connection, 0.5):
            channel.queue_declare("any")


@pytest.mark.parametrize(
    "choose",
    [
        pytest.param(lambda bodies: bodies + bodies, id="twice"),
        pytest.param(lambda bodies: [each for each in bodies for _ in range(3)], id="thrice each"),
        pytest.param(lambda bodies: bodies[::-1], id="backwards"),
        pytest.param(
            lambda bodies: random.Random(1).sample(bodies, len(bodies)),  # noqa: S311
            id="shuffled",
        ),
        pytest.param(lambda bodies: bodies[::7] + bodies[-1:], id="with gaps"),
        pytest.param(lambda bodies: bodies[-1:], id="only the last"),
    ],
)
def test_however_messages_arrive_the_read_model_converges(
    databases: Databases,
    with_broker: Settings,
    choose: Callable[[list[bytes]], list[bytes]],
) -> None:
    slow = with_broker.model_copy(
        update={"read_model_check_seconds": NEVER_SECONDS, "projector_batch": 20}
    )
    orders = place_orders(databases, 200)
    publish(slow, databases, choose)
    with projecting(slow):
        eventually(lambda: is_projected(databases))
        assert order_ids(databases) == set(orders)


def test_forged_messages_are_dead_lettered_with_the_reason(
    databases: Databases, with_broker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forge(bodies: list[bytes]) -> list[bytes]:
        if not bodies:
            return []
        true = json.loads(bodies[0])
        return [
            b"not json",
            json.dumps({**true, "position": 10_000}).encode(),
            json.dumps({**true, "position": 2**63}).encode(),
            json.dumps({**true, "stream_id": str(uuid4())}).encode(),
            json.dumps({**true, "event_id": str(uuid4())}).encode(),
            json.dumps({**true, "partition": 99}).encode(),
            *bodies,
        ]

    arrived = list[Arrival]()
    take_in = QueueFeed._on_arrivals  # noqa: SLF001 - what it was told of waits to be taken

    def note(feed: QueueFeed, arrivals: list[Arrival]) -> None:
        take_in(feed, arrivals)
        arrived.extend(arrivals)

    monkeypatch.setattr(QueueFeed, "_on_arrivals", note)
    orders = place_orders(databases, 1)
    publish(with_broker, databases, forge)
    lead = databases.as_read_model_owner()
    for partition in range(with_broker.partitions):
        lead.execute(LEAD, {"projector": READ_MODEL, "partition": partition})
    with projecting(with_broker), channel_to(with_broker) as channel:
        # All messages are there before the projector looks at the log: later they are repeats.
        eventually(lambda: len({each.body for each in arrived}) == 7)
        lead.close()
        eventually(lambda: is_projected(databases))
        letters = []
        eventually(lambda: letters.extend(messages_in(channel, DEAD_LETTERS)) or len(letters) == 6)
    assert order_ids(databases) == set(orders)
    partition = next(iter(part for part, head in heads(databases).items() if head))
    assert {properties.headers["reason"] for properties, _ in letters} == {
        "body: json_invalid",
        "the log has no such position",
        "the log holds another stream at this position",
        "the log holds another event at this position",
        f"not an event of partition {partition}",
    }
    assert letters[0][1] == b"not json"
    assert letters[0][0].headers["queue"].startswith("read_model_sync.")


def is_taken_up(settings: Settings) -> bool:
    """Whether every queue of the projector is listened to, and nothing is left in it."""
    with channel_to(settings) as channel:
        try:
            declared = [
                channel.queue_declare(projector_queue(READ_MODEL, each), passive=True).method
                for each in range(settings.partitions)
            ]
        except ChannelClosedByBroker:
            return False
    return all(each.consumer_count == 1 and each.message_count == 0 for each in declared)


def test_a_forged_amount_never_reaches_a_row(databases: Databases, with_broker: Settings) -> None:
    def forge(bodies: list[bytes]) -> list[bytes]:
        return [body.replace(b'"100.00"', b'"999.00"') for body in bodies]

    place_orders(databases, 3)
    publish(with_broker, databases, forge)
    with projecting(with_broker):
        eventually(lambda: is_projected(databases))
    amounts = query(databases.as_read_model_owner(), "SELECT currency_amount::text FROM buy_order")
    assert amounts == [("100.00",)] * 3


@pytest.mark.parametrize("place", ["projector_before_commit", "projector_after_apply"])
def test_a_projector_killed_around_its_commit_applies_each_event_once(
    databases: Databases, with_broker: Settings, place: str
) -> None:
    orders = place_orders(databases, 100)
    with relaying(with_broker):
        with part("projector", with_broker, ORDERLY_FAILPOINT=place) as process:
            assert status_of(process) == EXIT_STATUS
        with projecting(with_broker):
            eventually(lambda: is_projected(databases))
            orders += place_orders(databases, 5)
            eventually(lambda: is_projected(databases))
    assert order_ids(databases) == set(orders)


def test_a_worker_that_lost_its_place_cannot_commit(databases: Databases) -> None:
    """Somebody else projects after it has read, and does not ask for the lead."""
    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))
    orders = place_orders(databases, 4)
    busiest = max(heads(databases), key=heads(databases).__getitem__)
    with databases.as_read_model_owner() as thief:
        thief.execute("BEGIN")
        steal = "UPDATE projection_checkpoint SET position = 1 WHERE partition = %s"
        thief.execute(steal, [busiest])
        with projecting(databases.settings):
            eventually(lambda: waits_for_a_lock(databases.server, READ_MODEL))
            thief.execute("COMMIT")
            eventually(lambda: is_projected(databases))
    # The first event was claimed as projected by the thief, who wrote no row for it.
    assert len(order_ids(databases)) == len(orders) - 1


def test_two_projectors_apply_each_event_once(databases: Databases) -> None:
    orders = place_orders(databases, 50)
    with projecting(databases.settings), projecting(databases.settings):
        orders += place_orders(databases, 500)
        eventually(lambda: is_projected(databases))
    assert order_ids(databases) == set(orders)


def test_a_second_projector_takes_over_when_the_first_is_killed(
    databases: Databases, with_broker: Settings
) -> None:
    with relaying(with_broker), part("projector", with_broker) as first:
        orders = place_orders(databases, 10)
        eventually(lambda: is_projected(databases))
        with projecting(with_broker):
            first.kill()
            status_of(first)
            orders += place_orders(databases, 10)
            eventually(lambda: is_projected(databases))
    assert order_ids(databases) == set(orders)


def test_cut_connections_are_made_again(databases: Databases) -> None:
    orders = place_orders(databases, 10)
    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))
        with psycopg.connect(databases.server.superuser_url(), autocommit=True) as superuser:
            superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'read_model_sync'"
            )
        orders += place_orders(databases, 10)
        eventually(lambda: is_projected(databases))
    assert order_ids(databases) == set(orders)


@pytest.mark.parametrize("feed", ["databases", "with_broker"])
def test_an_idle_projector_notices_that_the_read_model_went_back(
    databases: Databases, feed: str, request: pytest.FixtureRequest
) -> None:
    """As after a crash of its server, which takes back rows and checkpoint together."""
    given = request.getfixturevalue(feed)
    orders = place_orders(databases, 20)
    with projecting(given if feed == "with_broker" else given.settings):
        eventually(lambda: is_projected(databases))
        with databases.as_read_model_owner() as owner, owner.transaction():
            owner.execute("DELETE FROM buy_order")
            owner.execute("UPDATE projection_checkpoint SET position = 0")
        eventually(lambda: is_projected(databases))
    assert order_ids(databases) == set(orders)


def test_a_missing_table_is_nobodys_fault_and_nothing_is_parked(databases: Databases) -> None:
    with databases.as_read_model_owner() as owner:
        owner.execute("ALTER TABLE buy_order RENAME TO away")
        orders = place_orders(databases, 3)
        with projecting(databases.settings) as team:
            eventually(lambda: problem_of(team) == "UndefinedTable 42P01")
            owner.execute("ALTER TABLE away RENAME TO buy_order")
            eventually(lambda: is_projected(databases))
        assert owner.execute("SELECT count(*) FROM parked_stream").fetchone() == (0,)
    assert order_ids(databases) == set(orders)


def test_without_its_broker_the_projector_reads_the_log_and_takes_the_queue_up_later(
    databases: Databases, with_broker: Settings, rabbitmq_server: RabbitUnderTest
) -> None:
    slow = with_broker.model_copy(update={"read_model_check_seconds": NEVER_SECONDS})
    rabbitmq_server.stop()
    try:
        with projecting(slow), relaying(slow):
            orders = place_orders(databases, 10)
            eventually(lambda: is_projected(databases))
            rabbitmq_server.start()
            orders += place_orders(databases, 10)
            eventually(lambda: is_projected(databases) and is_relayed(databases))
            # Now the queue is what brings the news, and a kill of the broker changes nothing.
            rabbitmq_server.kill()
            orders += place_orders(databases, 10)
            eventually(lambda: is_projected(databases))
            rabbitmq_server.start()
            eventually(lambda: is_relayed(databases))
    finally:
        if not _answers(slow):
            rabbitmq_server.start()
    assert order_ids(databases) == set(orders)


def _answers(settings: Settings) -> bool:
    try:
        with channel_to(settings):
            return True
    except Exception:  # noqa: BLE001 - only asks whether the server has to be started again
        return False


def test_an_idle_projector_stops_without_waiting_for_its_next_look(
    databases: Databases, with_broker: Settings
) -> None:
    slow = with_broker.model_copy(update={"read_model_check_seconds": NEVER_SECONDS})
    place_orders(databases, 1)
    with projecting(slow):
        eventually(lambda: is_projected(databases))


def test_a_log_with_a_hole_is_not_projected_past_it(databases: Databases) -> None:
    # Enough for every partition to have a position after the hole.
    place_orders(databases, 100)
    with databases.as_owner() as owner:
        owner.execute("ALTER TABLE event DISABLE TRIGGER event_is_append_only")
        owner.execute("DELETE FROM event WHERE position = 2")
        with pytest.raises(LogGapError):
            read_events(owner, 0, after=0, limit=100)


OTHERS, OURS_TOO = ["job"], ["buy_order"]


def test_of_others_events_only_the_last_is_read_and_those_that_were_told_of(
    databases: Databases,
) -> None:
    place_orders(databases, 100)
    with databases.as_owner() as owner:
        head = heads(databases)[0]
        told = read_wanted(owner, 0, after=1, limit=head, categories=OTHERS, also=[4, head + 9])
        assert (told[0], [event.position for event in told[1]]) == (head, [4, head])
        assert all(event.event_id and event.data is None for event in told[1])
        for limit in (head, head - 1, 3, 1):
            wanted = read_wanted(owner, 0, after=1, limit=limit, categories=OURS_TOO)
            assert wanted == (
                head,
                read_events(owner, 0, after=1, limit=limit, categories=OURS_TOO),
            )
        assert read_wanted(owner, 0, after=head, limit=9, categories=OURS_TOO) == (head, [])
        # Where the last of two bytes ends, and beyond.
        for after in (head + 1, 2**15 - 1, 2**31 - 1):
            with pytest.raises(LogMismatchError, match=f"ends at {head}, and the checkpoint is"):
                read_wanted(owner, 0, after=after, limit=9, categories=OURS_TOO)


def test_what_is_passed_over_is_counted_and_not_read(databases: Databases) -> None:
    place_orders(databases, 100)
    with databases.as_owner() as owner:
        head = heads(databases)[0]
        options = {"categories": OURS_TOO, "passed_over": ["BuyOrderPlaced"]}
        _, [last] = read_wanted(owner, 0, after=1, limit=head, **options)
        assert (last.position, last.data) == (head, None)
        owner.execute("ALTER TABLE event DISABLE TRIGGER event_is_append_only")
        owner.execute("DELETE FROM event WHERE partition = 0 AND position = 3")
        with pytest.raises(LogGapError, match="lacks a position above 1"):
            read_wanted(owner, 0, after=1, limit=head, **options)


@pytest.mark.parametrize("categories", [OTHERS, OURS_TOO], ids=["others'", "ours"])
@pytest.mark.parametrize("hole", [2, 3, 4], ids=["first", "in between", "last"])
def test_a_hole_is_noticed_whosever_events_are_missing(
    databases: Databases, categories: list[str], hole: int
) -> None:
    place_orders(databases, 100)
    with databases.as_owner() as owner:
        owner.execute("ALTER TABLE event DISABLE TRIGGER event_is_append_only")
        owner.execute("DELETE FROM event WHERE partition = 0 AND position = %s", [hole])
        with pytest.raises(LogGapError, match="lacks a position above 1"):
            read_wanted(owner, 0, after=1, limit=3, categories=categories)


ENTRIES_READ = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'event'"


def test_of_a_long_log_a_look_reads_its_piece_and_no_more(databases: Databases) -> None:
    """Also by a plan that was made when there was next to nothing."""
    url = databases.settings.required("write_model_reader_url")
    with connect(url, "test", options=BY_POSITION) as log:
        for _ in range(10):
            read_wanted(log, 0, after=0, limit=10, categories=OURS_TOO)
        place_orders(databases, 3_000)
        before = entries_read(log)
        head, events = read_wanted(log, 0, after=0, limit=10, categories=OURS_TOO)
        assert (head, len(events)) == (heads(databases)[0], 10)
        assert entries_read(log) - before < 50


def entries_read(log: psycopg.Connection) -> int:
    """How many entries of the log's indexes were read so far, as far as this connection knows."""
    log.execute("SELECT pg_stat_force_next_flush()")
    row = log.execute(ENTRIES_READ).fetchone()
    assert row is not None
    return int(row[0])


def test_the_note_of_an_attempt_waits_for_no_disk_and_what_follows_does(
    databases: Databases,
) -> None:
    [event] = read_events_of(databases)
    with databases.as_owner() as owner:
        owner.execute("SET search_path TO reaction")
        owner.execute("SET synchronous_commit TO on")
        with owner.transaction():
            note_attempt(owner, {"projector": "anybody", "partition": 0}, event, event)
            assert owner.execute("SHOW synchronous_commit").fetchall() == [("off",)]
        assert owner.execute("SHOW synchronous_commit").fetchall() == [("on",)]


def read_events_of(databases: Databases) -> list[LoggedEvent]:
    place_orders(databases, 1)
    with databases.as_owner() as owner:
        return [
            event
            for partition in range(databases.settings.partitions)
            for event in read_events(owner, partition, after=0, limit=1)
        ]


def test_a_log_without_its_first_events_is_told_of(databases: Databases) -> None:
    end_log_at(databases, 5)
    with projecting(databases.settings) as team:
        eventually(lambda: "lacks a position above 0" in (problem_of(team) or ""))


@pytest.mark.parametrize("feed", ["databases", "with_broker"])
def test_a_log_that_went_back_is_not_projected_and_the_reason_is_told(
    databases: Databases, feed: str, request: pytest.FixtureRequest
) -> None:
    given = request.getfixturevalue(feed)
    place_orders(databases, 40)
    with projecting(given if feed == "with_broker" else given.settings) as team:
        eventually(lambda: is_projected(databases) and problem_of(team) is None)
        truncate_log(databases)
        eventually(lambda: "of the log ends at 1, and" in (problem_of(team) or ""))
    assert len(order_ids(databases)) == 40


def test_a_log_that_went_back_and_has_grown_past_the_checkpoint_again_is_told_of(
    databases: Databases,
) -> None:
    place_orders(databases, 40)
    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))
    known = order_ids(databases)
    truncate_log(databases)

    def has_grown_past_the_checkpoint() -> bool:
        """In every partition; an order's is a matter of chance."""
        place_orders(databases, 120)
        return all(heads(databases)[each] > at for each, at in checkpoints(databases).items())

    eventually(has_grown_past_the_checkpoint)
    with projecting(databases.settings) as team:
        eventually(lambda: "of the log holds another event at" in (problem_of(team) or ""))
    assert order_ids(databases) == known


def test_an_idle_projector_sees_that_the_log_has_become_another(databases: Databases) -> None:
    place_orders(databases, 10)
    with projecting(databases.settings) as team, databases.as_owner() as owner:
        eventually(lambda: is_projected(databases) and problem_of(team) is None)
        owner.execute("ALTER TABLE event DISABLE TRIGGER event_is_append_only")
        owner.execute("UPDATE event SET meta = jsonb_set(meta, '{event_id}', '\"other\"')")
        eventually(lambda: "of the log holds another event at" in (problem_of(team) or ""))


def test_a_projector_notes_of_which_log_its_rows_are(databases: Databases) -> None:
    name_log(databases, OURS)
    place_orders(databases, 10)
    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))
    assert logs_of_rows(databases) == {OURS}
    with databases.as_read_model_owner() as owner:
        owner.execute("UPDATE projection_checkpoint SET log_id = NULL")
    with projecting(databases.settings):
        eventually(lambda: logs_of_rows(databases) == {OURS}, "noted though there is nothing new")


def test_another_log_is_not_projected_whatever_is_in_it(databases: Databases) -> None:
    name_log(databases, OURS)
    place_orders(databases, 10)
    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))
    name_log(databases, ANOTHER)
    with projecting(databases.settings) as team:
        told = f"this is the log {ANOTHER}, and the checkpoint is of {OURS}"
        eventually(lambda: told in (problem_of(team) or ""))
    assert logs_of_rows(databases) == {OURS}


def logs_of_rows(databases: Databases) -> set[str | None]:
    with databases.as_read_model_owner() as store:
        found = store.execute("SELECT log_id FROM projection_checkpoint WHERE position > 0")
        return {row[0] for row in found.fetchall()}


def test_what_an_earlier_release_has_moved_is_taken_for_what_it_is(databases: Databases) -> None:
    """It moves the position, and does not know that there is an event to note with it."""
    place_orders(databases, 10)
    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))
    with databases.as_read_model_owner() as owner:
        owner.execute("UPDATE projection_checkpoint SET event_position = 0, event_id = 'earlier'")
    place_orders(databases, 10)
    with projecting(databases.settings):
        eventually(lambda: is_projected(databases))
    assert len(order_ids(databases)) == 20


def test_partitions_that_the_settings_do_not_know_of_are_refused_and_nothing_is_declared(
    databases: Databases, with_broker: Settings
) -> None:
    wrong = with_broker.model_copy(update={"partitions": with_broker.partitions + 1})
    with projecting(wrong) as team:
        reason = f"PARTITIONS is {wrong.partitions}, and the log has {with_broker.partitions}"
        eventually(lambda: problem_of(team) == reason)
    assert checkpoints(databases) == {}
    with channel_to(wrong) as channel, pytest.raises(ChannelClosedByBroker):
        channel.queue_declare(projector_queue(READ_MODEL, 0), passive=True)


def test_orders_keep_coming_while_workers_come_and_go(
    databases: Databases, with_broker: Settings
) -> None:
    stop = threading.Event()
    orders = []

    def keep_placing() -> None:
        while not stop.is_set():
            orders.extend(place_orders(databases, 20))

    placing = threading.Thread(target=keep_placing)
    placing.start()
    try:
        for _ in range(3):
            with relaying(with_broker), projecting(with_broker):
                seen = checkpoints(databases)
                eventually(lambda seen=seen: checkpoints(databases) != seen)
    finally:
        stop.set()
        placing.join()
    with relaying(with_broker), projecting(with_broker):
        eventually(lambda: is_projected(databases))
    assert order_ids(databases) == set(orders)


def test_a_process_can_be_given_some_partitions_only(
    databases: Databases,
) -> None:
    settings = databases.settings
    last = settings.partitions - 1
    rest = tuple(range(last))
    place_orders(databases, 20 * settings.partitions)
    with projecting(settings.model_copy(update={"own_partitions": (last,)})):
        eventually(lambda: checkpoints(databases).get(last) == heads(databases)[last])
        assert set(checkpoints(databases)) == {last}
        if rest:
            with projecting(settings.model_copy(update={"own_partitions": rest})):
                eventually(lambda: is_projected(databases))
