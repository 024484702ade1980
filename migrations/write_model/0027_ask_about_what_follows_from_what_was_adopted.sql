-- What follows from anything that a log held when it was adopted may have been done where it came from,
-- by the same key: the target is asked first, however long a chain of outcomes and reminders it is at the
-- end of. Events that are recorded later are this log's alone, and so is what they cause.

ALTER TABLE reaction.intent
    -- It, or what it follows from, was in the log when that was adopted.
    ADD COLUMN is_adopted boolean NOT NULL DEFAULT false;
ALTER TABLE reaction.reminder
    ADD COLUMN is_adopted boolean NOT NULL DEFAULT false;

-- Where each partition ended when the log was adopted last; whoever reads an event up to there, at once
-- or years later, in a reaction of then or one that is new, causes what may have been done.
CREATE TABLE reaction.adopted_head (
    partition smallint PRIMARY KEY,
    position bigint NOT NULL CHECK (position >= 0)
);
GRANT SELECT ON reaction.adopted_head TO reaction_worker, log_reader;
