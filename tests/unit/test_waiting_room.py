"""Who waits for a read model: in order, in bounds, and woken for a reason only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codebase.engine.log.extent import Extent
from codebase.engine.projections.waiting_room import TooManyWaitingError, Waiter, WaitingRoom
from tests.logs import ANOTHER, OURS

ME = "me"


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def seen(**positions: int) -> Extent:
    """`p0=7`: partition 0 up to position 7."""
    return Extent(OURS, {int(name[1:]): position for name, position in positions.items()})


def roomy() -> WaitingRoom:
    room = WaitingRoom(10_000, 10_000)
    room.arrive(Extent(OURS, {}))
    return room


def woken(waiters: list[Waiter]) -> list[int]:
    return [number for number, waiter in enumerate(waiters) if waiter.arrived.done()]


def test_only_those_are_woken_whom_the_read_model_has_reached() -> None:
    async def test() -> None:
        room = roomy()
        waiters = [room.enter(ME, seen(p0=position)) for position in range(1, 1001)]
        waits = [asyncio.ensure_future(waiter.arrived) for waiter in waiters]
        room.arrive(seen(p0=3))
        assert woken(waiters) == [0, 1, 2]
        await asyncio.sleep(0)
        assert [wait.done() for wait in waits].count(True) == 3
        assert room.places == 997, "nobody else was even looked at"
        room.arrive(seen(p0=4))
        assert woken(waiters) == [0, 1, 2, 3]

    in_a_loop(test)


def test_whoever_waits_for_several_partitions_is_woken_once_and_by_the_last() -> None:
    async def test() -> None:
        room = roomy()
        waiter = room.enter(ME, seen(p0=5, p1=6, p2=7))
        for reached in (seen(p0=5), seen(p0=5, p2=9), seen(p0=5, p1=5, p2=9)):
            room.arrive(reached)
            assert not waiter.arrived.done()
            assert room.places == 1, "it stands in one line at a time"
        room.arrive(seen(p0=5, p1=6, p2=9))
        assert waiter.arrived.done()
        assert room.places == 0

    in_a_loop(test)


@settings(max_examples=50)
@given(
    st.lists(st.dictionaries(st.integers(0, 3), st.integers(1, 9), min_size=1), max_size=12),
    st.lists(st.dictionaries(st.integers(0, 3), st.integers(1, 9)), max_size=6),
)
def test_nobody_is_forgotten_in_any_order_of_arrivals(
    wanted: list[dict[int, int]], arrivals: list[dict[int, int]]
) -> None:
    async def test() -> None:
        room = roomy()
        waiters = [room.enter(ME, Extent(OURS, positions)) for positions in wanted]
        reached: dict[int, int] = {}
        for arrival in arrivals:
            reached |= {p: max(at, reached.get(p, 0)) for p, at in arrival.items()}
            room.arrive(Extent(OURS, dict(reached)))
            holds = [Extent(OURS, reached).holds(waiter.seen) for waiter in waiters]
            assert [waiter.arrived.done() for waiter in waiters] == holds

    in_a_loop(test)


def test_there_is_room_for_some_and_for_some_of_each_caller() -> None:
    async def test() -> None:
        room = WaitingRoom(3, 2)
        first = room.enter("greedy", seen(p0=1))
        room.enter("greedy", seen(p0=1))
        with pytest.raises(TooManyWaitingError, match="your requests"):
            room.enter("greedy", seen(p0=1))
        room.enter("modest", seen(p0=1))
        with pytest.raises(TooManyWaitingError, match="too many requests"):
            room.enter("late", seen(p0=1))
        assert len(room) == 3
        room.leave(first)
        room.enter("late", seen(p0=1))
        assert len(room) == 3

    in_a_loop(test)


def test_those_who_leave_leave_nothing_behind() -> None:
    """A position that never comes would keep its place for ever."""

    async def test() -> None:
        room = roomy()
        staying = [room.enter(ME, seen(p0=1_000_000 + number)) for number in range(10)]
        for number in range(1_000):
            room.leave(room.enter(ME, seen(p0=2_000_000 + number, p1=1)))
            assert room.places <= 2 * len(room) + 1
        assert len(room) == 10
        room.arrive(seen(p0=1_000_005))
        assert woken(staying) == [0, 1, 2, 3, 4, 5]
        for waiter in staying:
            room.leave(waiter)
        assert (len(room), room.places) == (0, 0)

    in_a_loop(test)


def test_of_those_who_have_left_nobody_hears() -> None:
    async def test() -> None:
        room = roomy()
        staying, leaving = (
            [room.enter(ME, seen(p0=at)) for at in (1, 2, 3)],
            room.enter(ME, seen(p0=2)),
        )
        room.leave(leaving)
        assert room.places == 4, "its place is still there"
        room.arrive(seen(p0=3))
        assert woken(staying) == [0, 1, 2]
        assert leaving.arrived.cancelled()

    in_a_loop(test)


def test_before_anybody_has_looked_everybody_waits() -> None:
    async def test() -> None:
        room = WaitingRoom(10, 10)
        waiter = room.enter(ME, seen(p0=0))
        assert not waiter.arrived.done()
        room.arrive(Extent(None, {}))
        assert waiter.arrived.done()

    in_a_loop(test)


def test_what_is_beyond_the_end_of_the_log_is_not_waited_for() -> None:
    async def test() -> None:
        room = roomy()
        beyond, partly = room.enter(ME, seen(p0=11)), room.enter(ME, seen(p0=11, p1=5))
        room.judge(room.take_unjudged(), seen(p0=10, p1=8))
        assert beyond.arrived.done()
        assert beyond.seen == Extent(OURS, {})
        assert not partly.arrived.done()
        room.arrive(seen(p1=5))
        assert partly.arrived.done()
        assert partly.seen == seen(p1=5)

    in_a_loop(test)


def test_what_is_of_another_log_is_not_waited_for_whether_the_log_is_there_or_not() -> None:
    async def test() -> None:
        for log in (seen(p0=100), None):
            room = roomy()
            foreign = room.enter(ME, Extent(ANOTHER, {0: 5}))
            room.judge(room.take_unjudged(), log)
            assert foreign.arrived.done()
            assert foreign.seen.positions == {}

    in_a_loop(test)


def test_what_is_of_the_log_is_waited_for_though_the_read_model_is_of_another() -> None:
    async def test() -> None:
        room = WaitingRoom(10, 10)
        waiter = room.enter(ME, seen(p0=5))
        room.arrive(Extent(ANOTHER, {0: 100}))
        room.judge(room.take_unjudged(), seen(p0=5))
        assert not waiter.arrived.done()
        room.arrive(seen(p0=5))
        assert waiter.arrived.done()

    in_a_loop(test)


def test_without_a_look_at_the_log_positions_of_it_are_waited_for() -> None:
    async def test() -> None:
        room = roomy()
        waiter = room.enter(ME, seen(p0=11))
        room.judge(room.take_unjudged(), None)
        assert not waiter.arrived.done()
        assert room.take_unjudged() == [], "everybody is judged once"

    in_a_loop(test)


def test_those_who_have_gone_are_not_judged() -> None:
    async def test() -> None:
        room = roomy()
        judged, gone = room.enter(ME, seen(p0=11)), room.enter(ME, seen(p0=12))
        unjudged = room.take_unjudged()
        room.leave(gone)
        room.judge(unjudged, seen(p0=10))
        assert judged.arrived.done()
        assert room.places == 0
        room.leave(room.enter(ME, seen(p0=13)))
        assert room.take_unjudged() == []

    in_a_loop(test)
