-- Commands that span streams, and commands that have nothing to do.
--
-- append() learns two more guards, with which a rule can speak of streams that it does not write to:
--   require: some stream holds this claim; its row stays locked, so that it holds it until the end;
--   vacate:  once the unit is written nobody holds a claim of this kind, or else it is stale.
-- Together they let a stream be closed with everything that belongs to it, while others join it.
-- A unit may hold events of several streams and partitions.
-- A kind of claim can be held for a while: whoever claims one of it meanwhile is in a race.

CREATE TABLE command_note (
    partition smallint NOT NULL,
    stream_id uuid NOT NULL,
    idempotence_key text NOT NULL,
    fingerprint text NOT NULL,
    version integer NOT NULL CHECK (version >= 0),
    noted_at timestamptz NOT NULL DEFAULT now(),
    -- What a command came to is decided once.
    PRIMARY KEY (stream_id, idempotence_key, partition)
);

-- Whoever vacates a kind while others keep claiming it would be overtaken again and again.
CREATE TABLE claim_hold (
    kind text PRIMARY KEY,
    held_until timestamptz NOT NULL
);

CREATE FUNCTION hold_claims(held_kind text[], held_seconds double precision)
RETURNS void
LANGUAGE sql
SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
    DELETE FROM claim_hold WHERE held_until < statement_timestamp();
    INSERT INTO claim_hold (kind, held_until)
    SELECT wanted.kind, statement_timestamp() + make_interval(secs => held_seconds)
    FROM unnest(held_kind) AS wanted (kind)
    ORDER BY wanted.kind
    ON CONFLICT (kind) DO UPDATE SET held_until = excluded.held_until;
$$;

REVOKE ALL ON FUNCTION hold_claims(text[], double precision) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION hold_claims(text[], double precision) TO command_service;

-- A command that changes nothing writes no event that could carry its key. Noted here, its repeat
-- changes nothing either, whatever has happened in between.
CREATE FUNCTION note_commands(
    note_partition smallint[],
    note_stream uuid[],
    note_key text[],
    note_fingerprint text[],
    note_version integer[]
)
RETURNS void
LANGUAGE sql
SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
    INSERT INTO command_note (partition, stream_id, idempotence_key, fingerprint, version)
    SELECT noted.partition, noted.stream_id, noted.key, noted.fingerprint, noted.version
    FROM unnest(note_partition, note_stream, note_key, note_fingerprint, note_version)
        AS noted (partition, stream_id, key, fingerprint, version)
    ORDER BY noted.stream_id, noted.key
    ON CONFLICT DO NOTHING
$$;

