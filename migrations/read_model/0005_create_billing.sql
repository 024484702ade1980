-- What billing knows: the accounts and agents of its region, and when each agent was in use.
-- Its tables serve no other team. They name no keys of each other: account and agent are streams of
-- their own, and in a log with several partitions the agent may arrive first.

CREATE TABLE billing_account (
    id uuid PRIMARY KEY,
    client text NOT NULL,
    name text NOT NULL,
    region text NOT NULL,
    vip boolean NOT NULL,
    opened_at timestamptz NOT NULL,
    -- A closed account still has its invoices.
    closed_at timestamptz
);

-- Rows grow with every block; the room left on a page lets them stay there, beside their index.
CREATE TABLE billing_agent (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL,
    name text NOT NULL,
    region text NOT NULL,
    created_at timestamptz NOT NULL,
    removed_at timestamptz,
    -- From creation to removal, except while blocked; what goes on has no upper bound.
    usage tstzmultirange NOT NULL,
    -- Of the stream: an event that is known already changes nothing, however late it comes again.
    version integer NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX ON billing_agent (account_id);

-- The tables have no column that tells which billing a row belongs to: one region's or all, not both.
CREATE UNIQUE INDEX one_billing_per_store ON projection_checkpoint (partition)
    WHERE starts_with(projector, 'billing');

-- How much of the time from `since` to `until` was use, in microseconds, exactly.
CREATE FUNCTION microseconds_of_some_use(
    usage tstzmultirange, since timestamptz, until timestamptz
)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT coalesce(sum((extract(epoch FROM upper(part) - lower(part)) * 1000000)::bigint), 0)::bigint
    FROM unnest(usage * tstzmultirange(tstzrange(since, until))) AS part
);

-- The same, at a tenth of the price for those who were in use all the time, as most are. Only what
-- contains no query is made part of the statement that calls it, so the two are separate functions.
CREATE FUNCTION microseconds_of_use(usage tstzmultirange, since timestamptz, until timestamptz)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN usage @> tstzrange(since, until)
        THEN (extract(epoch FROM until - since) * 1000000)::bigint
    ELSE microseconds_of_some_use(usage, since, until)
END;
