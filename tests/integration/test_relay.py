"""The relay against a real broker: everything in order, nothing lost, whatever dies."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from pika.exceptions import ChannelClosedByBroker

from codebase.engine.messages.relay import relay_team
from codebase.engine.messages.topology import EVENTS, Subscription
from codebase.engine.projections.read_model import SUBSCRIPTION
from codebase.foundation.failpoints import EXIT_STATUS
from codebase.foundation.settings import Settings
from tests.integration.flow import (
    at_work,
    channel_to,
    eventually,
    is_relayed,
    messages_in,
    part,
    place_orders,
    problem_of,
    query,
    relayed,
    relaying,
    truncate_log,
)
from tests.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases


def queues(settings: Settings) -> list[str]:
    return [SUBSCRIPTION.queue(partition) for partition in range(settings.partitions)]


def published(settings: Settings) -> list[tuple[Any, dict[str, Any]]]:
    """Everything in the projector's queues: (properties, event)."""
    with channel_to(settings) as channel:
        return [
            (properties, json.loads(body))
            for queue in queues(settings)
            for properties, body in messages_in(channel, queue)
        ]


def test_every_event_arrives_once_and_in_order(databases: Databases, with_broker: Settings) -> None:
    orders = place_orders(databases, 300)
    with relaying(with_broker):
        eventually(lambda: is_relayed(databases))
        orders += place_orders(databases, 20)
        eventually(lambda: is_relayed(databases))
    events = [event for _, event in published(with_broker)]
    assert {event["stream_id"] for event in events} == {str(order) for order in orders}
    assert len(events) == len(orders)
    for partition in range(with_broker.partitions):
        positions = [e["position"] for e in events if e["partition"] == partition]
        assert positions == list(range(1, len(positions) + 1))


def test_a_message_has_the_documented_shape(databases: Databases, with_broker: Settings) -> None:
    place_orders(databases, 1)
    with relaying(with_broker):
        eventually(lambda: is_relayed(databases))
    ((properties, event),) = published(with_broker)
    ((data, meta, recorded_at, partition),) = query(
        databases.as_owner(), "SELECT data, meta, recorded_at, partition FROM event"
    )
    assert event == {
        "event_id": meta["event_id"],
        "type": "BuyOrderPlaced",
        "category": "buy_order",
        "stream_id": event["stream_id"],
        "version": 1,
        "partition": partition,
        "position": 1,
        "recorded_at": recorded_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "data": data,
        "meta": meta,
    }
    assert event["data"]["btc_rate"] == "48478.88000000"
    assert properties.message_id == meta["event_id"]
    assert properties.type == "BuyOrderPlaced"
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert datetime.fromtimestamp(properties.timestamp, UTC) == recorded_at.replace(microsecond=0)
    assert properties.headers == {
        "partition": partition,
        "position": 1,
        "stream_id": event["stream_id"],
        "version": 1,
        "traceparent": meta["traceparent"],
    }


def test_other_consumers_bind_by_topic(databases: Databases, with_broker: Settings) -> None:
    with relaying(with_broker):
        place_orders(databases, 1)
        eventually(lambda: is_relayed(databases))
        with channel_to(with_broker) as channel:
            channel.queue_declare("mine", durable=True)
            channel.queue_bind("mine", EVENTS, "buy_order.*")
            channel.queue_declare("other", durable=True)
            channel.queue_bind("other", EVENTS, "account.#")
            place_orders(databases, 3)
            eventually(lambda: is_relayed(databases))
            assert len(messages_in(channel, "mine")) == 3
            assert messages_in(channel, "other") == []


def test_a_queue_that_exists_with_other_arguments_is_told_of_and_stops_nobody(
    databases: Databases, with_broker: Settings
) -> None:
    other = Subscription(name="other_team", topics=("buy_order.#",))
    with channel_to(with_broker) as channel:
        channel.queue_declare(SUBSCRIPTION.queue(0), durable=True)
    with at_work(relay_team(with_broker, [SUBSCRIPTION, other])) as team:
        streams = place_orders(databases, 20)
        eventually(lambda: is_relayed(databases))
        sentence = f"queue {SUBSCRIPTION.queue(0)} exists with other arguments"
        eventually(lambda: problem_of(team) == sentence)
        with channel_to(with_broker) as channel:
            theirs = [other.queue(each) for each in range(with_broker.partitions)]
            assert sum(len(messages_in(channel, queue)) for queue in theirs) == len(streams)
        assert len(published(with_broker)) == len(streams), "it is bound, and misses nothing"
        with channel_to(with_broker) as channel:
            channel.queue_delete(SUBSCRIPTION.queue(0))
        eventually(lambda: problem_of(team) is None)


def test_an_exchange_that_exists_as_another_kind_is_no_broker_that_is_away(
    databases: Databases, with_broker: Settings
) -> None:
    with channel_to(with_broker) as channel:
        channel.exchange_declare(EVENTS, "fanout", durable=True)
    place_orders(databases, 1)
    with relaying(with_broker) as team:
        refusal = "the broker refuses (406 PRECONDITION_FAILED)"
        eventually(lambda: problem_of(team) == refusal)


