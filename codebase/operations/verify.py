"""`orderly verify`: recompute everything from the log, by other ways, and say what differs.

Both stores are read as of one moment each: first the read model, whose checkpoints say up to where
it has to agree with the log, then the write model, which is at least as far. Nothing is kept in
memory but the stream at hand: the log comes stream by stream, and rows and claims come in the same
order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from psycopg import Connection, IsolationLevel, sql
from psycopg.rows import class_row, dict_row

from codebase.engine.log.codec import UnknownEventError, decode
from codebase.engine.log.events import RecordedEvent
from codebase.engine.log.identifiers import partition_of
from codebase.engine.projections.projection import Projection, Projector
from codebase.foundation.postgres import connect
from codebase.foundation.settings import Settings
from codebase.model.aggregate import (
    Aggregate,
    Claim,
    Guard,
    Release,
    Require,
    Spend,
    Vacate,
)
from codebase.operations.parked import LeftOut, left_out
from codebase.operations.terminal import Advance, Progress, no_progress

OPTIONS = "-c statement_timeout=0"
FETCH = 2_000
"""Rows per round trip of a cursor that streams."""
REPORTED_DIFFERENCES = 1_000
"""No more are collected: whoever has a thousand differences needs a rebuild, not a longer list."""

COUNT_POSITIONS = """
    SELECT head.partition, head.position, counted.events, counted.first, counted.last
    FROM log_head AS head
    LEFT JOIN (
        SELECT partition, count(*) AS events, min(position) AS first, max(position) AS last
        FROM event GROUP BY partition
    ) AS counted USING (partition)
    ORDER BY head.partition
"""

FIND_GAPS = """
    SELECT previous, position
    FROM (
        SELECT position, lag(position, 1, 0::bigint) OVER (ORDER BY position) AS previous
        FROM event WHERE partition = %(partition)s
    ) AS neighbours
    WHERE position <> previous + 1
    ORDER BY position
    LIMIT 20
"""

FIND_TIME_STEPS_BACK = """
    SELECT partition, position
    FROM (
        SELECT partition, position, recorded_at,
               lag(recorded_at) OVER (PARTITION BY partition ORDER BY position) AS previous
        FROM event
    ) AS neighbours
    WHERE recorded_at < previous
    ORDER BY partition, position
    LIMIT 20
"""

# The order of UNIQUE (stream_id, version, partition): an index gives it without a sort.
READ_STREAMS_IN_ORDER = """
    SELECT partition, position, stream_id, category, version, type, idempotence_key, data, meta,
           recorded_at
    FROM event
    ORDER BY stream_id, version, partition
"""

READ_CLAIMS_IN_ORDER = "SELECT stream_id, kind, value FROM claim ORDER BY stream_id, kind, value"
READ_BUDGETS = "SELECT name, spent, limit_value FROM budget ORDER BY name"
READ_RELAY_CHECKPOINTS = "SELECT partition, position FROM relay_checkpoint ORDER BY partition"
READ_CHECKPOINTS = """
    SELECT partition, position FROM projection_checkpoint WHERE projector = %(projector)s
"""

READ_ROWS_IN_ORDER = "SELECT * FROM {table} ORDER BY {key}"
KEY = "id"
"""The key of a view's first table; it begins with the stream's id, in whose order streams come."""


class Findings:
    """The differences found so far, each told at once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.sentences: list[str] = []
        self.suppressed = 0

    def add(self, sentence: str) -> None:
        """Remember and tell a difference, up to a limit."""
        if len(self.sentences) < REPORTED_DIFFERENCES:
            self.sentences.append(sentence)
            self._say(sentence)
        else:
            self.suppressed += 1


