"""What a page about card transactions asks: the last hours, what is on its way, and the newest."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from codebase.views.payments import transactions
from codebase.views.payments.transactions import TransactionShown, Transition

HOURS = 24
COUNTED_MAX = 50_000
"""Of the last hours' transactions the newest; so many cost about a tenth of a second."""
OPEN_MAX = 1_000
"""Of those that are on their way in one state the oldest."""


class Counted(NamedTuple):
    """Transactions that were requested in one hour, in one currency, and stand so."""

    hour: datetime
    status: str
    currency: str
    transactions: int
    amount: Decimal


class Open(NamedTuple):
    """Transactions in a state that is not the last one, whenever they were requested."""

    status: str
    transactions: int
    oldest: datetime | None


class ListedTransaction(TransactionShown):
    """A transaction with the step by which it was refused, if it was."""

    refusal: Transition | None


def first_hour(now: datetime) -> datetime:
    """When the first of the hours begins that a page shows; the last is not over."""
    return now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)


DAY_ARGUMENTS = ("clients", "sinces", "most")

# One client's rows, or everybody's (client NULL), from the newest on and no more than so many. An
# array of one client stands for it: a column that is known to equal something drops out of the
# order, and an index without the client would do as well, which finds a quiet client's rows among
# everybody's. A comparison of whole rows says where to begin in an index, and not where to end.
DAY = """
    SELECT asked.ordinal, counted.*
    FROM unnest(%(clients)b::text[], %(sinces)b::timestamptz[], %(most)b::integer[])
        WITH ORDINALITY AS asked (client, since, most, ordinal)
    CROSS JOIN LATERAL (
        SELECT date_trunc('hour', found.requested_at, 'UTC') AS hour, found.status, found.currency,
               count(*) AS transactions, round(sum(found.amount), 2) AS amount
        FROM (
            (
                SELECT requested_at, status, currency, amount FROM card_transaction
                WHERE client = ANY (ARRAY[asked.client]) AND requested_at >= asked.since
                ORDER BY client DESC, requested_at DESC, id DESC
                LIMIT asked.most
            )
            UNION ALL
            (
                SELECT requested_at, status, currency, amount FROM card_transaction
                WHERE asked.client IS NULL AND requested_at >= asked.since
                ORDER BY requested_at DESC, id DESC
                LIMIT asked.most
            )
        ) AS found
        GROUP BY 1, 2, 3
    ) AS counted
"""

OPEN_ARGUMENTS = ("clients", "most")
OPEN = """
    SELECT asked.ordinal, state.status, counted.transactions, counted.oldest
    FROM unnest(%(clients)b::text[], %(most)b::integer[])
        WITH ORDINALITY AS asked (client, most, ordinal)
    CROSS JOIN unnest(ARRAY['PENDING', 'CLEARED', 'PAYMENT_INITIATED']) AS state (status)
    CROSS JOIN LATERAL (
        SELECT count(*) AS transactions, min(found.requested_at) AS oldest
        FROM (
            (
                SELECT requested_at FROM card_transaction
                WHERE client = ANY (ARRAY[asked.client])
                  AND status >= state.status AND status <= state.status
                ORDER BY client, status, requested_at, id
                LIMIT asked.most
            )
            UNION ALL
            (
                SELECT requested_at FROM card_transaction
                WHERE asked.client IS NULL
                  AND status >= state.status AND status <= state.status
                ORDER BY status, requested_at, id
                LIMIT asked.most
            )
        ) AS found
    ) AS counted
"""

REFUSAL = """, (
    SELECT row_to_json(step)
    FROM (
        SELECT version, status, at, score, findings, reason, settled_by
        FROM card_transition
        WHERE card_transition.id = found.id AND status IN ('FRAUDULENT', 'PAYMENT_FAILED')
        ORDER BY version DESC
        LIMIT 1
    ) AS step
) AS refusal
"""


def newest() -> str:
    """The query for pages whose items are each a `ListedTransaction`."""
    return transactions.pages(transactions.SHOWN + REFUSAL)
