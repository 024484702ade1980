"""A look for what is due begins where the one before left nothing; nothing is lost behind that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from psycopg import Connection

from codebase.engine.reactions.departures import Departures
from codebase.engine.reactions.desk import Desk
from codebase.engine.reactions.errands import Errands
from codebase.engine.reactions.reaction import Send, no_outcome
from codebase.engine.reactions.recording import Caused, checked, lock_subjects, record
from codebase.engine.reactions.taken import Returned, Taken
from codebase.engine.reactions.way import Way
from codebase.operations import intents as operations
from tests.clocks import StandingClock
from tests.integration.flow import eventually
from tests.integration.jobs import JOBS, SHOP, Shop, told_to_act, working
from tests.integration.test_departures import Notary
from tests.integration.test_held_snapshots import ANOTHER_PAGE, COUNT_PAGES, looking
from tests.integration.test_reactions import ANSWERED, store_of
from tests.patience import NEVER_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

QUIET = replace(JOBS, outcome=no_outcome)
HELD_FOR = 5_000
TOGETHER = 100
SOON_SECONDS = 1.0
AN_HOUR_AGO = (
    "UPDATE reaction.intent SET due_at = due_at - interval '1 hour' WHERE state = 'waiting'"
)


@pytest.fixture
def databases(databases: Databases) -> Databases:
    return told_to_act(databases)


class NoWay(Errands):
    """What departs is noted, and gets nowhere."""

    departed: list[Taken] = []  # noqa: RUF012 - of one test
    lease_seconds = 0.0
    """What was taken a while ago: its index entry is of a moment that is over."""

    def depart(self, taken: Sequence[Taken]) -> None:
        self.departed = [*self.departed, *taken]
        self.way.release(len(taken))


def never(_returned: Returned) -> None:
    raise AssertionError("nothing comes back")


def cause(store: Connection[Any], *subjects: UUID, errands: Errands | None = None) -> None:
    """Something to do for each of these."""
    bread = checked([Send(SHOP, "do", {"what": "bread"})])
    caused = [Caused(subject=each, cause=uuid4(), intents=bread) for each in subjects]
    departures = Departures({SHOP: errands} if errands else {})
    with store.transaction(), store.cursor() as cursor:
        lock_subjects(cursor, QUIET.name, subjects)
        record(cursor, QUIET.name, caused, departures)
    departures.start()


def take(desk: Desk, store: Connection[Any], limit: int = TOGETHER) -> list[Taken]:
    return desk.take(store, SHOP, limit, NEVER_SECONDS)


def have_done(desk: Desk, store: Connection[Any], taken: list[Taken]) -> None:
    assert not desk.settle(store, [Returned(taken=each, attempt=ANSWERED) for each in taken])


def date_back(databases: Databases) -> None:
    with databases.as_owner() as owner:
        owner.execute(AN_HOUR_AGO)


def do_much(desk: Desk, store: Connection[Any]) -> None:
    for _ in range(0, HELD_FOR, TOGETHER):
        cause(store, *(uuid4() for _ in range(TOGETHER)))
        have_done(desk, store, take(desk, store))


def do_much_at_once(desk: Desk, store: Connection[Any]) -> None:
    """The same, while nobody has to take anything, nor to look for more than what waits."""
    with closing(asyncio.new_event_loop()) as loop:
        way = Way(JOBS.name, SHOP, most=TOGETHER)
        way.line_up(is_line=False)
        errands = NoWay(way, Notary(), loop=loop, returned=never)
        for _ in range(0, HELD_FOR, TOGETHER):
            cause(store, *(uuid4() for _ in range(TOGETHER)), errands=errands)
            assert len(errands.departed) == TOGETHER
            have_done(desk, store, errands.departed)
            errands.departed = []
            assert desk.seconds_until_due(store, [SHOP], 0.0) > 0


def fewest_pages(desk: Desk, store: Connection[Any], *, takes: bool = True) -> int:
    """Of intents that are looked at to find that nothing is to be done; now and then it is all."""
    counted = [count_pages(store)]
    for _ in range(7):
        assert not (takes and take(desk, store))
        assert desk.seconds_until_due(store, [SHOP], SOON_SECONDS) > 0
        counted.append(count_pages(store))
    return min(after - before for before, after in pairwise(counted))


def count_pages(store: Connection[Any]) -> int:
    store.execute("SELECT pg_stat_force_next_flush()")
    row = store.execute(COUNT_PAGES, ["intent"]).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("takes", [True, False], ids=["taken", "departs at once"])
def test_what_was_done_while_somebody_looks_is_not_looked_at_again(
    databases: Databases, *, takes: bool
) -> None:
    """No entry of an index can be cleared away meanwhile: nobody may have to pass all of them."""
    with databases.as_owner() as owner:
        # Who cleans up would be counted as well.
        owner.execute("ALTER TABLE reaction.intent SET (autovacuum_enabled = off)")
    desk = Desk(QUIET, attempts_max=1)
    with store_of(databases) as store:
        do_more = do_much if takes else do_much_at_once
        do_more(desk, store)
        free = fewest_pages(desk, store, takes=takes)
        with looking(databases):
            do_more(desk, store)
            eventually(lambda: fewest_pages(desk, store, takes=takes) <= free + 2 * ANOTHER_PAGE)


def test_what_is_due_earlier_than_anybody_thought_is_found_by_a_look_at_all(
    databases: Databases,
) -> None:
    clock = StandingClock()
    desk = Desk(QUIET, attempts_max=1, clock=clock)
    with store_of(databases) as store:
        assert take(desk, store) == []
        cause(store, uuid4())
        date_back(databases)
        clock.now += 1.0
        assert len(take(desk, store)) == 1


def test_what_a_glance_at_all_has_found_is_taken_at_once(databases: Databases) -> None:
    """Though that glance was a look at all, and the next one is far."""
    clock = StandingClock()
    desk = Desk(QUIET, attempts_max=1, clock=clock)
    with store_of(databases) as store:
        assert take(desk, store) == []
        cause(store, uuid4())
        date_back(databases)
        clock.now += 1.0
        assert desk.seconds_until_due(store, [SHOP], SOON_SECONDS) < 0
        assert len(take(desk, store)) == 1


def test_who_has_nothing_to_do_finds_what_has_been_due_for_long_and_does_it(
    databases: Databases, shop: Shop
) -> None:
    """As after a commit that took long: nobody is told, and no look that is short sees it."""
    with working(databases.settings, shop.url, QUIET), store_of(databases) as store:
        cause(store, uuid4())
        eventually(lambda: len(shop.done) == 1)
        with store.transaction():
            cause(store, uuid4())
            store.execute(
                "UPDATE intent SET due_at = due_at - interval '1 hour' WHERE state = 'waiting'"
            )
        eventually(lambda: len(shop.done) == 2)


@pytest.mark.parametrize("left_out", [False, True], ids=["is done", "is left out"])
def test_what_has_waited_for_its_turn_is_due_when_it_has_it(
    databases: Databases, *, left_out: bool
) -> None:
    clock = StandingClock()
    desk = Desk(QUIET, attempts_max=1, clock=clock)
    subject = uuid4()
    with store_of(databases) as store:
        cause(store, subject)
        cause(store, subject)
        date_back(databases)
        [first] = take(desk, store)
        clock.now += NEVER_SECONDS
        assert take(desk, store) == [], "the second has to wait, and all have been looked at"
        if left_out:
            store.execute("UPDATE intent SET state = 'parked' WHERE key = %s", [first.sent.key])
            operations.skip(databases.settings, [QUIET], first.sent.key)
        else:
            have_done(desk, store, [first])
        due = store.execute(
            "SELECT due_at >= (SELECT ended_at FROM intent WHERE key = %s)"
            " FROM intent WHERE is_next",
            [first.sent.key],
        )
        assert due.fetchall() == [(True,)]
        clock.now += 1.0
        assert len(take(desk, store)) == 1


def test_what_has_waited_for_long_is_taken_bit_by_bit(databases: Databases) -> None:
    desk = Desk(QUIET, attempts_max=1)
    with store_of(databases) as store:
        cause(store, *(uuid4() for _ in range(5)))
        date_back(databases)
        taken = [take(desk, store, limit=2) for _ in range(3)]
    assert [len(each) for each in taken] == [2, 2, 1]