def verify(
    settings: Settings,
    aggregates: Sequence[Aggregate[Any, Any, Any]],
    projectors: Sequence[Projector],
    *,
    say: Callable[[str], None] = print,
    progress: Progress = no_progress,
) -> list[str]:
    """Compare the log with itself, with claims and budgets, and with what was projected from it.

    Args:
        settings: needs the readers' addresses of both stores.
        aggregates: whose streams the log may hold.
        projectors: whose tables are in the read-model store.
        say: told each difference as it is found, and what was left out.
        progress: shown how far the events of the log have been gone through.

    Returns:
        One sentence per difference; empty when everything is as the log says.

    Raises:
        psycopg.Error: a store cannot be read.
    """
    findings = Findings(say)
    with (
        _snapshot(settings.required("read_model_url")) as read_model,
        _snapshot(settings.required("write_model_reader_url")) as log,
    ):
        heads = _check_positions(log, findings)
        relayed = log.execute(READ_RELAY_CHECKPOINTS).fetchall()
        _check_checkpoints("the relay", heads, relayed, findings)
        views: list[_View] = []
        for projector in projectors:
            checkpoints = _read_checkpoints(read_model, projector)
            excluded = left_out(read_model, projector.name)
            for sentence in excluded.sentences():
                say(f"{projector.name}: {sentence}")
            _check_checkpoints(projector.name, heads, checkpoints.items(), findings)
            views += (
                _View(projection, read_model, checkpoints, excluded, findings)
                for projection in projector.projections
            )
        with progress(sum(heads.values())) as advance:
            checks = [*views, _Guards(log, aggregates, findings)]
            _check_streams(log, len(heads), checks, findings, advance)
    if findings.suppressed:
        say(f"and {findings.suppressed} more differences")
    return findings.sentences


@contextmanager
def _snapshot(url: str) -> Iterator[Connection[Any]]:
    """A connection that sees its store as of one moment, and changes nothing."""
    with connect(url, "verify", autocommit=False, options=OPTIONS) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute("SELECT 1")
        yield connection


def _read_checkpoints(read_model: Connection[Any], projector: Projector) -> dict[int, int]:
    return dict(read_model.execute(READ_CHECKPOINTS, {"projector": projector.name}).fetchall())


def _check_positions(log: Connection[Any], findings: Findings) -> dict[int, int]:
    """Positions run from 1 to the head without a gap, and time runs with them."""
    heads = {}
    for partition, head, events, first, last in log.execute(COUNT_POSITIONS).fetchall():
        heads[partition] = head
        if (events or 0) != head or (head and (first != 1 or last != head)):
            _report_gaps(log, partition, head, last or 0, findings)
    for partition, position in log.execute(FIND_TIME_STEPS_BACK).fetchall():
        findings.add(f"log: the event at {partition}:{position} is older than the one before it")
    return heads


def _report_gaps(
    log: Connection[Any], partition: int, head: int, last: int, findings: Findings
) -> None:
    for previous, position in log.execute(FIND_GAPS, {"partition": partition}).fetchall():
        findings.add(f"log: partition {partition} has nothing between {previous} and {position}")
    if last != head:
        findings.add(f"log: partition {partition} ends at {last}, and its head says {head}")


def _check_checkpoints(
    whose: str, heads: dict[int, int], positions: Iterable[tuple[int, int]], findings: Findings
) -> None:
    for partition, position in positions:
        if position > heads.get(partition, 0):
            findings.add(f"{whose}'s checkpoint {partition}:{position} is beyond the log")


class _Check:
    """Something that is told stream by stream, in the order of their ids."""

    def stream(self, stream_id: UUID, recorded: Sequence[RecordedEvent]) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError


def _check_streams(
    log: Connection[Any],
    partitions: int,
    checks: Sequence[_Check],
    findings: Findings,
    advance: Advance,
) -> None:
    """Go through the log once, stream by stream."""
    with log.cursor("streams", row_factory=class_row(RecordedEvent)) as cursor:
        cursor.itersize = FETCH
        cursor.execute(READ_STREAMS_IN_ORDER)
        for stream_id, events in groupby(cursor, key=attrgetter("stream_id")):
            recorded = list(events)
            _check_versions(stream_id, recorded, partitions, findings)
            for check in checks:
                try:
                    check.stream(stream_id, recorded)
                except UnknownEventError as error:
                    findings.add(f"log: stream {stream_id}: {error}")
            advance(len(recorded))
    for check in checks:
        check.end()


