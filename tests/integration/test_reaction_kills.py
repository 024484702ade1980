"""Two processes at work, and one of them dies, stands still or is sent away anywhere between an
event and its effect: once each, in order, nothing stuck.

What a seed decides, and no clock: which jobs there are, in which order their events are written and
how many together; what the shop does at the first call of each thing, and whether it can be asked;
which of the two is struck, the one that reads as well or the one that only acts; the how manieth
time it comes to the place; whether the other one works, and whether more is asked for, before the
end of who stands there. Place and seed say whether there is a broker.

`./test.sh` goes through each place once; `./test.sh torture` with 25 seeds.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

import httpx
import pytest
from psycopg import Connection

from codebase.engine.log.events import NewEvent
from codebase.foundation.settings import Settings
from codebase.operations.verify import verify
from codebase.registry import SYSTEM
from tests import processes
from tests.integration.flow import eventually, relaying, running, write
from tests.integration.jobs import (
    JOB,
    JOBS,
    NOT_DONE,
    JobAsked,
    JobEnded,
    Shop,
    ending_jobs_by_message,
    job_event,
    outcomes,
    shop_open,
    told_to_act,
)
from tests.patience import PATIENCE_SECONDS
from tests.processes import status_of

if TYPE_CHECKING:
    from tests.databases import Databases

FAILPOINTS = (
    "projector_before_commit",
    "projector_after_apply",
    "reaction_after_taking",
    "reaction_before_call",
    "reaction_after_call",
    "reaction_before_inquiry",
    "reaction_after_inquiry",
    "reaction_before_outcome_commit",
    "reaction_after_outcome_commit",
    "reaction_before_reminder_commit",
    "reaction_after_reminder_commit",
)
OF_CALLS = tuple(each for each in FAILPOINTS if each.endswith(("call", "inquiry", "taking")))
"""Who stands there has taken something, and it is not written yet what became of it."""
SEEDS = range(int(os.environ.get("TORTURE_SEEDS", "1")))
FEWER_SEEDS = range(max(1, len(SEEDS) // 5))

VICTIM, OTHER = "victim", "other"
DEADLINES = {VICTIM: 10 * PATIENCE_SECONDS, OTHER: PATIENCE_SECONDS}
"""None of them passes. By them it is seen whose a lease is."""
END_LEASES_LONGER_THAN = """
    UPDATE reaction.intent SET due_at = clock_timestamp()
    WHERE number IN (
        SELECT number FROM reaction.intent
        WHERE ended_at IS NULL
          AND due_at > clock_timestamp() + make_interval(secs => %s)
        FOR UPDATE SKIP LOCKED
    )
"""
IS_READ = """
    SELECT NOT EXISTS (
        SELECT FROM log_head
        LEFT JOIN reaction.projection_checkpoint AS reached USING (partition)
        WHERE reached.position IS DISTINCT FROM log_head.position
    )
"""
IS_DONE = """
    SELECT (SELECT count(DISTINCT stream_id) FROM event WHERE type = 'JobEnded') = %s
       AND NOT EXISTS (SELECT FROM reaction.reminder)
       AND NOT EXISTS (SELECT FROM reaction.intent WHERE ended_at IS NULL)
"""
HAVE_ENDED = """
    SELECT count(DISTINCT stream_id) = cardinality(%(jobs)s::uuid[]) FROM event
    WHERE type = 'JobEnded' AND stream_id = ANY (%(jobs)s::uuid[])
"""
AT_WORK = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'jobs dispatcher' AND datname = current_database()
"""
WAITS_FOR_A_LOCK = """
    SELECT EXISTS (
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
          AND application_name LIKE 'jobs%'
    )
"""
IN_A_TRANSACTION = """
    SELECT pid, xact_start FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'
      AND application_name LIKE 'jobs%'
"""
LOOKS = 50
"""One that is open so often in a row is of somebody who stands: what it locks others pass over."""
ALL_THAT_IS_KNOWN = """
    SELECT 'intent', number::text, state, reason, attempts::text, token::text, ended_at::text
    FROM reaction.intent
    UNION ALL SELECT 'reminder', subject::text, name, reason, due_at::text, NULL, NULL
    FROM reaction.reminder
    UNION ALL SELECT 'subject', id::text, state::text, NULL, NULL, NULL, NULL
    FROM reaction.subject
    UNION ALL SELECT 'event', partition::text, position::text, NULL, NULL, NULL, NULL FROM event
    ORDER BY 1, 2, 3
"""


