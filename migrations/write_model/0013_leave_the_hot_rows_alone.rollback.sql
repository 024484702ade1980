-- Back to heads and shares that every append changes. A log that is closed stays closed.

-- The view before what it reads, as its readers have them.
LOCK TABLE log_head IN ACCESS EXCLUSIVE MODE;

CREATE TABLE log_head_before (
    partition smallint PRIMARY KEY,
    position bigint NOT NULL DEFAULT 0,
    recorded_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 10);
INSERT INTO log_head_before (partition, position, recorded_at)
SELECT h.partition, h.position, h.recorded_at FROM log_head AS h;

DROP VIEW log_head;
ALTER TABLE log_head_before RENAME TO log_head;
ALTER INDEX log_head_before_pkey RENAME TO log_head_pkey;
GRANT SELECT ON log_head TO command_service, event_relay, log_reader, log_head_reader;

DROP FUNCTION open_log();
DROP FUNCTION close_log();
DROP FUNCTION refuse_growth();

CREATE OR REPLACE FUNCTION refuse_growth() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    -- The copy is made by the owner. append() acts as the owner too, in a session of somebody else.
    IF session_user <> (
        SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.oid = TG_RELID
    ) THEN
        -- As a standby's: services ask again, over a new connection.
        RAISE EXCEPTION 'this log is closed: it is a copy that is not finished, or was copied'
            USING ERRCODE = 'read_only_sql_transaction';
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION is_log_closed() RETURNS boolean
LANGUAGE sql STABLE
AS $$
    SELECT EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = 'log_head'::regclass AND tgname = 'log_is_closed'
    )
$$;

-- Waits for the appends that are being written; those that come later are refused.
CREATE OR REPLACE FUNCTION close_log() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT is_log_closed() THEN
        CREATE TRIGGER log_is_closed BEFORE UPDATE ON log_head
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_growth();
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION open_log() RETURNS void
LANGUAGE sql
AS $$
    DROP TRIGGER IF EXISTS log_is_closed ON log_head
$$;

REVOKE ALL ON FUNCTION refuse_growth(), close_log(), open_log() FROM PUBLIC;

DO $$
BEGIN
    IF (SELECT bool_or(p.closed) FROM log_partition AS p) THEN
        PERFORM close_log();
    END IF;
END
$$;

ALTER TABLE budget_share
    DROP CONSTRAINT budget_share_pkey,
    DROP COLUMN generation,
    DROP COLUMN changes;
ALTER TABLE budget_share ADD PRIMARY KEY (name, partition);

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

-- Gives each partition an equal part of `remaining`, and `first` to `first_partition` before that.
CREATE OR REPLACE FUNCTION share_budget(
    budget_name text, remaining numeric, first_partition smallint, first numeric
) RETURNS void
LANGUAGE sql
AS $$
    UPDATE budget_share AS s
    -- Rounded down: what that leaves over is given to somebody the next time.
    SET granted = s.spent
        + trunc((remaining - first) / (SELECT count(*) FROM log_head), 8)
        + CASE WHEN s.partition = first_partition THEN first ELSE 0 END
    WHERE s.name = budget_name;
$$;

-- Makes sure that a partition may spend `wanted`, or all that is left. It locks no head, and no append
-- that holds a share waits for another one of the same budget, so that nobody waits in a circle.
CREATE OR REPLACE FUNCTION move_budget(budget_name text, to_partition smallint, wanted numeric) RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
DECLARE
    remaining numeric := lock_budget(budget_name);
BEGIN
    PERFORM share_budget(budget_name, remaining, to_partition, least(wanted, remaining));
END
$$;

-- Sets what may be spent in total; below what is spent already it means that nothing more may be.
CREATE OR REPLACE FUNCTION set_budget_limit(budget_name text, new_limit numeric) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    remaining numeric;
BEGIN
    INSERT INTO budget (name, limit_value) VALUES (budget_name, new_limit) ON CONFLICT DO NOTHING;
    INSERT INTO budget_share (name, partition)
    SELECT budget_name, h.partition FROM log_head AS h
    ON CONFLICT DO NOTHING;
    remaining := lock_budget(budget_name);
    UPDATE budget AS b
    SET limit_value = greatest(new_limit, b.limit_value - remaining)
    WHERE b.name = budget_name;
    remaining := lock_budget(budget_name);
    -- What rounding leaves over goes to the first: a single partition may spend to the last digit.
    PERFORM share_budget(
        budget_name, remaining, 0::smallint,
        (SELECT remaining - count(*) * trunc(remaining / count(*), 8) FROM log_head)
    );
END
$$;

-- Where the partitions stand, locked until the end: positions are handed out in commit order.
CREATE OR REPLACE FUNCTION append_lock_heads(
    wanted smallint[],
    OUT head_partition smallint[],
    OUT head_position bigint[],
    OUT head_recorded_at timestamptz[]
)
LANGUAGE plpgsql
AS $$
BEGIN
    SELECT array_agg(locked.partition),
           array_agg(locked.position),
           array_agg(greatest(statement_timestamp(), locked.recorded_at))
    INTO head_partition, head_position, head_recorded_at
    FROM (
        SELECT h.partition, h.position, h.recorded_at
        FROM log_head AS h
        WHERE h.partition = ANY (wanted)
        ORDER BY h.partition
        FOR UPDATE
    ) AS locked;
    IF NOT wanted <@ coalesce(head_partition, '{}') THEN
        RAISE EXCEPTION 'append names a partition that this log does not have'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$$;

