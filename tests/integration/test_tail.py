from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from codebase.engine.log.events import RecordedEvent
from codebase.operations.tail import NoSuchStreamError, follow, line_of, show
from tests.integration.flow import eventually, place_orders

if TYPE_CHECKING:
    from tests.databases import Databases


def test_the_end_of_the_log_is_shown(databases: Databases) -> None:
    orders = place_orders(databases, 5)
    events = show(databases.settings)
    assert {event.stream_id for event in events} == set(orders)
    assert all("BuyOrderPlaced" in line_of(event) for event in events)
    assert len(events) == 5
    held = Counter(event.partition for event in events)
    shown = Counter(event.partition for event in show(databases.settings, last=2))
    assert shown == {partition: min(2, count) for partition, count in held.items()}


def test_one_stream_is_shown_alone(databases: Databases) -> None:
    order, *_ = place_orders(databases, 5)
    assert [event.stream_id for event in show(databases.settings, order)] == [order]
    with pytest.raises(NoSuchStreamError, match="there is no stream"):
        show(databases.settings, uuid4())


def test_following_shows_what_comes(databases: Databases) -> None:
    seen: list[RecordedEvent] = []
    stop = threading.Event()
    following = threading.Thread(target=lambda: seen.extend(follow(databases.settings, stop=stop)))
    following.start()
    place_orders(databases, 3)
    try:
        eventually(lambda: len(seen) == 3)
    finally:
        stop.set()
        following.join()


def test_following_one_stream_shows_nothing_of_others(databases: Databases) -> None:
    first, wanted = place_orders(databases, 2)
    stop = threading.Event()
    following = follow(databases.settings, wanted, stop=stop)
    assert next(following).stream_id == wanted
    place_orders(databases, 3)
    stop.set()
    assert list(following) == []
    assert first != wanted