@dataclass
class Asked:
    """Jobs that were asked for, and what is to become of them."""

    databases: Databases
    owner: Connection[Any]
    """A connection to look around with."""
    chance: random.Random
    things: dict[UUID, list[str]] = field(default_factory=dict)
    """What the shop is to do for each, in this order."""
    given_up: set[UUID] = field(default_factory=set)
    by_hand: set[UUID] = field(default_factory=set)
    """Their reminders have lost their reason before they are due."""

    def more(self) -> set[UUID]:
        """Ask for some, mixed, some of the events written together; returns which they are."""
        asked = [*self._for_the_shop(), *self._to_give_up(), self._ended_by_hand()]
        self.chance.shuffle(asked)
        jobs = {events[0].stream_id for events in asked}
        while asked:
            count = self.chance.randint(1, min(4, len(asked)))
            together, asked[:count] = asked[:count], []
            write(self.databases, list(self._mixed(together)))
        return jobs

    def _mixed(self, streams: list[list[NewEvent]]) -> Iterator[NewEvent]:
        """All of them, those of each stream in their order."""
        while streams:
            events = self.chance.choice(streams)
            yield events.pop(0)
            streams = [each for each in streams if each]

    def _for_the_shop(self) -> Iterator[list[NewEvent]]:
        for _ in range(self.chance.randint(3, 6)):
            job = self._new_job()
            self.things[job] = [f"thing {nth}" for nth in range(self.chance.randint(1, 3))]
            yield self._events(job, *(JobAsked(what=what) for what in self.things[job]))

    def _to_give_up(self) -> Iterator[list[NewEvent]]:
        for _ in range(self.chance.randint(1, 3)):
            job = self._new_job()
            self.given_up.add(job)
            seconds = self.chance.choice((0.0, 0.05, 0.1))
            yield self._events(job, JobAsked(what="bread", seconds=seconds))

    def _ended_by_hand(self) -> list[NewEvent]:
        job = self._new_job()
        self.by_hand.add(job)
        asked = JobAsked(what="bread", seconds=self.chance.choice((0.0, 3600.0)))
        return self._events(job, asked, JobEnded(outcome="by hand"))

    def _new_job(self) -> UUID:
        return UUID(int=self.chance.getrandbits(128), version=4)

    def _events(self, job: UUID, *events: JobAsked | JobEnded) -> list[NewEvent]:
        settings = self.databases.settings
        return [job_event(settings, job, nth, event) for nth, event in enumerate(events, 1)]

    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        jobs = len(self.things) + len(self.given_up) + len(self.by_hand)
        return self.ask(IS_DONE, [jobs]) and self.ask(IS_READ)

    def ask(self, question: LiteralString, values: Any = None) -> Any:  # noqa: ANN401 - whatever it is
        row = self.owner.execute(question, values).fetchone()
        assert row is not None
        return row[0]

    def end_leases(self) -> None:
        """Of the victim, which does not come back before: nothing is gained by waiting.

        Nor is it where it has given something back that the shop may still be at, by its deadline.
        """
        self.owner.execute(END_LEASES_LONGER_THAN, [2 * DEADLINES[OTHER] + 60])


