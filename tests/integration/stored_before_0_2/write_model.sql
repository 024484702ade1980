--
-- PostgreSQL database dump
--


-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: append(integer[], smallint[], uuid[], text[], integer[], text[], text[], text[], text[], integer[], text[], text[], text[], uuid[]); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.append(event_unit integer[], event_partition smallint[], event_stream uuid[], event_category text[], event_version integer[], event_type text[], event_key text[], event_data text[], event_meta text[], guard_unit integer[], guard_action text[], guard_name text[], guard_value text[], guard_stream uuid[], OUT head_partition smallint[], OUT head_position bigint[], OUT head_recorded_at timestamp with time zone[], OUT refused_unit integer[], OUT refused_why text[], OUT refused_guard text[], OUT refused_detail text[]) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
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


--
-- Name: append_of_0002(integer[], smallint[], uuid[], text[], integer[], text[], text[], text[], text[], integer[], text[], text[], text[], uuid[]); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.append_of_0002(event_unit integer[], event_partition smallint[], event_stream uuid[], event_category text[], event_version integer[], event_type text[], event_key text[], event_data text[], event_meta text[], guard_unit integer[], guard_action text[], guard_name text[], guard_value text[], guard_stream uuid[], OUT head_partition smallint[], OUT head_position bigint[], OUT head_recorded_at timestamp with time zone[], OUT refused_unit integer[], OUT refused_why text[], OUT refused_guard text[], OUT refused_detail text[]) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
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


--
-- Name: hold_claims(text[], double precision); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.hold_claims(held_kind text[], held_seconds double precision) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
    DELETE FROM claim_hold WHERE held_until < statement_timestamp();
    INSERT INTO claim_hold (kind, held_until)
    SELECT wanted.kind, statement_timestamp() + make_interval(secs => held_seconds)
    FROM unnest(held_kind) AS wanted (kind)
    ORDER BY wanted.kind
    ON CONFLICT (kind) DO UPDATE SET held_until = excluded.held_until;
$$;


--
-- Name: note_commands(smallint[], uuid[], text[], text[], integer[]); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.note_commands(note_partition smallint[], note_stream uuid[], note_key text[], note_fingerprint text[], note_version integer[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
    INSERT INTO command_note (partition, stream_id, idempotence_key, fingerprint, version)
    SELECT noted.partition, noted.stream_id, noted.key, noted.fingerprint, noted.version
    FROM unnest(note_partition, note_stream, note_key, note_fingerprint, note_version)
        AS noted (partition, stream_id, key, fingerprint, version)
    ORDER BY noted.stream_id, noted.key
    ON CONFLICT DO NOTHING
$$;


--
-- Name: refuse_change(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'the event log is append-only: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: _yoyo_log; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public._yoyo_log (
    id character varying(36) NOT NULL,
    migration_hash character varying(64),
    migration_id character varying(255),
    operation character varying(10),
    username character varying(255),
    hostname character varying(255),
    comment character varying(255),
    created_at_utc timestamp without time zone
);


--
-- Name: _yoyo_migration; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public._yoyo_migration (
    migration_hash character varying(64) NOT NULL,
    migration_id character varying(255),
    applied_at_utc timestamp without time zone
);


--
-- Name: _yoyo_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public._yoyo_version (
    version integer NOT NULL,
    installed_at_utc timestamp without time zone
);


--
-- Name: budget; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.budget (
    name text NOT NULL,
    spent numeric DEFAULT 0 NOT NULL,
    limit_value numeric NOT NULL,
    CONSTRAINT budget_check CHECK ((spent <= limit_value)),
    CONSTRAINT budget_limit_value_check CHECK ((limit_value <> 'NaN'::numeric)),
    CONSTRAINT budget_spent_check CHECK (((spent >= (0)::numeric) AND (spent <> 'NaN'::numeric)))
)
WITH (fillfactor='10');


--
-- Name: claim; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.claim (
    kind text NOT NULL,
    value text NOT NULL,
    stream_id uuid NOT NULL
);


--
-- Name: claim_hold; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.claim_hold (
    kind text NOT NULL,
    held_until timestamp with time zone NOT NULL
);


--
-- Name: command_note; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.command_note (
    partition smallint NOT NULL,
    stream_id uuid NOT NULL,
    idempotence_key text NOT NULL,
    fingerprint text NOT NULL,
    version integer NOT NULL,
    noted_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT command_note_version_check CHECK ((version >= 0))
);


--
-- Name: event; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.event (
    partition smallint NOT NULL,
    "position" bigint NOT NULL,
    stream_id uuid NOT NULL,
    category text NOT NULL,
    version integer NOT NULL,
    type text NOT NULL,
    idempotence_key text,
    data jsonb NOT NULL,
    meta jsonb NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    CONSTRAINT event_position_check CHECK (("position" > 0)),
    CONSTRAINT event_version_check CHECK ((version > 0))
);


--
-- Name: log_head; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.log_head (
    partition smallint NOT NULL,
    "position" bigint DEFAULT 0 NOT NULL,
    recorded_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL
)
WITH (fillfactor='10');


--
-- Name: relay_checkpoint; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.relay_checkpoint (
    partition smallint NOT NULL,
    "position" bigint DEFAULT 0 NOT NULL
)
WITH (fillfactor='10');


--
-- Name: yoyo_lock; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.yoyo_lock (
    locked integer DEFAULT 1 NOT NULL,
    ctime timestamp without time zone,
    pid integer NOT NULL
);


--
-- Data for Name: _yoyo_log; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public._yoyo_log (id, migration_hash, migration_id, operation, username, hostname, comment, created_at_utc) VALUES ('1e429038-e8e6-11f1-a770-02fc00000001', 'f7644677bf76b68c3f3db13a7e6ec205174cbe1078656812f91466a6e93f6d9d', '0001_create_event_log', 'apply', 'somebody', 'somewhere', NULL, '2025-01-14 09:00:00');
INSERT INTO public._yoyo_log (id, migration_hash, migration_id, operation, username, hostname, comment, created_at_utc) VALUES ('1e4bc536-e8e6-11f1-a770-02fc00000001', 'ce264fbb12a6c2498d81a15c2453d0fd5719b426f44630d675225b23c5ec7dbf', '0002_create_append', 'apply', 'somebody', 'somewhere', NULL, '2025-01-14 09:00:00');
INSERT INTO public._yoyo_log (id, migration_hash, migration_id, operation, username, hostname, comment, created_at_utc) VALUES ('1e520626-e8e6-11f1-a770-02fc00000001', 'aa0dd49a15873e1aa702f81dfa4fc43409a1616c05c8aab99c900f7c4128b920', '0003_create_roles', 'apply', 'somebody', 'somewhere', NULL, '2025-01-14 09:00:00');
INSERT INTO public._yoyo_log (id, migration_hash, migration_id, operation, username, hostname, comment, created_at_utc) VALUES ('1e5f5204-e8e6-11f1-a770-02fc00000001', 'fdae2b5f699fd328a5d80f2d6f7085014e6415db098c5f498c0c6cc90939b9ec', '0004_let_commands_span_streams', 'apply', 'somebody', 'somewhere', NULL, '2025-01-14 09:00:00');


--
-- Data for Name: _yoyo_migration; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc) VALUES ('f7644677bf76b68c3f3db13a7e6ec205174cbe1078656812f91466a6e93f6d9d', '0001_create_event_log', '2025-01-14 09:00:00');
INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc) VALUES ('ce264fbb12a6c2498d81a15c2453d0fd5719b426f44630d675225b23c5ec7dbf', '0002_create_append', '2025-01-14 09:00:00');
INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc) VALUES ('aa0dd49a15873e1aa702f81dfa4fc43409a1616c05c8aab99c900f7c4128b920', '0003_create_roles', '2025-01-14 09:00:00');
INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc) VALUES ('fdae2b5f699fd328a5d80f2d6f7085014e6415db098c5f498c0c6cc90939b9ec', '0004_let_commands_span_streams', '2025-01-14 09:00:00');


