"""Breakers with limits of their own: how close failures are, and how long a pause may be."""

from __future__ import annotations

from codebase.engine.reactions.breaker import FIRST_PAUSE_SECONDS, Breaker
from tests.clocks import StandingClock

MOST = 32


def opened(clock: StandingClock, **limits: float) -> Breaker:
    breaker = Breaker(clock, **limits)
    for _ in range(5):
        assert breaker.is_closed
        breaker.failed()
    assert not breaker.is_closed
    return breaker


def test_failures_that_are_far_apart_do_not_open_it() -> None:
    clock = StandingClock()
    breaker = Breaker(clock, within_seconds=10)
    for _ in range(20):
        breaker.failed()
        clock.push(2.6)
    assert breaker.is_closed
    for _ in range(5):
        clock.push(2.4)
        breaker.failed()
    assert not breaker.is_closed


def test_once_open_it_stays_so_until_a_success_however_seldom_it_is_tried() -> None:
    clock = StandingClock()
    breaker = opened(clock, within_seconds=10)
    clock.push(1_000)
    breaker.failed()
    assert not breaker.is_closed


def test_of_many_one_finds_out_after_a_pause_that_grows_up_to_a_limit() -> None:
    clock = StandingClock()
    breaker = opened(clock, longest_pause_seconds=5)
    pauses = []
    for _ in range(12):
        since = clock.now
        while breaker.room(0, MOST) == 0:
            clock.push(0.01)
        pauses.append(clock.now - since)
        assert breaker.room(0, MOST) == 1
        assert breaker.room(1, MOST) == 0, "while one is on its way"
        breaker.failed()
    assert pauses[0] <= 0.52
    assert max(pauses) <= 5.02
    assert min(pauses[5:]) >= 2.48


def test_those_who_were_on_their_way_when_it_opened_make_no_pause_longer() -> None:
    clock = StandingClock()
    breaker = opened(clock)
    for _ in range(MOST):
        breaker.failed()
    clock.push(FIRST_PAUSE_SECONDS)
    assert breaker.room(0, MOST) == 1