def test_a_relay_killed_between_confirm_and_checkpoint_publishes_again_with_the_same_ids(
    databases: Databases, with_broker: Settings
) -> None:
    place_orders(databases, 50)
    with part("relay", with_broker, ORDERLY_FAILPOINT="relay_after_publish") as process:
        assert process.wait(PATIENCE_SECONDS) == EXIT_STATUS
    before = [event["event_id"] for _, event in published(with_broker)]
    assert before, "something was published"
    assert not is_relayed(databases), "and the checkpoint does not tell"
    with relaying(with_broker):
        eventually(lambda: is_relayed(databases))
    after = [event["event_id"] for _, event in published(with_broker)]
    assert len(set(after)) == 50 or with_broker.partitions > 1
    assert len(set(before) | set(after)) == 50


def test_a_standby_takes_over_from_a_relay_that_was_killed(
    databases: Databases, with_broker: Settings
) -> None:
    with part("relay", with_broker) as active:
        place_orders(databases, 10)
        eventually(lambda: is_relayed(databases))
        with relaying(with_broker):
            active.kill()
            active.wait()
            place_orders(databases, 10)
            eventually(lambda: is_relayed(databases))
    events = [event for _, event in published(with_broker)]
    assert len({event["event_id"] for event in events}) == 20


def test_two_relays_publish_each_event_once(databases: Databases, with_broker: Settings) -> None:
    with relaying(with_broker), relaying(with_broker):
        place_orders(databases, 100)
        eventually(lambda: is_relayed(databases))
    assert len(published(with_broker)) == 100


def test_an_unroutable_event_waits_until_its_queue_is_there_again(
    databases: Databases, with_broker: Settings
) -> None:
    with relaying(with_broker):
        place_orders(databases, 5)
        eventually(lambda: is_relayed(databases))
        with channel_to(with_broker) as channel:
            for name in queues(with_broker):
                channel.queue_delete(name)
            # Enough for every partition to notice.
            lost = {str(order) for order in place_orders(databases, 80)}
            eventually(lambda: is_relayed(databases))
    arrived = {event["stream_id"] for _, event in published(with_broker)}
    assert lost <= arrived


def test_a_relay_cut_off_from_its_database_goes_on(
    databases: Databases, with_broker: Settings
) -> None:
    with relaying(with_broker):
        place_orders(databases, 5)
        eventually(lambda: is_relayed(databases))
        with psycopg.connect(databases.server.superuser_url(), autocommit=True) as superuser:
            superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'event_relay'"
            )
        place_orders(databases, 5)
        eventually(lambda: is_relayed(databases))
    assert len({event["event_id"] for _, event in published(with_broker)}) == 10


def test_a_relay_whose_checkpoint_was_moved_goes_on_from_there(
    databases: Databases, with_broker: Settings
) -> None:
    with relaying(with_broker):
        place_orders(databases, 20)
        eventually(lambda: is_relayed(databases))
        with databases.as_owner() as owner:
            owner.execute("UPDATE relay_checkpoint SET position = 0")
        # Enough for every partition to have news, and so to notice.
        place_orders(databases, 80)
        eventually(lambda: is_relayed(databases))
    events = [event for _, event in published(with_broker)]
    assert len({event["event_id"] for event in events}) == 100
    assert len(events) > 100, "and everything from there on was published again"


def test_a_log_that_ends_before_the_checkpoint_is_not_relayed_and_the_reason_is_told(
    databases: Databases, with_broker: Settings
) -> None:
    with relaying(with_broker) as team:
        place_orders(databases, 40)
        eventually(lambda: is_relayed(databases) and problem_of(team) is None)
        truncate_log(databases)
        eventually(lambda: "of the log ends at 1, and" in (problem_of(team) or ""))


def test_a_log_without_its_last_events_is_told_of(
    databases: Databases, with_broker: Settings
) -> None:
    with databases.as_owner() as owner:
        owner.execute("UPDATE log_head SET position = 5")
    with relaying(with_broker) as team:
        eventually(lambda: problem_of(team) == "the log has nothing above 0")


def test_partitions_that_the_settings_do_not_know_of_are_refused_and_nothing_is_declared(
    with_broker: Settings,
) -> None:
    wrong = with_broker.model_copy(update={"partitions": with_broker.partitions + 1})
    with relaying(wrong) as team:
        reason = f"PARTITIONS is {wrong.partitions}, and the log has {with_broker.partitions}"
        eventually(lambda: problem_of(team) == reason)
    with channel_to(wrong) as channel, pytest.raises(ChannelClosedByBroker):
        channel.exchange_declare(EVENTS, passive=True)


def test_without_a_broker_there_is_nothing_to_relay_and_nothing_wrong(
    databases: Databases,
) -> None:
    place_orders(databases, 3)
    with relaying(databases.settings):
        assert set(relayed(databases).values()) == {0}
