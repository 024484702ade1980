"""What is on its way to a target: who may still start."""

from __future__ import annotations

import asyncio
from contextlib import closing
from uuid import uuid4

import pytest

from codebase.engine.reactions.attempt import Attempt, Ended
from codebase.engine.reactions.errands import LEASE_MARGIN_SECONDS, Errands
from codebase.engine.reactions.reaction import Answer, Send, Sent
from codebase.engine.reactions.taken import Returned, Taken
from codebase.engine.reactions.target import Repeatable, Target
from codebase.engine.reactions.way import Way


def a_way() -> Way:
    return Way("jobs", "notary", most=1)


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
            a_way(),
            notary,
            loop=loop,
            returned=lambda returned: back.set_result(returned.attempt),
            clock=lambda: now,
        )
        assert errands.way.reserve() == 1
        errands.depart([taken])
        found: Attempt = await back
        return found

    sent = Sent(key=uuid4(), subject=uuid4(), send=Send("notary", "do"), in_doubt=in_doubt)
    taken = Taken(number=1, token=uuid4(), ends_at=100.0, is_lost=False, sent=sent)
    assert asyncio.run(carry()).ended is ended
    assert len(notary.asked) == asked


class Servant(Repeatable):
    """A target that nobody asks."""

    deadline_seconds = 5.0

    async def send(self, _sent: Sent) -> Answer:
        return Answer()


@pytest.mark.parametrize(("target", "calls"), [(Notary(), 2), (Servant(), 1)])
def test_a_lease_lasts_as_long_as_what_may_be_asked_and_done(target: Target, calls: int) -> None:
    with closing(asyncio.new_event_loop()) as loop:
        errands = Errands(a_way(), target, loop=loop, returned=lambda _returned: None)
    assert errands.lease_seconds == calls * 5.0 + LEASE_MARGIN_SECONDS


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
            a_way(),
            mute,
            loop=loop,
            returned=lambda returned: back.set_result(returned.attempt),
            clock=lambda: 82.0,
        )
        assert errands.way.reserve() == 1
        errands.depart([taken])
        await mute.called.wait()
        errands.abandon()
        found: Attempt = await back
        return found

    # Begun at 80 by a lease of 20: the target is done with it at 85.
    taken = taken_until_100()
    ended = asyncio.run(abandoned())
    assert (ended.ended, ended.is_ours, ended.stopped_for) == (Ended.IN_DOUBT, True, 3.0)


def taken_until_100() -> Taken:
    sent = Sent(key=uuid4(), subject=uuid4(), send=Send("notary", "do"))
    return Taken(number=1, token=uuid4(), ends_at=100.0, is_lost=False, sent=sent)


def test_whoever_outlives_the_loop_has_nothing_to_do_there() -> None:
    loop = asyncio.new_event_loop()
    came_back: list[Returned] = []
    errands = Errands(
        a_way(),
        Notary(),
        loop=loop,
        returned=came_back.append,
    )
    taken = taken_until_100()
    loop.close()
    assert errands.way.reserve() == 1
    errands.depart([taken])
    errands.abandon()
    assert not came_back
