"""A dispatcher's turns: what is taken, and in which order what became of it is written down."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from uuid import uuid4

import pytest

from codebase.engine.reactions import dispatcher
from codebase.engine.reactions.attempt import Attempt, Ended
from codebase.engine.reactions.breaker import FAILURES_TO_OPEN
from codebase.engine.reactions.dispatcher import Dispatcher
from codebase.engine.reactions.figures import ReactionFigures
from codebase.engine.reactions.reaction import Answer, Send, Sent
from codebase.engine.reactions.taken import Returned, Taken
from codebase.engine.reactions.target import AwayError, Repeatable
from codebase.engine.reactions.way import Way
from codebase.foundation.settings import Settings
from tests.integration.flow import eventually
from tests.integration.jobs import JOBS
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS

TARGET = "notary"


class Notary(Repeatable):
    """Answers each when it is told to, or is away."""

    deadline_seconds = NEVER_SECONDS

    def __init__(self) -> None:
        self.asked = asyncio.Queue[str]()
        self.answers: dict[str, asyncio.Future[bool]] = {}

    async def send(self, sent: Sent) -> Answer:
        word = asyncio.get_running_loop().create_future()
        self.answers[sent.send.action] = word
        self.asked.put_nowait(sent.send.action)
        if not await word:
            raise AwayError("is away")
        return Answer()


class Desk:
    """What is to be done, and what a dispatcher did with it; `meanwhile` happens as it writes."""

    is_behind = False

    def __init__(self, *actions: str) -> None:
        self.waiting = list(actions)
        self.story: list[object] = []
        self.meanwhile: list[Callable[[], None]] = []
        self.wrote = threading.Semaphore(0)

    def take(
        self, _store: object, _target: str, limit: int, _lease_seconds: float
    ) -> Sequence[Taken]:
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        if taken:
            self.story.append(("take", *taken))
        return [
            Taken(
                number=1,
                token=uuid4(),
                ends_at=float("inf"),
                is_lost=False,
                sent=Sent(key=uuid4(), subject=uuid4(), send=Send(TARGET, action)),
            )
            for action in taken
        ]

    def settle(self, _store: object, returned: Sequence[Returned]) -> list[Returned]:
        self.story.append(("settle", *sorted(each.taken.sent.send.action for each in returned)))
        if self.meanwhile:
            self.meanwhile.pop(0)()
        self.wrote.release()
        return []

    def hurry(self, _store: object, target: str) -> None:
        self.story.append(("hurry", target))
        self.wrote.release()

    def seconds_until_due(self, *_asked: object) -> float:
        return 0.0 if self.waiting else float("inf")

    def forget_done(self, *_asked: object) -> bool:
        return True


@contextmanager
def at_work(
    desk: Desk, way: Way, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Notary, asyncio.AbstractEventLoop]]:
    """A dispatcher that does what lies on the desk."""
    loop, stop, notary = asyncio.new_event_loop(), threading.Event(), Notary()
    monkeypatch.setattr(dispatcher, "connect", lambda *_url, **_options: nullcontext())
    monkeypatch.setattr(dispatcher, "check_may_act", lambda _store: None)
    monkeypatch.setattr(dispatcher, "fire_due", lambda _store, _reaction: 0)
    monkeypatch.setattr(dispatcher.SqlWatch, "over", lambda _watch, store: store)
    monkeypatch.setattr(dispatcher, "Desk", lambda *_of, **_options: desk)
    monkeypatch.setattr(ReactionFigures, "show", lambda _figures, _store: None)
    settings = Settings(write_model_reaction_url="postgresql://nowhere")
    working = Dispatcher(JOBS, {TARGET: notary}, settings, loop, stop, ways={TARGET: way})
    threads = [
        threading.Thread(target=loop.run_forever, daemon=True),
        threading.Thread(target=working.run, args=[stop], daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield notary, loop
    finally:
        stop.set()
        working.wake()
        threads[1].join(PATIENCE_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        threads[0].join(PATIENCE_SECONDS)
        loop.close()


def on(loop: asyncio.AbstractEventLoop, work: Any) -> Any:  # noqa: ANN401 - whatever it is
    """What becomes of something that is waited for on the loop."""
    return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE_SECONDS)


class Told(Way):
    """Knows when somebody comes back."""

    back = asyncio.Event()

    def came_back(self, ended: Attempt) -> bool:
        self.back.set()
        return super().came_back(ended)


async def come_back(notary: Notary, way: Told, action: str, *, answers: bool) -> None:
    """Have it come back, and be among those of whom that is to be written down."""
    way.back = asyncio.Event()
    notary.answers[action].set_result(answers)
    # Whoever waits for it goes on when the loop has done all that belongs to that.
    await way.back.wait()


def test_who_came_back_in_vain_is_written_down_before_the_others_are_hurried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if he came back while something else was written: hurried is who rests already."""
    desk, way = Desk("first", "in vain", "answered"), Told("jobs", TARGET, most=3)
    with at_work(desk, way, monkeypatch) as (notary, loop):

        def meanwhile() -> None:
            on(loop, come_back(notary, way, "in vain", answers=False))
            on(loop, come_back(notary, way, "answered", answers=True))

        desk.meanwhile.append(meanwhile)
        for _ in range(3):
            on(loop, notary.asked.get())
        for _ in range(FAILURES_TO_OPEN):
            way.note(Attempt(ended=Ended.IN_DOUBT, reason="no answer"))
        on(loop, come_back(notary, way, "first", answers=False))
        for _ in range(3):
            assert desk.wrote.acquire(timeout=PATIENCE_SECONDS)
    assert desk.story == [
        ("take", "first", "in vain", "answered"),
        ("settle", "first"),
        ("settle", "answered", "in vain"),
        ("hurry", TARGET),
    ]


def test_what_half_of_the_room_does_not_hold_has_all_of_it_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk, way = Desk(), Told("jobs", TARGET, most=4)
    with at_work(desk, way, monkeypatch) as (notary, loop):
        eventually(lambda: way.reserve_for_new(1) == 1)
        way.release(1)
        desk.waiting = ["1", "2", "3", "4"]
        for _ in range(4):
            on(loop, notary.asked.get())
        for action in ("1", "2", "3", "4"):
            on(loop, come_back(notary, way, action, answers=True))
    assert desk.story[:2] == [("take", "1", "2"), ("take", "3", "4")]
