-- An append costs the same however long somebody has been looking at the log.
--
-- While a snapshot is held no version of a row can be cleared away. Each append changed the head of its
-- partition, and most a share of a budget, so that each had to walk through all the versions that those
-- before it had left behind. Now the head is not written any more: it is where the log ends. And of a
-- share there are never more than some versions behind one entry of its index, the newest found first.

-- Heads --------------------------------------------------------------------------------------------

-- One row per partition, which every append locks, and none changes: a lock leaves no version behind.
-- Held only inside append(), it makes positions dense and puts them in commit order: a reader that has
-- seen n never meets a later arrival below n.
CREATE TABLE log_partition (
    partition smallint PRIMARY KEY,
    -- While the log is copied from another database, or when it has been copied to one.
    closed boolean NOT NULL DEFAULT false
);

-- Nobody moves a budget or appends from here on: whoever moves one has it first, and then looks at heads.
-- The table of budgets stays open for appends, which look whether a budget is there, with a head locked.
DO $$
BEGIN
    PERFORM FROM budget AS b ORDER BY b.name FOR NO KEY UPDATE;
END
$$;
LOCK TABLE log_head IN ACCESS EXCLUSIVE MODE;

-- A head that says anything else than the log does is looked into before it is forgotten.
DO $$
DECLARE
    wrong record;
BEGIN
    SELECT ends.* INTO wrong
    FROM (
        SELECT h.partition, h.position, coalesce(
            (SELECT max(e.position) FROM event AS e WHERE e.partition = h.partition), 0) AS last
        FROM log_head AS h
    ) AS ends
    WHERE ends.position <> ends.last
    ORDER BY ends.partition
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'partition % of the log ends at %, and its head says %: see orderly verify',
            wrong.partition, wrong.last, wrong.position;
    END IF;
END
$$;

INSERT INTO log_partition (partition, closed)
SELECT h.partition, is_log_closed() FROM log_head AS h;

DROP TABLE log_head;

-- Where a partition ends. Its plan is pinned: readers keep theirs from when the log was empty.
CREATE FUNCTION log_end(of_partition smallint, OUT last_position bigint, OUT last_at timestamptz)
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = public, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
BEGIN
    SELECT e.position, e.recorded_at INTO last_position, last_at
    FROM event AS e
    WHERE e.partition = of_partition
    ORDER BY e.position DESC
    LIMIT 1;
    IF NOT FOUND THEN
        last_position := 0;
        last_at := '-infinity';
    END IF;
END
$$;

-- For all who read it; services of the release before as well.
CREATE VIEW log_head AS
SELECT p.partition, e.last_position AS position, e.last_at AS recorded_at
FROM log_partition AS p CROSS JOIN LATERAL log_end(p.partition) AS e;

