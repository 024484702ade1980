"""What is under way: intents under a lease, and how they came back."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from codebase.engine.reactions.attempt import Attempt
from codebase.engine.reactions.reaction import Sent


# Not frozen, though never changed: as `NewEvent`, one of each is made for every attempt.
@dataclass(kw_only=True, slots=True)
class Taken:
    """An intent under a lease.

    Args:
        number: of the intent.
        token: of the lease.
        ends_at: when the lease does, or a little before that, by the clock of the desk.
        is_lost: whether who had it before did not come back.
        sent: what is to be done.
    """

    number: int
    token: UUID
    ends_at: float
    is_lost: bool
    sent: Sent


@dataclass(kw_only=True, slots=True)
class Returned:
    """An intent that was taken, how the attempt ended, and whether the target answers at all."""

    taken: Taken
    attempt: Attempt
    target_answers: bool = True
