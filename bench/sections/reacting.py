"""What an event causes: what reading costs, how soon and how much is done, what waiting costs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from bench.filling import append_pages
from bench.lab import Lab, as_owner
from bench.measure import BenchError, alternate, percentile
from bench.orders import fill_log, new_events
from bench.report import Result, at_least, at_most, below
from codebase.engine.log.appender import Appender
from codebase.engine.projections.projector import projector_team
from codebase.engine.reactions.dispatcher import Dispatcher
from codebase.engine.reactions.reaction import Answer, Happened, Intent, Reaction, Send, Sent
from codebase.engine.reactions.reading import projector_of
from codebase.engine.reactions.target import Repeatable
from codebase.engine.reactions.team import ReactionTeam
from codebase.foundation.postgres import connect_async
from codebase.foundation.settings import Settings
from codebase.foundation.worker import Worker
from codebase.model.buy_orders.buy_order import BUY_ORDER

EVENTS_PER_PAGE = 500
IDLE_EVENTS = 50_000
INTENTS = 20_000
REMINDERS = 1_000_000
SOON_SECONDS = 10.0
EVENTS_PER_SECOND = 200
ROUNDS = 5
POLL_SECONDS = 0.005
PATIENCE_SECONDS = 300.0
STOP_SECONDS = 30.0

REACHED = "SELECT coalesce(min(position), 0) FROM reaction.projection_checkpoint"
ADOPT = "SELECT reaction.adopt()"
OPEN_AGAIN = """
    UPDATE reaction.intent
    SET state = 'waiting', is_next = true, ended_at = NULL, token = NULL, attempts = 0,
        in_doubt = false, due_at = clock_timestamp()
"""
COUNT_OPEN = "SELECT count(*) FROM reaction.intent WHERE ended_at IS NULL"
ADD_REMINDERS = """
    WITH subjects AS (
        INSERT INTO reaction.subject (reaction, id)
        SELECT 'bench', gen_random_uuid() FROM generate_series(1, %(count)s)
        RETURNING id
    )
    INSERT INTO reaction.reminder (reaction, subject, name, key, due_at, data)
    SELECT 'bench', id, 'later', gen_random_uuid(),
           clock_timestamp() + make_interval(days => 30 + (random() * 300)::integer), '{}'
    FROM subjects
"""


def react(happened: Happened, _state: None) -> Sequence[Intent]:
    """One thing for each order."""
    return [Send("instant", "note", {"order": str(happened.stream_id)})]


IDLE = Reaction(
    name="bench idle", aggregates=(BUY_ORDER,), subject=lambda _: None, react=lambda *_: ()
)
BENCH = Reaction(
    name="bench",
    aggregates=(BUY_ORDER,),
    subject=lambda happened: happened.stream_id,
    react=react,
)


class Instant(Repeatable):
    """A target that does everything at once, and remembers when."""

    deadline_seconds = 5.0

    def __init__(self) -> None:
        self.done_at: dict[UUID, float] = {}

    async def send(self, sent: Sent) -> Answer:
        """Done."""
        self.done_at[sent.subject] = time.perf_counter()
        return Answer()


def measure(lab: Lab) -> Iterator[Result]:
    """The four of them, each on a log of its own."""
    yield _idle(lab)
    yield from _how_soon(lab)
    yield from _how_much(lab)


def _stores(lab: Lab, name: str) -> Settings:
    settings = lab.stores(name)
    with as_owner(settings, "write_model") as owner:
        owner.execute(ADOPT)
    return settings


def _read(settings: Settings, reaction: Reaction, events: int) -> float:
    """Have the reaction read so many events; this process' processor time for it, in seconds."""
    team = projector_team(settings, projector_of(reaction))
    before = time.process_time()
    team.start()
    with as_owner(settings, "write_model") as owner:
        _wait(lambda: owner.execute(REACHED).fetchone() == (events,))
    spent = time.process_time() - before
    team.stop(STOP_SECONDS)
    return spent


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not until():
        if time.monotonic() > deadline:
            raise BenchError("a reaction does not come to an end")
        time.sleep(POLL_SECONDS)


def _idle(lab: Lab) -> Result:
    events = lab.effort.count(IDLE_EVENTS)
    settings = _stores(lab, "idle")
    fill_log(settings, events)
    spent = _read(settings, IDLE, events)
    return Result(
        name="a reaction with nothing to do: processor time per event",
        value=1e6 * spent / events,
        unit="µs",
        target=below(100),
    )


