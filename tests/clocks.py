"""Clocks of tests, and event loops that have one: deadlines pass when a test says so."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import uvloop


@dataclass
class StandingClock:
    """Seconds that pass when it is pushed."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now

    def push(self, seconds: float) -> None:
        self.now += seconds


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting it puts the clock forward."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.now += timeout or 0.0
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """Nobody waits: where everybody would, the clock jumps to the next deadline."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


class PushedLoop(asyncio.SelectorEventLoop):
    """The clock goes as ever, and further when it is pushed; timers that are due then run."""

    _ahead = 0.0

    def time(self) -> float:
        return super().time() + self._ahead

    def push(self, seconds: float) -> None:
        self._ahead += seconds


class StandingLoop(uvloop.Loop):
    """The loop that services run on, with a clock that stands still until it is pushed.

    Timers run all the same. Whoever compares times, as the sweep of idle connections does, finds
    that none has passed.
    """

    _now = 1_000.0

    def time(self) -> float:
        return self._now

    def push(self, seconds: float) -> None:
        self._now += seconds


def on_a_jumping_clock(story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(story)


def on_a_pushed_clock(story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=PushedLoop) as runner:
        runner.run(story)


def push_the_clock(seconds: float) -> None:
    """Of the running loop, which is one that can be pushed."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, PushedLoop | StandingLoop)
    loop.push(seconds)