--
-- Data for Name: _yoyo_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public._yoyo_version (version, installed_at_utc) VALUES (2, '2025-01-14 09:00:00');


--
-- Data for Name: budget; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.budget (name, spent, limit_value) VALUES ('order_book_btc', 0.06257183, 100);


--
-- Data for Name: claim; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.claim (kind, value, stream_id) VALUES ('account_email', 'office@blue.example', '12b71629-2aa6-5a4b-b507-0ad37d4b3874');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('open_account', '12b71629-2aa6-5a4b-b507-0ad37d4b3874', '12b71629-2aa6-5a4b-b507-0ad37d4b3874');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('account_email', 'zoe@green.example', '9b258faf-9334-5600-a66a-a51830b2aab0');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('open_account', '9b258faf-9334-5600-a66a-a51830b2aab0', '9b258faf-9334-5600-a66a-a51830b2aab0');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('account_email', 'eva@red.example', '90ba8871-d097-5b45-9af2-9b32c81f6a7c');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('open_account', '90ba8871-d097-5b45-9af2-9b32c81f6a7c', '90ba8871-d097-5b45-9af2-9b32c81f6a7c');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('account_email', 'zoe@grey.example', '78e114b5-8fb6-5948-b203-c434922a2ab9');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('open_account', '78e114b5-8fb6-5948-b203-c434922a2ab9', '78e114b5-8fb6-5948-b203-c434922a2ab9');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('agent_email', 'anna@blue.example', 'c2b1b076-ed26-5c6d-a436-5799a3bffb0f');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('agents_of/12b71629-2aa6-5a4b-b507-0ad37d4b3874', 'c2b1b076-ed26-5c6d-a436-5799a3bffb0f', 'c2b1b076-ed26-5c6d-a436-5799a3bffb0f');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('agent_email', 'ben@blue.example', '72166ff3-9d0c-5f14-9dc2-f25a5d7b2b09');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('agents_of/12b71629-2aa6-5a4b-b507-0ad37d4b3874', '72166ff3-9d0c-5f14-9dc2-f25a5d7b2b09', '72166ff3-9d0c-5f14-9dc2-f25a5d7b2b09');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('agent_email', 'cy@green.example', 'a0c23669-2404-56bb-9f9f-550f94d00918');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('agents_of/9b258faf-9334-5600-a66a-a51830b2aab0', 'a0c23669-2404-56bb-9f9f-550f94d00918', 'a0c23669-2404-56bb-9f9f-550f94d00918');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('agent_email', 'dov@red.example', 'd90884a5-86d3-5db2-b537-4e7eeb02e3e2');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('agents_of/90ba8871-d097-5b45-9af2-9b32c81f6a7c', 'd90884a5-86d3-5db2-b537-4e7eeb02e3e2', 'd90884a5-86d3-5db2-b537-4e7eeb02e3e2');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('agent_email', 'eli@red.example', 'c53cd801-564b-5a3b-a4ad-566706210bb5');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('agents_of/90ba8871-d097-5b45-9af2-9b32c81f6a7c', 'c53cd801-564b-5a3b-a4ad-566706210bb5', 'c53cd801-564b-5a3b-a4ad-566706210bb5');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('agent_email', 'fay@grey.example', 'a2d7f8aa-9d9c-580a-91f9-1de54a98985a');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('agents_of/78e114b5-8fb6-5948-b203-c434922a2ab9', 'a2d7f8aa-9d9c-580a-91f9-1de54a98985a', 'a2d7f8aa-9d9c-580a-91f9-1de54a98985a');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('account_email', 'office@short.example', '7c366a86-4780-54c1-98ea-448c4f6c97f0');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('open_account', '7c366a86-4780-54c1-98ea-448c4f6c97f0', '7c366a86-4780-54c1-98ea-448c4f6c97f0');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('agent_email', 'gil@short.example', '5be7b375-b26a-561b-88eb-d9fa55179d82');
INSERT INTO public.claim (kind, value, stream_id) VALUES ('agents_of/7c366a86-4780-54c1-98ea-448c4f6c97f0', '5be7b375-b26a-561b-88eb-d9fa55179d82', '5be7b375-b26a-561b-88eb-d9fa55179d82');


--
-- Data for Name: claim_hold; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: command_note; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.command_note (partition, stream_id, idempotence_key, fingerprint, version, noted_at) VALUES (0, 'c2b1b076-ed26-5c6d-a436-5799a3bffb0f', 'c1b488d0-776e-5086-8975-c76eacfd5767', '1de8b7bf587ee615412853113a2e5b11', 2, '2025-02-22 14:12:10.691133+00');
INSERT INTO public.command_note (partition, stream_id, idempotence_key, fingerprint, version, noted_at) VALUES (0, '72166ff3-9d0c-5f14-9dc2-f25a5d7b2b09', '7af42016-bd7d-5a35-829b-9efb32d03fae', '901a51727ff150f7d04a19b0b6f72616', 1, '2025-02-05 19:28:52.073505+00');
INSERT INTO public.command_note (partition, stream_id, idempotence_key, fingerprint, version, noted_at) VALUES (0, 'a0c23669-2404-56bb-9f9f-550f94d00918', '459f3a5c-dec8-521d-bc55-1427a314c4fb', 'ca97c26a8fe812c5db8342552a4c8e60', 2, '2025-04-11 03:14:53.441079+00');


