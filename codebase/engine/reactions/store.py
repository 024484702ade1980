"""Where reactions keep what they know: schema `reaction` of the write model, and durably so."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

from codebase.engine.log.check import LogMismatchError
from codebase.engine.projections.checkpoint import Store

REACTION_STORE = Store(
    name="reaction",
    worker_url="write_model_reaction_url",
    owner_url="write_model_owner_url",
    options="-c synchronous_commit=on -c search_path=reaction,public",
)
"""No log brings back what is noted here: a commit waits for the disk."""

WHAT_FORBIDS_ACTING = "SELECT reaction.what_forbids_acting()"


class ForbiddenError(LogMismatchError):
    """Nothing may be acted on in this database; the text says why."""


def check_may_act(store: Connection[Any]) -> None:
    """Make sure that this is the database that the notes are about, and that its log is open.

    Raises:
        ForbiddenError: a copy or a restored dump would do once more what was done already.
    """
    row = store.execute(WHAT_FORBIDS_ACTING).fetchone()
    reason = row[0] if row else "schema reaction has no place"
    if reason is not None:
        raise ForbiddenError(reason)
