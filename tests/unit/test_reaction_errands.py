"""What is on its way to a target: who may still start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import uuid4

import pytest

from codebase.engine.reactions.attempt import Attempt, Ended, attempt
from codebase.engine.reactions.breaker import FAILURES_TO_OPEN, Breaker
from codebase.engine.reactions.errands import Errands
from codebase.engine.reactions.reaction import Answer, Send, Sent
from codebase.engine.reactions.taken import Taken
from codebase.engine.reactions.target import AwayError, InDoubtError, Undone
from tests.clocks import StandingClock
from tests.patience import NEVER_SECONDS


class Notary:
    """A target that notes what it was asked for."""

    deadline_seconds = 5.0

    def __init__(self) -> None:
        self.asked: list[Sent] = []

    async def send(self, sent: Sent) -> Answer:
        self.asked.append(sent)
        return Answer()

    async def inquire(self, sent: Sent) -> Answer | None:
        self.asked.append(sent)
        return None


@pytest.mark.parametrize(
    ("now", "in_doubt", "ended", "asked"),
    [
        (89.0, False, Ended.ANSWERED, 1),
        (91.0, False, Ended.NOT_SENT, 0),
        (101.0, False, Ended.NOT_SENT, 0),
        (101.0, True, Ended.IN_DOUBT, 0),
    ],
    ids=[
        "in time",
        "could come back after the lease",
        "after the lease",
        "after the lease, in doubt before",
    ],
)
def test_who_starts_too_late_for_his_lease_does_not_start(
    now: float, ended: Ended, asked: int, *, in_doubt: bool
) -> None:
    notary = Notary()

    async def carry() -> Attempt:
        loop = asyncio.get_running_loop()
        back = loop.create_future()
        errands = Errands(
            "jobs",
            "notary",
            notary,
            most=1,
            loop=loop,
            returned=lambda _taken, attempt: back.set_result(attempt),
            clock=lambda: now,
        )
        assert errands.reserve() == 1
        errands.depart([taken])
        found: Attempt = await back
        return found

    sent = Sent(key=uuid4(), subject=uuid4(), send=Send("notary", "do"))
    taken = Taken(
        number=1, token=uuid4(), ends_at=100.0, in_doubt=in_doubt, is_lost=False, sent=sent
    )
    assert asyncio.run(carry()).ended is ended
    assert len(notary.asked) == asked


def errands_on(
    loop: asyncio.AbstractEventLoop,
    returned: Callable[[Taken, Attempt], None],
    breaker: Breaker | None = None,
) -> Errands:
    return Errands(
        "jobs", "notary", Notary(), most=1, loop=loop, returned=returned, breaker=breaker
    )


def taken_until_100() -> Taken:
    sent = Sent(key=uuid4(), subject=uuid4(), send=Send("notary", "do"))
    return Taken(number=1, token=uuid4(), ends_at=100.0, in_doubt=False, is_lost=False, sent=sent)


@pytest.mark.parametrize(("ended", "is_left_alone"), [(Ended.LATER, False), (Ended.NOT_SENT, True)])
def test_who_wants_it_later_is_not_left_alone_and_who_is_away_is(
    ended: Ended, *, is_left_alone: bool
) -> None:
    loop, breaker = asyncio.new_event_loop(), Breaker()
    errands = errands_on(loop, lambda _taken, _attempt: None, breaker=breaker)
    taken = taken_until_100()
    for _ in range(10):
        errands.note(taken, Attempt(ended=ended, reason="no"))
    loop.close()
    assert breaker.is_closed is not is_left_alone


@pytest.mark.parametrize("ended", [Ended.NOT_SENT, Ended.IN_DOUBT])
def test_a_target_is_not_left_alone_for_what_lies_on_our_side(ended: Ended) -> None:
    loop, breaker = asyncio.new_event_loop(), Breaker()
    errands = errands_on(loop, lambda _taken, _attempt: None, breaker=breaker)
    loop.close()
    taken = taken_until_100()
    for _ in range(10):
        errands.note(taken, Attempt(ended=ended, reason="no", is_ours=True))
    assert breaker.is_closed


def test_no_room_is_given_twice() -> None:
    loop = asyncio.new_event_loop()
    errands = Errands(
        "jobs", "notary", Notary(), most=3, loop=loop, returned=lambda _taken, _attempt: None
    )
    loop.close()
    errands.line_up(is_line=False)
    assert errands.reserve_for_new(2) == 2
    assert errands.reserve() == 1
    assert [errands.reserve(), errands.reserve_for_new(1)] == [0, 0]
    errands.release(1)
    assert errands.reserve_for_new(5) == 1
    errands.depart([taken_until_100()])
    assert [errands.on_their_way, errands.reserve()] == [1, 0]
    errands.note(taken_until_100(), Attempt(ended=Ended.ANSWERED))
    assert errands.reserve() == 0, "what became of it is not written down yet"
    errands.settled()
    assert [errands.on_their_way, errands.reserve()] == [0, 1]


def test_what_is_new_leaves_the_room_to_what_waits() -> None:
    loop = asyncio.new_event_loop()
    errands = errands_on(loop, lambda _taken, _attempt: None)
    loop.close()
    assert errands.reserve_for_new(1) == 0, "nobody has looked whether anything waits"
    errands.line_up(is_line=False)
    assert errands.reserve_for_new(1) == 1
    errands.release(1)
    errands.line_up(is_line=True)
    assert errands.reserve_for_new(1) == 0


def test_nothing_new_finds_out_whether_a_target_is_back() -> None:
    clock, loop = StandingClock(), asyncio.new_event_loop()
    breaker = Breaker(clock)
    errands = errands_on(loop, lambda _taken, _attempt: None, breaker=breaker)
    loop.close()
    errands.line_up(is_line=False)
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed()
    clock.push(NEVER_SECONDS)
    assert [errands.reserve_for_new(1), errands.reserve()] == [0, 1]


class Mute(Notary):
    """A target that is called and never says anything."""

    def __init__(self) -> None:
        super().__init__()
        self.called = asyncio.Event()

    async def send(self, sent: Sent) -> Answer:
        self.called.set()
        await asyncio.Event().wait()
        return await super().send(sent)


def test_what_is_on_its_way_when_the_process_ends_comes_back_in_doubt() -> None:
    async def abandoned() -> Attempt:
        mute, loop = Mute(), asyncio.get_running_loop()
        back = loop.create_future()
        errands = Errands(
            "jobs",
            "notary",
            mute,
            most=1,
            loop=loop,
            returned=lambda _taken, attempt: back.set_result(attempt),
            clock=lambda: 82.0,
        )
        assert errands.reserve() == 1
        errands.depart([taken])
        await mute.called.wait()
        errands.abandon()
        found: Attempt = await back
        return found

    sent = Sent(key=uuid4(), subject=uuid4(), send=Send("notary", "do"))
    # Begun at 80 by a lease of 20: the target is done with it at 85.
    taken = Taken(number=1, token=uuid4(), ends_at=100.0, in_doubt=False, is_lost=False, sent=sent)
    ended = asyncio.run(abandoned())
    assert (ended.ended, ended.is_ours, ended.stopped_for) == (Ended.IN_DOUBT, True, 3.0)


class Stuck(Notary):
    """A target that never answers what it is asked to do; `word` is what inquiries are answered."""

    def __init__(self, word: Undone | Exception | None) -> None:
        super().__init__()
        self._word = word

    async def send(self, sent: Sent) -> Answer:
        self.asked.append(sent)
        raise InDoubtError("no answer")

    async def inquire(self, sent: Sent) -> Undone | None:  # type: ignore[override] # never done
        self.asked.append(sent)
        if isinstance(self._word, Exception):
            raise self._word
        return self._word


@pytest.mark.parametrize(
    ("word", "is_left_alone"),
    [(Undone(), False), (None, True), (InDoubtError("no answer"), True), (AwayError("away"), True)],
    ids=["answered", "never asked", "hangs as well", "away"],
)
def test_who_answers_inquiries_is_not_left_alone_for_one_thing_that_hangs(
    word: Undone | Exception | None, *, is_left_alone: bool
) -> None:
    clock, loop = StandingClock(), asyncio.new_event_loop()
    breaker = Breaker(clock, within_seconds=10)
    stuck = Stuck(word)
    errands = Errands(
        "jobs",
        "notary",
        stuck,
        most=32,
        loop=loop,
        returned=lambda _taken, _attempt: None,
        breaker=breaker,
        clock=clock,
    )
    sent = Sent(key=uuid4(), subject=uuid4(), send=Send("notary", "do"))
    taken = Taken(number=1, token=uuid4(), ends_at=200.0, in_doubt=True, is_lost=False, sent=sent)
    for _ in range(10):
        ended = loop.run_until_complete(attempt(stuck, sent, in_doubt=True))
        assert ended.ended is Ended.IN_DOUBT
        errands.note(taken, ended)
        clock.now += 0.1
    loop.close()
    assert breaker.is_closed is not is_left_alone


def test_a_probe_that_hangs_alone_leaves_the_next_one_its_turn() -> None:
    clock, loop = StandingClock(), asyncio.new_event_loop()
    breaker = Breaker(clock, within_seconds=10)
    errands = Errands(
        "jobs",
        "notary",
        Notary(),
        most=32,
        loop=loop,
        returned=lambda _taken, _attempt: None,
        breaker=breaker,
        clock=clock,
    )
    loop.close()
    sent = Sent(key=uuid4(), subject=uuid4(), send=Send("notary", "do"))
    taken = Taken(number=1, token=uuid4(), ends_at=200.0, in_doubt=True, is_lost=False, sent=sent)
    for _ in range(5):
        errands.note(taken, Attempt(ended=Ended.IN_DOUBT, reason="no answer"))
    assert errands.reserve() == 0
    clock.now += 1.0
    errands.note(taken, Attempt(ended=Ended.IN_DOUBT, reason="no answer", was_told=True))
    assert not breaker.is_closed, "that it answers inquiries does not say that it does anything"
    assert breaker.room(0, 32) == 1


def test_whoever_outlives_the_loop_has_nothing_to_do_there() -> None:
    loop = asyncio.new_event_loop()
    came_back: list[Attempt] = []
    errands = errands_on(loop, lambda _taken, attempt: came_back.append(attempt))
    taken = taken_until_100()
    loop.close()
    assert errands.reserve() == 1
    errands.depart([taken])
    errands.abandon()
    assert not came_back
