"""What the fraud police is asked: decisions, lists, and how well each rule does."""

from __future__ import annotations

PAGE_ARGUMENTS = ("clients", "references", "sizes", "denied")

# Keyset pages, newest first; see views/buy_orders/buy_orders.py for the two ways into the table. Of
# what was denied there is less, with indexes of its own, and so two more ways. A page whose
# reference is not known says so by its one row. What a page is continued from is one decision, and
# not its transaction, of which each caller that asks has a decision.
DECISIONS = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL AS known,
           page.transaction_id, page.client, page.as_of, page.denied, page.decided_by, page.score,
           page.payment::text, page.hits, label.label,
           md5(page.id::text || ' ' || page.version::text)::uuid
    FROM unnest(%(clients)b::text[], %(references)b::uuid[], %(sizes)b::integer[],
                %(denied)b::boolean[])
        WITH ORDINALITY AS asked (client, reference, size, denied, ordinal)
    LEFT JOIN fraud_decision AS boundary
        ON md5(boundary.id::text || ' ' || boundary.version::text)::uuid = asked.reference
        AND (asked.client IS NULL OR boundary.client = asked.client)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN asked.reference IS NULL THEN 'infinity' ELSE boundary.as_of END AS as_of,
               coalesce(boundary.id, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AS id,
               coalesce(boundary.version, 0) AS version
    ) AS start
    LEFT JOIN LATERAL (
        (
            SELECT * FROM fraud_decision
            WHERE client >= asked.client
              AND (client, as_of, id, version)
                  < (asked.client, start.as_of, start.id, start.version)
              AND asked.denied IS NOT TRUE AND (asked.denied IS NULL OR NOT denied)
            ORDER BY client DESC, as_of DESC, id DESC, version DESC
            LIMIT asked.size
        )
        UNION ALL
        (
            SELECT * FROM fraud_decision
            WHERE asked.client IS NULL
              AND (as_of, id, version) < (start.as_of, start.id, start.version)
              AND asked.denied IS NOT TRUE AND (asked.denied IS NULL OR NOT denied)
            ORDER BY as_of DESC, id DESC, version DESC
            LIMIT asked.size
        )
        UNION ALL
        (
            SELECT * FROM fraud_decision
            WHERE client >= asked.client
              AND (client, as_of, id, version)
                  < (asked.client, start.as_of, start.id, start.version)
              AND asked.denied AND denied
            ORDER BY client DESC, as_of DESC, id DESC, version DESC
            LIMIT asked.size
        )
        UNION ALL
        (
            SELECT * FROM fraud_decision
            WHERE asked.client IS NULL
              AND (as_of, id, version) < (start.as_of, start.id, start.version)
              AND asked.denied AND denied
            ORDER BY as_of DESC, id DESC, version DESC
            LIMIT asked.size
        )
    ) AS page ON true
    LEFT JOIN fraud_label AS label ON label.transaction_id = page.transaction_id
    ORDER BY asked.ordinal, page.as_of DESC, page.id DESC, page.version DESC
"""

# All decisions about a transaction, the one to show last. Anybody may ask about any id: what counts
# most is being of the payment itself, by its client and its card, and then as of when that was
# requested.
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
    LEFT JOIN card_transaction AS paid
        ON paid.id = decision.transaction_id AND paid.client = decision.client
        AND paid.card_brand = decision.payment -> 'card' ->> 'brand'
        AND paid.card_last_four = decision.payment -> 'card' ->> 'last_four'
    ORDER BY asked.ordinal, paid.id IS NOT NULL,
             decision.as_of IS NOT DISTINCT FROM paid.requested_at, decision.as_of, decision.version
"""

# Those that hold longest first: so one index leads past all that are over.
LISTING_ARGUMENTS = ("references", "sizes", "moments")
LISTINGS = """
    SELECT asked.ordinal, asked.reference IS NULL OR boundary.id IS NOT NULL AS known,
           page.id, page.list, page.kind, page.value, page.ends_at, page.reason, page.listed_at
    FROM unnest(%(references)b::uuid[], %(sizes)b::integer[], %(moments)b::timestamptz[])
        WITH ORDINALITY AS asked (reference, size, moment, ordinal)
    LEFT JOIN fraud_listing AS boundary
        ON boundary.id = asked.reference AND boundary.over_at IS NULL
    CROSS JOIN LATERAL (
        SELECT CASE WHEN asked.reference IS NULL THEN 'infinity' ELSE boundary.ends_at END
                   AS ends_at,
               coalesce(asked.reference, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AS id
    ) AS start
    LEFT JOIN LATERAL (
        SELECT * FROM fraud_listing
        WHERE over_at IS NULL AND (ends_at, id) < (start.ends_at, start.id)
          AND ends_at > asked.moment
        ORDER BY ends_at DESC, id DESC
        LIMIT asked.size
    ) AS page ON true
    ORDER BY asked.ordinal, page.ends_at DESC, page.id DESC
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
            ORDER BY as_of DESC, id DESC, version DESC
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
            ORDER BY as_of DESC, id DESC, version DESC
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