@dataclass(kw_only=True)
class Scene:
    """Two processes at work, a shop, what was asked for, and what is left to chance."""

    asked: Asked
    shop: Shop
    victim: BaseProcess
    asks: bool
    also_reads: bool
    """The victim does."""
    let_go: int = 0
    """How often the victim went on from where it stood, after its leases were ended."""
    _open: Mapping[object, int] = field(default_factory=dict)
    """Transaction -> how often in a row it was open."""

    @property
    def chance(self) -> random.Random:
        return self.asked.chance

    def has_come_to_the_place(self) -> bool:
        """Whether the victim stands, which is at no other place."""
        stands = processes.stands(self.victim)
        assert stands or self.victim.exitcode is None, "it ends when it is ended"
        return stands

    def stand(self) -> None:
        """Ask for things until the victim stands at the place."""
        while not self.has_come_to_the_place():
            self.asked.more()
            eventually(lambda: self.has_come_to_the_place() or self.asked.is_done())

    def go_on(self) -> None:
        """Let it go on; if it comes to the place again, it stands again."""
        processes.go_on(self.victim)

    def let_the_other_work(self) -> None:
        """What is asked for now, while the victim stands, is done."""
        if self.also_reads:
            return  # and as long as it lives it keeps the other one from reading
        new = self.asked.more()
        jobs = {"jobs": list(new)}
        eventually(lambda: self.asked.ask(WAITS_FOR_A_LOCK) or self.asked.ask(HAVE_ENDED, jobs))

    def have_the_other_do_all(self) -> None:
        """While the victim stands; what it had taken it has no longer."""
        while True:
            self.stand()
            eventually(lambda: self._has_done_all() or not self.has_come_to_the_place())
            # Who was let go on may stand again by now, with something left to be done.
            if self.has_come_to_the_place() and self.asked.is_done():
                return

    def _has_done_all(self) -> bool:
        self.asked.end_leases()
        if self.asked.ask(WAITS_FOR_A_LOCK) or self._stands_in_a_transaction():
            self.go_on()  # another thread of it was in the middle of a transaction
            self.let_go += 1
            return False
        return self.asked.is_done()

    def _stands_in_a_transaction(self) -> bool:
        """Others need not wait for its locks: what it has taken they pass over."""
        found = self.asked.owner.execute(IN_A_TRANSACTION).fetchall()
        self._open = {each: self._open.get(each, 0) + 1 for each in found}
        return max(self._open.values(), default=0) > LOOKS

    def end_in_order(self) -> None:
        """Ask the victim to end, which it does from where it stands."""
        self.victim.terminate()

        def has_ended() -> bool:
            self.go_on()
            return self.victim.exitcode is not None

        eventually(has_ended)
        assert self.victim.exitcode == 0

    def finish(self) -> None:
        """The other one does what is left, whoever had taken it."""
        for _ in range(2):
            # What the victim had sent is done by the shop before the other one asks.
            httpx.get(f"{self.shop.url}/done/nothing")

        def is_done() -> bool:
            self.asked.end_leases()
            return self.asked.is_done()

        eventually(is_done)