REVOKE ALL ON FUNCTION log_end(smallint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION log_end(smallint)
    TO command_service, event_relay, log_reader, log_head_reader;
GRANT SELECT ON log_head TO command_service, event_relay, log_reader, log_head_reader;

-- Closing ------------------------------------------------------------------------------------------

-- Every append reads the row that it locks, and so does whoever has waited for the lock: what closes a
-- log keeps out all who come later, and waits for those who were before.

DROP FUNCTION open_log();
DROP FUNCTION close_log();
DROP FUNCTION refuse_growth();

-- Refuses whoever is not the owner, who makes the copy. append() acts as the owner too, in a session of
-- somebody else.
CREATE FUNCTION refuse_growth() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF session_user <> (
        SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.oid = 'log_partition'::regclass
    ) THEN
        -- As a standby's: services ask again, over a new connection.
        RAISE EXCEPTION 'this log is closed: it is a copy that is not finished, or was copied'
            USING ERRCODE = 'read_only_sql_transaction';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION is_log_closed() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = public, pg_temp
AS $$ SELECT coalesce(bool_or(p.closed), false) FROM log_partition AS p $$;

-- Waits for the appends that are being written; those that come later are refused.
CREATE FUNCTION close_log() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM FROM log_partition AS p ORDER BY p.partition FOR UPDATE;
    UPDATE log_partition AS p SET closed = true WHERE NOT p.closed;
END
$$;

CREATE FUNCTION open_log() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM FROM log_partition AS p ORDER BY p.partition FOR UPDATE;
    UPDATE log_partition AS p SET closed = false WHERE p.closed;
END
$$;

REVOKE ALL ON FUNCTION refuse_growth(), close_log(), open_log() FROM PUBLIC;

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
END
$$;

-- Budgets ------------------------------------------------------------------------------------------

-- How often a share has changed. Its row is changed in place so many times, which leaves its index
-- alone; then it gets a new entry there. Whoever looks from the end meets no older one. That there is
-- one row per share is kept by the heads: nobody adds or changes one without its partition's head.
ALTER TABLE budget_share
    DROP CONSTRAINT budget_share_pkey,
    ADD COLUMN changes bigint NOT NULL DEFAULT 0,
    ADD COLUMN generation bigint NOT NULL GENERATED ALWAYS AS (changes / 64) STORED;
ALTER TABLE budget_share ADD PRIMARY KEY (name, partition, generation);

-- Where the share of each partition is now; whoever changes it there has its partition's head.
CREATE FUNCTION newest_shares(budget_name text) RETURNS TABLE (place tid, spent numeric)
LANGUAGE plpgsql
AS $$
BEGIN
    RETURN QUERY
    SELECT s.ctid, s.spent
    FROM log_partition AS p CROSS JOIN LATERAL (
        SELECT newest.ctid, newest.spent FROM budget_share AS newest
        WHERE newest.name = budget_name AND newest.partition = p.partition
        ORDER BY newest.generation DESC
        LIMIT 1
    ) AS s;
END
$$;

-- What nobody has spent yet. The limit is read last, in a statement of its own: it is never below what
-- was spent before that, so that nothing is refused for which there was room all the time.
CREATE FUNCTION budget_left(budget_name text) RETURNS numeric
LANGUAGE plpgsql
AS $$
DECLARE
    already_spent numeric := (SELECT sum(s.spent) FROM newest_shares(budget_name) AS s);
BEGIN
    RETURN (SELECT b.limit_value - already_spent FROM budget AS b WHERE b.name = budget_name);
END
$$;

-- What nobody has spent yet, with all heads locked, so that it cannot change.
CREATE OR REPLACE FUNCTION lock_budget(budget_name text) RETURNS numeric
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM FROM log_partition AS p ORDER BY p.partition FOR UPDATE;
    RETURN budget_left(budget_name);
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
    SET changes = s.changes + 1,
        granted = s.spent
        + trunc((remaining - first) / (SELECT count(*) FROM log_partition), 8)
        + CASE WHEN s.partition = first_partition THEN first ELSE 0 END
    WHERE s.ctid = ANY (ARRAY(SELECT newest.place FROM newest_shares(budget_name) AS newest));
$$;

-- Makes sure that a partition may spend `wanted`, or all that is left. It locks the heads, in the order
-- in which every append does, so that nobody waits in a circle.
CREATE OR REPLACE FUNCTION move_budget(budget_name text, to_partition smallint, wanted numeric)
RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = public, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
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
    PERFORM lock_budget(budget_name);
    INSERT INTO budget_share (name, partition)
    SELECT budget_name, p.partition FROM log_partition AS p
    WHERE NOT EXISTS (
        SELECT FROM budget_share AS s WHERE s.name = budget_name AND s.partition = p.partition
    );
    remaining := budget_left(budget_name);
    UPDATE budget AS b
    SET limit_value = greatest(new_limit, b.limit_value - remaining)
    WHERE b.name = budget_name;
    remaining := budget_left(budget_name);
    -- What rounding leaves over goes to the first: a single partition may spend to the last digit.
    PERFORM share_budget(
        budget_name, remaining, 0::smallint,
        (SELECT remaining - count(*) * trunc(remaining / count(*), 8) FROM log_partition)
    );
END
$$;

-- Takes all that is wanted from the shares, whose heads are locked, or nothing if one of them is short:
-- then it returns why, for `refused_unit`. Otherwise it returns NULL.
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
    LEFT JOIN LATERAL (
        SELECT newest.spent, newest.granted FROM budget_share AS newest
        WHERE newest.name = w.name AND newest.partition = w.partition
        ORDER BY newest.generation DESC
        LIMIT 1
    ) AS s ON true
    WHERE (s.spent + w.amount <= s.granted) IS NOT TRUE
    ORDER BY w.name, w.partition
    LIMIT 1;
    IF NOT FOUND THEN
        UPDATE budget_share AS s
        SET spent = s.spent + w.amount, changes = s.changes + 1
        FROM (
            SELECT u.name, u.partition, sum(u.amount) AS amount
            FROM unnest(wanted_name, wanted_partition, wanted_amount) AS u (name, partition, amount)
            GROUP BY u.name, u.partition
        ) AS w
        CROSS JOIN LATERAL (
            SELECT newest.ctid FROM budget_share AS newest
            WHERE newest.name = w.name AND newest.partition = w.partition
            ORDER BY newest.generation DESC
            LIMIT 1
        ) AS newest
        WHERE s.ctid = newest.ctid;
        RETURN NULL;
    END IF;
    remaining := budget_left(short.name);
    IF short.amount <= remaining THEN
        RETURN (refused_unit, 'short', short.name, short.amount::text)::append_refusal;
    END IF;
    RETURN (refused_unit, 'budget', short.name, greatest(coalesce(remaining, 0), 0)::text)
        ::append_refusal;
END
$$;

-- Units that want more of a budget than nobody has spent yet.
CREATE FUNCTION append_too_large(
    wanted_unit integer[], wanted_name text[], wanted_amount numeric[]
)
RETURNS append_refusal[]
LANGUAGE plpgsql
AS $$
BEGIN
    RETURN ARRAY(
        -- Each budget is looked at once.
        WITH budgets AS MATERIALIZED (
            SELECT u.name, budget_left(u.name) AS remaining
            FROM (SELECT DISTINCT n.name FROM unnest(wanted_name) AS n (name)) AS u
        )
        SELECT DISTINCT ON (w.unit)
               (w.unit, 'budget', w.name, greatest(coalesce(b.remaining, 0), 0)::text)
                   ::append_refusal
        FROM budgets AS b
        JOIN unnest(wanted_unit, wanted_name, wanted_amount) AS w (unit, name, amount)
            ON w.name = b.name
        WHERE (w.amount <= b.remaining) IS NOT TRUE
        ORDER BY w.unit, w.name
    );
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
    too_large integer[];
    since integer := 1;
BEGIN
    wanted := append_wanted(
        refused, guard_unit, guard_action, guard_name, guard_value, guard_partition);
    IF wanted.wanted_unit = '{}' THEN
        RETURN refusals;
    END IF;
    refusal := append_take(
        NULL, wanted.wanted_name, wanted.wanted_partition, wanted.wanted_amount);
    IF refusal.why IS NULL THEN
        RETURN refusals;
    END IF;

    -- Close to the limit each unit is asked in turn; a smaller one may still fit. One that wants more
    -- than all that is left fits no more whatever the others do: once nothing is left that is everybody.
    refusals := append_too_large(wanted.wanted_unit, wanted.wanted_name, wanted.wanted_amount);
    too_large := append_units(refusals);
    FOR until IN 1 .. cardinality(wanted.wanted_unit) LOOP
        CONTINUE WHEN wanted.wanted_unit[until] = wanted.wanted_unit[until + 1];
        IF wanted.wanted_unit[until] = ANY (too_large) THEN
            since := until + 1;
            CONTINUE;
        END IF;
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

-- Appending ----------------------------------------------------------------------------------------

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
    heads := append_lock_heads(event_partition || note_partition || guard_partition);
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
            SET spent = s.spent + w.amount, changes = s.changes + 1
            FROM unnest(to_partition, amount) AS w (partition, amount)
            CROSS JOIN LATERAL (
                SELECT newest.ctid FROM budget_share AS newest
                WHERE newest.name = budget_name AND newest.partition = w.partition
                ORDER BY newest.generation DESC
                LIMIT 1
            ) AS newest
            WHERE s.ctid = newest.ctid AND s.spent + w.amount <= s.granted
            RETURNING s.partition
        )
        SELECT array_agg(paying.partition) INTO paid FROM paying;
        IF cardinality(paid) IS DISTINCT FROM cardinality(to_partition) THEN
            UPDATE budget_share AS s
            SET spent = s.spent - w.amount, changes = s.changes + 1
            FROM unnest(to_partition, amount) AS w (partition, amount)
            CROSS JOIN LATERAL (
                SELECT newest.ctid FROM budget_share AS newest
                WHERE newest.name = budget_name AND newest.partition = w.partition
                ORDER BY newest.generation DESC
                LIMIT 1
            ) AS newest
            WHERE s.ctid = newest.ctid AND s.partition = ANY (paid);
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
END
$$;

REVOKE ALL ON FUNCTION
    newest_shares(text), budget_left(text), append_too_large(integer[], text[], numeric[])
FROM PUBLIC;
