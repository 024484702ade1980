-- Which event stands at a checkpoint: a log that was restored from a backup, and has grown past the
-- checkpoint again, holds another one there.
-- Releases before this one move the position alone; what was noted for another position says nothing.

ALTER TABLE projection_checkpoint ADD COLUMN event_position bigint, ADD COLUMN event_id text;
