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
CREATE FUNCTION count_parked_stream() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp
AS $$
DECLARE
    changed parked_stream;
    step integer;
BEGIN
    IF TG_OP = 'INSERT' THEN
        changed := NEW;
        step := 1;
    ELSE
        changed := OLD;
        step := -1;
    END IF;
    UPDATE projection_checkpoint AS checkpoint
    SET parked_streams = greatest(0, checkpoint.parked_streams + step),
        parked_by_category = jsonb_strip_nulls(
            checkpoint.parked_by_category || jsonb_build_object(
                changed.category,
                nullif(
                    greatest(
                        0,
                        coalesce((checkpoint.parked_by_category ->> changed.category)::integer, 0)
                        + step
                    ),
                    0
                )
            )
        )
    WHERE checkpoint.projector = changed.projector AND checkpoint.partition = changed.partition;
    RETURN NULL;
END
$$;

CREATE TRIGGER count_parked_stream AFTER INSERT OR DELETE ON parked_stream
    FOR EACH ROW EXECUTE FUNCTION count_parked_stream();
