"""The view of card transactions: one row for each, shown newest first, and their transitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID

from psycopg import Cursor, sql
from pydantic import BaseModel

from codebase.engine.log.codec import decode
from codebase.engine.log.events import RecordedEvent
from codebase.engine.projections.logged_events import LoggedEvent
from codebase.engine.projections.projection import Projection, of_type, write
from codebase.foundation.arrays import texts
from codebase.model.payments.transaction import (
    STATUS_AFTER,
    TRANSACTION,
    PaymentMethod,
    PaymentType,
    TransactionRequested,
)
from codebase.views.payments.fields import ShownStatus
from codebase.web.pages import PageSize
from codebase.web.parked import asking_by_id
from codebase.web.personal import Personal
from codebase.web.schemas import example


@dataclass(frozen=True, kw_only=True, slots=True)
class TransactionRow:
    """One transaction, as it stands."""

    id: UUID
    client: str
    requested_at: datetime
    status: str
    status_at: datetime
    order_id: str
    order_name: str
    order_cost: Decimal
    order_currency: str
    payment_method: str
    payment_type: str
    amount: Decimal
    currency: str
    card_brand: str
    card_last_four: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TransitionRow:
    """One step of a transaction; `id` and `version` are those of its event."""

    id: UUID
    version: int
    status: str
    at: datetime
    score: str | None
    findings: list[dict[str, str]] | None
    reason: str | None
    settled_by: str | None


INSERT_REQUESTED = """
    INSERT INTO card_transaction (
        id, client, requested_at, status, status_at, order_id, order_name, order_cost,
        order_currency, payment_method, payment_type, amount, currency, card_brand, card_last_four
    )
    SELECT event.stream_id, asked.client, event.recorded_at, 'PENDING', event.recorded_at,
           asked.order_id, asked.order_name, asked.order_cost, asked.order_currency,
           asked.payment_method, asked.payment_type, asked.amount, asked.currency,
           asked.card ->> 'brand', asked.card ->> 'last_four'
    FROM unnest(%(stream_id)b::uuid[], %(recorded_at)b::timestamptz[],
                %(data)b::text[]::jsonb[]) AS event (stream_id, recorded_at, data),
        jsonb_to_record(event.data) AS asked (
            client text, order_id text, order_name text, order_cost numeric, order_currency text,
            payment_method text, payment_type text, amount numeric, currency text, card jsonb
        )
"""

# Of several steps of one transaction the last one counts.
STEP_ON = """
    UPDATE card_transaction
    SET status = step.status, status_at = step.recorded_at
    FROM (
        SELECT DISTINCT ON (stream_id) stream_id, status, recorded_at
        FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(recorded_at)b::timestamptz[],
                    %(status)b::text[]) AS event (stream_id, version, recorded_at, status)
        ORDER BY stream_id, version DESC
    ) AS step
    WHERE card_transaction.id = step.stream_id
"""

INSERT_TRANSITIONS = """
    INSERT INTO card_transition (id, version, status, at, score, findings, reason, settled_by)
    SELECT event.stream_id, event.version, event.status, event.recorded_at, event.data ->> 'score',
           event.data -> 'reasons', event.data ->> 'reason', event.data ->> 'settled_by'
    FROM unnest(%(stream_id)b::uuid[], %(version)b::integer[], %(recorded_at)b::timestamptz[],
                %(data)b::text[]::jsonb[], %(status)b::text[])
        AS event (stream_id, version, recorded_at, data, status)
"""

_STATUS_OF_TYPE = {kind.__name__: status.value for kind, status in STATUS_AFTER.items()}
_STEPS = tuple(kind for kind in STATUS_AFTER if kind is not TransactionRequested)


def _statuses(events: Sequence[LoggedEvent]) -> Any:  # noqa: ANN401 - as `columns` has them
    return texts([_STATUS_OF_TYPE[event.type] for event in events])


def apply(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Insert what was requested, then note how far it has come."""
    steps = of_type(events, *_STEPS)
    write(cursor, INSERT_REQUESTED, of_type(events, TransactionRequested))
    write(cursor, STEP_ON, steps, status=_statuses(steps))


def apply_transitions(cursor: Cursor[Any], events: Sequence[LoggedEvent]) -> None:
    """Insert a row for each event."""
    write(cursor, INSERT_TRANSITIONS, events, status=_statuses(events))


def expected_rows(
    transaction_id: UUID, recorded: Sequence[RecordedEvent]
) -> Iterable[TransactionRow]:
    """The row that a transaction's stream comes to, by the model's fold."""
    events = [decode(row, TRANSACTION) for row in recorded]
    if not events or not isinstance(events[0], TransactionRequested):
        return
    state = TRANSACTION.fold(events)
    assert state is not None, "it has begun"  # noqa: S101 - an invariant
    asked = state.requested
    yield TransactionRow(
        id=transaction_id,
        client=asked.client,
        requested_at=recorded[0].recorded_at,
        status=state.status.value,
        status_at=recorded[-1].recorded_at,
        order_id=asked.order_id,
        order_name=asked.order_name,
        order_cost=asked.order_cost,
        order_currency=asked.order_currency,
        payment_method=asked.payment_method.value,
        payment_type=asked.payment_type.value,
        amount=asked.amount,
        currency=asked.currency,
        card_brand=asked.card.brand,
        card_last_four=asked.card.last_four,
    )


