"""What billing is asked; see web/group_read.py for how many requests share one query.

A store holds one billing, of one region or of all, so that nothing here needs its name.
"""

from __future__ import annotations

from psycopg import sql

from codebase.views.accounts.parked import asking_for_whole_account
from codebase.views.accounts.usage_intervals import use_by_region, use_of_month

REGION_ARGUMENTS = ("asked",)
INVOICE_ARGUMENTS = ("clients", "accounts", "since", "until")
ASKING_FOR_PARKED_INVOICE = asking_for_whole_account("billing_account", "billing_agent", "accounts")

# What there is at the moment. Use that goes on has no upper bound.
REGIONS = """
    SELECT asked.ordinal, region, coalesce(accounts.standing, 0), coalesce(accounts.closed, 0),
           coalesce(agents.in_use, 0), coalesce(agents.blocked, 0)
    FROM (
        SELECT region, count(*) FILTER (WHERE closed_at IS NULL) AS standing,
               count(closed_at) AS closed
        FROM billing_account
        GROUP BY region
    ) AS accounts
    FULL JOIN (
        SELECT region, count(*) FILTER (WHERE upper_inf(usage)) AS in_use,
               count(*) FILTER (WHERE NOT upper_inf(usage)) AS blocked
        FROM billing_agent
        WHERE removed_at IS NULL
        GROUP BY region
    ) AS agents USING (region)
    CROSS JOIN unnest(%(asked)b::boolean[]) WITH ORDINALITY AS asked (yes, ordinal)
"""

USE_BY_REGION = use_by_region("billing_agent")

USE_BY_ACCOUNT = (
    sql.SQL("""
    SELECT asked.ordinal, account.id, account.name, account.region,
           account.closed_at IS NOT NULL, used.microseconds
    FROM {use}
    JOIN billing_account AS account ON account.id = used.account_id
""")
    .format(use=use_of_month("billing_agent", "account_id"))
    .as_string()
)

# One account's invoice, line by line; an account without use has one row without an agent. For
# everybody's the client is NULL, see Caller.only_client.
INVOICES = """
    SELECT asked.ordinal, account.name, account.region, account.closed_at IS NOT NULL,
           line.id, line.name, line.microseconds
    FROM unnest(%(clients)b::text[], %(accounts)b::uuid[], %(since)b::timestamptz[],
                %(until)b::timestamptz[])
        WITH ORDINALITY AS asked (client, account_id, since, until, ordinal)
    JOIN billing_account AS account
        ON account.id = asked.account_id
       AND (asked.client IS NULL OR account.client = asked.client)
    LEFT JOIN LATERAL (
        SELECT id, name, microseconds
        FROM (
            SELECT id, name, microseconds_of_use(usage, asked.since, asked.until) AS microseconds
            FROM billing_agent
            WHERE account_id = account.id AND created_at < asked.until
              AND (removed_at IS NULL OR removed_at > asked.since)
            OFFSET 0 -- so that each line is reckoned once
        ) AS each
        WHERE microseconds > 0
        ORDER BY name COLLATE "C", id
    ) AS line ON true
"""