--
-- Data for Name: event; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 14, '913d3c73-7e8e-500e-b513-1ba924d5eb01', 'buy_order', 1, 'BuyOrderPlaced', 'a1d41287-d5f7-5f16-9683-c14206f88e6a', '{"client": "bob", "btc_rate": "63120.015", "currency": "USD", "btc_amount": "0.03960709", "price_source": "coinbase", "currency_amount": "2500.00", "idempotence_key": "a1d41287-d5f7-5f16-9683-c14206f88e6a"}', '{"actor": "bob", "topic": "buy_order.placed", "schema": 1, "event_id": "01a2135b-0916-7e18-b030-485048ecda0e", "fingerprint": "USD 2500.00", "causation_id": "06f89e9099b31cfd900a7ea58b6fa3e2", "correlation_id": "06f89e9099b31cfd900a7ea58b6fa3e2"}', '2025-02-19 18:04:57.588195+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 18, 'a2d7f8aa-9d9c-580a-91f9-1de54a98985a', 'agent', 2, 'AgentBlocked', '469e2e59-5f8b-5c2f-8448-f34f32293186', '{"vip": false, "client": "bob", "reason": null, "region": "emea", "agent_id": "a2d7f8aa-9d9c-580a-91f9-1de54a98985a", "account_id": "78e114b5-8fb6-5948-b203-c434922a2ab9"}', '{"actor": "bob", "topic": "agent.blocked.emea", "schema": 1, "event_id": "01a2135b-096e-7018-9a6f-a79de3d9ab2b", "fingerprint": "610fc4eff6efc84ff6c16f4c2f0be27b", "causation_id": "9e0ad3734881d239c9118c671f4b0224", "correlation_id": "9e0ad3734881d239c9118c671f4b0224"}', '2025-03-02 22:33:49.999947+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 20, '723ef200-95cd-5f82-b249-9381e6542ea4', 'agent', 1, 'AgentCreated', '335d7a39-0ea2-51e7-9c90-3fd104a8020f', '{"vip": true, "name": "Gil", "email": "gil@short.example", "client": "bob", "region": "nam", "agent_id": "723ef200-95cd-5f82-b249-9381e6542ea4", "account_id": "c27464aa-8037-5d2a-ab07-414d0757352f"}', '{"actor": "bob", "topic": "agent.created.nam", "schema": 1, "event_id": "01a2135b-0989-7903-8e5a-d9e873452619", "fingerprint": "9b948048a8a6fbc4bfb5dd268b7deeb7", "causation_id": "729a094eb5ada7528bd7f3e4dc256129", "correlation_id": "729a094eb5ada7528bd7f3e4dc256129"}', '2025-03-08 12:48:16.205823+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 1, 'd7af1d89-dbbc-54ca-aec5-30b28de25d77', 'buy_order', 1, 'BuyOrderPlaced', '4080390e-042a-5cc7-88cb-9916ed16a82a', '{"client": "alice", "btc_rate": "63120.015", "currency": "USD", "btc_amount": "0.00195580", "price_source": "coinbase", "currency_amount": "123.45", "idempotence_key": "4080390e-042a-5cc7-88cb-9916ed16a82a"}', '{"actor": "alice", "topic": "buy_order.placed", "schema": 1, "event_id": "01a2135b-080d-7316-81af-46cfebd4de3b", "fingerprint": "USD 123.45", "causation_id": "3f05b7f866d3990f691ac74a454a7262", "correlation_id": "3f05b7f866d3990f691ac74a454a7262"}', '2025-01-14 09:31:07.250001+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 2, '29030301-ed60-5e67-b224-72ebef85c9ab', 'buy_order', 1, 'BuyOrderPlaced', 'fc5df39c-5493-5ec9-befc-239a127cffb1', '{"client": "alice", "btc_rate": "58211.40", "currency": "EUR", "btc_amount": "0.00171771", "price_source": "coinbase", "currency_amount": "99.99", "idempotence_key": "fc5df39c-5493-5ec9-befc-239a127cffb1"}', '{"actor": "alice", "topic": "buy_order.placed", "schema": 1, "event_id": "01a2135b-084d-778e-b398-5126eb8e0fb3", "fingerprint": "EUR 99.99", "causation_id": "0074c6f013939f18d2b0154f36b0610c", "correlation_id": "0074c6f013939f18d2b0154f36b0610c"}', '2025-01-17 04:38:20.352939+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 3, '184941ca-7c30-5440-89fb-70d9a1249efc', 'buy_order', 1, 'BuyOrderPlaced', '5f9417c3-2153-5d1f-8014-509d3ae9b543', '{"client": "bob", "btc_rate": "49876.55", "currency": "GBP", "btc_amount": "2.1E-7", "price_source": "coinbase", "currency_amount": "0.01", "idempotence_key": "5f9417c3-2153-5d1f-8014-509d3ae9b543"}', '{"actor": "bob", "topic": "buy_order.placed", "schema": 1, "event_id": "01a2135b-086e-7d5d-ae38-988b80bdb429", "fingerprint": "GBP 0.01", "causation_id": "205c3fb33d9894bd9a47a1ea0e19c5d1", "correlation_id": "205c3fb33d9894bd9a47a1ea0e19c5d1"}', '2025-01-19 23:45:33.455877+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 4, '12b71629-2aa6-5a4b-b507-0ad37d4b3874', 'account', 1, 'AccountOpened', '48be99af-3980-5476-88c0-6519588ca08c', '{"vip": true, "name": "Blue", "email": "office@blue.example", "client": "alice", "region": "emea", "account_id": "12b71629-2aa6-5a4b-b507-0ad37d4b3874"}', '{"actor": "alice", "topic": "account.opened.emea.vip", "schema": 1, "event_id": "01a2135b-0876-715e-a837-e3dca6e2ec05", "fingerprint": "2ef4e7cd95fa0ff31175609a6c0b8a57", "causation_id": "59d481ae344056691da19f16ee8ec986", "correlation_id": "59d481ae344056691da19f16ee8ec986"}', '2025-01-22 18:52:46.558815+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 5, '9b258faf-9334-5600-a66a-a51830b2aab0', 'account', 1, 'AccountOpened', '5446401d-c1aa-5a9d-ae4f-d25e274d1cd5', '{"vip": false, "name": "zoe", "email": "zoe@green.example", "client": "alice", "region": "nam", "account_id": "9b258faf-9334-5600-a66a-a51830b2aab0"}', '{"actor": "alice", "topic": "account.opened.nam.standard", "schema": 1, "event_id": "01a2135b-0890-76ae-9e89-0cf33b702136", "fingerprint": "6a98e4f3cb84d4005a8e2c91111d9437", "causation_id": "62c6c4e89fd1ab4a083b628977cf2a3a", "correlation_id": "62c6c4e89fd1ab4a083b628977cf2a3a"}', '2025-01-25 13:59:59.661753+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 6, '90ba8871-d097-5b45-9af2-9b32c81f6a7c', 'account', 1, 'AccountOpened', '89b2b9d7-0daf-5b3d-b6c5-1d719f2d3e48', '{"vip": true, "name": "Éva", "email": "eva@red.example", "client": "bob", "region": "apac", "account_id": "90ba8871-d097-5b45-9af2-9b32c81f6a7c"}', '{"actor": "bob", "topic": "account.opened.apac.vip", "schema": 1, "event_id": "01a2135b-08a2-7144-b5b7-f2de1ff27bdd", "fingerprint": "9e477cbf4711a076132f2bbbf8b97745", "causation_id": "60c86e7a1750913ab562b5d5ffe0051d", "correlation_id": "60c86e7a1750913ab562b5d5ffe0051d"}', '2025-01-28 09:07:12.764691+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 7, '78e114b5-8fb6-5948-b203-c434922a2ab9', 'account', 1, 'AccountOpened', '805ac092-06ae-5559-8807-cdea2415d5d4', '{"vip": false, "name": "Zoe", "email": "Zoe@grey.example", "client": "bob", "region": "emea", "account_id": "78e114b5-8fb6-5948-b203-c434922a2ab9"}', '{"actor": "bob", "topic": "account.opened.emea.standard", "schema": 1, "event_id": "01a2135b-08ad-7767-ba8f-a7a30fe1f609", "fingerprint": "69343ebe93ec64986723510dfc7f939c", "causation_id": "e365e856a9269a98a70c0ed5082555cb", "correlation_id": "e365e856a9269a98a70c0ed5082555cb"}', '2025-01-31 04:14:25.867629+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 8, 'c2b1b076-ed26-5c6d-a436-5799a3bffb0f', 'agent', 1, 'AgentCreated', '4e3221e8-c6b5-5ff0-9aa6-41025366b037', '{"vip": true, "name": "Anna", "email": "anna@blue.example", "client": "alice", "region": "emea", "agent_id": "c2b1b076-ed26-5c6d-a436-5799a3bffb0f", "account_id": "12b71629-2aa6-5a4b-b507-0ad37d4b3874"}', '{"actor": "alice", "topic": "agent.created.emea", "schema": 1, "event_id": "01a2135b-08c0-7800-95d3-85b63e40a35b", "fingerprint": "9e14844823ebcea61eece7fa3535926b", "causation_id": "d422fd897ac7a8daa3ade241941e83f8", "correlation_id": "d422fd897ac7a8daa3ade241941e83f8"}', '2025-02-02 23:21:38.970567+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 9, '72166ff3-9d0c-5f14-9dc2-f25a5d7b2b09', 'agent', 1, 'AgentCreated', '08db99fe-1f36-5e40-a758-6ffc5ed7dba7', '{"vip": true, "name": "Ben", "email": "Ben@blue.example", "client": "alice", "region": "emea", "agent_id": "72166ff3-9d0c-5f14-9dc2-f25a5d7b2b09", "account_id": "12b71629-2aa6-5a4b-b507-0ad37d4b3874"}', '{"actor": "alice", "topic": "agent.created.emea", "schema": 1, "event_id": "01a2135b-08d8-7498-b59b-94f69f5c7cf3", "fingerprint": "7bdf822774c54a2138ee994f14e24baf", "causation_id": "2f8f649a3397d7565967710a19487de6", "correlation_id": "2f8f649a3397d7565967710a19487de6"}', '2025-02-05 18:28:52.073505+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 10, 'a0c23669-2404-56bb-9f9f-550f94d00918', 'agent', 1, 'AgentCreated', '834ebbf0-309b-5bab-98b1-5918a6f8905b', '{"vip": false, "name": "Cy", "email": "cy@green.example", "client": "alice", "region": "nam", "agent_id": "a0c23669-2404-56bb-9f9f-550f94d00918", "account_id": "9b258faf-9334-5600-a66a-a51830b2aab0"}', '{"actor": "alice", "topic": "agent.created.nam", "schema": 1, "event_id": "01a2135b-08e5-7627-a2cb-3b1bd5a06a92", "fingerprint": "83fad541f4819ab7eeed82109b8d8e8b", "causation_id": "f6b9ebfb04a3e2dfdca6657bb83e726c", "correlation_id": "f6b9ebfb04a3e2dfdca6657bb83e726c"}', '2025-02-08 13:36:05.176443+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 11, 'd90884a5-86d3-5db2-b537-4e7eeb02e3e2', 'agent', 1, 'AgentCreated', '9b710609-eee4-5ffa-83dc-858445411ef5', '{"vip": true, "name": "Dov Ünal", "email": "dov@red.example", "client": "bob", "region": "apac", "agent_id": "d90884a5-86d3-5db2-b537-4e7eeb02e3e2", "account_id": "90ba8871-d097-5b45-9af2-9b32c81f6a7c"}', '{"actor": "bob", "topic": "agent.created.apac", "schema": 1, "event_id": "01a2135b-08f6-7370-8b7b-701836c59a0e", "fingerprint": "7ab1067a250d621e433c6aeae0e528b3", "causation_id": "98744cc750b663827a536de3abd33e2b", "correlation_id": "98744cc750b663827a536de3abd33e2b"}', '2025-02-11 08:43:18.279381+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 12, 'c53cd801-564b-5a3b-a4ad-566706210bb5', 'agent', 1, 'AgentCreated', '5b321a11-c4a8-5d45-83d0-3d438e132294', '{"vip": true, "name": "Eli", "email": "eli@red.example", "client": "bob", "region": "apac", "agent_id": "c53cd801-564b-5a3b-a4ad-566706210bb5", "account_id": "90ba8871-d097-5b45-9af2-9b32c81f6a7c"}', '{"actor": "bob", "topic": "agent.created.apac", "schema": 1, "event_id": "01a2135b-0901-7fe5-a3ba-4be61b7d1813", "fingerprint": "a4f5687bfd060eaa845c01d155b986bd", "causation_id": "1c065ef94293b67fca0054cb52e2dc2a", "correlation_id": "1c065ef94293b67fca0054cb52e2dc2a"}', '2025-02-14 03:50:31.382319+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 13, 'a2d7f8aa-9d9c-580a-91f9-1de54a98985a', 'agent', 1, 'AgentCreated', '9f066775-ff1f-5f52-92a9-f5978e9033e9', '{"vip": false, "name": "Fay", "email": "fay@grey.example", "client": "bob", "region": "emea", "agent_id": "a2d7f8aa-9d9c-580a-91f9-1de54a98985a", "account_id": "78e114b5-8fb6-5948-b203-c434922a2ab9"}', '{"actor": "bob", "topic": "agent.created.emea", "schema": 1, "event_id": "01a2135b-090d-7a62-94ff-6ee0cf0050e8", "fingerprint": "c56d7767a39cc23bbffa3fb74749b7eb", "causation_id": "cac0bd6cce4b66f1e5e80d9c741537c4", "correlation_id": "cac0bd6cce4b66f1e5e80d9c741537c4"}', '2025-02-16 22:57:44.485257+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 22, '8a0ed482-4ea3-5af9-85a8-d4243b4e57f7', 'agent', 2, 'AgentBlocked', '9ad45ba6-34ff-5ba0-bb7d-842c128440db', '{"vip": true, "client": "bob", "reason": null, "region": "nam", "agent_id": "8a0ed482-4ea3-5af9-85a8-d4243b4e57f7", "account_id": "c27464aa-8037-5d2a-ab07-414d0757352f"}', '{"actor": "bob", "topic": "agent.blocked.nam", "schema": 1, "event_id": "01a2135b-09a1-722d-bff3-0872f09df08f", "fingerprint": "40f242d918b5a84f708a043f7e3700d6", "causation_id": "2f5d14a8591201b88fb907052ec8c753", "correlation_id": "2f5d14a8591201b88fb907052ec8c753"}', '2025-03-14 03:02:42.411699+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 24, '952fe5e8-3d12-53ec-8a7f-f0a09f50c53f', 'agent', 1, 'AgentCreated', '6161a1a6-ef79-5b51-ba26-b66637fdb184', '{"vip": false, "name": "Ivy", "email": "ivy@green.example", "client": "alice", "region": "nam", "agent_id": "952fe5e8-3d12-53ec-8a7f-f0a09f50c53f", "account_id": "9b258faf-9334-5600-a66a-a51830b2aab0"}', '{"actor": "alice", "topic": "agent.created.nam", "schema": 1, "event_id": "01a2135b-09ba-7989-bf5c-02c8f6023ff0", "fingerprint": "4d653030fe696ef689a8c5846f294e6e", "causation_id": "33de791326d3c9ea692b629cd402fff3", "correlation_id": "33de791326d3c9ea692b629cd402fff3"}', '2025-03-19 17:17:08.617575+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 26, 'c27464aa-8037-5d2a-ab07-414d0757352f', 'account', 2, 'AccountClosed', '6e9b22ac-dc0a-5c6a-8ab7-d343fb2f761b', '{"vip": true, "email": "office@short.example", "client": "bob", "region": "nam", "account_id": "c27464aa-8037-5d2a-ab07-414d0757352f"}', '{"actor": "bob", "topic": "account.closed.nam.vip", "schema": 1, "event_id": "01a2135b-09e5-7681-8629-8fdd0086f89c", "fingerprint": "2664e3d5fccdc480a0dcf167b9c44287", "causation_id": "ea452715b921d9d14e10292374f9b3f2", "correlation_id": "ea452715b921d9d14e10292374f9b3f2"}', '2025-03-25 07:31:34.823451+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 27, '723ef200-95cd-5f82-b249-9381e6542ea4', 'agent', 2, 'AgentRemoved', NULL, '{"vip": true, "email": "gil@short.example", "client": "bob", "region": "nam", "because": "account_closed", "agent_id": "723ef200-95cd-5f82-b249-9381e6542ea4", "account_id": "c27464aa-8037-5d2a-ab07-414d0757352f"}', '{"actor": "bob", "topic": "agent.removed.nam", "schema": 1, "event_id": "01a2135b-09e6-7247-83ec-d4fc52a8ec4a", "causation_id": "ea452715b921d9d14e10292374f9b3f2", "correlation_id": "ea452715b921d9d14e10292374f9b3f2"}', '2025-03-28 02:38:47.926389+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 28, '8a0ed482-4ea3-5af9-85a8-d4243b4e57f7', 'agent', 3, 'AgentRemoved', NULL, '{"vip": true, "email": "hal@short.example", "client": "bob", "region": "nam", "because": "account_closed", "agent_id": "8a0ed482-4ea3-5af9-85a8-d4243b4e57f7", "account_id": "c27464aa-8037-5d2a-ab07-414d0757352f"}', '{"actor": "bob", "topic": "agent.removed.nam", "schema": 1, "event_id": "01a2135b-09e6-729b-8cea-604913d03639", "causation_id": "ea452715b921d9d14e10292374f9b3f2", "correlation_id": "ea452715b921d9d14e10292374f9b3f2"}', '2025-03-30 21:46:01.029327+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 30, '5be7b375-b26a-561b-88eb-d9fa55179d82', 'agent', 1, 'AgentCreated', 'e579d29e-235b-574d-af98-9df96a433300', '{"vip": true, "name": "Gil", "email": "gil@short.example", "client": "alice", "region": "nam", "agent_id": "5be7b375-b26a-561b-88eb-d9fa55179d82", "account_id": "7c366a86-4780-54c1-98ea-448c4f6c97f0"}', '{"actor": "alice", "topic": "agent.created.nam", "schema": 1, "event_id": "01a2135b-0a01-7c23-9b0b-f79e5ca43e70", "fingerprint": "5a3f4cdf6779840811de4eb1696f8ea5", "causation_id": "b73e76dddc4ea2355fe6791a701b74a7", "correlation_id": "b73e76dddc4ea2355fe6791a701b74a7"}', '2025-04-05 12:00:27.235203+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 32, 'a0c23669-2404-56bb-9f9f-550f94d00918', 'agent', 2, 'AgentBlocked', '3aeb4bf7-b166-5184-9c63-80d547b29b90', '{"vip": false, "client": "alice", "reason": "by the office", "region": "nam", "agent_id": "a0c23669-2404-56bb-9f9f-550f94d00918", "account_id": "9b258faf-9334-5600-a66a-a51830b2aab0"}', '{"actor": "boss", "topic": "agent.blocked.nam", "schema": 1, "event_id": "01a2135b-0a17-788a-a56d-62f5c005dc20", "fingerprint": "ffc905ccedc3e44bb950dcbdd57d00a4", "causation_id": "ecb28b4c2bf6cdb024f16c4e21d9b51b", "correlation_id": "ecb28b4c2bf6cdb024f16c4e21d9b51b"}', '2025-04-11 02:14:53.441079+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 15, 'c2b1b076-ed26-5c6d-a436-5799a3bffb0f', 'agent', 2, 'AgentBlocked', 'c9d0346e-ebc1-5429-9456-5970fbb79800', '{"vip": true, "client": "alice", "reason": null, "region": "emea", "agent_id": "c2b1b076-ed26-5c6d-a436-5799a3bffb0f", "account_id": "12b71629-2aa6-5a4b-b507-0ad37d4b3874"}', '{"actor": "alice", "topic": "agent.blocked.emea", "schema": 1, "event_id": "01a2135b-0921-79d8-b36e-e92349c22cb3", "fingerprint": "1de8b7bf587ee615412853113a2e5b11", "causation_id": "b32f00ffcd9f540cbed1eed22feabf9a", "correlation_id": "b32f00ffcd9f540cbed1eed22feabf9a"}', '2025-02-22 13:12:10.691133+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 16, 'c2b1b076-ed26-5c6d-a436-5799a3bffb0f', 'agent', 3, 'AgentUnblocked', 'cbbfb6d4-3a22-5c6e-be8e-6201376e3d68', '{"vip": true, "client": "alice", "reason": "a mistake", "region": "emea", "agent_id": "c2b1b076-ed26-5c6d-a436-5799a3bffb0f", "account_id": "12b71629-2aa6-5a4b-b507-0ad37d4b3874"}', '{"actor": "alice", "topic": "agent.unblocked.emea", "schema": 1, "event_id": "01a2135b-0944-7700-bec1-1ceafa8a9535", "fingerprint": "bde407d0499cab69e4459231dc1414fc", "causation_id": "e001f0896e3620bb3afaeb04fb2d4d14", "correlation_id": "e001f0896e3620bb3afaeb04fb2d4d14"}', '2025-02-25 08:19:23.794071+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 17, 'd90884a5-86d3-5db2-b537-4e7eeb02e3e2', 'agent', 2, 'AgentBlocked', '4b2f9cb8-9b5d-5daf-92c2-4b1c153e4ae4', '{"vip": true, "client": "bob", "reason": "on leave", "region": "apac", "agent_id": "d90884a5-86d3-5db2-b537-4e7eeb02e3e2", "account_id": "90ba8871-d097-5b45-9af2-9b32c81f6a7c"}', '{"actor": "bob", "topic": "agent.blocked.apac", "schema": 1, "event_id": "01a2135b-095e-7105-969c-10c56a0b323f", "fingerprint": "404b5c89148db897f1e7fdac6e3f3a71", "causation_id": "0164cff6fd09342920f9ee8eca6ddaa1", "correlation_id": "0164cff6fd09342920f9ee8eca6ddaa1"}', '2025-02-28 03:26:36.897009+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 19, 'c27464aa-8037-5d2a-ab07-414d0757352f', 'account', 1, 'AccountOpened', '3a142bf0-e6ef-5bb7-a576-8a467cfab5a2', '{"vip": true, "name": "Short", "email": "office@short.example", "client": "bob", "region": "nam", "account_id": "c27464aa-8037-5d2a-ab07-414d0757352f"}', '{"actor": "bob", "topic": "account.opened.nam.vip", "schema": 1, "event_id": "01a2135b-097e-7ad7-b0b0-3af70d481cbf", "fingerprint": "809507e064a0b3c573e3781095b34042", "causation_id": "fbdb9f4bfbb4c17a83da195a288e5bb4", "correlation_id": "fbdb9f4bfbb4c17a83da195a288e5bb4"}', '2025-03-05 17:41:03.102885+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 21, '8a0ed482-4ea3-5af9-85a8-d4243b4e57f7', 'agent', 1, 'AgentCreated', 'e313ae80-6528-542a-848b-54b2782ae887', '{"vip": true, "name": "Hal", "email": "hal@short.example", "client": "bob", "region": "nam", "agent_id": "8a0ed482-4ea3-5af9-85a8-d4243b4e57f7", "account_id": "c27464aa-8037-5d2a-ab07-414d0757352f"}', '{"actor": "bob", "topic": "agent.created.nam", "schema": 1, "event_id": "01a2135b-0991-74e0-9010-af0a774e6809", "fingerprint": "0168a44787c40e0a9d71cab957ec31bc", "causation_id": "56d0c7521a7be31d5df49ad58998c405", "correlation_id": "56d0c7521a7be31d5df49ad58998c405"}', '2025-03-11 07:55:29.308761+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 23, '15d96864-fa5e-5d26-911e-f29f60f105e3', 'buy_order', 1, 'BuyOrderPlaced', '22312ecb-6da6-5f94-a6de-5697c6bfbcb5', '{"client": "bob", "btc_rate": "58211.40", "currency": "EUR", "btc_amount": "0.01718736", "price_source": "coinbase", "currency_amount": "1000.50", "idempotence_key": "22312ecb-6da6-5f94-a6de-5697c6bfbcb5"}', '{"actor": "bob", "topic": "buy_order.placed", "schema": 1, "event_id": "01a2135b-09ab-7697-935c-d1d783e5567c", "fingerprint": "EUR 1000.50", "causation_id": "07fb357c7f58a865e2193e4ba4558e0d", "correlation_id": "07fb357c7f58a865e2193e4ba4558e0d"}', '2025-03-16 22:09:55.514637+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 25, '952fe5e8-3d12-53ec-8a7f-f0a09f50c53f', 'agent', 2, 'AgentRemoved', 'c163c3b0-1dca-57bb-b3b7-c5e7a9aaf1ee', '{"vip": false, "email": "ivy@green.example", "client": "alice", "region": "nam", "because": "removed", "agent_id": "952fe5e8-3d12-53ec-8a7f-f0a09f50c53f", "account_id": "9b258faf-9334-5600-a66a-a51830b2aab0"}', '{"actor": "alice", "topic": "agent.removed.nam", "schema": 1, "event_id": "01a2135b-09c9-7401-a608-3907287fcfa5", "fingerprint": "983665353fbc80efad2f8b9c409354b4", "causation_id": "74ac47168be31398fdf948d4946226c9", "correlation_id": "74ac47168be31398fdf948d4946226c9"}', '2025-03-22 12:24:21.720513+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 29, '7c366a86-4780-54c1-98ea-448c4f6c97f0', 'account', 1, 'AccountOpened', '690799f4-5e57-5685-9300-83de7fdce8f3', '{"vip": true, "name": "Short again", "email": "office@short.example", "client": "alice", "region": "nam", "account_id": "7c366a86-4780-54c1-98ea-448c4f6c97f0"}', '{"actor": "alice", "topic": "account.opened.nam.vip", "schema": 1, "event_id": "01a2135b-09f6-7402-8ea7-13450c8343a0", "fingerprint": "08d07d32774d2472bbdff4b1fa00103f", "causation_id": "ee6289ebbd6b8eb353621048b2091f28", "correlation_id": "ee6289ebbd6b8eb353621048b2091f28"}', '2025-04-02 16:53:14.132265+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 31, 'd90884a5-86d3-5db2-b537-4e7eeb02e3e2', 'agent', 3, 'AgentUnblocked', '1ad43d26-4e29-5c64-a920-ab6f7a3ff31b', '{"vip": true, "client": "bob", "reason": null, "region": "apac", "agent_id": "d90884a5-86d3-5db2-b537-4e7eeb02e3e2", "account_id": "90ba8871-d097-5b45-9af2-9b32c81f6a7c"}', '{"actor": "bob", "topic": "agent.unblocked.apac", "schema": 1, "event_id": "01a2135b-0a10-77fd-818e-e2c7e55c7b44", "fingerprint": "c3c2ff80b918fd325a9707a8946dc1e5", "causation_id": "2f13d6ea3dc3ee0af74290772de0eb17", "correlation_id": "2f13d6ea3dc3ee0af74290772de0eb17"}', '2025-04-08 07:07:40.338141+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 33, '85f4d048-2420-5cc7-848b-969625333394', 'buy_order', 1, 'BuyOrderPlaced', '73fa9479-f8f6-598f-86bb-178dda8367b2', '{"client": "alice", "btc_rate": "38307.95", "currency": "GBP", "btc_amount": "0.00202830", "price_source": "demo", "currency_amount": "77.70", "idempotence_key": "73fa9479-f8f6-598f-86bb-178dda8367b2"}', '{"actor": "alice", "topic": "buy_order.placed", "schema": 1, "event_id": "01a2135b-0d46-7d41-9b35-1bd7620da1a3", "fingerprint": "GBP 77.70", "causation_id": "a3ef90f416425f0e4012308c01ae0729", "correlation_id": "a3ef90f416425f0e4012308c01ae0729"}', '2025-04-13 21:22:06.544017+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 34, '8c4d93d3-3885-56cd-877c-a28582d75fb3', 'buy_order', 1, 'BuyOrderPlaced', 'd46b3df7-a9e0-562b-9d92-a54ae7a6febd', '{"client": "bob", "btc_rate": "44190.67", "currency": "EUR", "btc_amount": "0.00007536", "price_source": "demo", "currency_amount": "3.33", "idempotence_key": "d46b3df7-a9e0-562b-9d92-a54ae7a6febd"}', '{"actor": "bob", "topic": "buy_order.placed", "schema": 1, "event_id": "01a2135b-0d7f-7f96-822f-8f0141baa999", "fingerprint": "EUR 3.33", "causation_id": "49a669288d27f748238b8f251b5d923c", "correlation_id": "49a669288d27f748238b8f251b5d923c"}', '2025-04-16 16:29:19.646955+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 35, 'c53cd801-564b-5a3b-a4ad-566706210bb5', 'agent', 2, 'AgentBlocked', '5d455bc7-0cec-5352-98ab-994179ba8d28', '{"vip": true, "client": "bob", "reason": "complaints", "region": "apac", "agent_id": "c53cd801-564b-5a3b-a4ad-566706210bb5", "account_id": "90ba8871-d097-5b45-9af2-9b32c81f6a7c"}', '{"actor": "commands", "topic": "agent.blocked.apac", "schema": 1, "event_id": "01a2135b-1028-7d00-bac2-592be52669a6", "fingerprint": "746ef7f86fceba4d456ca3bc48bd0434", "causation_id": "1b59374d2b554fa3b19fa7868dabe980", "correlation_id": "1b59374d2b554fa3b19fa7868dabe980"}', '2025-04-19 11:36:32.749893+00');
INSERT INTO public.event (partition, "position", stream_id, category, version, type, idempotence_key, data, meta, recorded_at) VALUES (0, 36, 'a2d7f8aa-9d9c-580a-91f9-1de54a98985a', 'agent', 3, 'AgentUnblocked', 'db0d1e03-6bf5-5bf9-b643-844fe7df62b1', '{"vip": false, "client": "bob", "reason": "settled", "region": "emea", "agent_id": "a2d7f8aa-9d9c-580a-91f9-1de54a98985a", "account_id": "78e114b5-8fb6-5948-b203-c434922a2ab9"}', '{"actor": "commands", "topic": "agent.unblocked.emea", "schema": 1, "event_id": "01a2135b-1050-7d71-ba78-7586341870dd", "fingerprint": "239f1922d638a2e790d5274943d90ef3", "causation_id": "548e87aa1c6b4549ba24ec271948d120", "correlation_id": "548e87aa1c6b4549ba24ec271948d120"}', '2025-04-22 06:43:45.852831+00');


