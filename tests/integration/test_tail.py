from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from uuid import uuid4

from codebase.operations.tail import tail
from tests.integration.flow import eventually, place_orders

if TYPE_CHECKING:
    from tests.databases import Databases


def test_the_end_of_the_log_is_shown(databases: Databases) -> None:
    orders = place_orders(databases, 5)
    lines: list[str] = []
    tail(databases.settings, follow=False, say=lines.append)
    assert len(lines) == 5
    assert all("BuyOrderPlaced" in line for line in lines)
    assert {order for order in orders if any(str(order) in line for line in lines)} == set(orders)


def test_one_stream_is_shown_alone(databases: Databases) -> None:
    order, *_ = place_orders(databases, 5)
    lines: list[str] = []
    tail(databases.settings, follow=False, stream_id=order, say=lines.append)
    assert len(lines) == 1
    tail(databases.settings, follow=False, stream_id=uuid4(), say=lines.append)
    assert len(lines) == 1


def test_following_shows_what_comes(databases: Databases) -> None:
    lines: list[str] = []
    stop = threading.Event()
    following = threading.Thread(
        target=lambda: tail(databases.settings, say=lines.append, stop=stop)
    )
    following.start()
    place_orders(databases, 3)
    try:
        eventually(lambda: len(lines) == 3)
    finally:
        stop.set()
        following.join()
