"""The way to a target: who may go there, and what comes back from there says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from codebase.engine.reactions.attempt import Attempt, Ended, attempt
from codebase.engine.reactions.breaker import FAILURES_TO_OPEN, Breaker
from codebase.engine.reactions.reaction import Answer, Send, Sent
from codebase.engine.reactions.target import AwayError, InDoubtError, Undone
from codebase.engine.reactions.way import UNWRITTEN, Way
from tests.clocks import StandingClock
from tests.patience import NEVER_SECONDS


def a_way(*, most: int = 1, breaker: Breaker | None = None) -> Way:
    return Way("jobs", "notary", most=most, breaker=breaker)


def an_open_way(*, most: int = 1, breaker: Breaker | None = None) -> Way:
    """Nobody waits there."""
    way = a_way(most=most, breaker=breaker)
    way.line_up(is_line=False)
    return way


def something(*, in_doubt: bool = False) -> Sent:
    return Sent(key=uuid4(), subject=uuid4(), send=Send("notary", "do"), in_doubt=in_doubt)


@pytest.mark.parametrize(("ended", "is_left_alone"), [(Ended.LATER, False), (Ended.NOT_SENT, True)])
def test_who_wants_it_later_is_not_left_alone_and_who_is_away_is(
    ended: Ended, *, is_left_alone: bool
) -> None:
    breaker = Breaker()
    way = a_way(breaker=breaker)
    for _ in range(10):
        answers = way.note(Attempt(ended=ended, reason="no"))
    assert breaker.is_closed is answers is not is_left_alone


@pytest.mark.parametrize("ended", [Ended.NOT_SENT, Ended.IN_DOUBT])
def test_a_target_is_not_left_alone_for_what_lies_on_our_side(ended: Ended) -> None:
    breaker = Breaker()
    way = a_way(breaker=breaker)
    for _ in range(10):
        way.note(Attempt(ended=ended, reason="no", is_ours=True))
    assert breaker.is_closed


def test_no_room_is_given_twice() -> None:
    way = an_open_way(most=3)
    assert way.reserve_for_new(2) == 2
    assert way.reserve() == 1
    assert [way.reserve(), way.reserve_for_new(1)] == [0, 0]
    way.release(1)
    assert way.reserve_for_new(5) == 1
    way.go(1)
    assert [way.on_their_way, way.reserve()] == [1, 0]


def test_who_has_come_back_leaves_his_room_before_that_is_written_down() -> None:
    way = an_open_way(most=1)
    for nth in range(UNWRITTEN):
        assert way.reserve_for_new(1) == 1
        way.go(1)
        assert way.reserve_for_new(1) == 0, "it is taken"
        way.came_back(Attempt(ended=Ended.ANSWERED))
        assert way.on_their_way == nth + 1, "and all of them are still to be written down"
    assert [way.reserve_for_new(1), way.reserve()] == [0, 0], "there is too much to write down"
    way.settled()
    assert [way.on_their_way, way.reserve_for_new(1)] == [UNWRITTEN - 1, 1]


def test_what_waited_leaves_half_of_the_room_where_there_is_no_line_of_it() -> None:
    way = an_open_way(most=5)
    assert way.reserve() == 3
    assert way.reserve_for_new(5) == 2
    way.release(5)
    way.line_up(is_line=True)
    assert [way.reserve(), way.reserve_for_new(1)] == [5, 0]


def test_who_comes_back_in_vain_is_heard_of_before_that_is_written_down() -> None:
    most = FAILURES_TO_OPEN
    breaker = Breaker(StandingClock())
    way = an_open_way(most=most, breaker=breaker)
    way.go(way.reserve_for_new(most))
    for nth in range(most):
        room = way.reserve_for_new(most)
        assert room == nth
        way.release(room)
        way.came_back(Attempt(ended=Ended.IN_DOUBT, reason="no answer"))
    assert not breaker.is_closed
    assert [way.reserve(), way.reserve_for_new(1)] == [0, 0]


def test_what_is_new_leaves_the_room_to_what_waits() -> None:
    way = a_way()
    assert way.reserve_for_new(1) == 0, "nobody has looked whether anything waits"
    way.line_up(is_line=False)
    assert way.reserve_for_new(1) == 1
    way.release(1)
    way.line_up(is_line=True)
    assert way.reserve_for_new(1) == 0


def test_nothing_new_finds_out_whether_a_target_is_back() -> None:
    clock = StandingClock()
    breaker = Breaker(clock)
    way = an_open_way(most=2, breaker=breaker)
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed()
    clock.push(NEVER_SECONDS)
    with way.room_for_one() as has_room:
        assert not has_room
    assert [way.reserve_for_new(1), way.reserve()] == [0, 1]


def test_who_goes_aside_takes_up_room_as_everybody_does() -> None:
    way = an_open_way(most=2)
    with way.room_for_one() as has_room, way.room_for_one() as has_another:
        assert (has_room, has_another) == (True, True)
        with way.room_for_one() as has_a_third:
            assert not has_a_third
        assert (way.reserve_for_new(2), way.on_their_way) == (0, 2), "who had none gives none back"
    assert (way.reserve_for_new(2), way.on_their_way) == (2, 0)


def test_who_is_elsewhere_leaves_his_room_to_others() -> None:
    way = an_open_way(most=1)
    assert way.reserve_for_new(1) == 1
    way.go(1)
    with way.elsewhere():
        assert way.reserve_for_new(1) == 1, "somebody comes meanwhile"
        way.go(1)
    assert (way.on_their_way, way.reserve(), way.reserve_for_new(1)) == (2, 0, 0)
    way.came_back(Attempt(ended=Ended.ANSWERED))
    way.settled()
    assert way.reserve() == 0
    way.came_back(Attempt(ended=Ended.ANSWERED))
    assert way.reserve() == 1


def test_who_goes_elsewhere_was_answered_here_then_and_not_when_he_comes_back() -> None:
    clock = StandingClock()
    breaker = Breaker(clock)
    way = an_open_way(most=2, breaker=breaker)
    fail(way)
    clock.push(NEVER_SECONDS)
    way.go(way.reserve())
    with way.elsewhere():
        assert breaker.is_closed
        assert way.answers_again()
        fail(way)
    assert not way.note(Attempt(ended=Ended.ANSWERED, answer=Answer(is_news=False)))
    assert not breaker.is_closed
    assert not way.answers_again()
    assert way.note(Attempt(ended=Ended.ANSWERED, answer=Answer()))


def fail(way: Way) -> None:
    for _ in range(FAILURES_TO_OPEN):
        way.note(Attempt(ended=Ended.IN_DOUBT, reason="no answer"))


@pytest.mark.parametrize("how", [Way.room_for_one, Way.elsewhere])
def test_who_fails_leaves_all_as_it_was(
    how: Callable[[Way], AbstractContextManager[object]],
) -> None:
    way = an_open_way(most=2)
    with pytest.raises(ZeroDivisionError), how(way):
        raise ZeroDivisionError
    assert (way.on_their_way, way.reserve_for_new(2)) == (0, 2)


@dataclass
class Stuck:
    """A target that never answers what it is asked to do; `word` is what inquiries are answered."""

    word: Undone | Exception | None = None
    deadline_seconds: float = NEVER_SECONDS
    asked: list[Sent] = field(default_factory=list)

    async def send(self, sent: Sent) -> Answer:
        self.asked.append(sent)
        raise InDoubtError("no answer")

    async def inquire(self, _sent: Sent) -> Undone | None:
        if isinstance(self.word, Exception):
            raise self.word
        return self.word


def test_who_goes_aside_tells_of_the_target_as_everybody_does() -> None:
    breaker, stuck = Breaker(), Stuck()
    way = an_open_way(breaker=breaker)
    for _ in range(FAILURES_TO_OPEN):
        ended = asyncio.run(way.aside(stuck, something()))
        assert (ended.ended, ended.reason) == (Ended.IN_DOUBT, "no answer")
    assert not breaker.is_closed
    assert len(stuck.asked) == FAILURES_TO_OPEN


@pytest.mark.parametrize(
    ("word", "is_left_alone"),
    [(Undone(), False), (None, True), (InDoubtError("no answer"), True), (AwayError("away"), True)],
    ids=["answered", "never asked", "hangs as well", "away"],
)
def test_who_answers_inquiries_is_not_left_alone_for_one_thing_that_hangs(
    word: Undone | Exception | None, *, is_left_alone: bool
) -> None:
    clock = StandingClock()
    breaker = Breaker(clock, within_seconds=10)
    way, stuck = a_way(most=32, breaker=breaker), Stuck(word)
    for _ in range(10):
        ended = asyncio.run(attempt(stuck, something(in_doubt=True)))
        assert ended.ended is Ended.IN_DOUBT
        way.note(ended)
        clock.now += 0.1
    assert breaker.is_closed is not is_left_alone


def test_a_probe_that_hangs_alone_leaves_the_next_one_its_turn() -> None:
    clock = StandingClock()
    breaker = Breaker(clock, within_seconds=10)
    way = a_way(most=32, breaker=breaker)
    for _ in range(5):
        way.note(Attempt(ended=Ended.IN_DOUBT, reason="no answer"))
    assert way.reserve() == 0
    clock.now += 1.0
    way.note(Attempt(ended=Ended.IN_DOUBT, reason="no answer", was_told=True))
    assert not breaker.is_closed, "that it answers inquiries does not say that it does anything"
    assert breaker.room(0, 32) == 1
