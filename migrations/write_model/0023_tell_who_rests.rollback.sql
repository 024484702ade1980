-- Back to appends that tell nobody.

-- Where the partitions stand, locked until the end: positions are handed out in commit order.
CREATE OR REPLACE FUNCTION append_lock_heads(
    wanted smallint[],
    OUT head_partition smallint[],
    OUT head_position bigint[],
    OUT head_recorded_at timestamptz[]
)
LANGUAGE plpgsql
AS $$
DECLARE
    closed boolean;
BEGIN
    SELECT array_agg(locked.partition), bool_or(locked.closed) INTO head_partition, closed
    FROM (
        SELECT p.partition, p.closed
        FROM log_partition AS p
        WHERE p.partition = ANY (wanted)
        ORDER BY p.partition
        FOR UPDATE
    ) AS locked;
    IF NOT wanted <@ coalesce(head_partition, '{}') THEN
        RAISE EXCEPTION 'append names a partition that this log does not have'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF closed THEN
        PERFORM refuse_growth();
    END IF;
    -- A statement of its own: it sees what was committed while the lock was waited for.
    SELECT array_agg(coalesce(e.position, 0) ORDER BY p.nth),
           array_agg(greatest(statement_timestamp(), e.recorded_at) ORDER BY p.nth)
    INTO head_position, head_recorded_at
    FROM unnest(head_partition) WITH ORDINALITY AS p (partition, nth)
    LEFT JOIN LATERAL (
        SELECT other.position, other.recorded_at FROM event AS other
        WHERE other.partition = p.partition
        ORDER BY other.position DESC
        LIMIT 1
    ) AS e ON true;
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
DECLARE
    closed boolean;
BEGIN
    SELECT p.closed INTO STRICT closed
    FROM log_partition AS p
    WHERE p.partition = to_partition
    FOR UPDATE;
    IF closed THEN
        PERFORM refuse_growth();
    END IF;
    -- A statement of its own: it sees what was committed while the lock was waited for.
    SELECT e.position, e.recorded_at INTO head_position, head_recorded_at
    FROM event AS e
    WHERE e.partition = to_partition
    ORDER BY e.position DESC
    LIMIT 1;
    head_position := coalesce(head_position, 0);
    head_recorded_at := greatest(statement_timestamp(), head_recorded_at);

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
        SET spent = s.spent + amount, changes = s.changes + 1
        WHERE s.ctid = (
            SELECT newest.ctid FROM budget_share AS newest
            WHERE newest.name = budget_name AND newest.partition = to_partition
            ORDER BY newest.generation DESC
            LIMIT 1
        ) AND s.spent + amount <= s.granted;
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
END
$$;

DROP FUNCTION tell_of_growth(smallint);
