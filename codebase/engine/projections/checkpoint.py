"""How far a projector is in a partition; kept with the rows, and moved with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, Cursor

from codebase.engine.projections.logged_events import LoggedEvent

# A conflict with anything but its own checkpoint is an error: a store may have room for one only of
# several projectors.
ENSURE_CHECKPOINT = """
    INSERT INTO projection_checkpoint (projector, partition) VALUES (%(projector)s, %(partition)s)
    ON CONFLICT (projector, partition) DO NOTHING
"""

READ_CHECKPOINT = """
    SELECT position, parked_streams FROM projection_checkpoint
    WHERE projector = %(projector)s AND partition = %(partition)s
"""

# The event that was noted is that of the position only if nobody has moved the position alone.
READ_PLACE = """
    SELECT position, CASE WHEN event_position = position THEN event_id END, log_id
    FROM projection_checkpoint
    WHERE projector = %(projector)s AND partition = %(partition)s
"""

# First in its transaction: a worker that lost its place stops before it has written anything, and
# rows are always locked after the checkpoint, so that a rebuild's swap cannot deadlock with this.
MOVE_CHECKPOINT = """
    UPDATE projection_checkpoint
    SET position = %(new)s, event_position = %(new)s, event_id = %(event_id)s, log_id = %(log_id)s
    WHERE projector = %(projector)s AND partition = %(partition)s AND position = %(old)s
    RETURNING parked_streams
"""

NAME_LOG = """
    UPDATE projection_checkpoint SET log_id = %(log_id)s
    WHERE projector = %(projector)s AND partition = %(partition)s
      AND log_id IS DISTINCT FROM %(log_id)s
"""

# The log can always compute the read model again, and a server that crashes loses rows and
# checkpoint together, never one of them. So a commit need not wait for the disk. The note of an
# attempt survives the death of this process all the same, and that is what it is there for.
STORE_OPTIONS = "-c synchronous_commit=off"


@dataclass(frozen=True, kw_only=True)
class Store:
    """Where a projector keeps its rows and its checkpoint.

    Args:
        name: as operators see it.
        worker_url: the setting that holds the address of whoever writes the rows.
        owner_url: the setting that holds the address of the schema's owner.
        options: what its connections ask of the server, as `connect` takes it.
    """

    name: str
    worker_url: str
    owner_url: str
    options: str


READ_MODEL_STORE = Store(
    name="read_model",
    worker_url="read_model_projector_url",
    owner_url="read_model_owner_url",
    options=STORE_OPTIONS,
)


class FencedError(Exception):
    """The checkpoint is not where this worker left it: somebody else moved it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a projector is in a partition: a position, the event there, and which log it is of.

    The event and the log as far as they are known.
    """

    position: int
    event_id: str | None
    log_id: str | None


def load_checkpoint(store: Connection[Any], key: Mapping[str, Any]) -> Place:
    """What a projector has reached in a partition; position 0 when it begins.

    Args:
        store: a connection to the read model.
        key: `projector` and `partition`.
    """
    store.execute(ENSURE_CHECKPOINT, key)
    row = store.execute(READ_PLACE, key).fetchone()
    assert row is not None, "the checkpoint was ensured"  # noqa: S101 - an invariant
    return Place(*row)


def check_checkpoint(store: Connection[Any], key: Mapping[str, Any], expected: int) -> int:
    """How many streams are parked.

    Raises:
        FencedError: the checkpoint is not at `expected`.
    """
    row = store.execute(READ_CHECKPOINT, key, prepare=True).fetchone()
    if row is None or row[0] != expected:
        raise FencedError(f"the checkpoint is no longer at {expected}")
    return int(row[1])


def name_log(store: Connection[Any], key: Mapping[str, Any], log_id: str) -> None:
    """Note of which log the rows are: the projector has made sure of it."""
    store.execute(NAME_LOG, {**key, "log_id": log_id})


def move_checkpoint(
    cursor: Cursor[Any], key: Mapping[str, Any], *, old: int, new: LoggedEvent, log_id: str | None
) -> int:
    """Move the checkpoint in the transaction that writes the rows, and lock it until its end.

    Returns:
        How many streams are parked.

    Raises:
        FencedError: the checkpoint is not at `old`.
    """
    step = {
        **key,
        "old": old,
        "new": new.position,
        "event_id": new.event_id,
        "log_id": log_id,
    }
    row = cursor.execute(MOVE_CHECKPOINT, step, prepare=True).fetchone()
    if row is None:
        raise FencedError(f"the checkpoint is no longer at {old}")
    return int(row[0])
