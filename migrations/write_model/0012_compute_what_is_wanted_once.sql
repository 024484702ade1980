-- append() computes once what its units want of budgets, and forgets notes only if it is told when.
--
-- What the units want was summed up three times, and near the limit three times for each unit. And a
-- function in SQL that is not inlined is planned anew with every call: that was a tenth of a small append.

-- What nobody has spent yet, with the shares locked, so that it cannot change. The budget's own row only
-- as far as others who move it are concerned: an append that changes a share twice, near the limit, has
-- Postgres look whether its budget is still there, and must not wait for us, who wait for the share.
CREATE OR REPLACE FUNCTION lock_budget(budget_name text) RETURNS numeric
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM FROM budget AS b WHERE b.name = budget_name FOR NO KEY UPDATE;
    PERFORM FROM budget_share AS s WHERE s.name = budget_name ORDER BY s.partition FOR UPDATE;
    RETURN (SELECT b.limit_value FROM budget AS b WHERE b.name = budget_name)
         - (SELECT sum(s.spent) FROM budget_share AS s WHERE s.name = budget_name);
END
$$;

-- Units, of refusals.
CREATE OR REPLACE FUNCTION append_units(refusals append_refusal[]) RETURNS integer[]
LANGUAGE plpgsql
IMMUTABLE
AS $$
BEGIN
    IF refusals = '{}' THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(SELECT r.unit FROM unnest(refusals) AS r);
END
$$;

DROP FUNCTION append_short(integer[], integer, integer[], text[], text[], text[], smallint[]);
DROP FUNCTION append_take(integer[], integer, integer[], text[], text[], text[], smallint[]);
DROP FUNCTION append_wanted(integer[], integer, integer[], text[], text[], text[], smallint[]);

-- What each unit wants of each share: one element for both, ordered by unit.
CREATE FUNCTION append_wanted(
    refused integer[], guard_unit integer[], guard_action text[], guard_name text[],
    guard_value text[], guard_partition smallint[],
    OUT wanted_unit integer[],
    OUT wanted_name text[],
    OUT wanted_partition smallint[],
    OUT wanted_amount numeric[]
)
LANGUAGE plpgsql
AS $$
BEGIN
    SELECT coalesce(array_agg(w.unit), '{}'), array_agg(w.name), array_agg(w.partition),
           array_agg(w.amount)
    INTO wanted_unit, wanted_name, wanted_partition, wanted_amount
    FROM (
        SELECT g.unit, g.name, g.partition, sum(g.value::numeric) AS amount
        FROM unnest(guard_unit, guard_action, guard_name, guard_value, guard_partition)
            AS g (unit, action, name, value, partition)
        WHERE g.action = 'spend' AND g.unit <> ALL (refused)
        GROUP BY g.unit, g.name, g.partition
        ORDER BY g.unit, g.name, g.partition
    ) AS w;
END
$$;

-- Takes all that is wanted from the shares, which are locked, or nothing if one of them is short: then
-- it returns why, for `refused_unit`. Otherwise it returns NULL.
CREATE FUNCTION append_take(
    refused_unit integer, wanted_name text[], wanted_partition smallint[], wanted_amount numeric[]
)
RETURNS append_refusal
LANGUAGE plpgsql
AS $$
DECLARE
    short record;
    remaining numeric;