def expected_transitions(
    transaction_id: UUID, recorded: Sequence[RecordedEvent]
) -> Iterable[TransitionRow]:
    """The rows that a transaction's stream comes to, one for each event."""
    state = None
    for row in recorded:
        event = decode(row, TRANSACTION)
        if state is None and not isinstance(event, TransactionRequested):
            status = STATUS_AFTER[type(event)]
        else:
            state = TRANSACTION.evolve(state, event)
            status = state.status
        yield TransitionRow(
            id=transaction_id,
            version=row.version,
            status=status.value,
            at=row.recorded_at,
            score=getattr(event, "score", None),
            # As the event has them: what it has not, because it came later, nobody is shown.
            findings=row.data.get("reasons"),
            reason=getattr(event, "reason", None),
            settled_by=getattr(event, "settled_by", None),
        )


TRANSACTIONS = Projection(
    name="transactions",
    aggregates=(TRANSACTION,),
    tables=("card_transaction",),
    apply=apply,
    expected_rows=expected_rows,
)
TRANSITIONS = Projection(
    name="transitions",
    aggregates=(TRANSACTION,),
    tables=("card_transition",),
    apply=apply_transitions,
    expected_rows=expected_transitions,
    order_in_stream=("version",),
)

CATEGORIES = frozenset({TRANSACTION.category})
ASKING_FOR_PARKED = asking_by_id("card_transaction")
PAGE_ARGUMENTS = ("clients", "statuses", "references", "sizes")
TRANSACTION_ARGUMENTS = ("clients", "ids")

SHOWN = """
    found.id AS "transactionID", found.client AS "userID", found.requested_at, found.status,
    found.status_at, found.payment_method AS "paymentMethod",
    json_build_object(
        'id', found.order_id, 'name', found.order_name,
        'cost', round(found.order_cost, 2)::text, 'currency', found.order_currency
    ) AS "order",
    json_build_object(
        'card', json_build_object('brand', found.card_brand, 'last_four', found.card_last_four),
        'type', found.payment_type, 'amount', round(found.amount, 2)::text,
        'currency', found.currency
    ) AS payment
"""

# The pages, newest first. Of the four ways into the table a request takes one: one client's rows or
# everybody's (client NULL), of one status or of all of them. The whole order of an index is
# compared, with what is asked for in front: see views/buy_orders/buy_orders.py.
WAYS = {
    "asked.client IS NOT NULL AND asked.status IS NULL": ("client",),
    "asked.client IS NULL AND asked.status IS NULL": (),
    "asked.client IS NOT NULL AND asked.status IS NOT NULL": ("client", "status"),
    "asked.client IS NULL AND asked.status IS NOT NULL": ("status",),
}
WAY = """(
    SELECT {shown} FROM card_transaction AS found
    WHERE {taken} {bound} AND ({columns}) < ({start})
    ORDER BY {order}
    LIMIT asked.size
)"""
PAGES = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL,
           page.items::text, page.items -> -1 ->> 'transactionID'
    FROM unnest(%(clients)b::text[], %(statuses)b::text[], %(references)b::uuid[],
                %(sizes)b::integer[])
        WITH ORDINALITY AS asked (client, status, reference, size, ordinal)
    LEFT JOIN card_transaction AS boundary
        ON boundary.id = asked.reference
       AND (asked.client IS NULL OR boundary.client = asked.client)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN asked.reference IS NULL THEN 'infinity' ELSE boundary.requested_at END
                   AS requested_at,
               coalesce(asked.reference, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AS id
    ) AS start
    LEFT JOIN LATERAL (
        SELECT json_agg(one) AS items FROM ({ways}) AS one
    ) AS page ON true
