-- Of which log the rows are that a checkpoint is about: of a position in another log it says nothing.
-- NULL until a projector of this release has looked at both.

ALTER TABLE projection_checkpoint ADD COLUMN log_id text;
