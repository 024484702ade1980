-- The roles stay: they belong to the cluster and may be in use by another database.

REVOKE ALL ON event, log_head, claim, budget, relay_checkpoint
    FROM command_service, event_relay, log_reader;
REVOKE ALL ON FUNCTION append(
    integer[], smallint[], uuid[], text[], integer[], text[], text[], text[], text[],
    integer[], text[], text[], text[], uuid[]
) FROM command_service;
