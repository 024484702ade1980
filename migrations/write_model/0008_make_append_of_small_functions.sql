-- append() made of functions that one takes in one by one, and three things that it could not do.
--
-- Everything that an append locks is locked in one order, at the strongest mode that it needs, before
-- anything is looked at: heads by partition, then claims by kind and value, then shares of budgets by
-- name and partition. Whoever locks more weakly first and more strongly later waits for another who
-- does the same.
-- Commands that have nothing to do are noted by the append that would have written their events, as
-- part of its units and under the same locks: what was decided on is still so when it is noted.
-- A budget is spent from a share per partition, so that partitions do not wait for each other. When a
-- share is short and the others are not, the unit is told `short`: move_budget() brings what is left.

-- Budgets ------------------------------------------------------------------------------------------

CREATE TABLE budget_share (
    name text NOT NULL REFERENCES budget (name) ON DELETE CASCADE,
    partition smallint NOT NULL,
    spent numeric NOT NULL DEFAULT 0 CHECK (spent >= 0 AND spent <> 'NaN'),
    granted numeric NOT NULL DEFAULT 0 CHECK (granted <> 'NaN'),
    PRIMARY KEY (name, partition),
    CHECK (spent <= granted)
) WITH (fillfactor = 10);

-- Of what was spent before nobody knows any more in which partition; the first has it all.
INSERT INTO budget_share (name, partition, spent, granted)
SELECT b.name, h.partition,
       CASE WHEN h.partition = 0 THEN b.spent ELSE 0 END,
       CASE WHEN h.partition = 0 THEN b.limit_value ELSE 0 END
FROM budget AS b CROSS JOIN log_head AS h;

ALTER TABLE budget DROP COLUMN spent;

GRANT SELECT ON budget_share TO command_service, log_reader;

-- What nobody has spent yet, with the shares locked, so that it cannot change.
CREATE FUNCTION lock_budget(budget_name text) RETURNS numeric
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM FROM budget AS b WHERE b.name = budget_name FOR UPDATE;
    PERFORM FROM budget_share AS s WHERE s.name = budget_name ORDER BY s.partition FOR UPDATE;
    RETURN (SELECT b.limit_value FROM budget AS b WHERE b.name = budget_name)
         - (SELECT sum(s.spent) FROM budget_share AS s WHERE s.name = budget_name);
END
$$;