def _how_soon(lab: Lab) -> Iterator[Result]:
    settings = _stores(lab, "soon")
    seconds = lab.effort.seconds(SOON_SECONDS)
    waits = asyncio.run(_waits(settings, max(10, int(seconds * EVENTS_PER_SECOND))))
    name = f"from an event to its effect, at {EVENTS_PER_SECOND} events/s"
    for percent, bound in ((50, 20), (99, 100)):
        yield Result(
            name=f"{name}, p{percent}",
            value=1000 * percentile(waits, percent),
            unit="ms",
            target=below(bound),
        )


async def _waits(settings: Settings, count: int) -> list[float]:
    """Seconds from the commit of each event to its effect."""
    instant, appended_at = Instant(), dict[UUID, float]()
    appender = Appender(notes_kept_days=90)
    team = ReactionTeam(settings, BENCH, {"instant": instant})
    async with team.at_work(lambda: STOP_SECONDS):
        while await team.problem() is not None:  # noqa: ASYNC110 - threads cannot set its event
            await asyncio.sleep(POLL_SECONDS)
        async with await connect_async(settings.required("write_model_url"), "bench") as log:
            began = time.perf_counter()
            for nth, order in enumerate(new_events(count)):
                await asyncio.sleep(began + nth / EVENTS_PER_SECOND - time.perf_counter())
                await appender.append(log, [order])
                appended_at[order.stream_id] = time.perf_counter()
        await asyncio.to_thread(_wait, lambda: len(instant.done_at) >= count)
    return [max(0.0, instant.done_at[each] - at) for each, at in appended_at.items()]


def _how_much(lab: Lab) -> Iterator[Result]:
    intents = lab.effort.count(INTENTS)
    alone, beside = _stores(lab, "no_reminders"), _stores(lab, "reminders")
    for settings in (alone, beside):
        # By append(): rows that are copied share their event's id, after which effects are named.
        append_pages(settings, (new_events(size) for size in _pages(intents)))
        _read(settings, BENCH, intents)
    with as_owner(beside, "write_model") as owner:
        owner.execute(ADD_REMINDERS, {"count": lab.effort.count(REMINDERS)})
        owner.execute("ANALYZE reaction.reminder, reaction.subject")
    numbers = alternate(
        lab.effort.rounds(ROUNDS),
        {
            "alone": lambda: _seconds_to_do(alone),
            "beside": lambda: _seconds_to_do(beside),
        },
    )
    yield Result(
        name="what one dispatcher does, at a target that answers at once",
        value=intents / numbers.median("alone"),
        unit="intents/s",
        target=at_least(2_000),
    )
    yield Result(
        name=f"the same beside {REMINDERS:,} reminders ÷ beside none, in time",
        value=numbers.ratio("beside", "alone"),
        unit="ratio",
        target=at_most(1.2),
    )


def _pages(count: int) -> Iterator[int]:
    for begin in range(0, count, EVENTS_PER_PAGE):
        yield min(EVENTS_PER_PAGE, count - begin)


def _seconds_to_do(settings: Settings) -> float:
    """How long one dispatcher takes for all that there is; afterwards it is there again."""
    with as_owner(settings, "write_model") as owner:
        owner.execute(OPEN_AGAIN)
        owner.execute("VACUUM ANALYZE reaction.intent")
        taken = asyncio.run(_dispatch(settings))
        if owner.execute(COUNT_OPEN).fetchone() != (0,):
            raise BenchError("not everything was done")
    return taken


async def _dispatch(settings: Settings) -> float:
    instant = Instant()
    with as_owner(settings, "write_model") as owner:
        [(count,)] = owner.execute(COUNT_OPEN).fetchall()
        async with _dispatching(settings, instant) as began:
            # Counting what is open takes long while it is much.
            await asyncio.to_thread(_wait, lambda: len(instant.done_at) >= count)
            await asyncio.to_thread(_wait, lambda: owner.execute(COUNT_OPEN).fetchone() == (0,))
            return time.perf_counter() - began


@asynccontextmanager
async def _dispatching(settings: Settings, instant: Instant) -> AsyncIterator[float]:
    stop = threading.Event()
    loop = asyncio.get_running_loop()
    dispatcher = Dispatcher(BENCH, {"instant": instant}, settings, loop, stop)
    worker = Worker("bench dispatcher", dispatcher.run, stop=stop, wake=dispatcher.wake)
    began = time.perf_counter()
    worker.start()
    try:
        yield began
    finally:
        await asyncio.to_thread(worker.stop, STOP_SECONDS)
