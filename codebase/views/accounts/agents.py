"""Agents by name, page by page: of an account, of a client, or all; one agent, by id or e-mail.

How pages are found: see fetch_accounts. How many requests share one query: see
web/group_read.py. For an administrator the client is NULL.
"""

from __future__ import annotations

PAGE_ARGUMENTS = ("clients", "references", "sizes")
PAGE_OF_ACCOUNT_ARGUMENTS = ("clients", "accounts", "references", "sizes")
AGENT_ARGUMENTS = ("clients", "accounts", "ids")
EMAIL_ARGUMENTS = ("clients", "emails")

PAGES = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL,
           page.items::text, page.items -> -1 ->> 'id'
    FROM unnest(%(clients)b::text[], %(references)b::uuid[], %(sizes)b::integer[])
        WITH ORDINALITY AS asked (client, reference, size, ordinal)
    LEFT JOIN agent AS boundary
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
                SELECT id, account_id, name, email, blocked
                FROM agent
                WHERE client <= asked.client AND removed_at IS NULL
                  AND (client, name, id) > (asked.client, start.name, start.id)
                ORDER BY client, name, id
                LIMIT asked.size
            )
            UNION ALL
            (
                SELECT id, account_id, name, email, blocked
                FROM agent
                WHERE asked.client IS NULL AND removed_at IS NULL
                  AND (name, id) > (start.name, start.id)
                ORDER BY name, id
                LIMIT asked.size
            )
        ) AS found
    ) AS page ON true
"""

# A request for an account that is not there, or not the client's, gets no row.
PAGES_OF_ACCOUNT = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL,
           page.items::text, page.items -> -1 ->> 'id'
    FROM unnest(%(clients)b::text[], %(accounts)b::uuid[], %(references)b::uuid[],
                %(sizes)b::integer[])
        WITH ORDINALITY AS asked (client, account_id, reference, size, ordinal)
    JOIN account
        ON account.id = asked.account_id AND account.closed_at IS NULL
       AND (asked.client IS NULL OR account.client = asked.client)
    LEFT JOIN agent AS boundary
        ON boundary.id = asked.reference AND boundary.account_id = asked.account_id
    LEFT JOIN LATERAL (
        SELECT json_agg(found) AS items
        FROM (
            SELECT id, account_id, name, email, blocked
            FROM agent
            WHERE account_id <= asked.account_id AND removed_at IS NULL
              AND (account_id, name, id) > (
                  asked.account_id,
                  CASE WHEN asked.reference IS NULL THEN '' ELSE boundary.name END,
                  coalesce(asked.reference, '00000000-0000-0000-0000-000000000000')
              )
            ORDER BY account_id, name, id
            LIMIT asked.size
        ) AS found
    ) AS page ON true
"""

AGENTS_BY_ID = """
    SELECT asked.ordinal, row_to_json(shown)::text
    FROM unnest(%(clients)b::text[], %(accounts)b::uuid[], %(ids)b::uuid[])
        WITH ORDINALITY AS asked (client, account_id, id, ordinal)
    JOIN agent AS found ON found.id = asked.id AND found.account_id = asked.account_id
    CROSS JOIN LATERAL (
        SELECT found.id, found.account_id, found.name, found.email, found.blocked
    ) AS shown
    WHERE found.removed_at IS NULL AND (asked.client IS NULL OR found.client = asked.client)
"""

AGENTS_BY_EMAIL = """
    SELECT asked.ordinal, row_to_json(shown)::text
    FROM unnest(%(clients)b::text[], %(emails)b::text[])
        WITH ORDINALITY AS asked (client, email, ordinal)
    JOIN agent AS found ON lower(found.email) = lower(asked.email) AND found.removed_at IS NULL
    CROSS JOIN LATERAL (
        SELECT found.id, found.account_id, found.name, found.email, found.blocked
    ) AS shown
    WHERE asked.client IS NULL OR found.client = asked.client
"""
