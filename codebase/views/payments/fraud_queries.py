"""What the fraud police is asked: decisions, lists, and how well each rule does."""

from __future__ import annotations

from psycopg import sql

from codebase.web.parked import asking_by_id_alone

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

# Anybody may ask about any id, as often as he likes: of all decisions of a transaction it is one.
# What counts most is being of the payment itself, by its client and its card, and then as of when
# that was requested.
THE_ONE = """
    SELECT decision.* FROM fraud_decision AS decision
    LEFT JOIN card_transaction AS paid
        ON paid.id = decision.transaction_id AND paid.client = decision.client
        AND paid.card_brand = decision.payment -> 'card' ->> 'brand'
        AND paid.card_last_four = decision.payment -> 'card' ->> 'last_four'
    WHERE decision.transaction_id = {transaction} AND {is_asked_for}
    ORDER BY paid.id IS NOT NULL DESC,
             decision.as_of IS NOT DISTINCT FROM paid.requested_at DESC,
             decision.as_of DESC, decision.version DESC, decision.id DESC
    LIMIT 1
"""

ONE_ARGUMENTS = ("clients", "ids")
ONE_DECISION = """
    SELECT asked.ordinal, decision.transaction_id, decision.client, decision.as_of, decision.denied,
           decision.decided_by, decision.score, decision.payment::text, decision.hits, label.label,
           decision.findings::text, coalesce(shadow.findings, '[]')::text, decision.features::text,
           decision.rules
    FROM unnest(%(clients)b::text[], %(ids)b::uuid[]) WITH ORDINALITY AS asked (client, id, ordinal)
    CROSS JOIN LATERAL ({the_one}) AS decision
    LEFT JOIN fraud_shadow AS shadow
        ON shadow.id = decision.id AND shadow.version = decision.version
    LEFT JOIN fraud_label AS label ON label.transaction_id = decision.transaction_id
"""
DECISION = (
    sql.SQL(ONE_DECISION)
    .format(
        the_one=sql.SQL(THE_ONE).format(
            transaction=sql.Identifier("asked", "id"),
            is_asked_for=sql.SQL("(asked.client IS NULL OR decision.client = asked.client)"),
        )
    )
    .as_string()
)

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

ONE_LISTING_ARGUMENTS = ("ids", "moments")
ONE_LISTING = """
    SELECT asked.ordinal, listing.id, listing.list, listing.kind, listing.value, listing.ends_at,
           listing.reason
    FROM unnest(%(ids)b::uuid[], %(moments)b::timestamptz[])
        WITH ORDINALITY AS asked (id, moment, ordinal)
    JOIN fraud_listing AS listing
        ON listing.id = asked.id AND listing.over_at IS NULL AND listing.ends_at > asked.moment
"""
ASKING_FOR_PARKED_LISTING = asking_by_id_alone()

# Over the latest decisions, and over the transactions that were labelled last.
RULE_ARGUMENTS = ("latest", "labels")
LABELLED_LAST = """
    SELECT transaction_id, label FROM fraud_label
    ORDER BY labelled_at DESC, id DESC
    LIMIT asked.labels
"""
OF_LABEL = sql.SQL(THE_ONE).format(
    transaction=sql.Identifier("label", "transaction_id"), is_asked_for=sql.SQL("true")
)
RULES_THAT_HIT = """
    SELECT asked.ordinal, told.rule, told.is_shadow, told.hits, told.confirmed,
           told.false_positive, told.frauds
    FROM unnest(%(latest)b::integer[], %(labels)b::integer[])
        WITH ORDINALITY AS asked (latest, labels, ordinal)
    CROSS JOIN LATERAL (
        WITH latest AS MATERIALIZED (
            SELECT id, version, hits, transaction_id FROM fraud_decision
            ORDER BY as_of DESC, id DESC, version DESC
            LIMIT asked.latest
        ), labelled AS MATERIALIZED (
            SELECT decision.id, decision.version, decision.hits, decision.rules, label.label
            FROM ({labelled_last}) AS label CROSS JOIN LATERAL ({of_label}) AS decision
        ), asked_of AS (
            -- What a rule could have hit: frauds that were shown to it, in the state that it is in.
            SELECT rule.name AS rule, rule.content ->> 'state' = 'shadow' AS is_shadow,
                   sum(of_set.frauds)::bigint AS frauds
            FROM (
                SELECT rules, count(*) AS frauds FROM labelled
                WHERE label = 'confirmed' GROUP BY rules
            ) AS of_set
            JOIN fraud_rule_set AS known ON known.hash = of_set.rules
            CROSS JOIN LATERAL jsonb_each(known.text::jsonb -> 'rules') AS rule (name, content)
            WHERE rule.content ->> 'state' <> 'off'
            GROUP BY 1, 2
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
        ), counted AS (
            SELECT rule, is_shadow, count(*) FILTER (WHERE label IS NULL) AS hits,
                   count(*) FILTER (WHERE label = 'confirmed') AS confirmed,
                   count(*) FILTER (WHERE label = 'false_positive') AS false_positive
            FROM found
            GROUP BY rule, is_shadow
        )
        SELECT rule, is_shadow, coalesce(counted.hits, 0) AS hits,
               coalesce(counted.confirmed, 0) AS confirmed,
               coalesce(counted.false_positive, 0) AS false_positive,
               coalesce(asked_of.frauds, 0) AS frauds
        FROM counted FULL JOIN asked_of USING (rule, is_shadow)
    ) AS told
"""
RULES = (
    sql.SQL(RULES_THAT_HIT)
    .format(of_label=OF_LABEL, labelled_last=sql.SQL(LABELLED_LAST))
    .as_string()
)

COUNTED = """
    SELECT asked.ordinal, latest.decisions, latest.denied, labelled.*
    FROM unnest(%(latest)b::integer[], %(labels)b::integer[])
        WITH ORDINALITY AS asked (latest, labels, ordinal)
    CROSS JOIN LATERAL (
        SELECT count(*) AS decisions, count(*) FILTER (WHERE denied) AS denied
        FROM (
            SELECT denied FROM fraud_decision
            ORDER BY as_of DESC, id DESC, version DESC
            LIMIT asked.latest
        ) AS one
    ) AS latest
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE denied AND label = 'confirmed') AS caught,
               count(*) FILTER (WHERE NOT denied AND label = 'confirmed') AS missed,
               count(*) FILTER (WHERE denied AND label = 'false_positive') AS false_alarms
        FROM ({labelled_last}) AS label CROSS JOIN LATERAL ({of_label}) AS decision
    ) AS labelled
"""
TOTALS = (
    sql.SQL(COUNTED).format(of_label=OF_LABEL, labelled_last=sql.SQL(LABELLED_LAST)).as_string()
)
