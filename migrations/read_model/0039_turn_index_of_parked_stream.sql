-- Where Postgres had counted few parked streams it took the index that begins with the projector for as
-- good as the key, and went through all that are parked for every commit.
DROP INDEX parked_stream_projector_partition_idx;
CREATE INDEX ON parked_stream (partition, projector);
