"""What came before a payment, looked up in one round trip, now or as it was when it was judged.

The contract of windows and sums is in docs/fraud-features.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from psycopg import sql

from codebase.model.payments.card_check import id_of_card
from codebase.model.payments.fraud_features import HISTORY_MAX, Features, Payment, Window

# What is looked at of a client, and of a card, is read once, from the newest on and no more than so
# much. `reached` is NULL for what there is now; else it says, partition by partition, how far the
# tables were at the time, and what came later does not count.
#
# A payment's depth is the number of windows that it lies in, which are nested: it is added up once,
# by depth, and each window is the sum of those that lie as deep. Another card counts where its
# newest payment lies.
PAST = """
    SELECT asked.ordinal, past.windows, listed.allowed, listed.blocked
    FROM unnest(%(clients)b::text[], %(cards)b::uuid[], %(fingerprints)b::text[],
                %(moments)b::timestamptz[], %(amounts)b::numeric[], %(currencies)b::text[],
                %(windows)b::text[], %(reached)b::text[])
        WITH ORDINALITY
        AS asked (client, card, fingerprints, as_of, amount, currency, windows, reached, ordinal)
    CROSS JOIN LATERAL (
        SELECT array_agg(seconds ORDER BY seconds DESC) AS lengths,
               array_agg(asked.as_of - make_interval(secs => seconds) ORDER BY seconds DESC)
                   AS begins
        FROM unnest(asked.windows::integer[]) AS seconds
    ) AS span
    CROSS JOIN LATERAL (
        WITH of_client AS MATERIALIZED (
            SELECT id, as_of, amount, currency = asked.currency AS in_currency
            FROM fraud_payment
            WHERE client = asked.client AND as_of < asked.as_of AND as_of >= span.begins[1]
              AND (asked.reached IS NULL OR
                   position <= (asked.reached::jsonb ->> partition::text)::bigint)
            ORDER BY client DESC, as_of DESC, id DESC, version DESC
            LIMIT {most}
        ), of_card AS MATERIALIZED (
            SELECT client, as_of, amount, currency = asked.currency AS in_currency
            FROM fraud_payment
            WHERE id = asked.card AND as_of < asked.as_of AND as_of >= span.begins[1]
              AND (asked.reached IS NULL OR
                   position <= (asked.reached::jsonb ->> partition::text)::bigint)
            ORDER BY id DESC, as_of DESC, version DESC
            LIMIT {most}
        ), by_client AS MATERIALIZED (
            SELECT width_bucket(as_of, span.begins) AS depth, count(*) AS payments,
                   count(*) FILTER (WHERE in_currency) AS in_currency,
                   sum(amount) FILTER (WHERE in_currency) AS total
            FROM of_client
            GROUP BY depth
        ), other_cards AS MATERIALIZED (
            SELECT width_bucket(max(as_of), span.begins) AS depth
            FROM of_client WHERE id <> asked.card
            GROUP BY id
        ), by_card AS MATERIALIZED (
            SELECT width_bucket(as_of, span.begins) AS depth, count(*) AS payments,
                   sum(amount) FILTER (WHERE in_currency) AS total,
                   count(*) FILTER (WHERE in_currency AND amount = asked.amount) AS same_amount
            FROM of_card
            GROUP BY depth
        ), other_clients AS MATERIALIZED (
            SELECT width_bucket(max(as_of), span.begins) AS depth
            FROM of_card WHERE client <> asked.client
            GROUP BY client
        )
        SELECT jsonb_object_agg(
                   length,
                   jsonb_build_array(
                       client.payments, client.in_currency, client.total,
                       (SELECT count(*) FROM other_cards WHERE depth >= nth),
                       card.payments, card.total,
                       (SELECT count(*) FROM other_clients WHERE depth >= nth),
                       card.same_amount
                   )
               )::text AS windows
        FROM unnest(span.lengths) WITH ORDINALITY AS span_of (length, nth)
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(payments), 0)::bigint AS payments,
                   coalesce(sum(in_currency), 0)::bigint AS in_currency,
                   coalesce(sum(total), 0.00) AS total
            FROM by_client WHERE depth >= nth
        ) AS client
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(payments), 0)::bigint AS payments,
                   coalesce(sum(total), 0.00) AS total,
                   coalesce(sum(same_amount), 0)::bigint AS same_amount
            FROM by_card WHERE depth >= nth
        ) AS card
    ) AS past
    CROSS JOIN LATERAL (
        SELECT max(said) FILTER (WHERE list = 'allow') AS allowed,
               max(said) FILTER (WHERE list = 'block') AS blocked
        FROM (
            SELECT list, kind || ' until '
                   || to_char(ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS said
            FROM fraud_listing
            WHERE value = ANY (asked.fingerprints::text[] || asked.client)
              AND (kind = 'client') = (value = asked.client)
              AND ends_at > asked.as_of
              AND CASE WHEN asked.reached IS NULL THEN over_at IS NULL
                  ELSE position <= (asked.reached::jsonb ->> partition::text)::bigint AND (
                      over_at IS NULL
                      OR over_at > (asked.reached::jsonb ->> partition::text)::bigint
                  ) END
        ) AS entry
    ) AS listed
"""
QUERY = sql.SQL(PAST).format(most=sql.Literal(HISTORY_MAX)).as_string()
ARGUMENTS = (
    "clients",
    "cards",
    "fingerprints",
    "moments",
    "amounts",
    "currencies",
    "windows",
    "reached",
)


def asked(
    payment: Payment,
    as_of: datetime,
    windows: Sequence[int],
    reached: Mapping[int, int] | None = None,
) -> tuple[Any, ...]:
    """What `QUERY` is told of one payment, in the order of `ARGUMENTS`.

    Args:
        payment: that is judged.
        as_of: the moment before which everything counts.
        windows: in seconds.
        reached: partition -> how far the tables were; None for what they hold now.
    """
    names = ",".join(f'"{each}"' for each in payment.card.fingerprints)
    return (
        payment.client,
        id_of_card(payment.card),
        f"{{{names}}}",
        as_of,
        payment.amount,
        payment.currency,
        f"{{{','.join(map(str, windows))}}}",
        None if reached is None else json.dumps(reached),
    )


def features_of(row: Sequence[Any]) -> Features:
    """The features that a row of `QUERY` tells, without its ordinal."""
    windows, allowed, blocked = row
    told = json.loads(windows, parse_float=Decimal) if windows else {}
    return Features(
        windows={int(seconds): Window(*values) for seconds, values in told.items()},
        allowed=allowed,
        blocked=blocked,
    )
