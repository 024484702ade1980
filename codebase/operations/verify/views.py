"""A view's first table holds what the model's fold makes of each stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from psycopg import Connection, sql
from psycopg.rows import dict_row

from codebase.engine.log.codec import UnknownEventError
from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.projection import Projection, Projector
from codebase.operations.parked import LeftOut, left_out
from codebase.operations.verify.findings import Findings
from codebase.operations.verify.merge import Merge
from codebase.operations.verify.ranges import FETCH, Range

READ_CHECKPOINTS = """
    SELECT partition, position FROM projection_checkpoint WHERE projector = %(projector)s
"""

READ_ROWS_IN_ORDER = """
    SELECT * FROM {table} WHERE {key} BETWEEN %(first)s AND %(last)s ORDER BY {order}
"""
KEY = "id"
"""The key of a view's first table: the stream's id."""
Key = tuple[Any, ...]
"""That, and what tells rows of one stream apart."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a projector has come, and what it has left out on its way."""

    checkpoints: dict[int, int]
    excluded: LeftOut

    def holds(self, event: RecordedEvent) -> bool:
        """Whether an event is in the projector's rows."""
        return (
            event.position <= self.checkpoints.get(event.partition, 0)
            and (event.partition, event.position) not in self.excluded
        )


def read_reached(read_model: Connection[Any], projector: Projector) -> Reached:
    """How far a projector has come, as the connection's transaction sees it."""
    key = {"projector": projector.name}
    checkpoints = dict(read_model.execute(READ_CHECKPOINTS, key).fetchall())
    return Reached(checkpoints, left_out(read_model, projector.name))


class ViewCheck:
    """The rows of one range of streams.

    Args:
        projection: whose rows they are.
        read_model: in a transaction, the snapshot in which `reached` was read.
        within: the range.
        reached: how far the rows agree with the log.
        findings: told what differs.
    """

    def __init__(
        self,
        projection: Projection,
        read_model: Connection[Any],
        within: Range,
        reached: Reached,
        findings: Findings,
    ) -> None:
        self._projection = projection
        self._reached = reached
        self._findings = findings
        self._table = projection.tables[0]
        self._order = (KEY, *projection.order_in_stream)
        self._rows = Merge(_read_rows(read_model, self._table, within, self._order), self._compare)

    def stream(self, stream_id: UUID, recorded: Sequence[RecordedEvent]) -> None:
        """The next stream, with all its events."""
        if recorded[0].category not in self._projection.categories:
            return
        projected = [event for event in recorded if self._reached.holds(event)]
        try:
            rows = list(self._projection.expected_rows(stream_id, projected))
        except UnknownEventError as error:
            self._findings.add(f"log: stream {stream_id}: {error}")
            return
        for row in rows:
            expected = {field.name: getattr(row, field.name) for field in fields(row)}
            self._rows.expect(tuple(expected[column] for column in self._order), expected)

    def end(self) -> None:
        """There are no more streams in the range."""
        self._rows.end()

    def _compare(
        self, key: Key, found: dict[str, Any] | None, expected: dict[str, Any] | None
    ) -> None:
        name = f"{self._table} {key[0]}"
        if found is None:
            if expected is None or not self._projection.forgets(expected):
                self._findings.add(f"{name}: is missing")
        elif expected is None:
            self._findings.add(f"{name}: has no event")
        else:
            for column in _differing(found, expected):
                self._findings.add(
                    f"{name}: {column} is {found.get(column)}, the log says {expected.get(column)}"
                )


def _read_rows(
    read_model: Connection[Any], table: str, within: Range, order: Sequence[str]
) -> Iterator[tuple[Key, dict[str, Any]]]:
    query = sql.SQL(READ_ROWS_IN_ORDER).format(
        table=sql.Identifier(table),
        key=sql.Identifier(KEY),
        order=sql.SQL(", ").join(map(sql.Identifier, order)),
    )
    with read_model.cursor(f"rows_{table}", row_factory=dict_row) as cursor:
        cursor.itersize = FETCH
        cursor.execute(query, within.parameters)
        for row in cursor:
            yield tuple(row[column] for column in order), row


def _differing(found: dict[str, Any], expected: dict[str, Any]) -> Iterable[str]:
    # As text: the decimals 1.0 and 1.00 are equal and yet different answers to a client.
    return sorted(
        column
        for column in found.keys() | expected.keys()
        if str(found.get(column)) != str(expected.get(column))
    )
