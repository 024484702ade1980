"""Whether an event is to blame for a failure, and how to tell of it."""

from __future__ import annotations

import traceback

import psycopg
from psycopg.errors import IdleInTransactionSessionTimeout, QueryCanceled

from codebase.engine.log.check import LogMismatchError
from codebase.engine.log.codec import UnknownEventError
from codebase.engine.projections.checkpoint import FencedError
from codebase.engine.projections.logged_events import LogGapError
from codebase.foundation.postgres import LIMIT_EXCEEDED_CLASS

PROGRAMMING_ERROR_CLASS = "42"
"""SQLSTATE class of syntax errors and access rule violations: never the fault of an event."""


CIRCUMSTANCES = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # The connection is lost: this process was stopped for a while.
    IdleInTransactionSessionTimeout,
    LogMismatchError,
)


class ApplyFailedError(Exception):
    """Applying failed, and the events may be why; the cause is chained."""


def is_circumstance(error: BaseException) -> bool:
    """Whether an error comes from the circumstances, so that no event is to blame for it.

    A statement that ran into its deadline, or into a limit of Postgres, is blamed on its events; a
    lost connection, a lock that somebody keeps, a deadlock, a full disk, a missing table, a missing
    privilege, and another log are not.
    """
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    if isinstance(error, QueryCanceled) or (state or "").startswith(LIMIT_EXCEEDED_CLASS):
        return False
    if isinstance(error, CIRCUMSTANCES):
        return True
    return state is not None and state.startswith(PROGRAMMING_ERROR_CLASS)


def describe(error: BaseException | None) -> str:
    """What went wrong and where, without values: an error's own text may quote an event's data."""
    if isinstance(error, LogGapError | LogMismatchError | FencedError | UnknownEventError):
        return str(error)  # these speak of positions, partitions and names of the model only
    if isinstance(error, psycopg.Error):
        parts = (error.sqlstate, error.diag.table_name, error.diag.constraint_name)
        return " ".join([type(error).__name__, *(part for part in parts if part)])
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    place = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