def manners(place: str, seed: float) -> Callable[[Any, int], str]:
    """What the shop does at each call: at the first of some things something else than that."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, and of the shop's own thread
    worst, often = (["cut"], 0.7) if "inquiry" in place else (["cut", "fail", "busy"], 0.4)

    def manner(_body: object, nth: int) -> str:
        return chance.choice(worst) if nth == 1 and chance.random() < often else "do"

    return manner


@contextmanager
def scene(
    databases: Databases,
    settings: Settings,
    port: int,
    place: str,
    chance: random.Random,
    *,
    also_reads: bool | None = None,
) -> Iterator[Scene]:
    if also_reads is None:
        also_reads = place.startswith("projector") or chance.random() < 0.5
    asks = "inquiry" in place or chance.random() < 0.5
    few = settings.model_copy(update={"reaction_in_flight": chance.randint(1, 4)})
    told_to_act(databases)
    with ExitStack() as stack:
        asked = Asked(databases, stack.enter_context(databases.as_owner()), chance)
        if settings.broker_url:
            stack.enter_context(relaying(settings))
            stack.enter_context(ending_jobs_by_message(settings))
        shop = stack.enter_context(shop_open(port))
        shop.honours_keys = chance.random() < 0.7
        shop.manner = manners(place, chance.random())

        def started(who: str, **extra: str) -> BaseProcess:
            says = "asks" if asks else "does not ask"
            module = ["tests.integration.run_jobs", shop.url, who, str(DEADLINES[who]), says]
            return stack.enter_context(running(module, few, **extra))

        armed = {"ORDERLY_FAILPOINT": f"{place}:{chance.randint(1, 3)}"}
        order = (VICTIM, OTHER) if also_reads else (OTHER, VICTIM)
        processes = {}
        for nth, who in enumerate(order, 1):
            processes[who] = started(who, **(armed if who == VICTIM else {}))
            # Who is there first reads, and the other one stands by for that.
            eventually(lambda: asked.ask(IS_READ))
            eventually(lambda nth=nth: asked.ask(AT_WORK) == nth)
        yield Scene(
            asked=asked, shop=shop, victim=processes[VICTIM], asks=asks, also_reads=also_reads
        )


@pytest.fixture
def at_place(
    request: pytest.FixtureRequest, databases: Databases, free_port: Callable[[], int]
) -> Callable[..., Any]:
    """A scene at a place, with a seed."""

    def opened(place: str, seed: int, **more: bool) -> Any:  # noqa: ANN401 - a context manager
        chance = random.Random(f"{place} {seed}")  # noqa: S311 - repeatable
        has_broker = (FAILPOINTS.index(place) + seed) % 2 == 0
        settings = request.getfixturevalue("with_broker") if has_broker else databases.settings
        return scene(databases, settings, free_port(), place, chance, **more)

    return opened


def all_is_well(there: Scene, *, comes_back: bool = False) -> None:
    """Each effect is there once, in order; nothing is stuck; no call was made for nothing."""
    asked, shop = there.asked, there.shop
    ended = outcomes(asked.databases)
    for job, whats in asked.things.items():
        done = [what for of, what in shop.done if of == str(job)]
        assert (done if shop.honours_keys else list(dict.fromkeys(done))) == whats
        assert len(ended[job]) == 1
    for jobs, outcome in ((asked.given_up, "given up"), (asked.by_hand, "by hand")):
        assert [ended[job] for job in jobs] == [[outcome]] * len(jobs)
    calls_are_explained(there, comes_back=comes_back)
    aggregates, settings = [*SYSTEM.aggregates, JOB], asked.databases.settings
    assert verify(settings, aggregates, [], reactions=[JOBS], say=lambda _: None) == []


def calls_are_explained(there: Scene, *, comes_back: bool) -> None:
    """Also by what a target without keys would see: one more where the victim called, at most, and
    one for each time that it was let go on with what it had no longer.
    """
    shop, asks = there.shop, there.asks
    by_victim = {each.key for each in shop.seen if each.caller == VICTIM}
    # Who can be asked is not called again for what he has done, though nobody heard of it.
    calls_for_more = {"fail", "busy"} if asks else {"fail", "busy", "cut"}
    unanswered = Counter(each.key for each in shop.seen if each.manner in calls_for_more)
    if asks and not comes_back:
        done = Counter(each.key for each in shop.seen if each.manner not in NOT_DONE)
        assert set(done.values()) == {1}
    for key, calls in shop.calls.items():
        more = 1 + there.let_go if key in by_victim else 0
        assert calls <= 1 + unanswered[key] + more, [each for each in shop.seen if each.key == key]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("place", FAILPOINTS)
def test_a_death_anywhere_costs_and_doubles_nothing(
    at_place: Callable[..., Any], place: str, seed: int
) -> None:
    with at_place(place, seed) as there:
        there.stand()
        if there.chance.random() < 0.5:
            there.let_the_other_work()
        there.victim.kill()
        assert status_of(there.victim) == -signal.SIGKILL
        if there.chance.random() < 0.5:
            there.asked.more()
        there.finish()
        all_is_well(there)


@pytest.mark.parametrize("seed", FEWER_SEEDS)
@pytest.mark.parametrize("place", FAILPOINTS)
def test_who_is_asked_to_end_anywhere_ends_and_costs_and_doubles_nothing(
    at_place: Callable[..., Any], place: str, seed: int
) -> None:
    with at_place(place, seed) as there:
        there.stand()
        there.end_in_order()
        there.asked.more()
        there.finish()
        all_is_well(there)


@pytest.mark.parametrize("seed", FEWER_SEEDS)
@pytest.mark.parametrize("place", OF_CALLS)
def test_who_comes_back_after_others_have_done_it_changes_nothing(
    at_place: Callable[..., Any], place: str, seed: int
) -> None:
    """His lease ends under a call that still runs, and his own clock does not tell him."""
    with at_place(place, seed, also_reads=False) as there:
        there.have_the_other_do_all()
        before = there.asked.owner.execute(ALL_THAT_IS_KNOWN).fetchall()
        there.end_in_order()
        assert there.asked.owner.execute(ALL_THAT_IS_KNOWN).fetchall() == before
        all_is_well(there, comes_back=True)
