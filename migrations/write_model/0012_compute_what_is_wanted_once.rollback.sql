-- Back to the functions of 0008, as they are there.

DROP FUNCTION append_creations(
    text, text, smallint[], integer[], integer[], numeric[], uuid[], text[], text[], text[], text
);
DROP FUNCTION append_take(integer, text[], smallint[], numeric[]);
DROP FUNCTION append_wanted(integer[], integer[], text[], text[], text[], smallint[]);

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
CREATE OR REPLACE FUNCTION append_spend(
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

-- Remembers commands that had nothing to do; what is known already stays as it is. Each call forgets
-- up to twice as many that are old, so that there are never more than a while's worth of them.
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

CREATE OR REPLACE FUNCTION append_units(refusals append_refusal[]) RETURNS integer[]
LANGUAGE sql
IMMUTABLE
AS $$ SELECT ARRAY(SELECT r.unit FROM unnest(refusals) AS r) $$;

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

REVOKE ALL ON FUNCTION
    append_wanted(integer[], integer, integer[], text[], text[], text[], smallint[]),
    append_short(integer[], integer, integer[], text[], text[], text[], smallint[]),
    append_take(integer[], integer, integer[], text[], text[], text[], smallint[])
FROM PUBLIC;

CREATE OR REPLACE FUNCTION lock_budget(budget_name text) RETURNS numeric
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM FROM budget AS b WHERE b.name = budget_name FOR UPDATE;
    PERFORM FROM budget_share AS s WHERE s.name = budget_name ORDER BY s.partition FOR UPDATE;
    RETURN (SELECT b.limit_value FROM budget AS b WHERE b.name = budget_name)
         - (SELECT sum(s.spent) FROM budget_share AS s WHERE s.name = budget_name);
END
$$;
