"""What vip_customers is asked; see web/group_read.py for how many requests share one query."""

from __future__ import annotations

MONTH_ARGUMENTS = ("since", "until")

# For each region, how many accounts were opened and closed in a month, and how many there were at
# its end, or are there now.
ACCOUNTS = """
    SELECT asked.ordinal, counted.region, counted.opened, counted.closed, counted.standing
    FROM unnest(%(since)b::timestamptz[], %(until)b::timestamptz[])
        WITH ORDINALITY AS asked (since, until, ordinal)
    CROSS JOIN LATERAL (
        SELECT region,
               count(*) FILTER (WHERE opened_at >= asked.since) AS opened,
               count(*) FILTER (WHERE closed_at >= asked.since AND closed_at < asked.until)
                   AS closed,
               count(*) FILTER (WHERE closed_at IS NULL OR closed_at >= asked.until) AS standing
        FROM vip_account
        WHERE opened_at < asked.until
        GROUP BY region
    ) AS counted
"""

# For each region, how long each agent was in use in a month, in microseconds.
USE = """
    SELECT asked.ordinal, used.region, used.microseconds
    FROM unnest(%(since)b::timestamptz[], %(until)b::timestamptz[])
        WITH ORDINALITY AS asked (since, until, ordinal)
    CROSS JOIN LATERAL (
        SELECT region, array_agg(microseconds) AS microseconds
        FROM (
            SELECT region, microseconds_of_use(usage, asked.since, asked.until) AS microseconds
            FROM vip_agent
            WHERE created_at < asked.until
              AND (removed_at IS NULL OR removed_at > asked.since)
        ) AS line
        WHERE microseconds > 0
        GROUP BY region
    ) AS used
"""