-- Writes the events at the next positions, each a microsecond after the one before.
CREATE OR REPLACE FUNCTION append_events(
    refused integer[],
    head_partition smallint[], head_position bigint[], head_recorded_at timestamptz[],
    event_unit integer[], event_partition smallint[], event_stream uuid[], event_category text[],
    event_version integer[], event_type text[], event_key text[], event_data text[],
    event_meta text[]
)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO event (partition, position, stream_id, category, version, type,
                       idempotence_key, data, meta, recorded_at)
    SELECT e.partition,
           h.position + e.nth,
           e.stream_id, e.category, e.version, e.type, e.key, e.data::jsonb, e.meta::jsonb,
           h.recorded_at + e.nth * interval '1 microsecond'
    FROM (
        SELECT u.*, row_number() OVER (PARTITION BY u.partition ORDER BY u.ordinal) AS nth
        FROM unnest(event_unit, event_partition, event_stream, event_category, event_version,
                    event_type, event_key, event_data, event_meta)
            WITH ORDINALITY
            AS u (unit, partition, stream_id, category, version, type, key, data, meta, ordinal)
        WHERE u.unit <> ALL (refused)
    ) AS e
    JOIN unnest(head_partition, head_position, head_recorded_at)
        AS h (partition, position, recorded_at) USING (partition);

    UPDATE log_head AS h
    SET position = h.position + added.events,
        recorded_at = before.recorded_at + added.events * interval '1 microsecond'
    FROM (
        SELECT u.partition, count(*) AS events
        FROM unnest(event_unit, event_partition) AS u (unit, partition)
        WHERE u.unit <> ALL (refused)
        GROUP BY u.partition
    ) AS added
    JOIN unnest(head_partition, head_recorded_at)
        AS before (partition, recorded_at) USING (partition)
    WHERE h.partition = added.partition;
END
$$;

-- Takes all that is wanted from the shares, which are locked, or nothing if one of them is short: then
-- it returns why, for `refused_unit`. Otherwise it returns NULL.
CREATE OR REPLACE FUNCTION append_take(
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

-- Orders and what is like them: creations in one partition that claim nothing and spend from one
-- budget at most. What is the same for all of them is said once, and nothing is sorted. It writes all
-- of them, or nothing and returns NULL; then append() has to tell what is wrong with which.
CREATE OR REPLACE FUNCTION append_creations(
    to_partition smallint,
    of_category text,
    of_type text,
    event_stream uuid[],
    event_key text[],
    event_data text[],
    event_meta text[],
    budget_name text,
    amount numeric,
    -- where the partition stood before this call
    OUT head_position bigint,
    OUT head_recorded_at timestamptz
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
BEGIN
    SELECT h.position, greatest(statement_timestamp(), h.recorded_at)
    INTO STRICT head_position, head_recorded_at
    FROM log_head AS h
    WHERE h.partition = to_partition
    FOR UPDATE;

    PERFORM FROM unnest(event_stream) AS e (stream_id)
    CROSS JOIN LATERAL (
        SELECT FROM event AS other
        WHERE other.stream_id = e.stream_id AND other.version = 1
          AND other.partition = to_partition
        LIMIT 1
    ) AS taken;
    IF FOUND THEN
        head_position := NULL;
        RETURN;
    END IF;

    IF budget_name IS NOT NULL THEN
        UPDATE budget_share AS s
        SET spent = s.spent + amount
        WHERE s.name = budget_name AND s.partition = to_partition
          AND s.spent + amount <= s.granted;
        IF NOT FOUND THEN
            head_position := NULL;
            RETURN;
        END IF;
    END IF;

    INSERT INTO event (partition, position, stream_id, category, version, type,
                       idempotence_key, data, meta, recorded_at)
    SELECT to_partition, head_position + e.nth, e.stream_id, of_category, 1, of_type,
           e.key, e.data::jsonb, e.meta::jsonb,
           head_recorded_at + e.nth * interval '1 microsecond'
    FROM unnest(event_stream, event_key, event_data, event_meta)
        WITH ORDINALITY AS e (stream_id, key, data, meta, nth);

    UPDATE log_head AS h
    SET position = head_position + cardinality(event_stream),
        recorded_at = head_recorded_at
            + cardinality(event_stream) * interval '1 microsecond'
    WHERE h.partition = to_partition;
END
$$;

-- Creations that are alike, in several partitions. What there is for one is quicker where there is only
-- one: nothing is taken apart.
CREATE OR REPLACE FUNCTION append_creations(
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

DROP FUNCTION append_too_large(integer[], text[], numeric[]);
DROP FUNCTION budget_left(text);
DROP FUNCTION newest_shares(text);
DROP FUNCTION log_end(smallint);
DROP TABLE log_partition;
