-- Back to asking about what was open when the log was adopted, and about nothing that follows from it.

DROP TABLE reaction.adopted_head;
ALTER TABLE reaction.reminder DROP COLUMN is_adopted;
ALTER TABLE reaction.intent DROP COLUMN is_adopted;
