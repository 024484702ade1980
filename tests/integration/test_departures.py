"""What is caused goes on its way as soon as it is committed, where there is room for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from psycopg import Connection

from codebase.engine.log.identifiers import partition_of
from codebase.engine.projections.logged_events import read_events
from codebase.engine.projections.projection import nobody_waits
from codebase.engine.reactions.breaker import FAILURES_TO_OPEN, Breaker
from codebase.engine.reactions.departures import Departures
from codebase.engine.reactions.desk import Desk
from codebase.engine.reactions.errands import Errands
from codebase.engine.reactions.reaction import Answer, Reaction, Remind, Send, Sent
from codebase.engine.reactions.reading import Reading, projector_of
from codebase.engine.reactions.recording import Caused, checked, lock_subjects, record
from codebase.engine.reactions.taken import Returned
from codebase.engine.reactions.way import Way
from tests.clocks import StandingClock
from tests.integration.flow import eventually, heads, projecting, sample_event, write
from tests.integration.jobs import (
    JOBS,
    LOG,
    SHOP,
    asked,
    intents,
    parked_streams,
    reached,
    told_to_act,
)
from tests.integration.test_reactions import store_of, too_long_for_an_index
from tests.patience import NEVER_SECONDS, PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.databases import Databases

MOST = 10
HOW_THEY_STAND = (
    "SELECT token IS NOT NULL, attempts, in_doubt, is_next, due_at > clock_timestamp()"
    " FROM reaction.intent ORDER BY number"
)
ON_ITS_WAY = (True, 1, True, True, True)
NEXT = (False, 0, False, True, False)
IN_LINE = (False, 0, False, False, False)


@pytest.fixture
def databases(databases: Databases) -> Databases:
    return told_to_act(databases)


@pytest.fixture(autouse=True)
def nobody_is_too_busy_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codebase.engine.reactions.errands.LEASE_MARGIN_SECONDS", NEVER_SECONDS)


@dataclass
class Notary:
    """A target that notes what it was asked for, and answers when it is told to."""

    deadline_seconds: float = NEVER_SECONDS
    asked: list[Sent] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)

    async def send(self, sent: Sent) -> Answer:
        self.asked.append(sent)
        await asyncio.to_thread(self.may_answer.wait, PATIENCE_SECONDS)
        return Answer(data={"became": "done"})

    async def inquire(self, _sent: Sent) -> Answer | None:
        return None


@dataclass
class OurWay:
    """This process' way to a notary, and who has come back from there."""

    notary: Notary
    errands: Errands
    back: list[Returned]


@contextmanager
def a_way(
    target: str = SHOP, *, most: int = MOST, breaker: Breaker | None = None
) -> Iterator[OurWay]:
    loop, notary, back = asyncio.new_event_loop(), Notary(), list[Returned]()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    errands = Errands(
        Way(JOBS.name, target, most=most, breaker=breaker),
        notary,
        loop=loop,
        returned=back.append,
    )
    errands.way.line_up(is_line=False)
    try:
        yield OurWay(notary, errands, back)
    finally:
        notary.may_answer.set()
        eventually(lambda: len(back) == errands.way.on_their_way)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_SECONDS)
        loop.close()


def stand(databases: Databases) -> list[tuple[Any, ...]]:
    with databases.as_owner() as owner:
        return owner.execute(HOW_THEY_STAND).fetchall()


def room(way: OurWay) -> int:
    """How many more may go, of those that are new."""
    found = way.errands.way.reserve_for_new(MOST)
    way.errands.way.release(found)
    return found


def give_back(databases: Databases, way: OurWay) -> None:
    """Settle all that has come back, as the dispatcher does."""
    with store_of(databases) as store:
        assert Desk(JOBS, attempts_max=1).settle(store, way.back) == []
    for _ in way.back:
        way.errands.way.settled()
    way.back.clear()


def same_partition(databases: Databases, stream: UUID) -> UUID:
    """The id of another stream there."""
    partition = partition_of(stream, databases.settings.partitions)
    others = (uuid4() for _ in range(1_000))
    return next(
        each for each in others if partition_of(each, databases.settings.partitions) == partition
    )


def read_with(databases: Databases, way: OurWay, reaction: Reaction = JOBS) -> None:
    """Have the reaction read the log, and nobody look for what waits."""
    errands = {SHOP: way.errands}
    with projecting(databases.settings, projector_of(reaction, errands=errands)):
        eventually(lambda: reached(databases) == heads(databases))


