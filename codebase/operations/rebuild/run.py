"""`orderly rebuild`: compute a projection's tables again while the old ones serve.

The new tables are filled in a schema of their own by the same SQL that the projector runs, found
there through the search path. Then they are compared with the old ones at one position, brought up
to date, and put in their place in one short transaction, in which the projector is held off by the
checkpoint's lock. Whatever happens before that transaction commits, the old tables stay.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import Connection

from codebase.engine.log.codec import UnknownEventError
from codebase.engine.projections.checkpoint import STORE_OPTIONS
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, Projector, apply_projection
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.operations.parked import LeftOut, left_out
from codebase.operations.rebuild.errors import RebuildError
from codebase.operations.rebuild.read_ahead import ReadAhead
from codebase.operations.rebuild.tables import NewTables
from codebase.operations.terminal import Progress, no_progress

logger = logging.getLogger(__name__)

CLOSE_ENOUGH = 2_000
"""So many events can be applied while the projector is held off, without anybody noticing."""
LONGEST_CHASE = 20
CHUNKS_UNDER_WAY = 8
"""While Postgres applies one the next is being prepared; so many are waited for together."""
REPORTED_DIFFERENCES = 20

# A rebuild may take longer than any query of a service may, and all of the comparison is fetched.
OPTIONS = (
    f"{STORE_OPTIONS} -c statement_timeout=0 -c maintenance_work_mem=256MB -c work_mem=64MB"
    " -c cursor_tuple_fraction=1"
)

# One rebuild of a projection at a time, whoever starts the second.
LOCK = "SELECT pg_try_advisory_lock(hashtext(%(name)s))"

READ_CHECKPOINTS = """
    SELECT partition, position FROM public.projection_checkpoint WHERE projector = %(projector)s
"""
LOCK_CHECKPOINTS = """
    SELECT partition, position FROM public.projection_checkpoint
    WHERE projector = %(projector)s
    ORDER BY partition
    FOR UPDATE