def _check_versions(
    stream_id: UUID, recorded: Sequence[RecordedEvent], partitions: int, findings: Findings
) -> None:
    versions = [event.version for event in recorded]
    if versions != list(range(1, len(recorded) + 1)):
        findings.add(f"log: stream {stream_id} has versions {_brief(versions)}")
    if [event.position for event in recorded] != sorted(event.position for event in recorded):
        findings.add(f"log: stream {stream_id} is not in the order of its versions")
    if {event.partition for event in recorded} != {partition_of(stream_id, partitions)}:
        findings.add(f"log: stream {stream_id} is not in its partition")
    if len({event.category for event in recorded}) != 1:
        findings.add(f"log: stream {stream_id} has events of more than one category")


def _brief(versions: Sequence[int]) -> str:
    shown = ", ".join(map(str, versions[:10]))
    return shown if len(versions) <= 10 else f"{shown}, … ({len(versions)})"  # noqa: PLR2004


class _Guards(_Check):
    """Claims and budgets are what the model's `guards` say of the events."""

    def __init__(
        self,
        log: Connection[Any],
        aggregates: Sequence[Aggregate[Any, Any, Any]],
        findings: Findings,
    ) -> None:
        self._log = log
        self._findings = findings
        self._spent: defaultdict[str, Decimal] = defaultdict(Decimal)
        self._aggregates = {aggregate.category: aggregate for aggregate in aggregates}
        self._claims = _Merge(self._read_claims(), self._compare)

    def _read_claims(self) -> Iterator[tuple[UUID, set[tuple[str, str]]]]:
        with self._log.cursor("claims") as cursor:
            cursor.itersize = FETCH
            cursor.execute(READ_CLAIMS_IN_ORDER)
            for stream_id, rows in groupby(cursor, key=lambda row: row[0]):
                yield stream_id, {(kind, value) for _stream, kind, value in rows}

    def stream(self, stream_id: UUID, recorded: Sequence[RecordedEvent]) -> None:
        held: set[tuple[str, str]] = set()
        for event in recorded:
            for guard in self._guards_of(event):
                match guard:
                    case Claim(kind=kind, value=value):
                        held.add((kind, value))
                    case Release(kind=kind, value=value):
                        held.discard((kind, value))
                    case Spend(name=name, amount=amount):
                        self._spent[name] += amount
                    case Require() | Vacate():
                        pass  # they spoke of that moment, and leave nothing behind
        if held:
            self._claims.expect(stream_id, held)

    def _guards_of(self, event: RecordedEvent) -> Sequence[Guard]:
        aggregate = self._aggregates.get(event.category)
        if aggregate is None:
            raise UnknownEventError(f"no event {event.type} in category {event.category}")
        return aggregate.guards(decode(event, aggregate))

    def end(self) -> None:
        self._claims.end()
        budgets = self._log.execute(READ_BUDGETS).fetchall()
        for name, spent, limit_value in budgets:
            expected = self._spent.pop(name, Decimal(0))
            if spent != expected:
                self._findings.add(f"budget {name}: {spent} is spent, the log says {expected}")
            if expected > limit_value:
                self._findings.add(f"budget {name}: {expected} exceeds its limit {limit_value}")
        for name, expected in self._spent.items():
            self._findings.add(f"budget {name}: is missing, the log says {expected}")

    def _compare(
        self,
        stream_id: UUID,
        found: set[tuple[str, str]] | None,
        expected: set[tuple[str, str]] | None,
    ) -> None:
        for kind, _value in sorted((expected or set()) - (found or set())):
            self._findings.add(f"claim: stream {stream_id} lacks its {kind}")
        for kind, _value in sorted((found or set()) - (expected or set())):
            self._findings.add(f"claim: stream {stream_id} holds a {kind} that it never claimed")


