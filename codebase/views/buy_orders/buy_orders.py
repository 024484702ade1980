"""The pages of buy orders, newest first; see web/group_read.py for how many requests share one.

Keyset pages: the row after `reference` is found by an index, so that every page costs the same. Of
the two ways into the table a request takes one, depending on whether it asks for one client's
orders or, as an administrator does, for everybody's (client NULL). The client is compared as the
first part of the order. Were it just equal, Postgres might take the other index and look at row
after row, as it does where a single client has nearly everything.
"""

from __future__ import annotations

PAGE_ARGUMENTS = ("clients", "references", "sizes")
ORDER_ARGUMENTS = ("clients", "ids")

# The first page starts behind the end of time. A request whose page is empty gets one row without
# an order, which says whether its reference is known.
PAGES = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL AS known,
           page.id, page.placed_at, page.currency, round(page.currency_amount, 2)::text,
           round(page.btc_rate, 8)::text, round(page.btc_amount, 8)::text, page.price_source
    FROM unnest(%(clients)b::text[], %(references)b::uuid[], %(sizes)b::integer[])
        WITH ORDINALITY AS asked (client, reference, size, ordinal)
    LEFT JOIN buy_order AS boundary
        ON boundary.id = asked.reference
       AND (asked.client IS NULL OR boundary.client = asked.client)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN asked.reference IS NULL THEN 'infinity' ELSE boundary.placed_at END
                   AS placed_at,
               coalesce(asked.reference, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AS id
    ) AS start
    LEFT JOIN LATERAL (
        (
            SELECT id, placed_at, currency, currency_amount, btc_rate, btc_amount, price_source
            FROM buy_order
            WHERE client >= asked.client
              AND (client, placed_at, id) < (asked.client, start.placed_at, start.id)
            ORDER BY client DESC, placed_at DESC, id DESC
            LIMIT asked.size
        )
        UNION ALL
        (
            SELECT id, placed_at, currency, currency_amount, btc_rate, btc_amount, price_source
            FROM buy_order
            WHERE asked.client IS NULL AND (placed_at, id) < (start.placed_at, start.id)
            ORDER BY placed_at DESC, id DESC
            LIMIT asked.size
        )
    ) AS page ON true
"""

# One order; an administrator (client NULL) sees everybody's.
ORDERS_BY_ID = """
    SELECT asked.ordinal, found.id, found.placed_at, found.currency,
           round(found.currency_amount, 2)::text, round(found.btc_rate, 8)::text,
           round(found.btc_amount, 8)::text, found.price_source
    FROM unnest(%(clients)b::text[], %(ids)b::uuid[])
        WITH ORDINALITY AS asked (client, id, ordinal)
    JOIN buy_order AS found ON found.id = asked.id
    WHERE asked.client IS NULL OR found.client = asked.client
"""
