-- append(): the only way into the log. One statement, one transaction, one lock per partition.
--
-- Events come in units that are written whole or not at all. A unit is refused when
--   stale:  somebody has written that version of its stream, or the version before is missing;
--   claim:  a value that it claims belongs to another stream (detail: the value);
--   race:   the value is claimed by an earlier unit of this call, which may yet fail: try again;
--   budget: it does not fit into what is left (detail: what is left).
-- The other units are written: the events of a partition get the positions after the one that comes
-- back for it, in the order given, each a microsecond later than the one before, so that time order
-- and position order are the same order.
--
-- The existence probes come first and cost little, because they touch the index pages that the
-- insert is about to touch. An insert that fails and is rolled back would leave dead rows.
-- Plans are fixed to index scans: the function's plans outlive the time when the table was small.

CREATE FUNCTION append(
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
#variable_conflict use_column
DECLARE
    spent_all boolean;
    taken_name text[];
    taken_amount numeric[];
    candidate integer;
    short record;
BEGIN
    refused_unit := '{}';
    refused_why := '{}';
    refused_guard := '{}';
    refused_detail := '{}';

    -- In one order everywhere, so that calls for several partitions cannot deadlock.
    SELECT array_agg(locked.partition),
           array_agg(locked.position),
           array_agg(greatest(statement_timestamp(), locked.recorded_at))
    INTO head_partition, head_position, head_recorded_at
    FROM (
        SELECT h.partition, h.position, h.recorded_at
        FROM log_head AS h
        WHERE h.partition = ANY (event_partition)
        ORDER BY h.partition
        FOR UPDATE
    ) AS locked;
    IF NOT event_partition <@ coalesce(head_partition, '{}') THEN
        RAISE EXCEPTION 'append names a partition that this log does not have'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    -- Everything below sees all that was committed before the lock was ours.
    SELECT refused_unit || array_agg(s.unit),
           refused_why || array_agg('stale'::text),
           refused_guard || array_agg(NULL::text),
           refused_detail || array_agg(NULL::text)
    INTO refused_unit, refused_why, refused_guard, refused_detail
    FROM (
        SELECT DISTINCT e.unit
        FROM unnest(event_unit, event_partition, event_stream, event_version)
            AS e (unit, partition, stream_id, version)
        -- Joins and not EXISTS: an EXISTS below OR may be planned as a hash of the whole table.
        LEFT JOIN event AS taken
            ON taken.stream_id = e.stream_id
           AND taken.version = e.version
           AND taken.partition = e.partition
        LEFT JOIN event AS before
            ON e.version > 1
           AND before.stream_id = e.stream_id
           AND before.version = e.version - 1
           AND before.partition = e.partition
        WHERE taken.version IS NOT NULL
           OR (e.version > 1 AND before.version IS NULL AND NOT EXISTS (
                SELECT FROM unnest(event_unit, event_stream, event_version)
                    AS earlier (unit, stream_id, version)
                WHERE earlier.unit = e.unit
                  AND earlier.stream_id = e.stream_id
                  AND earlier.version = e.version - 1
           ))
    ) AS s;

    IF 'claim' = ANY (guard_action) THEN
        SELECT refused_unit || array_agg(c.unit),
               refused_why || array_agg(c.why),
               refused_guard || array_agg(c.name),
               refused_detail || array_agg(c.value)
        INTO refused_unit, refused_why, refused_guard, refused_detail
        FROM (
            SELECT DISTINCT ON (g.unit) g.unit, g.name, g.value,
                   CASE WHEN held.value IS NOT NULL THEN 'claim' ELSE 'race' END AS why
            FROM (
                SELECT u.*, row_number() OVER (PARTITION BY name, value ORDER BY u.unit) AS nth
                FROM unnest(guard_unit, guard_action, guard_name, guard_value, guard_stream)
                    AS u (unit, action, name, value, stream_id)
                WHERE action = 'claim' AND u.unit <> ALL (refused_unit)
            ) AS g
            LEFT JOIN claim AS held
                ON held.kind = g.name AND held.value = g.value AND held.stream_id <> g.stream_id
            WHERE held.value IS NOT NULL OR g.nth > 1
            ORDER BY g.unit
        ) AS c;
    END IF;

    IF 'spend' = ANY (guard_action) THEN
        -- The usual case: all of it fits, in one statement.
        WITH wanted AS (
            SELECT g.name, sum(g.value::numeric) AS amount
            FROM unnest(guard_unit, guard_action, guard_name, guard_value)
                AS g (unit, action, name, value)
            WHERE g.action = 'spend' AND g.unit <> ALL (refused_unit)
            GROUP BY g.name
        ), taken AS (
            UPDATE budget AS b
            SET spent = b.spent + wanted.amount
            FROM wanted
            WHERE b.name = wanted.name AND b.spent + wanted.amount <= b.limit_value
            RETURNING b.name, wanted.amount
        )
        SELECT (SELECT count(*) FROM wanted) = count(*), array_agg(taken.name),
               array_agg(taken.amount)
        INTO spent_all, taken_name, taken_amount
        FROM taken;

        IF NOT spent_all THEN
            -- From here on nobody else spends; in one order, as everywhere.
            PERFORM FROM budget WHERE name = ANY (guard_name) ORDER BY name FOR UPDATE;
            UPDATE budget AS b
            SET spent = b.spent - taken.amount
            FROM unnest(taken_name, taken_amount) AS taken (name, amount)
            WHERE b.name = taken.name;

            -- Close to the limit each unit is asked in turn; a smaller one may still fit.
            FOR candidate IN
                SELECT DISTINCT g.unit
                FROM unnest(guard_unit, guard_action) AS g (unit, action)
                WHERE g.action = 'spend' AND g.unit <> ALL (refused_unit)
                ORDER BY g.unit
            LOOP
                SELECT wanted.name,
                       greatest(coalesce(b.limit_value - b.spent, 0), 0) AS remaining
                INTO short
                FROM (
                    SELECT g.name, sum(g.value::numeric) AS amount
                    FROM unnest(guard_unit, guard_action, guard_name, guard_value)
                        AS g (unit, action, name, value)
                    WHERE g.action = 'spend' AND g.unit = candidate
                    GROUP BY g.name
                ) AS wanted
                LEFT JOIN budget AS b USING (name)
                WHERE (b.spent + wanted.amount <= b.limit_value) IS NOT TRUE
                ORDER BY wanted.name
                LIMIT 1;
                IF FOUND THEN
                    refused_unit := refused_unit || candidate;
                    refused_why := refused_why || 'budget'::text;
                    refused_guard := refused_guard || short.name;
                    refused_detail := refused_detail || short.remaining::text;
                ELSE
                    UPDATE budget AS b
                    SET spent = b.spent + wanted.amount
                    FROM (
                        SELECT g.name, sum(g.value::numeric) AS amount
                        FROM unnest(guard_unit, guard_action, guard_name, guard_value)
                            AS g (unit, action, name, value)
                        WHERE g.action = 'spend' AND g.unit = candidate
                        GROUP BY g.name
                    ) AS wanted
                    WHERE b.name = wanted.name;
                END IF;
            END LOOP;
        END IF;
    END IF;

    IF 'release' = ANY (guard_action) THEN
        DELETE FROM claim AS c
        USING unnest(guard_unit, guard_action, guard_name, guard_value, guard_stream)
            AS g (unit, action, name, value, stream_id)
        WHERE g.action = 'release' AND g.unit <> ALL (refused_unit)
          AND c.kind = g.name AND c.value = g.value AND c.stream_id = g.stream_id;
    END IF;

    IF 'claim' = ANY (guard_action) THEN
        INSERT INTO claim (kind, value, stream_id)
        SELECT g.name, g.value, g.stream_id
        FROM unnest(guard_unit, guard_action, guard_name, guard_value, guard_stream)
            AS g (unit, action, name, value, stream_id)
        -- A stream may claim again what is its own.
        LEFT JOIN claim AS own
            ON own.kind = g.name AND own.value = g.value AND own.stream_id = g.stream_id
        WHERE g.action = 'claim' AND g.unit <> ALL (refused_unit) AND own.value IS NULL
        ORDER BY g.name, g.value;
    END IF;

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
        WHERE u.unit <> ALL (refused_unit)
    ) AS e
    JOIN unnest(head_partition, head_position, head_recorded_at)
        AS h (partition, position, recorded_at) USING (partition);

    UPDATE log_head AS h
    SET position = h.position + added.events,
        recorded_at = before.recorded_at + added.events * interval '1 microsecond'
    FROM (
        SELECT u.partition, count(*) AS events
        FROM unnest(event_unit, event_partition) AS u (unit, partition)
        WHERE u.unit <> ALL (refused_unit)
        GROUP BY u.partition
    ) AS added
    JOIN unnest(head_partition, head_recorded_at)
        AS before (partition, recorded_at) USING (partition)
    WHERE h.partition = added.partition;
END
$$;
