-- Only an empty log may be taken away; a log with events in it is history.

DO $$
BEGIN
    IF EXISTS (SELECT FROM event) THEN
        RAISE EXCEPTION 'the event log is not empty: dump it and drop the database if you mean it';
    END IF;
END
$$;

DROP TABLE relay_checkpoint;
DROP TABLE budget;
DROP TABLE claim;
DROP TABLE log_head;
DROP TABLE event;
DROP FUNCTION refuse_change();