"""

# Everybody who queues behind our lock on a table waits as long as we wait for it.
SWAP_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '2s'"
SWAP_TRIES = 10

Say = Callable[[str], None]


@dataclass(kw_only=True)
class Report:
    """What a rebuild did.

    Args:
        events: how many of the log the view was made from.
        differences: one sentence per row that was not what the log says, at most some.
        differing_rows: how many there were in all, over all tables.
        notes: what else the operator should know.
    """

    events: int = 0
    differences: list[str] = field(default_factory=list)
    differing_rows: int = 0
    notes: list[str] = field(default_factory=list)


def rebuild(
    settings: Settings,
    projector: Projector,
    projection_name: str,
    *,
    say: Say = print,
    progress: Progress = no_progress,
) -> Report:
    """Compute a projection again and put the result in the place of what serves now.

    Args:
        settings: needs the read model's owner and the write model's reader.
        projector: which one the projection belongs to.
        projection_name: see `Projection.name`.
        say: told each step in a sentence.
        progress: shown how far the events of the log have been gone through.

    Raises:
        KeyError: no such projection.
        RebuildError: it could not be done; nothing has changed.
        psycopg.Error: a store is away, or an event cannot be applied; nothing has changed.
    """
    projection = projector.projection(projection_name)
    with connect(settings.required("read_model_owner_url"), "rebuild", options=OPTIONS) as store:
        name = f"rebuild_{projection.name}"
        row = store.execute(LOCK, {"name": name}).fetchone()
        if row is None or not row[0]:
            raise RebuildError(f"another rebuild of {projection.name} is running")
        tables = NewTables(
            store,
            name,
            projection.tables,
            projection.kept,
            finds_rows=not projection.only_inserts,
        )
        job = _Rebuild(settings, projector, projection, store=store, tables=tables, say=say)
        try:
            return job.run(progress)
        finally:
            tables.drop()


class _Rebuild:
    def __init__(
        self,
        settings: Settings,
        projector: Projector,
        projection: Projection,
        *,
        store: Connection[Any],
        tables: NewTables,
        say: Say,
    ) -> None:
        self._settings = settings
        self._projector = projector
        self._projection = projection
        self._store = store
        self._tables = tables
        self._say = say
        self._report = Report()
        self._reached: dict[int, int] = {}
        self._left_out = LeftOut(parked=frozenset(), discarded=frozenset())

    def run(self, progress: Progress) -> Report:
        self._left_out = left_out(self._store, self._projector.name)
        self._report.notes += self._left_out.sentences()
        self._tables.create()
        self._fill(progress)
        self._tables.analyze()
        self._compare()
        self._swap()
        for note in self._report.notes:
            self._say(note)
        return self._report

    def _checkpoints(self) -> dict[int, int]:
        return dict(
            self._store.execute(READ_CHECKPOINTS, {"projector": self._projector.name}).fetchall()
        )

    # Filling

    def _fill(self, progress: Progress) -> None:
        """Go through the log to where the projector is, again and again until it is close."""
        for lap in range(LONGEST_CHASE):
            goal = self._checkpoints()
            distance = self._distance(goal)
            if lap > 0 and distance <= CLOSE_ENOUGH:
                return
            with progress(distance) as advance:
                self._apply_until(goal, advance)
            self._tables.index()
        self._report.notes.append("orders came faster than the rebuild could follow")

    def _distance(self, goal: Mapping[int, int]) -> int:
        return sum(
            position - self._reached.get(partition, 0) for partition, position in goal.items()
        )

    def _apply_until(self, goal: Mapping[int, int], advance: Callable[[int], object]) -> None:
        for partition, position in sorted(goal.items()):
            after = self._reached.get(partition, 0)
            reader = ReadAhead(
                self._settings,
                self._projection.categories,
                partition,
                after=after,
                until=position,
            )
            with reader.chunks() as chunks, self._store.pipeline() as sent:
                for number, events in enumerate(chunks, 1):
                    self._apply(events)
                    if number % CHUNKS_UNDER_WAY == 0:
                        sent.sync()
                    advance(len(events))
            self._reached[partition] = position

    def _apply(self, events: list[LoggedEvent]) -> None:
        wanted = [
            event
            for event in events
            if event.category in self._projection.categories
            and (event.partition, event.position) not in self._left_out
        ]
        self._report.events += len(wanted)
        with self._store.cursor(binary=True) as cursor:
            try:
                apply_projection(self._projection, cursor, wanted)
            except UnknownEventError as error:
                raise RebuildError(str(error)) from error

    # Comparing

    def _compare(self) -> None:
        """Compare old and new tables as of one position, while both go on."""
        self._store.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        try:
            # This snapshot holds the served rows and the checkpoint they belong to; what the new
            # tables lack up to there is added by this transaction, which sees its own writes.
            goal = self._checkpoints()
            self._apply_until(goal, lambda _count: None)
            for table, served, rebuilt in self._tables.differences():
                self._note(f"{table}: served {served}, the log says {rebuilt}")
        except BaseException:
            self._store.execute("ROLLBACK")
            raise
        self._store.execute("COMMIT")
        positions = ", ".join(f"{part}:{position}" for part, position in sorted(goal.items()))
        self._say(
            f"{self._report.differing_rows} rows differed at {positions}"
            if self._report.differing_rows
            else f"no difference at {positions}"
        )

    def _note(self, difference: str) -> None:
        self._report.differing_rows += 1
        if len(self._report.differences) < REPORTED_DIFFERENCES:
            self._report.differences.append(difference)
            self._say(difference)

    # Swapping

    def _swap(self) -> None:
        for _ in range(SWAP_TRIES):
            try:
                with self._store.transaction():
                    self._swap_in_transaction()
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                # A long query holds a table. Let everybody who queued behind us pass, catch up.
                logger.info("the tables are in use; trying again")
                self._apply_until(self._checkpoints(), lambda _count: None)
            else:
                self._say(f"{self._projection.name} now serves {self._report.events} events")
                return
        raise RebuildError("the tables were in use all the time; try again when it is quieter")

    def _swap_in_transaction(self) -> None:
        reached, events = dict(self._reached), self._report.events
        try:
            self._store.execute(SWAP_LOCK_TIMEOUT)
            key = {"projector": self._projector.name}
            goal = dict(self._store.execute(LOCK_CHECKPOINTS, key).fetchall())
            self._refuse_if_something_was_parked()
            self._apply_until(goal, lambda _count: None)
            self._tables.take_the_place()
        except BaseException:
            # The transaction is rolled back, and what it applied with it.
            self._reached, self._report.events = reached, events
            raise

    def _refuse_if_something_was_parked(self) -> None:
        if self._left_out != left_out(self._store, self._projector.name):
            raise RebuildError("streams were parked, retried or discarded meanwhile; run it again")
