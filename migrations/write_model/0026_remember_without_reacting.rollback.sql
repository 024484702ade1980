-- Back to reactions that react to whatever they read.

ALTER TABLE reaction.projection_checkpoint DROP COLUMN remembered_until;
