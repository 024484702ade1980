"""Accounts by name, page by page; one account; one account with its agents.

The row after `reference` is found by an index, so that every page costs the same. Of the two ways
into the table a request takes one, depending on whether it asks for one client's rows or, as an
administrator does, for everybody's (client NULL). How many requests share one query: see
web/group_read.py.

The whole order of a list is compared, with the client or the account in front. Were that one just
equal, Postgres might take an index without it and look at row after row, as it does where a single
client or account has nearly everything.
"""

from __future__ import annotations

PAGE_ARGUMENTS = ("clients", "references", "sizes")
ACCOUNT_ARGUMENTS = ("clients", "ids")

# The first page starts before the beginning: no name is empty.
PAGES = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL,
           page.items::text, page.items -> -1 ->> 'id'
    FROM unnest(%(clients)b::text[], %(references)b::uuid[], %(sizes)b::integer[])
        WITH ORDINALITY AS asked (client, reference, size, ordinal)
    LEFT JOIN account AS boundary
        ON boundary.id = asked.reference
       AND (asked.client IS NULL OR boundary.client = asked.client)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN asked.reference IS NULL THEN '' ELSE boundary.name END AS name,
               coalesce(asked.reference, '00000000-0000-0000-0000-000000000000') AS id
    ) AS start
    LEFT JOIN LATERAL (
        SELECT json_agg(found) AS items
        FROM (
            (
                SELECT id, name, email, region, vip
                FROM account
                WHERE client <= asked.client AND closed_at IS NULL
                  AND (client, name, id) > (asked.client, start.name, start.id)
                ORDER BY client, name, id
                LIMIT asked.size
            )
            UNION ALL
            (
                SELECT id, name, email, region, vip
                FROM account
                WHERE asked.client IS NULL AND closed_at IS NULL
                  AND (name, id) > (start.name, start.id)
                ORDER BY name, id
                LIMIT asked.size
            )
        ) AS found
    ) AS page ON true
"""

ACCOUNTS_BY_ID = """
    SELECT asked.ordinal, row_to_json(shown)::text
    FROM unnest(%(clients)b::text[], %(ids)b::uuid[])
        WITH ORDINALITY AS asked (client, id, ordinal)
    JOIN account AS found ON found.id = asked.id
    CROSS JOIN LATERAL (
        SELECT found.id, found.name, found.email, found.region, found.vip
    ) AS shown
    WHERE found.closed_at IS NULL AND (asked.client IS NULL OR found.client = asked.client)
"""

REPORTS = """
    SELECT asked.ordinal, row_to_json(shown)::text
    FROM unnest(%(clients)b::text[], %(ids)b::uuid[])
        WITH ORDINALITY AS asked (client, id, ordinal)
    JOIN account AS found ON found.id = asked.id
    CROSS JOIN LATERAL (
        SELECT coalesce(json_agg(one), '[]') AS agents
        FROM (
            SELECT id, account_id, name, email, blocked
            FROM agent
            WHERE account_id >= found.id AND account_id <= found.id AND removed_at IS NULL
            ORDER BY account_id, name, id
        ) AS one
    ) AS its
    CROSS JOIN LATERAL (
        SELECT found.id, found.name, found.email, found.region, found.vip, its.agents
    ) AS shown
    WHERE found.closed_at IS NULL AND (asked.client IS NULL OR found.client = asked.client)
"""
