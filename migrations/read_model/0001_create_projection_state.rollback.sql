-- Without checkpoints every projection starts again from the beginning of the log.

DROP TABLE discarded_event;
DROP TABLE parked_event;
DROP TABLE parked_stream;
DROP TABLE projection_attempt;
DROP TABLE projection_checkpoint;
