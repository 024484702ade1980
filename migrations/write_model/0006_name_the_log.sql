-- Which log this is. A position says nothing without it: a consistency token of another system on the
-- same host, or of the log that was here before, must not be taken for one of this log.
-- Short, because every token carries it. A dump takes it along: a log that was restored is the same log.

-- It may be there already: a dump of before, restored over the schema of today, brings back the list of
-- migrations without this one, and leaves alone what it does not know.
CREATE TABLE IF NOT EXISTS log_identity (
    id text NOT NULL CHECK (id ~ '^[0-9a-f]{12}$'),
    -- There is one row.
    single boolean PRIMARY KEY DEFAULT true CHECK (single)
);
INSERT INTO log_identity (id) SELECT left(replace(gen_random_uuid()::text, '-', ''), 12)
    ON CONFLICT DO NOTHING;

-- Query services see how far the log goes, and nothing of what it holds.
-- An owner that may make no roles finds that a superuser has made it, and must not even try.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'log_head_reader') THEN
        CREATE ROLE log_head_reader LOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;
GRANT SELECT ON log_head, log_identity TO log_head_reader;
GRANT SELECT ON log_identity TO command_service, log_reader;
