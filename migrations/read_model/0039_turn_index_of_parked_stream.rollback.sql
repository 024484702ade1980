DROP INDEX parked_stream_partition_projector_idx;
CREATE INDEX ON parked_stream (projector, partition);
