"""`orderly rebuild`: compute a projection's tables again while the old ones serve.

The new tables are filled in a schema of their own by the same SQL that the projector runs, found
there through the search path. Then they are compared with the old ones at one position, brought up
to date, and put in their place in one short transaction, in which the projector is held off by the
checkpoint's lock. Whatever happens before that transaction commits, the old tables stay.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import Connection, sql

from codebase.engine.log.codec import UnknownEventError
from codebase.engine.projections.checkpoint import STORE_OPTIONS
from codebase.engine.projections.logged_events import LoggedEvent, read_events
from codebase.engine.projections.projection import Projection, Projector, apply_projection
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.operations import OperationError
from codebase.operations.parked import LeftOut, left_out
from codebase.operations.terminal import Progress, no_progress

logger = logging.getLogger(__name__)

CHUNK = 5_000
"""Events per statement; the next chunk is read while one is applied."""
CHUNKS_AHEAD = 2
CLOSE_ENOUGH = 2_000
"""So many events can be applied while the projector is held off, without anybody noticing."""
LONGEST_CHASE = 20
REPORTED_DIFFERENCES = 20

# A rebuild may take longer than any query of a service may.
OPTIONS = f"{STORE_OPTIONS} -c statement_timeout=0 -c maintenance_work_mem=256MB"

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

# LIKE copies everything but these.
STORAGE_OPTIONS = """
    SELECT option_name, option_value
    FROM pg_class, pg_options_to_table(reloptions)
    WHERE oid = %(table)s::regclass
"""

KEY_COLUMNS = """
    SELECT attribute.attname
    FROM pg_index AS key
    JOIN pg_attribute AS attribute
        ON attribute.attrelid = key.indrelid AND attribute.attnum = ANY (key.indkey)
    WHERE key.indrelid = %(table)s::regclass AND key.indisprimary
    ORDER BY array_position(key.indkey::smallint[], attribute.attnum)
"""

# As text, because numeric 1.0 and 1.00 are equal and yet not the same answer to a client.
COMPARE = """
    SELECT coalesce(served::text, 'missing'), coalesce(rebuilt::text, 'missing')
    FROM public.{table} AS served
    FULL JOIN {schema}.{table} AS rebuilt USING ({key})
    WHERE served::text IS DISTINCT FROM rebuilt::text
