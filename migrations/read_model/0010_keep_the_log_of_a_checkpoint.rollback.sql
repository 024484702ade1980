-- Without it the positions of any log are taken for those of this one.

ALTER TABLE projection_checkpoint DROP COLUMN log_id;
