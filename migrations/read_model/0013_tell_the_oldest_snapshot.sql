-- How long ago the oldest transaction began that keeps versions of rows from being cleared away.
--
-- Rows that are updated all the time, such as the log's heads, get slower with every version that
-- stays. Others' transactions are seen with pg_read_all_stats only, which no service has: it would
-- show them everybody's statements. So this tells one number, if the owner has that role.

CREATE FUNCTION oldest_snapshot_seconds()
RETURNS double precision
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') THEN (
        SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)
        FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend'
          AND pid <> pg_backend_pid()
          AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
    ) END
$$;

REVOKE ALL ON FUNCTION oldest_snapshot_seconds() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION oldest_snapshot_seconds() TO projector;
