"""Payments as they were judged: narrow rows that are counted, and wide ones that are shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Cursor

from codebase.engine.log.codec import decode
from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, write
from codebase.foundation.arrays import smallints
from codebase.model.payments.card_check import CARD_CHECK
from codebase.model.payments.fraud_judgement import FindingKind

INSERT_PAYMENTS = """
    INSERT INTO fraud_payment (id, version, client, as_of, amount, currency, partition, position)
    SELECT event.stream_id, event.version, payment.client, assessed.as_of, payment.amount,
           payment.currency, event.partition, event.position
    FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(partition)b::smallint[],
                %(position)b::bigint[], %(data)b::text[]::jsonb[])
        AS event (stream_id, version, partition, position, data),
        jsonb_to_record(event.data) AS assessed (as_of timestamptz, payment jsonb),
        jsonb_to_record(assessed.payment) AS payment (client text, amount numeric, currency text)
    ON CONFLICT DO NOTHING
"""

INSERT_DECISIONS = """
    INSERT INTO fraud_decision (id, version, transaction_id, client, as_of, denied, decided_by,
                                score, rules, payment, features, findings, hits, partition,
                                position)
    SELECT event.stream_id, event.version, assessed.transaction_id,
           assessed.payment ->> 'client', assessed.as_of, assessed.denied, assessed.decided_by,
           assessed.score, assessed.rules, assessed.payment, assessed.features, assessed.findings,
           ARRAY(
               SELECT finding ->> 'rule'
               FROM jsonb_array_elements(assessed.findings) WITH ORDINALITY AS one (finding, place)
               WHERE finding ->> 'kind' = 'hit'
               ORDER BY place
           ),
           event.partition, event.position
    FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(partition)b::smallint[],
                %(position)b::bigint[], %(data)b::text[]::jsonb[])
        AS event (stream_id, version, partition, position, data),
        jsonb_to_record(event.data) AS assessed (
            transaction_id uuid, as_of timestamptz, denied boolean, decided_by text, score integer,
            rules text, payment jsonb, features jsonb, findings jsonb
        )
    ON CONFLICT DO NOTHING
"""


# One that comes late, because it was parked, would be passed over by who has come further.
TAKE_BACK_SHADOW = """
    DELETE FROM fraud_shadow_reached AS reached
    USING unnest(%(partition)b::smallint[], %(position)b::bigint[]) AS event (partition, position)
    WHERE reached.partition = event.partition AND reached.position >= event.position
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaymentRow:
    """A payment that counts; `id` is its card's stream, `version` that of its event."""

    id: UUID
    version: int
    client: str
    as_of: datetime
    amount: Decimal
    currency: str
    partition: int
    position: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionRow:
    """What was decided of a payment, and why; JSON as in the event."""

    id: UUID
    version: int
    transaction_id: UUID
    client: str
    as_of: datetime
    denied: bool
    decided_by: str
    score: int
    rules: str
    payment: Any
    features: Any
    findings: Any
    hits: list[str]
    partition: int
    position: int


def apply_payments(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Count payments that were judged."""
    write(cursor, INSERT_PAYMENTS, events, **_places(events))


def apply_decisions(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Show what was decided."""
    places = _places(events)
    write(cursor, INSERT_DECISIONS, events, **places)
    cursor.execute(TAKE_BACK_SHADOW, places, prepare=False)


def _places(events: Sequence[LoggedEvent]) -> dict[str, Any]:
    return {
        "partition": smallints([event.partition for event in events]),
        "position": [event.position for event in events],
    }


def expected_payments(card_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[PaymentRow]:
    """The rows that a card's stream comes to, one for each event."""
    for row in recorded:
        event = decode(row, CARD_CHECK)
        yield PaymentRow(
            id=card_id,
            version=row.version,
            client=event.payment.client,
            as_of=event.as_of,
            amount=event.payment.amount,
            currency=event.payment.currency,
            partition=row.partition,
            position=row.position,
        )


def expected_decisions(card_id: UUID, recorded: Sequence[RecordedEvent]) -> Iterable[DecisionRow]:
    """The rows that a card's stream comes to, one for each event."""
    for row in recorded:
        event = decode(row, CARD_CHECK)
        yield DecisionRow(
            id=card_id,
            version=row.version,
            transaction_id=UUID(event.transaction_id),
            client=event.payment.client,
            as_of=event.as_of,
            denied=event.denied,
            decided_by=event.decided_by,
            score=event.score,
            rules=event.rules,
            payment=row.data["payment"],
            features=row.data["features"],
            findings=row.data["findings"],
            hits=[each.rule for each in event.findings if each.kind is FindingKind.HIT],
            partition=row.partition,
            position=row.position,
        )


FRAUD_PAYMENTS = Projection(
    name="fraud_payments",
    aggregates=(CARD_CHECK,),
    tables=("fraud_payment",),
    apply=apply_payments,
    expected_rows=expected_payments,
    order_in_stream=("version",),
)
FRAUD_DECISIONS = Projection(
    name="fraud_decisions",
    aggregates=(CARD_CHECK,),
    tables=("fraud_decision",),
    apply=apply_decisions,
    expected_rows=expected_decisions,
    order_in_stream=("version",),
    kept=("fraud_shadow", "fraud_shadow_reached"),
)