--
-- Data for Name: log_head; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.log_head (partition, "position", recorded_at) VALUES (0, 36, '2025-04-22 06:43:45.852831+00');


--
-- Data for Name: relay_checkpoint; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.relay_checkpoint (partition, "position") VALUES (0, 36);


--
-- Data for Name: yoyo_lock; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Name: _yoyo_log _yoyo_log_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public._yoyo_log
    ADD CONSTRAINT _yoyo_log_pkey PRIMARY KEY (id);


--
-- Name: _yoyo_migration _yoyo_migration_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public._yoyo_migration
    ADD CONSTRAINT _yoyo_migration_pkey PRIMARY KEY (migration_hash);


--
-- Name: _yoyo_version _yoyo_version_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public._yoyo_version
    ADD CONSTRAINT _yoyo_version_pkey PRIMARY KEY (version);


--
-- Name: budget budget_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.budget
    ADD CONSTRAINT budget_pkey PRIMARY KEY (name);


--
-- Name: claim_hold claim_hold_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.claim_hold
    ADD CONSTRAINT claim_hold_pkey PRIMARY KEY (kind);


--
-- Name: claim claim_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.claim
    ADD CONSTRAINT claim_pkey PRIMARY KEY (kind, value);


--
-- Name: command_note command_note_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.command_note
    ADD CONSTRAINT command_note_pkey PRIMARY KEY (stream_id, idempotence_key, partition);


