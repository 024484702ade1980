"""What a projection is: events in, rows out, by SQL that works on many events at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from psycopg import Connection, Cursor

from codebase.engine.log.codec import UnknownEventError
from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.checkpoint import READ_MODEL_STORE, Store
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.foundation.arrays import Array, integers, texts, timestamps, uuids
from codebase.model.aggregate import Aggregate

READ_PROJECTORS = "SELECT DISTINCT projector FROM projection_checkpoint"


Check = Callable[[Connection[Any]], Iterable[str]]
Apply = Callable[[Cursor[Any], Sequence[LoggedEvent]], None]
ExpectedRows = Callable[[UUID, Sequence[RecordedEvent]], Iterable[Any]]


def nothing_is_forgotten(_row: Mapping[str, Any]) -> bool:
    """For tables whose rows last as long as the log."""
    return False


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Tables that are a function of the log.

    Args:
        name: what `orderly rebuild` calls it.
        aggregates: whose streams it is made from.
        tables: every table that `apply` writes, and no other projection does; without a schema,
            because a rebuild runs `apply` in a schema of its own.
        apply: writes the rows of the given events, which are in log order and of `aggregates`. It
            finds rows by unique indexes only: a rebuild makes the others when the table is full.
        expected_rows: (stream id, the stream's events) -> the rows of the first table that the
            stream accounts for, as dataclasses with the table's column names. It goes through the
            model's fold and not through `apply`, so that `verify` compares two independent ways.
        order_in_stream: columns of the first table by which the rows of one stream are in the
            order in which `expected_rows` has them; none where a stream has one row at most.
        kept: further tables that `apply` only deletes from, shared by projections of a projector:
            they hold what was added up of their rows, and can be added up again. A rebuild empties
            them.
        passes_over: types of events, known as they are, that `apply` has no use for: they need not
            be read.
        only_inserts: whether `apply` adds rows and looks for none: then a rebuild makes the keys as
            well when the table is full, and finds out then if one is there twice.
    """

    name: str
    aggregates: tuple[Aggregate[Any, Any, Any], ...]
    tables: tuple[str, ...]
    apply: Apply
    expected_rows: ExpectedRows
    order_in_stream: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    passes_over: frozenset[str] = frozenset()
    only_inserts: bool = False
    forgets: Callable[[Mapping[str, Any]], bool] = nothing_is_forgotten

    @cached_property
    def known_types(self) -> Mapping[str, frozenset[str]]:
        """Category -> the types of events that this release knows in it."""
        return {
            aggregate.category: frozenset(event.__name__ for event in aggregate.events)
            for aggregate in self.aggregates
        }

    @property
    def categories(self) -> frozenset[str]:
        """Those of its aggregates."""
        return frozenset(self.known_types)


def nobody_waits() -> None:
    """What is done after a commit that nobody waits for."""


def may_always_work(_store: Connection[Any]) -> None:
    """For projectors that any copy of their store may have."""


