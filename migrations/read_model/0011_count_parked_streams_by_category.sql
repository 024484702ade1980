-- Reads say how much is parked of what they show, and must not count it: a hundred thousand streams
-- may be parked. The numbers are kept where every read looks anyway, beside the checkpoint.

ALTER TABLE projection_checkpoint
    -- Category -> number of its streams; `parked_streams` is the sum. Without those that have none.
    ADD COLUMN parked_by_category jsonb NOT NULL DEFAULT '{}';

UPDATE projection_checkpoint AS checkpoint
SET parked_streams = counted.streams, parked_by_category = counted.by_category
FROM (
    SELECT projector, partition, sum(streams) AS streams,
           jsonb_object_agg(category, streams) AS by_category
    FROM (
        SELECT projector, partition, category, count(*) AS streams
        FROM parked_stream
        GROUP BY projector, partition, category
    ) AS of_category
    GROUP BY projector, partition
) AS counted
WHERE checkpoint.projector = counted.projector AND checkpoint.partition = counted.partition;

-- By a trigger, so that the numbers are right whoever parks a stream or lets it go: a release before
-- this one, which counts `parked_streams` by itself, or an operator by hand. All of them hold the
-- checkpoint's lock already.
CREATE FUNCTION count_parked_streams() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp
AS $$
DECLARE
    step integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
BEGIN
    UPDATE projection_checkpoint AS checkpoint
    SET parked_streams = greatest(0, checkpoint.parked_streams + changed.streams),
        parked_by_category = (
            SELECT coalesce(jsonb_object_agg(category, streams), '{}')
            FROM (
                SELECT category, sum(streams) AS streams
                FROM (
                    SELECT key AS category, value::integer AS streams
                    FROM jsonb_each_text(checkpoint.parked_by_category)
                    UNION ALL
                    SELECT key, value::integer FROM jsonb_each_text(changed.by_category)
                ) AS known
                GROUP BY category
                HAVING sum(streams) > 0
            ) AS added_up
        )
    FROM (
        SELECT projector, partition, sum(streams) AS streams,
               jsonb_object_agg(category, streams) AS by_category
        FROM (
            SELECT projector, partition, category, step * count(*) AS streams
            FROM changed_stream
            GROUP BY projector, partition, category
        ) AS of_category
        GROUP BY projector, partition
    ) AS changed
    WHERE checkpoint.projector = changed.projector AND checkpoint.partition = changed.partition;
    RETURN NULL;
END
$$;

CREATE TRIGGER count_more AFTER INSERT ON parked_stream REFERENCING NEW TABLE AS changed_stream
    FOR EACH STATEMENT EXECUTE FUNCTION count_parked_streams();
CREATE TRIGGER count_fewer AFTER DELETE ON parked_stream REFERENCING OLD TABLE AS changed_stream
    FOR EACH STATEMENT EXECUTE FUNCTION count_parked_streams();
