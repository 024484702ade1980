"""A target that does not answer is left alone, and one attempt finds out when it does again."""

from __future__ import annotations

import pytest

from codebase.engine.reactions.breaker import (
    FAILURES_TO_OPEN,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Breaker,
)

MOST = 32


class Clock:
    """Seconds, which pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.failed()


def test_a_few_failures_leave_all_the_room_there_is(breaker: Breaker) -> None:
    fail(breaker, FAILURES_TO_OPEN - 1)
    assert breaker.room(5, MOST) == MOST - 5
    breaker.succeeded()
    fail(breaker, FAILURES_TO_OPEN - 1)
    assert breaker.is_closed


def test_open_it_lets_nobody_go_and_after_a_pause_one_at_a_time(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, FAILURES_TO_OPEN)
    assert not breaker.is_closed
    clock.now += FIRST_PAUSE_SECONDS / 2 - 0.001
    assert breaker.room(0, MOST) == 0
    clock.now += FIRST_PAUSE_SECONDS / 2 + 0.001
    assert [breaker.room(away, MOST) for away in (0, 1, 5)] == [1, 0, 0]


def test_one_that_comes_back_well_lets_all_go_again(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, FAILURES_TO_OPEN)
    clock.now += FIRST_PAUSE_SECONDS
    breaker.succeeded()
    assert breaker.room(0, MOST) == MOST


def test_those_who_were_on_their_way_when_it_opened_make_no_pause_longer(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, FAILURES_TO_OPEN + MOST)
    clock.now += FIRST_PAUSE_SECONDS
    assert breaker.room(0, MOST) == 1


def test_pauses_grow_with_every_attempt_in_vain_and_have_an_end(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, FAILURES_TO_OPEN)
    pauses = []
    for _ in range(12):
        began = clock.now
        while not breaker.room(0, MOST):
            clock.now += 0.05
        pauses.append(clock.now - began)
        breaker.failed()
    assert pauses[0] <= FIRST_PAUSE_SECONDS + 0.05
    assert all(each >= LONGEST_PAUSE_SECONDS / 2 - 0.05 for each in pauses[-3:])
    assert max(pauses) <= LONGEST_PAUSE_SECONDS + 0.05
