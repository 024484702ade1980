-- Who writes creations need not look first whether their streams are there: the index that keeps a second
-- first event out looks for it in any case. What it finds there undoes what was written, which costs more
-- than having looked; so append_creations() is for those who expect to find nothing.

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
    awake boolean;
BEGIN
    SELECT p.closed, pg_try_advisory_xact_lock_shared(1919251316, p.partition)
    INTO STRICT closed, awake
    FROM log_partition AS p
    WHERE p.partition = to_partition
    FOR UPDATE;
    IF closed THEN
        PERFORM refuse_growth();
    END IF;
    IF NOT awake THEN
        PERFORM tell_of_growth(to_partition);
    END IF;
    -- A statement of its own: it sees what was committed while the lock was waited for.
    SELECT e.position, e.recorded_at INTO head_position, head_recorded_at
    FROM event AS e
    WHERE e.partition = to_partition
    ORDER BY e.position DESC
    LIMIT 1;
    head_position := coalesce(head_position, 0);
    head_recorded_at := greatest(statement_timestamp(), head_recorded_at);

    BEGIN
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
    EXCEPTION WHEN unique_violation THEN
        -- One of the streams is there. Whatever was written since BEGIN is gone.
        head_position := NULL;
    END;
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
    paid bigint;
BEGIN
    heads := append_lock_heads(to_partition);
    head_position := heads.head_position;
    head_recorded_at := heads.head_recorded_at;
    -- Below, the nth element of one array belongs to the nth of the others.
    IF heads.head_partition <> to_partition THEN
        RAISE EXCEPTION 'append_creations names partitions out of order'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    BEGIN
        IF budget_name IS NOT NULL THEN
            UPDATE budget_share AS s
            SET spent = s.spent + w.amount, changes = s.changes + 1
            FROM unnest(to_partition, amount) AS w (partition, amount)
            CROSS JOIN LATERAL (
                SELECT newest.ctid FROM budget_share AS newest
                WHERE newest.name = budget_name AND newest.partition = w.partition
                ORDER BY newest.generation DESC
                LIMIT 1
            ) AS newest
            WHERE s.ctid = newest.ctid AND s.spent + w.amount <= s.granted;
            GET DIAGNOSTICS paid = ROW_COUNT;
            IF paid < cardinality(to_partition) THEN
                RAISE SQLSTATE 'OR001';
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
    EXCEPTION WHEN unique_violation OR SQLSTATE 'OR001' THEN
        -- One of the streams is there, or a share does not do. Whatever was written since BEGIN is gone.
        head_position := NULL;
    END;
END
$$;
