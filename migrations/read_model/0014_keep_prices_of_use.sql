-- What an hour of use costs, from which day on, as it was set: one row for each event, never changed.
-- Each team that charges for use has its own, so that none waits for another's changes. Until a
-- region's first price the one holds that the model begins with.

CREATE TABLE billing_price (
    -- The stream's, which is one for all prices; its versions tell in which order they were set.
    id uuid NOT NULL,
    version integer NOT NULL,
    region text NOT NULL,
    from_day date NOT NULL,
    -- The day's first moment in UTC, but never in a month before that of the event.
    holds_from timestamptz NOT NULL,
    per_hour numeric NOT NULL,
    set_at timestamptz NOT NULL,
    PRIMARY KEY (id, version)
);
CREATE TABLE vip_price (LIKE billing_price INCLUDING ALL);

-- How much of each of the times between neighbouring `bounds` was use, in microseconds, exactly.
CREATE FUNCTION microseconds_of_some_parts(usage tstzmultirange, bounds timestamptz[])
RETURNS bigint[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY(
    SELECT microseconds_of_use(usage, bounds[part], bounds[part + 1])
    FROM generate_series(1, cardinality(bounds) - 1) AS part
    ORDER BY part
);

-- The same, at a fraction of the price for a month in which no price changes, as most are: what
-- contains no query is made part of the statement that calls it.
CREATE FUNCTION microseconds_by_part(usage tstzmultirange, bounds timestamptz[])
RETURNS bigint[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE cardinality(bounds)
    WHEN 2 THEN ARRAY[microseconds_of_use(usage, bounds[1], bounds[2])]
    ELSE microseconds_of_some_parts(usage, bounds)
END;