BEGIN
    SELECT w.name, w.amount INTO short
    FROM (
        SELECT u.name, u.partition, sum(u.amount) AS amount
        FROM unnest(wanted_name, wanted_partition, wanted_amount) AS u (name, partition, amount)
        GROUP BY u.name, u.partition
    ) AS w
    LEFT JOIN budget_share AS s ON s.name = w.name AND s.partition = w.partition
    WHERE (s.spent + w.amount <= s.granted) IS NOT TRUE
    ORDER BY w.name, w.partition
    LIMIT 1;
    IF NOT FOUND THEN
        UPDATE budget_share AS s
        SET spent = s.spent + w.amount
        FROM (
            SELECT u.name, u.partition, sum(u.amount) AS amount
            FROM unnest(wanted_name, wanted_partition, wanted_amount) AS u (name, partition, amount)
            GROUP BY u.name, u.partition
        ) AS w
        WHERE s.name = w.name AND s.partition = w.partition;
        RETURN NULL;
    END IF;
    -- What all partitions have spent, and what has been committed, of one moment.
    SELECT b.limit_value - (SELECT sum(s.spent) FROM budget_share AS s WHERE s.name = b.name)
    INTO remaining
    FROM budget AS b
    WHERE b.name = short.name;
    IF short.amount <= remaining THEN
        RETURN (refused_unit, 'short', short.name, short.amount::text)::append_refusal;
    END IF;
    RETURN (refused_unit, 'budget', short.name, greatest(coalesce(remaining, 0), 0)::text)
        ::append_refusal;
END
$$;

-- Spends what the units want, all of it at once in the usual case.
CREATE OR REPLACE FUNCTION append_spend(
    refused integer[], guard_unit integer[], guard_action text[], guard_name text[],
    guard_value text[], guard_partition smallint[]
)
RETURNS append_refusal[]
LANGUAGE plpgsql
AS $$
DECLARE
    refusals append_refusal[] := '{}';
    refusal append_refusal;
    wanted record;
    since integer := 1;
BEGIN
    wanted := append_wanted(
        refused, guard_unit, guard_action, guard_name, guard_value, guard_partition);
    IF wanted.wanted_unit = '{}' THEN
        RETURN refusals;
    END IF;
    PERFORM FROM (
        SELECT DISTINCT u.name, u.partition
        FROM unnest(wanted.wanted_name, wanted.wanted_partition) AS u (name, partition)
    ) AS w
    JOIN budget_share AS s ON s.name = w.name AND s.partition = w.partition
    ORDER BY s.name, s.partition
    FOR UPDATE OF s;
    refusal := append_take(
        NULL, wanted.wanted_name, wanted.wanted_partition, wanted.wanted_amount);
    IF refusal.why IS NULL THEN
        RETURN refusals;
    END IF;

    -- Close to the limit each unit is asked in turn; a smaller one may still fit.
    FOR until IN 1 .. cardinality(wanted.wanted_unit) LOOP
        CONTINUE WHEN wanted.wanted_unit[until] = wanted.wanted_unit[until + 1];
        refusal := append_take(
            wanted.wanted_unit[until], wanted.wanted_name[since:until],
            wanted.wanted_partition[since:until], wanted.wanted_amount[since:until]);
        IF refusal.why IS NOT NULL THEN
            refusals := refusals || refusal;
        END IF;
        since := until + 1;
    END LOOP;
    RETURN refusals;
END
$$;

-- Remembers commands that had nothing to do; what is known already stays as it is. Each call forgets
-- up to twice as many that are old, so that there are never more than a while's worth of them; none if
-- nobody says how old that is.
CREATE OR REPLACE FUNCTION append_notes(
    refused integer[], kept_days integer,
    note_unit integer[], note_partition smallint[], note_stream uuid[], note_client text[],
    note_key text[], note_fingerprint text[], note_version integer[]
)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO command_note (partition, stream_id, client, idempotence_key, fingerprint, version)
    SELECT n.partition, n.stream_id, n.client, n.key, n.fingerprint, n.version
    FROM unnest(note_unit, note_partition, note_stream, note_client, note_key, note_fingerprint,
                note_version)
        AS n (unit, partition, stream_id, client, key, fingerprint, version)
    WHERE n.unit <> ALL (refused)
    ON CONFLICT DO NOTHING;

    DELETE FROM command_note AS old
    WHERE old.ctid = ANY (ARRAY(
        SELECT n.ctid FROM command_note AS n
        WHERE n.noted_at < statement_timestamp() - make_interval(days => kept_days)
        ORDER BY n.noted_at
        LIMIT 2 * cardinality(note_unit)
        -- What another append forgets at the moment need not be waited for.
        FOR UPDATE SKIP LOCKED
    ));
END
$$;