"""


def _way(shown: LiteralString, taken: str, fixed: Sequence[str]) -> sql.Composed:
    """One way into the table, by the index that begins with these columns."""
    names = [*fixed, "requested_at", "id"]
    of_table = [sql.Identifier("found", name) for name in names]
    where_it_starts = [sql.Identifier("asked", name) for name in fixed]
    bounds = [sql.SQL("AND {} >= {}").format(of_table[0], where_it_starts[0])] if fixed else []
    return sql.SQL(WAY).format(
        shown=sql.SQL(shown),
        taken=sql.SQL(taken),
        bound=sql.SQL(" ").join(bounds),
        columns=sql.SQL(", ").join(of_table),
        start=sql.SQL(", ").join([*where_it_starts, sql.SQL("start.requested_at, start.id")]),
        order=sql.SQL(", ").join(sql.SQL("{} DESC").format(name) for name in of_table),
    )


def pages(shown: LiteralString = SHOWN) -> str:
    """The query for pages; `shown` are the columns of what is `found`."""
    ways = sql.SQL(" UNION ALL ").join(_way(shown, taken, fixed) for taken, fixed in WAYS.items())
    return sql.SQL(PAGES).format(ways=ways).as_string()


# One transaction with its transitions; for everybody's the client is NULL.
BY_ID = """
    SELECT asked.ordinal, row_to_json(shown)::text
    FROM unnest(%(clients)b::text[], %(ids)b::uuid[])
        WITH ORDINALITY AS asked (client, id, ordinal)
    JOIN card_transaction AS found ON found.id = asked.id
    CROSS JOIN LATERAL (
        SELECT {shown}, (
            SELECT json_agg(row_to_json(step) ORDER BY step.version)
            FROM (
                SELECT version, status, at, score, findings, reason, settled_by
                FROM card_transition
                WHERE card_transition.id = found.id
                ORDER BY version
            ) AS step
        ) AS transitions
    ) AS shown
    WHERE asked.client IS NULL OR found.client = asked.client
"""


def by_id() -> str:
    """The query for one transaction."""
    return sql.SQL(BY_ID).format(shown=sql.SQL(SHOWN)).as_string()


EXAMPLE: dict[str, Any] = {
    "transactionID": "6f1c2b1e-58f4-4f0e-9d2a-6b7d5a0c9e11",
    "userID": "shop",
    "requested_at": "2026-11-28T09:30:00.000000+00:00",
    "status": "PAYMENT_COMPLETE",
    "status_at": "2026-11-28T09:30:00.125000+00:00",
    "paymentMethod": "amazonpay",
    "order": {"id": "1234", "name": "A lamp", "cost": "123.00", "currency": "INR"},
    "payment": {
        "card": {"brand": "visa", "last_four": "1111"},
        "type": "wallet",
        "amount": "123.00",
        "currency": "INR",
    },
}


class CardShown(BaseModel):
    """What is known of a card; its number is kept nowhere."""

    model_config = example(**EXAMPLE["payment"]["card"])

    brand: str
    last_four: str


class OrderShown(BaseModel):
    """What is paid for."""

    model_config = example(**EXAMPLE["order"])

    id: str
    name: Personal[str]
    cost: Decimal
    currency: str


class PaymentShown(BaseModel):
    """What is paid with, and how much."""

    model_config = example(**EXAMPLE["payment"])

    card: CardShown
    type: PaymentType
    amount: Decimal
    currency: str


class TransactionShown(BaseModel):
    """A transaction, as it stands; amounts are decimal strings, times UTC."""

    model_config = example(**EXAMPLE)

    transactionID: UUID  # noqa: N815 - a contract
    userID: str  # noqa: N815 - a contract
    requested_at: datetime
    status: ShownStatus
    status_at: datetime
    paymentMethod: PaymentMethod  # noqa: N815 - a contract
    order: OrderShown
    payment: PaymentShown


class TransactionPage(BaseModel):
    """Transactions, newest first; `last_reference` leads to older ones; null on an empty page."""

    items: list[TransactionShown]
    last_reference: UUID | None
    size: PageSize


class Finding(BaseModel):
    """What a rule of the fraud police found.

    `kind` is `hit`, or `err` of a rule that failed; it is missing where it was not kept yet.
    """

    model_config = example(
        rule="card_velocity_minute",
        version="1",
        weight="60",
        observed="31",
        limit="30",
        window="60 s",
        sentence="the card was used more than 30 times in a minute",
        kind="hit",
    )

    rule: str
    version: str
    weight: str
    observed: str
    limit: str
    window: str
    sentence: str
    kind: str = ""


class Transition(BaseModel):
    """A step, when it was taken, and why."""

    model_config = example(
        version=2,
        status="PAYMENT_FAILED",
        at="2026-11-28T09:30:00.125000+00:00",
        score="0",
        findings=[],
        reason="it was PENDING for more than 86400 seconds",
        settled_by="root",
    )

    version: int
    status: ShownStatus
    at: datetime
    score: str | None = None
    findings: list[Finding] | None = None
    reason: Personal[str | None] = None
    settled_by: str | None = None


class TransactionDetails(TransactionShown):
    """A transaction with every step that it has taken."""

    model_config = example(
        **EXAMPLE,
        transitions=[
            {"version": 1, "status": "PENDING", "at": "2026-11-28T09:30:00.000000+00:00"},
            {
                "version": 2,
                "status": "CLEARED",
                "at": "2026-11-28T09:30:00.050000+00:00",
                "score": "0",
                "findings": [],
            },
            {"version": 3, "status": "PAYMENT_INITIATED", "at": "2026-11-28T09:30:00.060000+00:00"},
            {"version": 4, "status": "PAYMENT_COMPLETE", "at": "2026-11-28T09:30:00.125000+00:00"},
        ],
    )

    transitions: list[Transition]
