-- Nothing is known any more of what events have caused. The role stays: it belongs to the cluster.

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'reaction_worker') THEN
        REVOKE ALL ON FUNCTION oldest_snapshot_seconds() FROM reaction_worker;
        REVOKE ALL ON log_identity FROM reaction_worker;
    END IF;
END
$$;
DROP SCHEMA reaction CASCADE;