--
-- Name: event event_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (partition, "position");


--
-- Name: event event_stream_id_version_partition_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_stream_id_version_partition_key UNIQUE (stream_id, version, partition);


--
-- Name: log_head log_head_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.log_head
    ADD CONSTRAINT log_head_pkey PRIMARY KEY (partition);


--
-- Name: relay_checkpoint relay_checkpoint_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.relay_checkpoint
    ADD CONSTRAINT relay_checkpoint_pkey PRIMARY KEY (partition);


--
-- Name: yoyo_lock yoyo_lock_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.yoyo_lock
    ADD CONSTRAINT yoyo_lock_pkey PRIMARY KEY (locked);


--
-- Name: event_idempotence_key; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX event_idempotence_key ON public.event USING btree (stream_id, idempotence_key, partition) WHERE ((idempotence_key IS NOT NULL) AND (version > 1));


--
-- Name: event event_is_append_only; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER event_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.event FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();


--
-- Name: FUNCTION append(event_unit integer[], event_partition smallint[], event_stream uuid[], event_category text[], event_version integer[], event_type text[], event_key text[], event_data text[], event_meta text[], guard_unit integer[], guard_action text[], guard_name text[], guard_value text[], guard_stream uuid[], OUT head_partition smallint[], OUT head_position bigint[], OUT head_recorded_at timestamp with time zone[], OUT refused_unit integer[], OUT refused_why text[], OUT refused_guard text[], OUT refused_detail text[]); Type: ACL; Schema: public; Owner: -
--