def caused_for(subject: UUID, *sends: Send, **more: Any) -> Caused:  # noqa: ANN401 - of Caused
    return Caused(subject=subject, cause=uuid4(), intents=checked(sends), **more)


def written(store: Connection[Any], way: OurWay, *caused: Caused) -> Departures:
    departures = Departures({SHOP: way.errands})
    with store.transaction(), store.cursor() as cursor:
        lock_subjects(cursor, JOBS.name, {each.subject for each in caused})
        record(cursor, JOBS.name, caused, departures)
    return departures


BREAD, CAKE = Send(SHOP, "do", {"what": "bread"}), Send(SHOP, "do", {"what": "cake"})


def test_what_an_event_causes_is_on_its_way_when_it_is_committed(databases: Databases) -> None:
    [job] = write(databases, asked(databases.settings, "bread"))
    with a_way() as way:
        read_with(databases, way)
        eventually(lambda: way.notary.asked)
        assert stand(databases) == [ON_ITS_WAY]
        assert way.errands.way.on_their_way == 1
        assert room(way) == MOST - 1
    [returned] = way.back
    sent = returned.taken.sent
    assert (sent.subject, sent.attempts, sent.in_doubt) == (job, 1, False)
    assert sent.send == Send(SHOP, "do", {"what": "bread", "nth": 1})
    give_back(databases, way)
    assert intents(databases) == [(SHOP, "done", None), (LOG, "waiting", None)]


def test_what_follows_from_an_answer_is_on_its_way_when_that_is_committed(
    databases: Databases,
) -> None:
    write(databases, asked(databases.settings, "bread"))
    with a_way() as shop, a_way(LOG) as log:
        read_with(databases, shop)
        shop.notary.may_answer.set()
        eventually(lambda: shop.back)
        desk = Desk(JOBS, attempts_max=1, errands={LOG: log.errands})
        with store_of(databases) as store:
            desk.settle(store, shop.back)
        eventually(lambda: log.notary.asked)
        assert stand(databases)[1:] == [ON_ITS_WAY]


def test_who_has_no_room_waits_until_somebody_takes_him(databases: Databases) -> None:
    with a_way(most=1) as way, store_of(databases) as store:
        departures = written(store, way, *(caused_for(uuid4(), BREAD) for _ in range(2)))
        assert room(way) == 0, "it is reserved"
        assert departures.leaves_some
        departures.start()
        eventually(lambda: len(way.notary.asked) == 1)
        assert stand(databases) == [ON_ITS_WAY, NEXT]
        assert room(way) == 0


def test_the_second_of_a_subject_waits_for_the_first(databases: Databases) -> None:
    with a_way() as way, store_of(databases) as store:
        departures = written(store, way, caused_for(uuid4(), BREAD, CAKE))
        departures.start()
        assert stand(databases) == [ON_ITS_WAY, IN_LINE]
        eventually(lambda: len(way.notary.asked) == 1)
        assert room(way) == MOST - 1, "what was reserved for it is free"


def test_who_has_to_wait_in_any_case_takes_no_room_from_others(databases: Databases) -> None:
    first, second, third = (uuid4() for _ in range(3))
    with a_way(most=2) as way, store_of(databases) as store:
        caused = (
            caused_for(third, BREAD, is_adopted=True),
            caused_for(first, BREAD, CAKE),
            caused_for(second, BREAD),
        )
        written(store, way, *caused).start()
        eventually(lambda: len(way.notary.asked) == 2)
    assert {sent.subject for sent in way.notary.asked} == {first, second}


def test_what_may_have_been_done_elsewhere_is_asked_about_first(databases: Databases) -> None:
    with a_way() as way, store_of(databases) as store:
        departures = written(store, way, caused_for(uuid4(), BREAD, is_adopted=True))
        departures.start()
        assert stand(databases) == [(False, 0, True, True, False)]
        assert (departures.leaves_some, room(way)) == (True, MOST)


