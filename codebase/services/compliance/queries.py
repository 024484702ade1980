"""The agents that compliance shows, by name and page by page; see web/group_read.py.

A page begins after the agent that `references` names, which may have been removed meanwhile.
"""

from __future__ import annotations

from psycopg import sql

from codebase.web.parked import is_parked

NAME_ARGUMENTS = ("prefixes", "references", "sizes")
EMAIL_ARGUMENTS = ("emails",)
ID_ARGUMENTS = ("ids", "references", "sizes")

# Those whose names begin alike; everybody for an empty beginning. U+10FFFF comes after every other
# character. An empty page is one row without an agent, which says whether its reference is known.
BY_NAME = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL,
           page.id, page.account_id, page.name, page.email, page.region, page.is_blocked
    FROM (
        SELECT lower(prefix) COLLATE "C" AS prefix, reference, size, ordinal
        FROM unnest(%(prefixes)b::text[], %(references)b::uuid[], %(sizes)b::integer[])
            WITH ORDINALITY AS given (prefix, reference, size, ordinal)
    ) AS asked
    LEFT JOIN compliance_agent AS boundary ON boundary.id = asked.reference
    LEFT JOIN LATERAL (
        SELECT id, account_id, name, email, region, is_blocked
        FROM compliance_agent
        WHERE {who}
          AND (lower(name) COLLATE "C", id) > (
              greatest(lower(boundary.name) COLLATE "C", asked.prefix),
              coalesce(asked.reference, '00000000-0000-0000-0000-000000000000')
          )
          AND lower(name) COLLATE "C" < asked.prefix || chr(1114111)
        ORDER BY lower(name) COLLATE "C", id
        LIMIT asked.size
    ) AS page ON true
"""

AGENTS_BY_NAME = sql.SQL(BY_NAME).format(who=sql.SQL("removed_at IS NULL")).as_string()
BLOCKED_BY_NAME = (
    sql.SQL(BY_NAME).format(who=sql.SQL("is_blocked AND removed_at IS NULL")).as_string()
)

# The one with an e-mail address.
AGENT_BY_EMAIL = """
    SELECT asked.ordinal, true, found.id, found.account_id, found.name, found.email, found.region,
           found.is_blocked
    FROM unnest(%(emails)b::text[]) WITH ORDINALITY AS asked (email, ordinal)
    LEFT JOIN compliance_agent AS found
        ON lower(found.email) = lower(asked.email) AND found.removed_at IS NULL
"""

ASKING_FOR_PARKED = (
    sql.SQL("""
    SELECT asked.ordinal
    FROM unnest(%(ids)b::uuid[]) WITH ORDINALITY AS asked (id, ordinal)
    CROSS JOIN LATERAL ({is_parked}) AS parked
""")
    .format(is_parked=is_parked("asked", "id"))
    .as_string()
)

# The one with an id, or else those of the account with that id.
AGENTS_BY_ID = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL,
           page.id, page.account_id, page.name, page.email, page.region, page.is_blocked
    FROM unnest(%(ids)b::uuid[], %(references)b::uuid[], %(sizes)b::integer[])
        WITH ORDINALITY AS asked (id, reference, size, ordinal)
    LEFT JOIN compliance_agent AS boundary ON boundary.id = asked.reference
    LEFT JOIN LATERAL (
        (
            SELECT id, account_id, name, email, region, is_blocked
            FROM compliance_agent
            WHERE id = asked.id AND removed_at IS NULL AND asked.reference IS NULL
        )
        UNION ALL
        (
            SELECT id, account_id, name, email, region, is_blocked
            FROM compliance_agent
            WHERE account_id = asked.id AND removed_at IS NULL
              AND (lower(name) COLLATE "C", id) > (
                  coalesce(lower(boundary.name) COLLATE "C", ''),
                  coalesce(asked.reference, '00000000-0000-0000-0000-000000000000')
              )
            ORDER BY lower(name) COLLATE "C", id
            LIMIT asked.size
        )
    ) AS page ON true
"""
