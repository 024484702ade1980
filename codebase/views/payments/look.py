"""How a transaction stands, by the log."""

from __future__ import annotations

from uuid import UUID

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Outcome, Submission
from codebase.model.actor import Actor
from codebase.model.payments.transaction import TRANSACTION, LookAt

OURSELVES = Actor("transact", is_admin=True)


async def look_at(bus: CommandBus, transaction_id: UUID) -> Outcome:
    """The state that all events up to now come to; nothing is written.

    Raises:
        NotFound: there is no such transaction.
        ServiceUnavailable: the log did not answer in time.
    """
    return await bus.execute(
        Submission.without_key(TRANSACTION, transaction_id, LookAt(), OURSELVES)
    )
