-- A log that is being copied from another database, or has been copied to one, takes no events.
--
-- While a log is copied there are two of it, and only one may grow: what was acknowledged in the other
-- would be missing. Whoever appends moves a head, so that a trigger there keeps everybody out, also
-- those who have begun to wait. A log that is open has no such trigger, and pays nothing for it.

CREATE FUNCTION refuse_growth() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    -- The copy is made by the owner. append() acts as the owner too, in a session of somebody else.
    IF session_user <> (
        SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.oid = TG_RELID
    ) THEN
        -- As a standby's: services ask again, over a new connection.
        RAISE EXCEPTION 'this log is closed: it is a copy that is not finished, or was copied'
            USING ERRCODE = 'read_only_sql_transaction';
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION is_log_closed() RETURNS boolean
LANGUAGE sql STABLE
AS $$
    SELECT EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = 'log_head'::regclass AND tgname = 'log_is_closed'
    )
$$;

-- Waits for the appends that are being written; those that come later are refused.
CREATE FUNCTION close_log() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT is_log_closed() THEN
        CREATE TRIGGER log_is_closed BEFORE UPDATE ON log_head
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_growth();
    END IF;
END
$$;

CREATE FUNCTION open_log() RETURNS void
LANGUAGE sql
AS $$
    DROP TRIGGER IF EXISTS log_is_closed ON log_head
$$;

REVOKE ALL ON FUNCTION refuse_growth(), is_log_closed(), close_log(), open_log() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION is_log_closed() TO log_reader;
