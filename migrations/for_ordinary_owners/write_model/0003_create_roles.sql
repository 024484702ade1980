-- As ../../write_model/0003_create_roles.sql, for an owner that may make no roles: a superuser has made them
-- before (docs/operations.md, "Postgres servers of your own"). From here on it is word for word the same.

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