"""

Say = Callable[[str], None]


class RebuildError(OperationError):
    """The rebuild was given up; the old tables serve on."""


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
        job = _Rebuild(settings, projector, projection, store=store, schema=name, say=say)
        try:
            return job.run(progress)
        finally:
            job.clean_up()


class _Rebuild:
    def __init__(
        self,
        settings: Settings,
        projector: Projector,
        projection: Projection,
        *,
        store: Connection[Any],
        schema: str,
        say: Say,
    ) -> None:
        self._settings = settings
        self._projector = projector
        self._projection = projection
        self._store = store
        self._schema = sql.Identifier(schema)
        self._say = say
        self._report = Report()
        self._reached: dict[int, int] = {}
        self._left_out = LeftOut(parked=frozenset(), discarded=frozenset())

    def run(self, progress: Progress) -> Report:
        self._left_out = left_out(self._store, self._projector.name)
        self._report.notes += self._left_out.sentences()
        self._create_tables()
        self._fill(progress)
        self._analyze()
        self._compare()
        self._swap()
        for note in self._report.notes:
            self._say(note)
        return self._report

    def clean_up(self) -> None:
        """Nothing of a rebuild stays behind, whether it succeeded or not."""
        if not self._store.closed:
            self._execute("SET search_path = public")
            self._execute("DROP SCHEMA IF EXISTS {schema} CASCADE")

    def _execute(self, statement: str, **names: sql.Composable) -> None:
        self._store.execute(sql.SQL(statement).format(schema=self._schema, **names))

    def _create_tables(self) -> None:
        # What is there was left behind by a rebuild that was killed.
        self._execute("DROP SCHEMA IF EXISTS {schema} CASCADE")
        self._execute("CREATE SCHEMA {schema}")
        for table in self._projection.tables:
            self._execute(
                "CREATE TABLE {schema}.{table} (LIKE public.{table} INCLUDING ALL)",
                table=sql.Identifier(table),
            )
            self._copy_storage_options(table)
        # Only there: a table that the projection does not name is not found, instead of written.
        self._execute("SET search_path = {schema}")

    def _copy_storage_options(self, table: str) -> None:
        parameters = {"table": f"public.{table}"}
        for name, value in self._store.execute(STORAGE_OPTIONS, parameters).fetchall():
            self._execute(
                "ALTER TABLE {schema}.{table} SET ({name} = {value})",
                table=sql.Identifier(table),
                name=sql.Identifier(name),
                value=sql.Literal(value),
            )

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
        self._report.notes.append("orders came faster than the rebuild could follow")

    def _distance(self, goal: Mapping[int, int]) -> int:
        return sum(
            position - self._reached.get(partition, 0) for partition, position in goal.items()
        )

    def _apply_until(self, goal: Mapping[int, int], advance: Callable[[int], object]) -> None:
        for partition, position in sorted(goal.items()):
            after = self._reached.get(partition, 0)
            reader = _ReadAhead(
                self._settings,
                self._projection.categories,
                partition,
                after=after,
                until=position,
            )
            with reader.chunks() as chunks:
                for events in chunks:
                    self._apply(events)
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

    def _analyze(self) -> None:
        for table in self._projection.tables:
            self._execute("ANALYZE {table}", table=sql.Identifier(table))

    # Comparing

    def _compare(self) -> None:
        """Compare old and new tables as of one position, while both go on."""
        self._execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        try:
            # This snapshot holds the served rows and the checkpoint they belong to; what the new
            # tables lack up to there is added by this transaction, which sees its own writes.
            goal = self._checkpoints()
            self._apply_until(goal, lambda _count: None)
            for table in self._projection.tables:
                self._compare_table(table)
        except BaseException:
            self._execute("ROLLBACK")
            raise
        self._execute("COMMIT")
        positions = ", ".join(f"{part}:{position}" for part, position in sorted(goal.items()))
        self._say(
            f"{self._report.differing_rows} rows differed at {positions}"
            if self._report.differing_rows
            else f"no difference at {positions}"
        )

    def _compare_table(self, table: str) -> None:
        parameters = {"table": f"public.{table}"}
        columns = [row[0] for row in self._store.execute(KEY_COLUMNS, parameters).fetchall()]
        key = sql.SQL(", ").join(sql.Identifier(column) for column in columns)
        query = sql.SQL(COMPARE).format(schema=self._schema, table=sql.Identifier(table), key=key)
        with self._store.cursor(name="differences") as cursor:
            cursor.execute(query)
            for served, rebuilt in cursor:
                self._report.differing_rows += 1
                if len(self._report.differences) < REPORTED_DIFFERENCES:
                    difference = f"{table}: served {served}, the log says {rebuilt}"
                    self._report.differences.append(difference)
                    self._say(difference)

    # Swapping

    def _swap(self) -> None:
        for _ in range(SWAP_TRIES):
            try:
                with self._store.transaction():
                    self._swap_in_transaction()
            except psycopg.errors.LockNotAvailable:
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
            self._execute(SWAP_LOCK_TIMEOUT)
            key = {"projector": self._projector.name}
            goal = dict(self._store.execute(LOCK_CHECKPOINTS, key).fetchall())
            self._refuse_if_something_was_parked()
            self._apply_until(goal, lambda _count: None)
            for table in self._projection.tables:
                identifier = sql.Identifier(table)
                self._execute("DROP TABLE public.{table}", table=identifier)
                self._execute("ALTER TABLE {schema}.{table} SET SCHEMA public", table=identifier)
        except BaseException:
            # The transaction is rolled back, and what it applied with it.
            self._reached, self._report.events = reached, events
            raise

    def _refuse_if_something_was_parked(self) -> None:
        if self._left_out != left_out(self._store, self._projector.name):
            raise RebuildError("streams were parked, retried or discarded meanwhile; run it again")


class _ReadAhead:
    """The log from `after` to `until` in chunks, read by a thread ahead of who applies them."""

    def __init__(
        self,
        settings: Settings,
        categories: frozenset[str],
        partition: int,
        *,
        after: int,
        until: int,
    ) -> None:
        self._settings = settings
        self._categories = categories
        self._partition = partition
        self._position = after
        self._until = until
        self._chunks: queue.Queue[list[LoggedEvent] | BaseException] = queue.Queue(CHUNKS_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rebuild reader", daemon=True)

    @contextmanager
    def chunks(self) -> Iterator[Iterator[list[LoggedEvent]]]:
        """The chunks in order; an error of the reading thread is raised where they are taken."""
        expected = self._until - self._position
        if expected > 0:
            self._thread.start()
        try:
            yield self._take(expected)
        finally:
            self._stop.set()
            if expected > 0:
                self._thread.join()

    def _take(self, expected: int) -> Iterator[list[LoggedEvent]]:
        while expected > 0:
            chunk = self._chunks.get()
            if isinstance(chunk, BaseException):
                raise chunk
            expected -= len(chunk)
            yield chunk

    def _run(self) -> None:
        try:
            with connect(self._settings.required("write_model_reader_url"), "rebuild") as log:
                while self._position < self._until and not self._stop.is_set():
                    self._put(self._read(log))
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits for chunks
            self._put(error)

    def _read(self, log: Connection[Any]) -> list[LoggedEvent]:
        events = read_events(
            log,
            self._partition,
            after=self._position,
            limit=CHUNK,
            until=self._until,
            categories=self._categories,
        )
        if not events:
            raise RebuildError(f"the log ends at {self._partition}:{self._position}")
        self._position = events[-1].position
        return events

    def _put(self, item: list[LoggedEvent] | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._chunks.put(item, timeout=0.1)
            except queue.Full:
                continue
            return
