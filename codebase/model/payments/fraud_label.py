"""What a transaction turned out to be, once somebody has looked: fraud, or not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid5

from codebase.model.aggregate import Aggregate

LABELS = UUID("8c5e2f40-7b1d-5e9a-9c3f-2d6b8a0e4f17")
"""The namespace of the ids of labels."""


class Label(StrEnum):
    """Fraud, whether it was denied or missed; or none, whether it was denied or not."""

    CONFIRMED = "confirmed"
    FALSE_POSITIVE = "false_positive"


# Events: names and fields are the storage format. Add fields with defaults, never rename.
@dataclass(frozen=True, kw_only=True, slots=True)
class TransactionLabelled:
    """A transaction is known to be this."""

    transaction_id: str
    label: Label
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelTransaction:
    """Say what a transaction turned out to be; the last word counts."""

    transaction_id: str
    label: Label
    reason: str


def id_of_label(transaction_id: str) -> UUID:
    """The stream of a transaction's labels."""
    return uuid5(LABELS, transaction_id)


def evolve(_state: TransactionLabelled | None, event: TransactionLabelled) -> TransactionLabelled:
    """The last word."""
    return event


def decide(
    command: LabelTransaction, state: TransactionLabelled | None
) -> list[TransactionLabelled]:
    """Nothing to do where this has been said last."""
    wanted = TransactionLabelled(
        transaction_id=command.transaction_id, label=command.label, reason=command.reason
    )
    return [] if state == wanted else [wanted]


def topic(event: TransactionLabelled) -> str:
    """The routing key of an event."""
    return f"fraud_label.{event.label}"


FRAUD_LABEL: Aggregate[LabelTransaction, TransactionLabelled, TransactionLabelled] = Aggregate(
    category="fraud_label",
    events=(TransactionLabelled,),
    decide=decide,
    evolve=evolve,
    topic=topic,
)