REVOKE ALL ON FUNCTION public.append(event_unit integer[], event_partition smallint[], event_stream uuid[], event_category text[], event_version integer[], event_type text[], event_key text[], event_data text[], event_meta text[], guard_unit integer[], guard_action text[], guard_name text[], guard_value text[], guard_stream uuid[], OUT head_partition smallint[], OUT head_position bigint[], OUT head_recorded_at timestamp with time zone[], OUT refused_unit integer[], OUT refused_why text[], OUT refused_guard text[], OUT refused_detail text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION public.append(event_unit integer[], event_partition smallint[], event_stream uuid[], event_category text[], event_version integer[], event_type text[], event_key text[], event_data text[], event_meta text[], guard_unit integer[], guard_action text[], guard_name text[], guard_value text[], guard_stream uuid[], OUT head_partition smallint[], OUT head_position bigint[], OUT head_recorded_at timestamp with time zone[], OUT refused_unit integer[], OUT refused_why text[], OUT refused_guard text[], OUT refused_detail text[]) TO command_service;


--
-- Name: FUNCTION append_of_0002(event_unit integer[], event_partition smallint[], event_stream uuid[], event_category text[], event_version integer[], event_type text[], event_key text[], event_data text[], event_meta text[], guard_unit integer[], guard_action text[], guard_name text[], guard_value text[], guard_stream uuid[], OUT head_partition smallint[], OUT head_position bigint[], OUT head_recorded_at timestamp with time zone[], OUT refused_unit integer[], OUT refused_why text[], OUT refused_guard text[], OUT refused_detail text[]); Type: ACL; Schema: public; Owner: -
--

REVOKE ALL ON FUNCTION public.append_of_0002(event_unit integer[], event_partition smallint[], event_stream uuid[], event_category text[], event_version integer[], event_type text[], event_key text[], event_data text[], event_meta text[], guard_unit integer[], guard_action text[], guard_name text[], guard_value text[], guard_stream uuid[], OUT head_partition smallint[], OUT head_position bigint[], OUT head_recorded_at timestamp with time zone[], OUT refused_unit integer[], OUT refused_why text[], OUT refused_guard text[], OUT refused_detail text[]) FROM PUBLIC;


--
-- Name: FUNCTION hold_claims(held_kind text[], held_seconds double precision); Type: ACL; Schema: public; Owner: -
--

REVOKE ALL ON FUNCTION public.hold_claims(held_kind text[], held_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.hold_claims(held_kind text[], held_seconds double precision) TO command_service;


--
-- Name: FUNCTION note_commands(note_partition smallint[], note_stream uuid[], note_key text[], note_fingerprint text[], note_version integer[]); Type: ACL; Schema: public; Owner: -
--

REVOKE ALL ON FUNCTION public.note_commands(note_partition smallint[], note_stream uuid[], note_key text[], note_fingerprint text[], note_version integer[]) FROM PUBLIC;
GRANT ALL ON FUNCTION public.note_commands(note_partition smallint[], note_stream uuid[], note_key text[], note_fingerprint text[], note_version integer[]) TO command_service;


--
-- Name: TABLE budget; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.budget TO command_service;
GRANT SELECT ON TABLE public.budget TO log_reader;


--
-- Name: TABLE claim; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.claim TO command_service;
GRANT SELECT ON TABLE public.claim TO log_reader;


--
-- Name: TABLE command_note; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.command_note TO command_service;
GRANT SELECT ON TABLE public.command_note TO log_reader;


--
-- Name: TABLE event; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.event TO command_service;
GRANT SELECT ON TABLE public.event TO event_relay;
GRANT SELECT ON TABLE public.event TO log_reader;


--
-- Name: TABLE log_head; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.log_head TO command_service;
GRANT SELECT ON TABLE public.log_head TO event_relay;
GRANT SELECT ON TABLE public.log_head TO log_reader;


--
-- Name: TABLE relay_checkpoint; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT,UPDATE ON TABLE public.relay_checkpoint TO event_relay;
GRANT SELECT ON TABLE public.relay_checkpoint TO log_reader;


--
-- PostgreSQL database dump complete
--


