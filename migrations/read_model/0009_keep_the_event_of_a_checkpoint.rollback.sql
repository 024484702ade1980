-- Without the event a log that has grown past a checkpoint again is not recognised as another.

ALTER TABLE projection_checkpoint DROP COLUMN event_position, DROP COLUMN event_id;