-- Gives each partition an equal part of `remaining`, and `first` to `first_partition` before that.
CREATE FUNCTION share_budget(
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
CREATE FUNCTION move_budget(budget_name text, to_partition smallint, wanted numeric) RETURNS void
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
CREATE FUNCTION set_budget_limit(budget_name text, new_limit numeric) RETURNS void
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

-- Notes --------------------------------------------------------------------------------------------

-- So that old ones are found when they are forgotten.
CREATE INDEX command_note_noted_at ON command_note (noted_at);

-- Appending ----------------------------------------------------------------------------------------

-- The one before it stays for the way back.
ALTER FUNCTION append(
    integer[], smallint[], uuid[], text[], integer[], text[], text[], text[], text[],
    integer[], text[], text[], text[], uuid[]
) RENAME TO append_of_0004;
REVOKE ALL ON FUNCTION append_of_0004(
    integer[], smallint[], uuid[], text[], integer[], text[], text[], text[], text[],
    integer[], text[], text[], text[], uuid[]
) FROM command_service;

-- What is looked for in a table is looked for one by one, by LATERAL with a LIMIT: of a plain join made
-- while the table was empty Postgres may go through all of it, and a connection keeps its plans.

-- Why a unit is not written: stale (what it was decided on has changed), claim, race (with another
-- unit of this call), held (the kind is being vacated), budget, or short.
CREATE TYPE append_refusal AS (unit integer, why text, guard text, detail text);

-- Where the partitions stand, locked until the end: positions are handed out in commit order.
CREATE FUNCTION append_lock_heads(
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

-- Locks the claims that are required (shared with others who require them) or released (alone). Two
-- statements would take some of them twice: neighbours of one mode are locked by one.
CREATE FUNCTION append_lock_claims(guard_action text[], guard_name text[], guard_value text[])
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    run record;
BEGIN
    FOR run IN
        SELECT claims.alone,
               array_agg(claims.kind ORDER BY claims.nth) AS kinds,
               array_agg(claims.value ORDER BY claims.nth) AS values
        FROM (
            SELECT wanted.*,
                   row_number() OVER (ORDER BY kind, value)
                   - row_number() OVER (PARTITION BY alone ORDER BY kind, value) AS run,
                   row_number() OVER (ORDER BY kind, value) AS nth
            FROM (
                SELECT g.name AS kind, g.value, bool_or(g.action = 'release') AS alone
                FROM unnest(guard_action, guard_name, guard_value) AS g (action, name, value)
                WHERE g.action IN ('require', 'release')
                GROUP BY g.name, g.value
            ) AS wanted
        ) AS claims
        GROUP BY claims.alone, claims.run
        ORDER BY min(claims.nth)
    LOOP
        IF run.alone THEN
            PERFORM FROM unnest(run.kinds, run.values) AS wanted (kind, value)
            CROSS JOIN LATERAL (
                SELECT FROM claim AS c
                WHERE c.kind = wanted.kind AND c.value = wanted.value
                FOR UPDATE
            ) AS held;
        ELSE
            PERFORM FROM unnest(run.kinds, run.values) AS wanted (kind, value)
            CROSS JOIN LATERAL (
                SELECT FROM claim AS c
                WHERE c.kind = wanted.kind AND c.value = wanted.value
                FOR KEY SHARE
            ) AS held;
        END IF;
    END LOOP;
END
$$;

-- Units that were decided on a stream which has grown since, or which has less than they think.
CREATE FUNCTION append_stale_events(
    event_unit integer[], event_partition smallint[], event_stream uuid[], event_version integer[]
)
RETURNS append_refusal[]
LANGUAGE plpgsql
AS $$
BEGIN
    RETURN ARRAY(
        SELECT (e.unit, 'stale', NULL, NULL)::append_refusal
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
        GROUP BY e.unit
    );
END
$$;

-- Units with a command that had nothing to do in a stream which has grown since. What found nothing
-- there (version 0) came before whatever is there, or is out of its sender's reach for good.
CREATE FUNCTION append_stale_notes(
    refused integer[],
    note_unit integer[], note_partition smallint[], note_stream uuid[], note_version integer[]
)
RETURNS append_refusal[]
LANGUAGE plpgsql
AS $$
BEGIN
    RETURN ARRAY(
        SELECT (n.unit, 'stale', NULL, NULL)::append_refusal
        FROM unnest(note_unit, note_partition, note_stream, note_version)
            AS n (unit, partition, stream_id, version)
        CROSS JOIN LATERAL (
            SELECT FROM event AS other
            WHERE other.stream_id = n.stream_id AND other.version = n.version + 1
              AND other.partition = n.partition
            LIMIT 1
        ) AS later
        WHERE n.version > 0 AND n.unit <> ALL (refused)
        GROUP BY n.unit
    );
END
$$;

-- Units that require a claim which nobody holds, or which another unit gives back.
CREATE FUNCTION append_unheld(
    refused integer[],
    guard_unit integer[], guard_action text[], guard_name text[], guard_value text[]
)
RETURNS append_refusal[]
LANGUAGE plpgsql
AS $$
BEGIN
    RETURN ARRAY(
        WITH released AS MATERIALIZED (
            SELECT g.unit, g.name, g.value
            FROM unnest(guard_unit, guard_action, guard_name, guard_value)
                AS g (unit, action, name, value)
            WHERE g.action = 'release' AND g.unit <> ALL (refused)
        )
        SELECT DISTINCT ON (g.unit)
               (g.unit, CASE WHEN held.value IS NULL THEN 'claim' ELSE 'race' END,
                g.name, g.value)::append_refusal
        FROM unnest(guard_unit, guard_action, guard_name, guard_value)
            AS g (unit, action, name, value)
        LEFT JOIN claim AS held ON held.kind = g.name AND held.value = g.value
        LEFT JOIN released
            ON released.name = g.name AND released.value = g.value AND released.unit <> g.unit
        WHERE g.action = 'require' AND g.unit <> ALL (refused)
          AND (held.value IS NULL OR released.value IS NOT NULL)
        ORDER BY g.unit
    );
END
$$;

-- Units that leave somebody with a claim of a kind of which nobody may hold any.
CREATE FUNCTION append_unvacated(
    refused integer[],
    guard_unit integer[], guard_action text[], guard_name text[], guard_value text[]
)
RETURNS append_refusal[]
LANGUAGE plpgsql
AS $$
BEGIN
    RETURN ARRAY(
        SELECT (g.unit, 'stale', NULL, NULL)::append_refusal
        FROM unnest(guard_unit, guard_action, guard_name) AS g (unit, action, name)
        WHERE g.action = 'vacate' AND g.unit <> ALL (refused)
          -- Counted, because looking for each one among all that are released takes for ever.
          AND (SELECT count(*) FROM claim AS c WHERE c.kind = g.name) > (
              SELECT count(*)
              FROM unnest(guard_unit, guard_action, guard_name, guard_value)
                  AS freed (unit, action, name, value)
              CROSS JOIN LATERAL (
                  SELECT FROM claim AS c
                  WHERE c.kind = freed.name AND c.value = freed.value
                  LIMIT 1
              ) AS held
              WHERE freed.action = 'release' AND freed.unit = g.unit AND freed.name = g.name
          )
        GROUP BY g.unit
    );
END
$$;

-- Units that claim what another stream has or an earlier unit claims, or a kind that is held.
CREATE FUNCTION append_claimed(
    refused integer[],
    guard_unit integer[], guard_action text[], guard_name text[], guard_value text[],
    guard_stream uuid[]
)
RETURNS append_refusal[]
LANGUAGE plpgsql
AS $$
BEGIN
    RETURN ARRAY(
        SELECT DISTINCT ON (g.unit)
               (g.unit,
                CASE WHEN held.value IS NOT NULL THEN 'claim'
                     WHEN hold.kind IS NOT NULL THEN 'held'
                     ELSE 'race' END,
                g.name, g.value)::append_refusal
        FROM (
            SELECT u.*, row_number() OVER (PARTITION BY name, value ORDER BY u.unit) AS nth
            FROM unnest(guard_unit, guard_action, guard_name, guard_value, guard_stream)
                AS u (unit, action, name, value, stream_id)
            WHERE action = 'claim' AND u.unit <> ALL (refused)
        ) AS g
        LEFT JOIN claim AS held
            ON held.kind = g.name AND held.value = g.value AND held.stream_id <> g.stream_id
        LEFT JOIN claim_hold AS hold
            ON hold.kind = g.name AND hold.held_until > statement_timestamp()
        WHERE held.value IS NOT NULL OR g.nth > 1 OR hold.kind IS NOT NULL
        -- What stands in the table is said before what may pass.
        ORDER BY g.unit, held.value IS NULL
    );
END
$$;

-- What the units want of each share, all together or only one of them.
CREATE FUNCTION append_wanted(
    refused integer[], only_unit integer, guard_unit integer[], guard_action text[],
    guard_name text[], guard_value text[], guard_partition smallint[]
)
RETURNS TABLE (name text, partition smallint, amount numeric)
LANGUAGE sql
IMMUTABLE
AS $$
    SELECT g.name, g.partition, sum(g.value::numeric)
    FROM unnest(guard_unit, guard_action, guard_name, guard_value, guard_partition)
        AS g (unit, action, name, value, partition)
    WHERE g.action = 'spend' AND g.unit <> ALL (refused)
      AND (only_unit IS NULL OR g.unit = only_unit)
    GROUP BY g.name, g.partition
$$;

-- Why these units, or one of them, cannot spend what they want: the first share that is short.
CREATE FUNCTION append_short(
    refused integer[], only_unit integer, guard_unit integer[], guard_action text[],
    guard_name text[], guard_value text[], guard_partition smallint[]
)
RETURNS append_refusal
LANGUAGE plpgsql
AS $$
DECLARE
    wanted record;
    remaining numeric;
BEGIN
    SELECT w.name, w.amount INTO wanted
    FROM append_wanted(refused, only_unit, guard_unit, guard_action, guard_name, guard_value,
                       guard_partition) AS w
    LEFT JOIN budget_share AS s ON s.name = w.name AND s.partition = w.partition
    WHERE (s.spent + w.amount <= s.granted) IS NOT TRUE
    ORDER BY w.name, w.partition
    LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- What all partitions have spent, and what has been committed, of one moment.
    SELECT b.limit_value - (SELECT sum(s.spent) FROM budget_share AS s WHERE s.name = b.name)
    INTO remaining
    FROM budget AS b
    WHERE b.name = wanted.name;
    IF wanted.amount <= remaining THEN
        RETURN (only_unit, 'short', wanted.name, wanted.amount::text)::append_refusal;
    END IF;
    RETURN (only_unit, 'budget', wanted.name, greatest(coalesce(remaining, 0), 0)::text)
        ::append_refusal;
END
$$;

-- Spends what the units want, all of it at once in the usual case.
CREATE FUNCTION append_spend(
    refused integer[], guard_unit integer[], guard_action text[], guard_name text[],
    guard_value text[], guard_partition smallint[]
)
RETURNS append_refusal[]
LANGUAGE plpgsql
AS $$
DECLARE
    refusals append_refusal[] := '{}';
    short append_refusal;
    candidate integer;
BEGIN
    PERFORM FROM append_wanted(refused, NULL, guard_unit, guard_action, guard_name, guard_value,
                               guard_partition) AS w
    JOIN budget_share AS s ON s.name = w.name AND s.partition = w.partition
    ORDER BY s.name, s.partition
    FOR UPDATE OF s;
    short := append_short(refused, NULL, guard_unit, guard_action, guard_name, guard_value,
                          guard_partition);
    IF short.why IS NULL THEN
        PERFORM append_take(refused, NULL, guard_unit, guard_action, guard_name, guard_value,
                            guard_partition);
        RETURN refusals;
    END IF;

    -- Close to the limit each unit is asked in turn; a smaller one may still fit.
    FOR candidate IN
        SELECT DISTINCT g.unit
        FROM unnest(guard_unit, guard_action) AS g (unit, action)
        WHERE g.action = 'spend' AND g.unit <> ALL (refused)
        ORDER BY g.unit
    LOOP
        short := append_short(refused, candidate, guard_unit, guard_action, guard_name,
                              guard_value, guard_partition);
        IF short.why IS NULL THEN
            PERFORM append_take(refused, candidate, guard_unit, guard_action, guard_name,
                                guard_value, guard_partition);
        ELSE
            refusals := refusals || short;
        END IF;
    END LOOP;
    RETURN refusals;
END
$$;

CREATE FUNCTION append_take(
    refused integer[], only_unit integer, guard_unit integer[], guard_action text[],
    guard_name text[], guard_value text[], guard_partition smallint[]
)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE budget_share AS s
    SET spent = s.spent + w.amount
    FROM append_wanted(refused, only_unit, guard_unit, guard_action, guard_name, guard_value,
                       guard_partition) AS w
    WHERE s.name = w.name AND s.partition = w.partition;
END
$$;

-- Gives back and takes what the units release and claim.
CREATE FUNCTION append_move_claims(
    refused integer[], guard_unit integer[], guard_action text[], guard_name text[],
    guard_value text[], guard_stream uuid[]
)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    DELETE FROM claim_hold AS hold
    USING unnest(guard_unit, guard_action, guard_name) AS g (unit, action, name)
    WHERE g.action = 'vacate' AND g.unit <> ALL (refused) AND hold.kind = g.name;

    DELETE FROM claim AS c
    WHERE c.ctid = ANY (ARRAY(
        SELECT own.ctid
        FROM unnest(guard_unit, guard_action, guard_name, guard_value, guard_stream)
            AS g (unit, action, name, value, stream_id)
        CROSS JOIN LATERAL (
            SELECT held.ctid FROM claim AS held
            WHERE held.kind = g.name AND held.value = g.value AND held.stream_id = g.stream_id
            LIMIT 1
        ) AS own
        WHERE g.action = 'release' AND g.unit <> ALL (refused)
    ));

    INSERT INTO claim (kind, value, stream_id)
    SELECT g.name, g.value, g.stream_id
    FROM unnest(guard_unit, guard_action, guard_name, guard_value, guard_stream)
        AS g (unit, action, name, value, stream_id)
    -- A stream may claim again what is its own.
    LEFT JOIN claim AS own
        ON own.kind = g.name AND own.value = g.value AND own.stream_id = g.stream_id
    WHERE g.action = 'claim' AND g.unit <> ALL (refused) AND own.value IS NULL
    ORDER BY g.name, g.value;
END
$$;

-- Remembers commands that had nothing to do; what is known already stays as it is. Each call forgets
-- up to twice as many that are old, so that there are never more than a while's worth of them.
CREATE FUNCTION append_notes(
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

-- Writes the events at the next positions, each a microsecond after the one before.
CREATE FUNCTION append_events(
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

CREATE FUNCTION append_units(refusals append_refusal[]) RETURNS integer[]
LANGUAGE sql
IMMUTABLE
AS $$ SELECT ARRAY(SELECT r.unit FROM unnest(refusals) AS r) $$;

-- Writes units of events and notes: each whole, or not at all and with the reason.
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
    notes_kept_days integer DEFAULT 90,
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
    refusals append_refusal[];
    refused integer[];
BEGIN
    IF guard_partition IS NULL THEN
        guard_partition := array_fill(event_partition[1], ARRAY[cardinality(guard_unit)]);
    END IF;

    -- Everything below sees all that was committed before the locks were ours.
    SELECT * INTO head_partition, head_position, head_recorded_at
    FROM append_lock_heads(event_partition || note_partition);
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
CREATE FUNCTION append_creations(
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

-- Privileges ---------------------------------------------------------------------------------------

DO $$
DECLARE
    made regprocedure;
BEGIN
    FOR made IN
        SELECT p.oid::regprocedure FROM pg_proc AS p
        WHERE p.pronamespace = 'public'::regnamespace
          AND (p.proname LIKE 'append%'
               OR p.proname IN ('lock_budget', 'share_budget', 'move_budget', 'set_budget_limit'))
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', made);
        IF split_part(made::text, '(', 1) IN ('append', 'append_creations', 'move_budget') THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO command_service', made);
        END IF;
    END LOOP;
END
$$;
