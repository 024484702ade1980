"""The pages of a client's buy orders, newest first.

Keyset pages: the row after `reference` is found by an index, so that every page costs the same.
`WITH ORDINALITY` lets many requests share one query. The row with ordinal 0 tells how far the read
model was at that very moment; see infra/group_read.py.
"""

from __future__ import annotations

PAGE_ARGUMENTS = ("clients", "references", "sizes")
ORDER_ARGUMENTS = ("clients", "ids")

# What one client placed. The first page starts behind the end of time. A request whose page is
# empty gets one row without an order, which says whether its reference is known.
PAGES_OF_CLIENT = """
    SELECT 0 AS ordinal, NULL::boolean AS known, NULL::uuid AS id, NULL::timestamptz AS placed_at,
           NULL::text AS currency, NULL::text AS currency_amount, NULL::text AS btc_rate,
           NULL::text AS btc_amount, NULL::text AS price_source,
           jsonb_object_agg(partition, position) AS checkpoints
    FROM projection_checkpoint
    WHERE projector = 'read_model_sync'
    UNION ALL
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.placed_at IS NOT NULL,
           page.id, page.placed_at, page.currency, page.currency_amount, page.btc_rate,
           page.btc_amount, page.price_source, NULL
    FROM unnest(%(clients)b::text[], %(references)b::uuid[], %(sizes)b::integer[])
        WITH ORDINALITY AS asked (client, reference, size, ordinal)
    LEFT JOIN buy_order AS boundary
        ON boundary.id = asked.reference AND boundary.client = asked.client
    LEFT JOIN LATERAL (
        SELECT id, placed_at, currency, round(currency_amount, 2)::text AS currency_amount,
               round(btc_rate, 8)::text AS btc_rate, round(btc_amount, 8)::text AS btc_amount,
               price_source
        FROM buy_order
        WHERE client = asked.client
          AND (placed_at, id) < (
              CASE WHEN asked.reference IS NULL THEN 'infinity' ELSE boundary.placed_at END,
              coalesce(asked.reference, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
          )
        ORDER BY placed_at DESC, id DESC
        LIMIT asked.size
    ) AS page ON true
"""

# What everybody placed, for administrators.
PAGES_OF_ALL = """
    SELECT 0 AS ordinal, NULL::boolean AS known, NULL::uuid AS id, NULL::timestamptz AS placed_at,
           NULL::text AS currency, NULL::text AS currency_amount, NULL::text AS btc_rate,
           NULL::text AS btc_amount, NULL::text AS price_source,
           jsonb_object_agg(partition, position) AS checkpoints
    FROM projection_checkpoint
    WHERE projector = 'read_model_sync'
    UNION ALL
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.placed_at IS NOT NULL,
           page.id, page.placed_at, page.currency, page.currency_amount, page.btc_rate,
           page.btc_amount, page.price_source, NULL
    FROM unnest(%(clients)b::text[], %(references)b::uuid[], %(sizes)b::integer[])
        WITH ORDINALITY AS asked (client, reference, size, ordinal)
    LEFT JOIN buy_order AS boundary ON boundary.id = asked.reference
    LEFT JOIN LATERAL (
        SELECT id, placed_at, currency, round(currency_amount, 2)::text AS currency_amount,
               round(btc_rate, 8)::text AS btc_rate, round(btc_amount, 8)::text AS btc_amount,
               price_source
        FROM buy_order
        WHERE (placed_at, id) < (
              CASE WHEN asked.reference IS NULL THEN 'infinity' ELSE boundary.placed_at END,
              coalesce(asked.reference, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
          )
        ORDER BY placed_at DESC, id DESC
        LIMIT asked.size
    ) AS page ON true
"""

# One order; an administrator (client NULL) sees everybody's.
ORDERS_BY_ID = """
    SELECT 0 AS ordinal, NULL::uuid AS id, NULL::timestamptz AS placed_at, NULL::text AS currency,
           NULL::text AS currency_amount, NULL::text AS btc_rate, NULL::text AS btc_amount,
           NULL::text AS price_source, jsonb_object_agg(partition, position) AS checkpoints
    FROM projection_checkpoint
    WHERE projector = 'read_model_sync'
    UNION ALL
    SELECT asked.ordinal, found.id, found.placed_at, found.currency,
           round(found.currency_amount, 2)::text, round(found.btc_rate, 8)::text,
           round(found.btc_amount, 8)::text, found.price_source, NULL
    FROM unnest(%(clients)b::text[], %(ids)b::uuid[])
        WITH ORDINALITY AS asked (client, id, ordinal)
    JOIN buy_order AS found ON found.id = asked.id
    WHERE asked.client IS NULL OR found.client = asked.client
"""
