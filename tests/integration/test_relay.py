"""The relay against a real broker: everything in order, nothing lost, whatever dies."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from pika.exceptions import ChannelClosedByBroker

from codebase.engine.log.events import NewEvent
from codebase.engine.messages.topology import (
    EVENTS,
    POSITIONS,
    declare_projector_queue,
    declare_published,
    declare_queue,
    projector_queue,
)
from codebase.engine.projections.read_model import READ_MODEL
from codebase.foundation.failpoints import EXIT_STATUS
from codebase.foundation.settings import Settings
from tests.integration.flow import (
    channel_to,
    eventually,
    heads,
    is_projected,
    is_relayed,
    messages_in,
    order_event,
    part,
    place_orders,
    problem_of,
    projecting,
    query,
    relayed,
    relaying,
    sample_event,
    truncate_log,
    write,
)
from tests.processes import status_of

if TYPE_CHECKING:
    from tests.databases import Databases


SUBSCRIBER = "a team of somebody else"


@pytest.fixture
def with_broker(with_broker: Settings) -> Settings:
    """Of whose events somebody wants to have all."""
    with channel_to(with_broker) as channel:
        declare_published(channel)
        declare_queue(channel, SUBSCRIBER, single_active_consumer=False)
        channel.queue_bind(SUBSCRIBER, EVENTS, "#")
    return with_broker


def published(settings: Settings) -> list[tuple[Any, dict[str, Any]]]:
    """What a subscriber has got since it was last asked: (properties, event)."""
    with channel_to(settings) as channel:
        return [
            (properties, json.loads(body)) for properties, body in messages_in(channel, SUBSCRIBER)
        ]


def announced(settings: Settings) -> list[dict[str, Any]]:
    """What a projector of orders has been told since it was last asked."""
    with channel_to(settings) as channel:
        return [
            json.loads(body)
            for partition in range(settings.partitions)
            for _, body in messages_in(channel, projector_queue(READ_MODEL, partition))
        ]


def declare_projector(settings: Settings, *categories: str) -> None:
    with channel_to(settings) as channel:
        for partition in range(settings.partitions):
            declare_projector_queue(channel, READ_MODEL, categories, partition)


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


def test_projectors_are_told_once_of_all_that_is_published_together(
    databases: Databases, with_broker: Settings
) -> None:
    declare_projector(with_broker, "buy_order")
    place_orders(databases, 300)
    with relaying(with_broker):
        eventually(lambda: is_relayed(databases))
    told = announced(with_broker)
    assert {each["partition"]: each["position"] for each in told} == heads(databases)
    assert len(told) == with_broker.partitions, "300 are less than a window"
    last = {event["event_id"]: event for _, event in published(with_broker)}
    for each in told:
        assert each == {key: last[each["event_id"]][key] for key in each}


def test_a_projector_is_told_of_its_own_categories_and_once_of_several(
    databases: Databases, with_broker: Settings
) -> None:
    def both() -> list[NewEvent]:
        sample = sample_event(databases.settings, uuid4(), 1, "x")
        order = order_event(databases.settings)
        return [sample, replace(order, partition=sample.partition)]

    declare_projector(with_broker, "buy_order", "test")
    with channel_to(with_broker) as channel:
        for partition in range(with_broker.partitions):
            declare_projector_queue(channel, "only_orders", ["buy_order"], partition)
    write(databases, both())
    with relaying(with_broker):
        eventually(lambda: is_relayed(databases))
        assert [each["position"] for each in announced(with_broker)] == [2]
        write(databases, [sample_event(databases.settings, uuid4(), 1, "x")])
        eventually(lambda: is_relayed(databases))
    with channel_to(with_broker) as channel:
        told = [
            json.loads(body)["position"]
            for partition in range(with_broker.partitions)
            for _, body in messages_in(channel, projector_queue("only_orders", partition))
        ]
    assert told == [2], "of the batch with an order in it, and not of the other"


def test_an_event_that_nobody_has_subscribed_to_holds_up_nothing(
    databases: Databases, with_broker: Settings
) -> None:
    with channel_to(with_broker) as channel:
        channel.queue_delete(SUBSCRIBER)
    place_orders(databases, 20)
    with relaying(with_broker) as team:
        eventually(lambda: is_relayed(databases) and problem_of(team) is None)


def test_a_queue_that_exists_with_other_arguments_keeps_events_from_nobody(
    databases: Databases, with_broker: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with channel_to(with_broker) as channel:
        channel.queue_declare(projector_queue(READ_MODEL, 0), durable=True)
    with relaying(with_broker), projecting(with_broker):
        streams = place_orders(databases, 20)
        eventually(lambda: is_relayed(databases) and is_projected(databases))
        told = f"queue {READ_MODEL}.0: the broker refuses (406 PRECONDITION_FAILED)"
        eventually(lambda: told in caplog.text)
    assert len(published(with_broker)) == len(streams)


def test_an_exchange_that_exists_as_another_kind_is_no_broker_that_is_away(
    databases: Databases, with_broker: Settings
) -> None:
    with channel_to(with_broker) as channel:
        channel.exchange_delete(EVENTS)
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
        assert status_of(process) == EXIT_STATUS
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
            status_of(active)
            place_orders(databases, 10)
            eventually(lambda: is_relayed(databases))
    events = [event for _, event in published(with_broker)]
    assert len({event["event_id"] for event in events}) == 20


def test_two_relays_publish_each_event_once(databases: Databases, with_broker: Settings) -> None:
    with relaying(with_broker), relaying(with_broker):
        place_orders(databases, 100)
        eventually(lambda: is_relayed(databases))
    assert len(published(with_broker)) == 100


@pytest.mark.parametrize("exchange", [EVENTS, POSITIONS])
def test_an_exchange_that_was_deleted_is_declared_again(
    databases: Databases, with_broker: Settings, exchange: str
) -> None:
    with relaying(with_broker):
        place_orders(databases, 5)
        eventually(lambda: is_relayed(databases))
        with channel_to(with_broker) as channel:
            channel.exchange_delete(exchange)
            # Enough for every partition to notice.
            place_orders(databases, 80)
            eventually(lambda: is_declared(with_broker, exchange))
        eventually(lambda: is_relayed(databases))


def is_declared(settings: Settings, exchange: str) -> bool:
    with channel_to(settings) as channel:
        try:
            channel.exchange_declare(exchange, passive=True)
        except ChannelClosedByBroker:
            return False
    return True


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


def test_partitions_that_the_settings_do_not_know_of_are_refused_and_nothing_is_declared(
    with_broker: Settings,
) -> None:
    with channel_to(with_broker) as channel:
        channel.exchange_delete(EVENTS)
    wrong = with_broker.model_copy(update={"partitions": with_broker.partitions + 1})
    with relaying(wrong) as team:
        reason = f"PARTITIONS is {wrong.partitions}, and the log has {with_broker.partitions}"
        eventually(lambda: problem_of(team) == reason)
    assert not is_declared(wrong, EVENTS)


def test_without_a_broker_there_is_nothing_to_relay_and_nothing_wrong(
    databases: Databases,
) -> None:
    place_orders(databases, 3)
    with relaying(databases.settings):
        assert set(relayed(databases).values()) == {0}
