-- The roles stay: they belong to the cluster and may be in use by another database.

ALTER DEFAULT PRIVILEGES REVOKE SELECT, INSERT, UPDATE, DELETE ON TABLES FROM projector;
ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM query_service;
REVOKE ALL ON buy_order, projection_checkpoint, projection_attempt, parked_stream, parked_event,
    discarded_event FROM query_service, projector;