-- Writes units of events and notes: each whole, or not at all and with the reason.
CREATE OR REPLACE FUNCTION append(
    -- one element per event, in log order
    event_unit integer[],
    event_partition smallint[],
    event_stream uuid[],
    event_category text[],
    event_version integer[],
    event_type text[],
    event_key text[],
    event_data text[],
    event_meta text[],
    -- one element per guard
    guard_unit integer[],
    guard_action text[],
    guard_name text[],
    guard_value text[],
    guard_stream uuid[],
    -- A service of the release before, which is still running, names neither the partitions of its
    -- guards nor notes.
    guard_partition smallint[] DEFAULT NULL,
    -- one element per command that had nothing to do
    note_unit integer[] DEFAULT '{}',
    note_partition smallint[] DEFAULT '{}',
    note_stream uuid[] DEFAULT '{}',
    note_client text[] DEFAULT '{}',
    note_key text[] DEFAULT '{}',
    note_fingerprint text[] DEFAULT '{}',
    note_version integer[] DEFAULT '{}',
    -- NULL: for ever
    notes_kept_days integer DEFAULT NULL,
    -- where each partition stood before this call
    OUT head_partition smallint[],
    OUT head_position bigint[],
    OUT head_recorded_at timestamptz[],
    -- one element per refused unit
    OUT refused_unit integer[],
    OUT refused_why text[],
    OUT refused_guard text[],
    OUT refused_detail text[]
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = public, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    heads record;
    refusals append_refusal[];
    refused integer[];
BEGIN
    IF guard_partition IS NULL THEN
        guard_partition := array_fill(event_partition[1], ARRAY[cardinality(guard_unit)]);
    END IF;

    -- Everything below sees all that was committed before the locks were ours.
    heads := append_lock_heads(event_partition || note_partition);
    head_partition := heads.head_partition;
    head_position := heads.head_position;
    head_recorded_at := heads.head_recorded_at;
    IF guard_action && '{require,release}' THEN
        PERFORM append_lock_claims(guard_action, guard_name, guard_value);
    END IF;

    refusals := append_stale_events(event_unit, event_partition, event_stream, event_version);
    refused := append_units(refusals);
    IF note_unit <> '{}' THEN
        refusals := refusals || append_stale_notes(
            refused, note_unit, note_partition, note_stream, note_version);
        refused := append_units(refusals);
    END IF;
    IF 'require' = ANY (guard_action) THEN
        refusals := refusals || append_unheld(
            refused, guard_unit, guard_action, guard_name, guard_value);
        refused := append_units(refusals);
    END IF;
    IF 'vacate' = ANY (guard_action) THEN
        refusals := refusals || append_unvacated(
            refused, guard_unit, guard_action, guard_name, guard_value);
        refused := append_units(refusals);
    END IF;
    IF 'claim' = ANY (guard_action) THEN
        refusals := refusals || append_claimed(
            refused, guard_unit, guard_action, guard_name, guard_value, guard_stream);
        refused := append_units(refusals);
    END IF;
    IF 'spend' = ANY (guard_action) THEN
        refusals := refusals || append_spend(
            refused, guard_unit, guard_action, guard_name, guard_value, guard_partition);
        refused := append_units(refusals);
    END IF;

    IF guard_action && '{claim,release,vacate}' THEN
        PERFORM append_move_claims(
            refused, guard_unit, guard_action, guard_name, guard_value, guard_stream);
    END IF;
    IF note_unit <> '{}' THEN
        PERFORM append_notes(
            refused, notes_kept_days, note_unit, note_partition, note_stream, note_client,
            note_key, note_fingerprint, note_version);
    END IF;
    PERFORM append_events(
        refused, head_partition, head_position, head_recorded_at,
        event_unit, event_partition, event_stream, event_category, event_version, event_type,
        event_key, event_data, event_meta);

    SELECT coalesce(array_agg(r.unit), '{}'), coalesce(array_agg(r.why), '{}'),
           coalesce(array_agg(r.guard), '{}'), coalesce(array_agg(r.detail), '{}')
    INTO refused_unit, refused_why, refused_guard, refused_detail
    FROM unnest(refusals) AS r;
END
$$;

-- Creations that are alike, in several partitions. What there is for one is quicker where there is only
-- one: nothing is taken apart.
CREATE FUNCTION append_creations(
    of_category text,
    of_type text,
    -- one element per partition: where its events begin and end in the arrays below, what they spend
    to_partition smallint[],
    event_first integer[],
    event_last integer[],
    amount numeric[],
    -- one element per event
    event_stream uuid[],
    event_key text[],
    event_data text[],
    event_meta text[],
    budget_name text,
    -- where each partition stood before this call
    OUT head_position bigint[],
    OUT head_recorded_at timestamptz[]
)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = public, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    heads record;
    paid smallint[];
BEGIN
    heads := append_lock_heads(to_partition);
    head_position := heads.head_position;
    head_recorded_at := heads.head_recorded_at;
    -- Below, the nth element of one array belongs to the nth of the others.
    IF heads.head_partition <> to_partition THEN
        RAISE EXCEPTION 'append_creations names partitions out of order'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    PERFORM FROM unnest(to_partition, event_first, event_last) AS g (partition, first, last)
    CROSS JOIN LATERAL unnest(event_stream[g.first:g.last]) AS e (stream_id)
    CROSS JOIN LATERAL (
        SELECT FROM event AS other
        WHERE other.stream_id = e.stream_id AND other.version = 1 AND other.partition = g.partition
        LIMIT 1
    ) AS taken;
    IF FOUND THEN
        head_position := NULL;
        RETURN;
    END IF;

    IF budget_name IS NOT NULL THEN
        WITH paying AS (
            UPDATE budget_share AS s
            SET spent = s.spent + w.amount
            FROM unnest(to_partition, amount) AS w (partition, amount)
            WHERE s.name = budget_name AND s.partition = w.partition
              AND s.spent + w.amount <= s.granted
            RETURNING s.partition
        )
        SELECT array_agg(paying.partition) INTO paid FROM paying;
        IF cardinality(paid) IS DISTINCT FROM cardinality(to_partition) THEN
            UPDATE budget_share AS s
            SET spent = s.spent - w.amount
            FROM unnest(to_partition, amount) AS w (partition, amount)
            WHERE s.name = budget_name AND s.partition = w.partition
              AND s.partition = ANY (paid);
            head_position := NULL;
            RETURN;
        END IF;
    END IF;

    INSERT INTO event (partition, position, stream_id, category, version, type,
                       idempotence_key, data, meta, recorded_at)
    SELECT g.partition, g.position + e.nth, e.stream_id, of_category, 1, of_type,
           e.key, e.data::jsonb, e.meta::jsonb,
           g.recorded_at + e.nth * interval '1 microsecond'
    FROM unnest(to_partition, event_first, event_last, head_position, head_recorded_at)
        AS g (partition, first, last, position, recorded_at)
    CROSS JOIN LATERAL unnest(
        event_stream[g.first:g.last], event_key[g.first:g.last],
        event_data[g.first:g.last], event_meta[g.first:g.last]
    ) WITH ORDINALITY AS e (stream_id, key, data, meta, nth);

    UPDATE log_head AS h
    SET position = h.position + g.last - g.first + 1,
        recorded_at = g.recorded_at + (g.last - g.first + 1) * interval '1 microsecond'
    FROM unnest(to_partition, event_first, event_last, head_recorded_at)
        AS g (partition, first, last, recorded_at)
    WHERE h.partition = g.partition;
END
$$;

REVOKE ALL ON FUNCTION
    append_wanted(integer[], integer[], text[], text[], text[], smallint[]),
    append_take(integer, text[], smallint[], numeric[]),
    append_creations(text, text, smallint[], integer[], integer[], numeric[], uuid[], text[], text[],
                     text[], text)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    append_creations(text, text, smallint[], integer[], integer[], numeric[], uuid[], text[], text[],
                     text[], text)
TO command_service;
