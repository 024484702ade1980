"""What billing is asked; see web/group_read.py for how many requests share one query.

A store holds one billing, of one region or of all, so that nothing here needs its name.
"""

from __future__ import annotations

from psycopg import sql

from codebase.views.accounts.parked import asking_for_whole_account
from codebase.views.accounts.prices_of_use import parts
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

USE_BY_REGION = use_by_region("billing_agent", "billing_price")

USE_BY_ACCOUNT = (
    sql.SQL("""
    SELECT asked.ordinal, account.id, account.name, account.region,
           account.closed_at IS NOT NULL, part.begins, part.prices, used.microseconds
    FROM {use}
    JOIN billing_account AS account ON account.id = used.account_id
""")
    .format(use=use_of_month("billing_agent", "billing_price", "account_id"))
    .as_string()
)

# One account's invoice, line by line; an account without use has one row without an agent. For
# everybody's the client is NULL, see Caller.only_client.
INVOICES = (
    sql.SQL("""
    SELECT asked.ordinal, account.name, account.region, account.closed_at IS NOT NULL,
           part.begins, part.prices, line.id, line.name, line.microseconds
    FROM unnest(%(clients)b::text[], %(accounts)b::uuid[], %(since)b::timestamptz[],
                %(until)b::timestamptz[])
        WITH ORDINALITY AS asked (client, account_id, since, until, ordinal)
    JOIN billing_account AS account
        ON account.id = asked.account_id
       AND (asked.client IS NULL OR account.client = asked.client)
    CROSS JOIN LATERAL ({parts}) AS part
    LEFT JOIN LATERAL (
        SELECT id, name, microseconds
        FROM (
            SELECT id, name, microseconds_by_part(usage, part.bounds) AS microseconds
            FROM billing_agent
            WHERE account_id = account.id AND created_at < asked.until
              AND (removed_at IS NULL OR removed_at > asked.since)
            OFFSET 0 -- so that each line is reckoned once
        ) AS each
        WHERE 0 < ANY (microseconds)
        ORDER BY name COLLATE "C", id
    ) AS line ON true
""")
    .format(parts=parts("billing_price", sql.Identifier("account", "region")))
    .as_string()
)

# A month that is over and kept: what it came to by region, and its largest invoices. Without a row
# it is not kept; without use it has one row without an account.
KEPT_ARGUMENTS = ("months", "sizes")
KEPT_INVOICES = """
    SELECT asked.ordinal, kept.accounts, kept.regions::text,
           page.id, page.name, page.region, page.is_closed, page.agents, page.microseconds,
           page.total
    FROM unnest(%(months)b::date[], %(sizes)b::integer[])
        WITH ORDINALITY AS asked (month, size, ordinal)
    JOIN billing_month AS kept ON kept.month = asked.month
    LEFT JOIN LATERAL (
        SELECT account.id, account.name, account.region,
               account.closed_at IS NOT NULL AS is_closed, used.agents, used.microseconds,
               used.total
        FROM (
            SELECT account_id, agents, microseconds, total
            FROM billing_month_account
            WHERE month = kept.month
            ORDER BY total DESC
            FETCH FIRST (asked.size) ROWS WITH TIES
        ) AS used
        JOIN billing_account AS account ON account.id = used.account_id
        ORDER BY used.total DESC, account.name COLLATE "C", account.id
        LIMIT asked.size
    ) AS page ON true
    ORDER BY asked.ordinal, page.total DESC, page.name COLLATE "C", page.id
"""

KEPT_REGIONS_ARGUMENTS = ("months",)
KEPT_REGIONS = """
    SELECT asked.ordinal, kept.regions::text
    FROM unnest(%(months)b::date[]) WITH ORDINALITY AS asked (month, ordinal)
    JOIN billing_month AS kept ON kept.month = asked.month
"""

# What an hour costs in each region at the moment, where a price was set.
PRICES_NOW_ARGUMENTS = ("moments",)
PRICES_NOW = """
    SELECT DISTINCT ON (asked.ordinal, price.region) asked.ordinal, price.region, price.per_hour
    FROM unnest(%(moments)b::timestamptz[]) WITH ORDINALITY AS asked (moment, ordinal)
    JOIN billing_price AS price ON price.holds_from <= asked.moment
    ORDER BY asked.ordinal, price.region, price.holds_from DESC, price.version DESC
"""

# Prices as they were set, the latest first; a reference is the version of the last one of the page
# before. Which of a region's prices holds is told from all of them that have begun.
PRICE_ARGUMENTS = ("references", "sizes", "moments")
PRICES = """
    SELECT asked.ordinal, page.version, page.region, page.from_day, page.per_hour, page.set_at,
           CASE
               WHEN page.is_replaced THEN 'replaced'
               WHEN page.holds_from > asked.moment THEN 'coming'
               WHEN page.is_over THEN 'over'
               ELSE 'holds'
           END
    FROM unnest(%(references)b::integer[], %(sizes)b::integer[], %(moments)b::timestamptz[])
        WITH ORDINALITY AS asked (reference, size, moment, ordinal)
    CROSS JOIN LATERAL (
        SELECT price.*,
               EXISTS (
                   SELECT FROM billing_price AS later
                   WHERE later.region = price.region AND later.holds_from = price.holds_from
                     AND later.version > price.version
               ) AS is_replaced,
               EXISTS (
                   SELECT FROM billing_price AS later
                   WHERE later.region = price.region AND later.holds_from > price.holds_from
                     AND later.holds_from <= asked.moment
               ) AS is_over
        FROM billing_price AS price
        WHERE asked.reference IS NULL OR price.version < asked.reference
        ORDER BY price.version DESC
        LIMIT asked.size
    ) AS page
    ORDER BY asked.ordinal, page.version DESC
"""