class _View(_Check):
    """A view's first table holds what the model's fold makes of each stream."""

    def __init__(
        self,
        projection: Projection,
        read_model: Connection[Any],
        checkpoints: dict[int, int],
        excluded: LeftOut,
        findings: Findings,
    ) -> None:
        self._projection = projection
        self._read_model = read_model
        self._checkpoints = checkpoints
        self._excluded = excluded
        self._findings = findings
        self._table = projection.tables[0]
        self._rows = _Merge(self._read_rows(), self._compare)

    def _read_rows(self) -> Iterator[tuple[UUID, dict[str, Any]]]:
        query = sql.SQL(READ_ROWS_IN_ORDER).format(
            table=sql.Identifier(self._table), key=sql.Identifier(KEY)
        )
        with self._read_model.cursor(f"rows_{self._table}", row_factory=dict_row) as cursor:
            cursor.itersize = FETCH
            cursor.execute(query)
            for row in cursor:
                yield row[KEY], row

    def stream(self, stream_id: UUID, recorded: Sequence[RecordedEvent]) -> None:
        if recorded[0].category not in self._projection.categories:
            return
        for row in self._projection.expected_rows(stream_id, self._projected(recorded)):
            expected = {field.name: getattr(row, field.name) for field in fields(row)}
            self._rows.expect(expected[KEY], expected)

    def _projected(self, recorded: Sequence[RecordedEvent]) -> list[RecordedEvent]:
        return [
            event
            for event in recorded
            if event.position <= self._checkpoints.get(event.partition, 0)
            and (event.partition, event.position) not in self._excluded
        ]

    def end(self) -> None:
        self._rows.end()

    def _compare(
        self, key: UUID, found: dict[str, Any] | None, expected: dict[str, Any] | None
    ) -> None:
        name = f"{self._table} {key}"
        if found is None:
            self._findings.add(f"{name}: is missing")
        elif expected is None:
            self._findings.add(f"{name}: has no event")
        else:
            for column in _differing(found, expected):
                self._findings.add(
                    f"{name}: {column} is {found.get(column)}, the log says {expected.get(column)}"
                )


def _differing(found: dict[str, Any], expected: dict[str, Any]) -> Iterable[str]:
    # As text: the decimals 1.0 and 1.00 are equal and yet different answers to a client.
    return sorted(
        column
        for column in found.keys() | expected.keys()
        if str(found.get(column)) != str(expected.get(column))
    )


class _Merge:
    """Compares what is stored with what is expected, both in the order of their keys.

    Args:
        stored: (key, value) in key order, each key once.
        compare: told (key, stored or None, expected or None) for every key on either side.
    """

    def __init__(
        self, stored: Iterator[tuple[UUID, Any]], compare: Callable[[UUID, Any, Any], None]
    ) -> None:
        self._stored = stored
        self._compare = compare
        self._next: tuple[UUID, Any] | None = None
        self._started = False

    def _peek(self) -> tuple[UUID, Any] | None:
        if not self._started:
            self._started = True
            self._next = next(self._stored, None)
        return self._next

    def expect(self, key: UUID, value: object) -> None:
        """The next expectation; keys come in ascending order."""
        while (stored := self._peek()) is not None and stored[0] < key:
            self._compare(stored[0], stored[1], None)
            self._next = next(self._stored, None)
        if stored is not None and stored[0] == key:
            self._compare(key, stored[1], value)
            self._next = next(self._stored, None)
        else:
            self._compare(key, None, value)

    def end(self) -> None:
        """Whatever is stored beyond the last expectation was not expected."""
        while (stored := self._peek()) is not None:
            self._compare(stored[0], stored[1], None)
            self._next = next(self._stored, None)