REVOKE ALL ON FUNCTION note_commands(smallint[], uuid[], text[], text[], integer[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION note_commands(smallint[], uuid[], text[], text[], integer[])
    TO command_service;
GRANT SELECT ON command_note TO command_service, log_reader;

-- The one before it stays for the way back.
ALTER FUNCTION append(
    integer[], smallint[], uuid[], text[], integer[], text[], text[], text[], text[],
    integer[], text[], text[], text[], uuid[]
) RENAME TO append_of_0002;

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
    vacated text[];
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

    IF 'require' = ANY (guard_action) THEN
        WITH wanted AS (
            SELECT DISTINCT g.name, g.value
            FROM unnest(guard_unit, guard_action, guard_name, guard_value)
                AS g (unit, action, name, value)
            WHERE g.action = 'require' AND g.unit <> ALL (refused_unit)
        ), held AS MATERIALIZED (
            -- Shared with others who require it, and kept from whoever would release it.
            SELECT c.kind, c.value
            FROM claim AS c
            JOIN wanted ON c.kind = wanted.name AND c.value = wanted.value
            ORDER BY c.kind, c.value
            FOR KEY SHARE OF c
        ), released AS (
            SELECT g.unit, g.name, g.value
            FROM unnest(guard_unit, guard_action, guard_name, guard_value)
                AS g (unit, action, name, value)
            JOIN wanted ON g.name = wanted.name AND g.value = wanted.value
            WHERE g.action = 'release' AND g.unit <> ALL (refused_unit)
        )
        SELECT refused_unit || array_agg(r.unit),
               refused_why || array_agg(r.why),
               refused_guard || array_agg(r.name),
               refused_detail || array_agg(r.value)
        INTO refused_unit, refused_why, refused_guard, refused_detail
        FROM (
            SELECT DISTINCT ON (g.unit) g.unit, g.name, g.value,
                   CASE WHEN held.value IS NULL THEN 'claim' ELSE 'race' END AS why
            FROM unnest(guard_unit, guard_action, guard_name, guard_value)
                AS g (unit, action, name, value)
            LEFT JOIN held ON held.kind = g.name AND held.value = g.value
            LEFT JOIN released
                ON released.name = g.name AND released.value = g.value
               AND released.unit <> g.unit
            WHERE g.action = 'require' AND g.unit <> ALL (refused_unit)
              AND (held.value IS NULL OR released.value IS NOT NULL)
            ORDER BY g.unit
        ) AS r;
    END IF;

    IF 'vacate' = ANY (guard_action) THEN
        vacated := ARRAY(
            SELECT g.name
            FROM unnest(guard_action, guard_name) AS g (action, name)
            WHERE g.action = 'vacate'
        );
        -- Whoever claims one of these values requires something that is released here. With its
        -- lock nobody does any more, and those who did have been committed.
        PERFORM
        FROM unnest(guard_unit, guard_action, guard_name, guard_value)
            AS g (unit, action, name, value)
        JOIN claim AS c ON c.kind = g.name AND c.value = g.value
        WHERE g.action = 'release' AND g.unit <> ALL (refused_unit)
          AND g.name <> ALL (vacated)
        ORDER BY c.kind, c.value
        FOR UPDATE OF c;

        SELECT refused_unit || array_agg(v.unit),
               refused_why || array_agg('stale'::text),
               refused_guard || array_agg(NULL::text),
               refused_detail || array_agg(NULL::text)
        INTO refused_unit, refused_why, refused_guard, refused_detail
        FROM (
            SELECT g.unit
            FROM unnest(guard_unit, guard_action, guard_name) AS g (unit, action, name)
            WHERE g.action = 'vacate' AND g.unit <> ALL (refused_unit)
              -- Counted, because looking for each one among all that are released takes for ever.
              AND (SELECT count(*) FROM claim AS c WHERE c.kind = g.name) > (
                  SELECT count(*)
                  FROM unnest(guard_unit, guard_action, guard_name, guard_value)
                      AS freed (unit, action, name, value)
                  JOIN claim AS c ON c.kind = freed.name AND c.value = freed.value
                  WHERE freed.action = 'release' AND freed.unit = g.unit AND freed.name = g.name
              )
        ) AS v;
        DELETE FROM claim_hold AS hold
        USING unnest(guard_unit, guard_action, guard_name) AS g (unit, action, name)
        WHERE g.action = 'vacate' AND g.unit <> ALL (refused_unit) AND hold.kind = g.name;
    END IF;

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
            LEFT JOIN claim_hold AS hold
                ON hold.kind = g.name AND hold.held_until > statement_timestamp()
            WHERE held.value IS NOT NULL OR g.nth > 1 OR hold.kind IS NOT NULL
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

REVOKE ALL ON FUNCTION append(
    integer[], smallint[], uuid[], text[], integer[], text[], text[], text[], text[],
    integer[], text[], text[], text[], uuid[]
) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION append(
    integer[], smallint[], uuid[], text[], integer[], text[], text[], text[], text[],
    integer[], text[], text[], text[], uuid[]
) TO command_service;
REVOKE ALL ON FUNCTION append_of_0002(
    integer[], smallint[], uuid[], text[], integer[], text[], text[], text[], text[],
    integer[], text[], text[], text[], uuid[]
) FROM command_service;
