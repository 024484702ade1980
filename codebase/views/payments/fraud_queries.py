"""What the fraud police is asked: decisions, lists, and how well each rule does."""

from __future__ import annotations

PAGE_ARGUMENTS = ("clients", "references", "sizes", "denied")

# Keyset pages, newest first; see views/buy_orders/buy_orders.py for the two ways into the table. A
# page whose reference is not known says so by its one row.
DECISIONS = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL AS known,
           page.transaction_id, page.client, page.as_of, page.denied, page.decided_by, page.score,
           page.payment::text, page.hits, label.label
    FROM unnest(%(clients)b::text[], %(references)b::uuid[], %(sizes)b::integer[],
                %(denied)b::boolean[])
        WITH ORDINALITY AS asked (client, reference, size, denied, ordinal)
    LEFT JOIN LATERAL (
        SELECT id, as_of FROM fraud_decision
        WHERE transaction_id = asked.reference
          AND (asked.client IS NULL OR client = asked.client)
        ORDER BY as_of
        LIMIT 1
    ) AS boundary ON true
    CROSS JOIN LATERAL (
        SELECT CASE WHEN asked.reference IS NULL THEN 'infinity' ELSE boundary.as_of END AS as_of,
               coalesce(asked.reference, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AS id
    ) AS start
    LEFT JOIN LATERAL (
        (
            SELECT * FROM fraud_decision
            WHERE client >= asked.client
              AND (client, as_of, transaction_id) < (asked.client, start.as_of, start.id)
              AND (asked.denied IS NULL OR denied = asked.denied)
            ORDER BY client DESC, as_of DESC, transaction_id DESC
            LIMIT asked.size
        )
        UNION ALL
        (
            SELECT * FROM fraud_decision
            WHERE asked.client IS NULL AND (as_of, transaction_id) < (start.as_of, start.id)
              AND (asked.denied IS NULL OR denied = asked.denied)
            ORDER BY as_of DESC, transaction_id DESC
            LIMIT asked.size
        )
    ) AS page ON true
    LEFT JOIN fraud_label AS label ON label.transaction_id = page.transaction_id
    ORDER BY asked.ordinal, page.as_of DESC, page.transaction_id DESC
"""

ONE_ARGUMENTS = ("clients", "ids")
DECISION = """
    SELECT asked.ordinal, decision.transaction_id, decision.client, decision.as_of, decision.denied,
           decision.decided_by, decision.score, decision.payment::text, decision.hits, label.label,
           decision.findings::text, coalesce(shadow.findings, '[]')::text, decision.features::text,
           decision.rules
    FROM unnest(%(clients)b::text[], %(ids)b::uuid[]) WITH ORDINALITY AS asked (client, id, ordinal)
    JOIN fraud_decision AS decision ON decision.transaction_id = asked.id
        AND (asked.client IS NULL OR decision.client = asked.client)
    LEFT JOIN fraud_shadow AS shadow
        ON shadow.id = decision.id AND shadow.version = decision.version
    LEFT JOIN fraud_label AS label ON label.transaction_id = decision.transaction_id
    ORDER BY asked.ordinal, decision.as_of
"""

LISTING_ARGUMENTS = ("references", "sizes", "moments")
LISTINGS = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL AS known,
           page.id, page.list, page.kind, page.value, page.ends_at, page.reason, page.listed_at
    FROM unnest(%(references)b::uuid[], %(sizes)b::integer[], %(moments)b::timestamptz[])
        WITH ORDINALITY AS asked (reference, size, moment, ordinal)
    LEFT JOIN fraud_listing AS boundary
        ON boundary.id = asked.reference AND boundary.over_at IS NULL
    CROSS JOIN LATERAL (
        SELECT CASE WHEN asked.reference IS NULL THEN 'infinity' ELSE boundary.listed_at END
                   AS listed_at,
               coalesce(asked.reference, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AS id
    ) AS start
    LEFT JOIN LATERAL (
        SELECT * FROM fraud_listing
        WHERE over_at IS NULL AND (listed_at, id) < (start.listed_at, start.id)
          AND ends_at > asked.moment
        ORDER BY listed_at DESC, id DESC
        LIMIT asked.size
    ) AS page ON true
    ORDER BY asked.ordinal, page.listed_at DESC, page.id DESC
"""

# Over the latest decisions, and over all that are labelled: of these there are as many as people
# have looked at.
RULE_ARGUMENTS = ("latest",)
RULES = """
    SELECT asked.ordinal, told.rule, told.is_shadow, told.hits, told.confirmed, told.false_positive
    FROM unnest(%(latest)b::integer[]) WITH ORDINALITY AS asked (latest, ordinal)
    CROSS JOIN LATERAL (
        WITH latest AS MATERIALIZED (
            SELECT id, version, hits, transaction_id FROM fraud_decision
            ORDER BY as_of DESC, transaction_id DESC
            LIMIT asked.latest
        ), labelled AS MATERIALIZED (
            SELECT decision.id, decision.version, decision.hits, label.label
            FROM fraud_label AS label JOIN fraud_decision AS decision USING (transaction_id)
        ), found AS (
            SELECT unnest(hits) AS rule, false AS is_shadow, NULL AS label FROM latest
            UNION ALL
            SELECT unnest(shadow.hits), true, NULL
            FROM latest JOIN fraud_shadow AS shadow USING (id, version)
            UNION ALL
            SELECT unnest(hits), false, label FROM labelled
            UNION ALL
            SELECT unnest(shadow.hits), true, labelled.label
            FROM labelled JOIN fraud_shadow AS shadow USING (id, version)
        )
        SELECT rule, is_shadow, count(*) FILTER (WHERE label IS NULL) AS hits,
               count(*) FILTER (WHERE label = 'confirmed') AS confirmed,
               count(*) FILTER (WHERE label = 'false_positive') AS false_positive
        FROM found
        GROUP BY rule, is_shadow
    ) AS told
"""

TOTALS = """
    SELECT asked.ordinal, latest.decisions, latest.denied, labelled.*
    FROM unnest(%(latest)b::integer[]) WITH ORDINALITY AS asked (latest, ordinal)
    CROSS JOIN LATERAL (
        SELECT count(*) AS decisions, count(*) FILTER (WHERE denied) AS denied
        FROM (
            SELECT denied FROM fraud_decision
            ORDER BY as_of DESC, transaction_id DESC
            LIMIT asked.latest
        ) AS one
    ) AS latest
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE denied AND label = 'confirmed') AS caught,
               count(*) FILTER (WHERE NOT denied AND label = 'confirmed') AS missed,
               count(*) FILTER (WHERE denied AND label = 'false_positive') AS false_alarms
        FROM fraud_label JOIN fraud_decision USING (transaction_id)
    ) AS labelled
"""
