-- Least privilege: services append and read, and can do nothing else to the log.
-- Roles belong to the whole cluster, so another database may have made them already.
-- They have no password here; `migration` sets those that the environment names.

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['command_service', 'event_relay', 'log_reader'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I LOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
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
GRANT SELECT ON event, log_head, claim, budget TO command_service;
GRANT SELECT ON event, log_head, relay_checkpoint TO event_relay;
GRANT UPDATE ON relay_checkpoint TO event_relay;
GRANT SELECT ON event, log_head, claim, budget, relay_checkpoint TO log_reader;
