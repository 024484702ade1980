"""Which way of appending is taken, by what became of the batches before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from bench.orders import new_events
from codebase.engine.log import appender
from codebase.engine.log.appender import CLEAN, Appender
from codebase.engine.log.appending import Appended, Refusal
from codebase.engine.log.creations import Creations

NO_CONNECTION: Any = None


class Log:
    """A log that is told what becomes of batches, and tells which way they came."""

    def __init__(self) -> None:
        self.ways: list[str] = []
        self.refuses = False

    async def append(self, *_given: Any, **_options: Any) -> Appended:  # noqa: ANN401
        self.ways.append("any")
        refusal = Refusal(why="stale", guard=None, detail=None)
        return Appended(recorded=[], refused={0: refusal} if self.refuses else {})

    async def append_creations(self, _connection: object, _creations: Creations) -> Appended | None:
        self.ways.append("creations")
        return None if self.refuses else Appended(recorded=[], refused={})


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(appender, "append", log.append)
    monkeypatch.setattr(appender, "append_creations", log.append_creations)
    return log


def test_what_was_written_in_vain_is_not_tried_again_before_nothing_was_refused_for_a_while(
    log: Log,
) -> None:
    ours, batch = Appender(notes_kept_days=1), new_events(1)

    def write(*, refuses: bool, times: int = 1) -> Sequence[str]:
        log.refuses, before = refuses, len(log.ways)
        for _ in range(times):
            asyncio.run(ours.append(NO_CONNECTION, batch))
        return log.ways[before:]

    assert write(refuses=False) == ["creations"]
    assert write(refuses=True) == ["creations", "any"]
    assert write(refuses=False, times=CLEAN - 1) == ["any"] * (CLEAN - 1)
    assert write(refuses=True) == ["any"], "and that begins again"
    assert write(refuses=False, times=CLEAN) == ["any"] * CLEAN
    assert write(refuses=False) == ["creations"]
