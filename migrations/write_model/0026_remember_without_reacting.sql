-- Up to which event of a partition a reaction only remembers: what it had not read, or had parked, when
-- its log was adopted and an operator did without what was open, is reacted to where it came from.

ALTER TABLE reaction.projection_checkpoint
    ADD COLUMN remembered_until bigint NOT NULL DEFAULT 0 CHECK (remembered_until >= 0);
