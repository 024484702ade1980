-- Least privilege: queries read, the projector writes rows, neither changes a table.
-- Roles belong to the whole cluster, so another database may have made them already.
-- They have no password here; `migration` sets those that the environment names.

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['query_service', 'projector'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I LOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;

GRANT SELECT ON buy_order, projection_checkpoint, projection_attempt, parked_stream, parked_event,
    discarded_event TO query_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON buy_order, projection_checkpoint, projection_attempt,
    parked_stream, parked_event, discarded_event TO projector;

-- A rebuild makes new tables as the owner and puts them in the place of the old ones; they have to
-- be usable at once, and so do the tables of later migrations.
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO query_service;
ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO projector;
