"""The steps of transactions, written to the log."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from codebase.engine.commands.bus import CommandBus
from codebase.engine.commands.submission import Outcome, Submission
from codebase.model.actor import Actor
from codebase.model.payments.transaction import TRANSACTION, Command

OURSELVES = Actor("reaction transactions", is_admin=True)
"""Who takes them, as the events say."""


class Steps:
    """Takes steps. They have no keys: what comes again finds it done, and changes nothing.

    Args:
        bus: writes them.
        heard: is told of every outcome.
    """

    def __init__(self, bus: CommandBus, heard: Callable[[Outcome], None]) -> None:
        self._bus = bus
        self._heard = heard

    async def take(self, transaction_id: UUID, command: Command) -> Outcome:
        """One step, or none; the outcome's state is how the transaction stands after it.

        Raises:
            Rejected: a rule says no.
            ServiceUnavailable: the log did not answer in time.
        """
        outcome = await self._bus.execute(
            Submission.without_key(TRANSACTION, transaction_id, command, OURSELVES)
        )
        self._heard(outcome)
        return outcome
