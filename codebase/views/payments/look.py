"""How a transaction stands, by the log."""

from __future__ import annotations

from uuid import UUID, uuid4

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.fingerprint import Content
from codebase.engine.commands.submission import Outcome, Submission
from codebase.model.actor import Actor
from codebase.model.payments.transaction import TRANSACTION, LookAt

OURSELVES = Actor("transact", is_admin=True)
NOTHING_ASKED = Content.of("look at transaction", None, {})


async def look_at(bus: CommandBus, transaction_id: UUID) -> Outcome:
    """The state that all events up to now come to; nothing is written.

    Raises:
        NotFound: there is no such transaction.
        ServiceUnavailable: the log did not answer in time.
    """
    return await bus.execute(
        Submission(
            aggregate=TRANSACTION,
            stream_id=transaction_id,
            command=LookAt(),
            idempotence_key=None,
            content=NOTHING_ASKED,
            actor=OURSELVES,
            command_id=uuid4().hex,
        )
    )
