"""What vip_customers is asked; see web/group_read.py for how many requests share one query."""

from __future__ import annotations

from codebase.views.accounts.usage_intervals import use_by_region

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

USE = use_by_region("vip_agent", "vip_price")