@dataclass(frozen=True, kw_only=True)
class Projector:
    """Projections that share a store and move through the log together, with one checkpoint.

    Args:
        name: names the checkpoint and the queues; it never changes.
        projections: applied in this order, in one transaction.
        check_kept: what `verify` asks about tables that are `kept`: a connection to the store, in a
            transaction -> a sentence for each difference from the rows that they follow from.
        store: where its rows are.
        rest_seconds: after a look that has found all there is, so that what comes meanwhile is
            read together.
        committed: called after each commit, by the thread that has committed.
        not_committed: called instead when what was applied is rolled back, or nobody knows.
        check_place: raises a LogMismatchError when nothing may be done in this store; asked when
            a worker begins to lead, before it writes anything, and now and then after that.
    """

    name: str
    projections: tuple[Projection, ...]
    check_kept: Check | None = None
    store: Store = READ_MODEL_STORE
    rest_seconds: float = 0.0
    committed: Callable[[], None] = nobody_waits
    not_committed: Callable[[], None] = nobody_waits
    check_place: Callable[[Connection[Any]], None] = may_always_work

    @cached_property
    def known_types(self) -> Mapping[str, frozenset[str]]:
        """What its projections know, together."""
        return {
            category: types
            for projection in self.projections
            for category, types in projection.known_types.items()
        }

    @property
    def categories(self) -> frozenset[str]:
        """Every category that at least one projection is made from."""
        return frozenset(self.known_types)

    @cached_property
    def passed_over(self) -> frozenset[str]:
        """Types of events that none of its projections has a use for.

        They are known by name: in two categories a name may stand for two things, so that of those
        nothing is passed over.
        """
        if len(self.categories) > 1:
            return frozenset()
        return frozenset.intersection(*(each.passes_over for each in self.projections))

    def is_unknown(self, event: LoggedEvent) -> bool:
        """Whether an event of its categories is of a type that this release does not know."""
        types = self.known_types.get(event.category)
        return types is not None and event.type not in types

    def projection(self, name: str) -> Projection:
        """The projection called `name`.

        Raises:
            KeyError: there is none; the text names those there are.
        """
        for projection in self.projections:
            if projection.name == name:
                return projection
        known = ", ".join(projection.name for projection in self.projections)
        raise KeyError(f"no projection {name}; there is: {known}")

    def apply(self, cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
        """Give each projection the events of its categories."""
        for projection in self.projections:
            apply_projection(projection, cursor, events)


def present(store: Connection[Any], projectors: Iterable[Projector]) -> list[Projector]:
    """Those of `projectors` that have begun to fill this store."""
    begun = {row[0] for row in store.execute(READ_PROJECTORS).fetchall()}
    return [projector for projector in projectors if projector.name in begun]


def apply_projection(
    projection: Projection, cursor: Cursor[Any], events: Sequence[LoggedEvent]
) -> None:
    """Apply those of `events` that belong to the projection.

    Raises:
        UnknownEventError: one of them is of a type that this release does not know. A projection
            passes over what it has no use for, and would pass over what it ought to know as well.
    """
    known = projection.known_types
    wanted = [event for event in events if event.category in known]
    for event in wanted:
        if event.type not in known[event.category]:
            raise UnknownEventError(unknown(event))
    if wanted:
        projection.apply(cursor, wanted)


def unknown(event: LoggedEvent) -> str:
    """Why an event cannot be applied whose type is not known."""
    return f"this release knows no event {event.type} in category {event.category}"


def columns(events: Sequence[LoggedEvent]) -> dict[str, Array]:
    """The arrays that a projection's SQL takes with `unnest`, one element per event.

    `stream_id` is a `uuid[]`, `version` an `integer[]`, `type` a `text[]`, `recorded_at` a
    `timestamptz[]`, `data` a `text[]`: the SQL says so, as in `%(version)b::integer[]`.

    `data` has to be cast with `::text[]::jsonb[]`: the array is then parsed once, where a cast
    further out would be evaluated again for every column that is taken from it.
    """
    return {
        "stream_id": uuids([event.stream_id for event in events]),
        "version": integers([event.version for event in events]),
        "type": texts([event.type for event in events]),
        "recorded_at": timestamps([event.recorded_at for event in events]),
        "data": texts([event.data for event in events]),
    }


def of_type(events: Sequence[LoggedEvent], *kinds: type[Any]) -> list[LoggedEvent]:
    """Those of `events` that are of one of these classes of the model."""
    names = {kind.__name__ for kind in kinds}
    return [event for event in events if event.type in names]


def write(
    cursor: Cursor[Any],
    statement: str,
    events: Sequence[LoggedEvent],
    **more: Any,  # noqa: ANN401 - any type that psycopg binds
) -> None:
    """Carry out a statement for the events, if there are any; it takes their `columns`, and `more`.

    It is planned anew for every batch, because a plan from when a table was small would read all
    of it. What only inserts has no need of that, and is better executed with `prepare=True`.
    """
    if events:
        cursor.execute(statement, {**columns(events), **more}, prepare=False)