def test_what_may_have_been_done_by_what_it_follows_from_is_asked_about_a_moment_later(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codebase.engine.reactions.recording.DOUBT_SECONDS", NEVER_SECONDS)
    perhaps = replace(BREAD, in_doubt=True)
    with a_way() as way, store_of(databases) as store:
        departures = written(store, way, caused_for(uuid4(), perhaps), caused_for(uuid4(), CAKE))
        departures.start()
        assert stand(databases) == [(False, 0, True, True, True), ON_ITS_WAY]
        assert departures.leaves_some
        eventually(lambda: way.notary.asked)
    assert [sent.send for sent in way.notary.asked] == [CAKE]


def test_nothing_goes_to_a_target_that_does_not_answer(databases: Databases) -> None:
    breaker = Breaker(StandingClock())
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed()
    with a_way(breaker=breaker) as way, store_of(databases) as store:
        written(store, way, caused_for(uuid4(), BREAD)).start()
        assert stand(databases) == [NEXT]


def test_nothing_goes_where_the_process_ends(databases: Databases) -> None:
    with a_way() as way, store_of(databases) as store:
        way.errands.way.close()
        written(store, way, caused_for(uuid4(), BREAD)).start()
        assert stand(databases) == [NEXT]


def test_what_is_noted_already_does_not_go_again(databases: Databases) -> None:
    caused = caused_for(uuid4(), BREAD)
    with a_way() as way, store_of(databases) as store:
        written(store, way, caused).start()
        written(store, way, caused).start()
        eventually(lambda: way.notary.asked)
        assert room(way) == MOST - 1
    assert len(way.back) == 1


def test_nothing_goes_of_what_could_not_be_written(databases: Databases) -> None:
    write(databases, asked(databases.settings, "bread"))
    target = too_long_for_an_index()
    with a_way() as shop, a_way(target) as nowhere:
        read_with(databases, shop)
        shop.notary.may_answer.set()
        eventually(lambda: shop.back)
        greedy = replace(JOBS, outcome=lambda _sent, _answer: [Send(target, "do")])
        desk = Desk(greedy, attempts_max=1, errands={target: nowhere.errands})
        with store_of(databases) as store:
            desk.settle(store, shop.back)
        assert [state for _, state, _ in intents(databases)] == ["parked"]
        assert (nowhere.notary.asked, room(nowhere)) == ([], MOST)


def test_what_was_written_and_not_committed_does_not_go_with_what_comes_next(
    databases: Databases,
) -> None:
    """That may be of no concern to the reaction, or of the stream that was parked for it."""
    too_long = too_long_for_an_index()
    thinking = replace(
        JOBS,
        react=lambda happened, _: [BREAD, Remind(too_long, happened.recorded_at)],
        evolve=lambda state, _: state,
    )
    [job] = write(databases, asked(databases.settings, "bread"))
    write(databases, [sample_event(databases.settings, same_partition(databases, job), 1, "x")])
    with a_way() as way:
        read_with(databases, way, thinking)
        assert parked_streams(databases) == {job}
        write(databases, asked(databases.settings, "bread", job=job, after=1))
        read_with(databases, way, thinking)
        assert (way.notary.asked, stand(databases)) == ([], [])
        give_back(databases, way)
        assert room(way) == MOST


def test_what_may_have_been_committed_is_due_when_that_is_known(databases: Databases) -> None:
    """The answer to a commit may be lost: nobody waits for the end of a lease that nobody uses."""
    with a_way() as way, store_of(databases) as store:
        written(store, way, caused_for(uuid4(), BREAD)).cancel()
        assert stand(databases) == [ON_ITS_WAY]
        assert way.notary.asked == []
        give_back(databases, way)
        assert room(way) == MOST
        [(is_taken, attempts, in_doubt, is_next, _)] = stand(databases)
        assert (is_taken, attempts, in_doubt, is_next) == (False, 0, False, True)


def test_a_reader_whose_commit_failed_gives_back_the_room(databases: Databases) -> None:
    [job] = write(databases, asked(databases.settings, "bread"))
    partition = partition_of(job, databases.settings.partitions)
    with databases.as_owner() as log:
        events = read_events(log, partition, after=0, limit=10)
    with a_way() as way, store_of(databases) as store:
        reading = Reading(JOBS, nobody_waits, {SHOP: way.errands})
        for _ in range(3):
            with store.transaction(force_rollback=True), store.cursor() as cursor:
                reading.apply(cursor, events)
            reading.not_committed()
        reading.committed()
        assert (stand(databases), way.notary.asked) == ([], [])
        give_back(databases, way)
        assert room(way) == MOST
        with store.transaction(), store.cursor() as cursor:
            reading.apply(cursor, events)
        reading.committed()
        eventually(lambda: way.notary.asked)
        assert room(way) == MOST - 1
