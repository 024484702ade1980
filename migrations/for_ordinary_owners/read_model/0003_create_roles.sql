-- As ../../read_model/0003_create_roles.sql, for an owner that may make no roles: a superuser has made them
-- before (docs/operations.md, "Postgres servers of your own"). From here on it is word for word the same.

GRANT SELECT ON buy_order, projection_checkpoint, projection_attempt, parked_stream, parked_event,
    discarded_event TO query_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON buy_order, projection_checkpoint, projection_attempt,
    parked_stream, parked_event, discarded_event TO projector;

-- A rebuild makes new tables as the owner and puts them in the place of the old ones; they have to
-- be usable at once, and so do the tables of later migrations.
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO query_service;
ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO projector;
