"""What works in the background and ends by a failure says so; nobody else does."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from codebase.foundation.background import (
    background,
    in_background,
    keep_working,
    let_go,
    tell_of_failure,
)
from codebase.foundation.observability import logs
from codebase.foundation.settings import Settings
from codebase.views.buy_orders.prices import Prices
from codebase.views.buy_orders.settings import BuyOrderSettings

SECRET = "4111111111111111"  # noqa: S105 - what a message might repeat


ROOT = Path(__file__).parents[2]
MAKES_A_TASK = re.compile(r"\b(?:create_task|ensure_future)\(")
SOMEBODY_HEARS = {
    "engine/commands/bus.py": "who asks waits for the trial",
    "engine/commands/lane.py": "keep_working",
    "engine/log/end_watch.py": "who asks waits for the look",
    "engine/messages/command_taker.py": "whatever fails is the command's outcome",
    "engine/projections/freshness.py": "tell_of_failure",
    "engine/reactions/errands.py": "whatever fails is how the attempt ended",
    "engine/reactions/posting_target.py": "tell_of_failure",
    "foundation/background.py": "in_background",
    "foundation/postgres.py": "who asks waits for the answer",
    "services/create_account/closing.py": "a group, which raises what its tasks do",
    "services/fraud_police/police.py": "who asks waits for the rules to be adopted",
    "web/acceptor.py": "a connection that is gone again is nobody's business",
    "web/group_read.py": "whatever fails is the answer of those who asked",
    "web/server.py": "the process ends with it",
}
"""Module -> who hears of the failures of the tasks that it makes."""


async def fail() -> None:
    raise ZeroDivisionError(SECRET)


async def end() -> None:
    """Nothing was left to do."""


def said_during(story: Callable[[], Awaitable[None]]) -> list[dict[str, Any]]:
    lines = io.StringIO()

    async def scenario() -> None:
        await story()

    with logs.configured(Settings(), service="test", stream=lines):
        asyncio.run(scenario())
    return [json.loads(line) for line in lines.getvalue().splitlines()]


async def ended(task: asyncio.Task[None]) -> None:
    """It, and what is called when it is."""
    called = asyncio.Event()
    task.add_done_callback(lambda _: called.set())
    await called.wait()


def the_task(name: str) -> asyncio.Task[Any]:
    [task] = [each for each in asyncio.all_tasks() if each.get_name() == name]
    return task


def test_who_fails_is_named_with_the_error_and_missing_for_as_long_as_it_is_needed() -> None:
    async def story() -> None:
        async with in_background(fail(), "prices"):
            assert await background() is None
            await ended(the_task("prices"))
            assert await background() == "ended by a failure, see the log: prices"
        assert await background() is None

    [line] = said_during(story)
    assert (line["event"], line["task"]) == ("background_task_failed", "prices")
    assert "ZeroDivisionError" in json.dumps(line)
    assert "test_background.py" in json.dumps(line)
    assert SECRET not in json.dumps(line)


def test_who_is_stopped_has_not_failed() -> None:
    async def story() -> None:
        async with in_background(asyncio.Event().wait(), "waits"):  # type: ignore[arg-type]
            task = the_task("waits")
        assert task.cancelled()
        async with in_background(asyncio.Event().wait(), "waits"):  # type: ignore[arg-type]
            task = the_task("waits")
            task.cancel()
            await ended(task)
            assert await background() is None

    assert said_during(story) == []


def test_who_ends_because_what_it_waits_for_was_cancelled_is_missing() -> None:
    async def story() -> None:
        waited_for = asyncio.get_running_loop().create_future()

        async def wait() -> None:
            await waited_for

        async with in_background(wait(), "prices"):
            task = the_task("prices")
            waited_for.cancel()
            await ended(task)
            assert await background() == "ended by a failure, see the log: prices"

    [line] = said_during(story)
    assert (line["event"], line["task"]) == ("background_task_failed", "prices")


def test_who_has_done_all_that_there_was_is_not_missing() -> None:
    async def story() -> None:
        async with in_background(end(), "ends"):
            await ended(the_task("ends"))
            assert await background() is None

    assert said_during(story) == []


def test_a_failure_before_the_end_does_not_keep_the_others_from_ending() -> None:
    async def ends_with_another() -> None:
        async with in_background(fail(), "prices"):
            await ended(the_task("prices"))
            raise KeyError

    async def story() -> None:
        with pytest.raises(KeyError):
            await ends_with_another()

    assert [line["event"] for line in said_during(story)] == ["background_task_failed"]


def test_whoever_waits_for_a_task_still_hears_of_its_failure() -> None:
    """What ended the process before goes on to."""

    async def story() -> None:
        task = keep_working(asyncio.create_task(fail(), name="lane 0"))
        with pytest.raises(ZeroDivisionError):
            await asyncio.gather(task)
        assert await background() == "ended by a failure, see the log: lane 0"
        let_go(task)
        assert await background() is None

    assert [line["task"] for line in said_during(story)] == ["lane 0"]


def test_whose_work_others_do_again_is_not_missing() -> None:
    async def story() -> None:
        task = asyncio.create_task(fail(), name="checkpoints")
        task.add_done_callback(tell_of_failure)
        await ended(task)
        assert await background() is None

    assert [line["task"] for line in said_during(story)] == ["checkpoints"]


def test_whoever_makes_a_task_has_somebody_hear_of_its_failure() -> None:
    """`in_background`, unless somebody waits for it; a new module says here who that is."""
    makers = {
        str(path.relative_to(ROOT / "codebase"))
        for path in (ROOT / "codebase").rglob("*.py")
        if MAKES_A_TASK.search(path.read_text(encoding="utf-8"))
    }
    assert makers == set(SOMEBODY_HEARS)


def test_prices_that_are_not_fetched_any_more_are_told_of() -> None:
    class Broken:
        """A session with a bug."""

        def get(self, *_: object, **__: object) -> None:
            raise ZeroDivisionError

    async def story() -> None:
        async with Prices.open(BuyOrderSettings(), Broken()):  # type: ignore[arg-type]
            await ended(the_task("prices"))
            assert await background() == "ended by a failure, see the log: prices"

    assert [line["task"] for line in said_during(story)] == ["prices"]
