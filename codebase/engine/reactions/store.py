"""Where reactions keep what they know: schema `reaction` of the write model, and durably so."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import Connection
from psycopg.errors import LockNotAvailable

from codebase.engine.log.check import LogMismatchError
from codebase.engine.projections.checkpoint import Store
from codebase.foundation.postgres import is_about_values

REACTION_STORE = Store(
    name="reaction",
    worker_url="write_model_reaction_url",
    owner_url="write_model_owner_url",
    options="-c synchronous_commit=on -c search_path=reaction,public"
    " -c lock_timeout=3s -c idle_in_transaction_session_timeout=10s",
)
"""No log brings back what is noted here: a commit waits for the disk. A process that is stopped in
the middle of a transaction loses it, and those who wait for its subjects do not wait for long."""

WHAT_FORBIDS_ACTING = "SELECT reaction.what_forbids_acting()"


class ForbiddenError(LogMismatchError):
    """Nothing may be acted on in this database; the text says why."""


def is_not_taken(error: psycopg.Error | UnicodeError) -> bool:
    """Whether it is what was to be written that cannot be, so that something else can.

    psycopg encodes texts before it sends them, and what Python says then is no error of psycopg's.
    """
    return isinstance(error, UnicodeError) or is_about_values(error)


def is_locked(error: psycopg.Error | UnicodeError) -> bool:
    """Whether somebody else has kept a subject for so long that others come first."""
    return isinstance(error, LockNotAvailable)


def check_may_act(store: Connection[Any]) -> None:
    """Make sure that this is the database that the notes are about, and that its log is open.

    Raises:
        ForbiddenError: a copy or a restored dump would do once more what was done already.
    """
    row = store.execute(WHAT_FORBIDS_ACTING).fetchone()
    reason = row[0] if row else "schema reaction has no place"
    if reason is not None:
        raise ForbiddenError(reason)
