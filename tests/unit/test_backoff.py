"""Waiting before the next try: longer and longer, with an end, and not everybody at once."""

from __future__ import annotations

import threading

import pytest

from codebase.engine.commands.lane import rest_seconds
from codebase.foundation.backoff import Pauses, Rests, doubled, with_jitter


@pytest.mark.parametrize(
    ("times", "seconds"), [(0, 0.1), (1, 0.2), (5, 3.2), (6, 5.0), (10**9, 5.0)]
)
def test_a_pause_doubles_up_to_the_longest(times: int, seconds: float) -> None:
    assert doubled(0.1, times, 5.0) == pytest.approx(seconds)


def test_jitter_parts_those_who_failed_together_and_never_comes_close_to_zero() -> None:
    pauses = {with_jitter(2.0) for _ in range(100)}
    assert len(pauses) > 50
    assert min(pauses) >= 1.0
    assert max(pauses) <= 2.0


class Noting(threading.Event):
    """A stop event that notes how long it was to be waited for, and lets nobody wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout or 0.0)
        return False


def test_a_workers_pauses_grow_with_every_failure_and_are_short_again_after_a_success() -> None:
    stop = Noting()
    pauses = Pauses(stop)
    for _ in range(7):
        pauses.pause()
    pauses.succeeded()
    pauses.pause()
    assert [
        longest / 2 <= waited <= longest
        for waited, longest in zip(
            stop.waited, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 0.1], strict=True
        )
    ] == [True] * 8


def test_rests_grow_while_nothing_is_found_and_end_with_the_first_find() -> None:
    rests = Rests(longest_seconds=0.02)
    lengths = [rests.after(found=False) for _ in range(8)]
    assert lengths == sorted(lengths)
    assert lengths[0] < 0.005
    assert lengths[-1] == 0.02
    assert rests.after(found=True) == 0
    assert rests.after(found=False) < 0.005


def test_commands_that_are_overtaken_again_and_again_are_tried_more_seldom() -> None:
    """A kind of claim may be held for seconds: nobody looks a hundred times a second."""
    rests = [rest_seconds(attempts) for attempts in (1, 4, 8, 12, 16, 20, 10**6)]
    assert rests == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.2, 0.2])
