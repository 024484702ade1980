-- Releases before this one count parked streams by themselves, and do not say of reads what is parked.

DROP TRIGGER count_more ON parked_stream;
DROP TRIGGER count_fewer ON parked_stream;
DROP FUNCTION count_parked_streams;
ALTER TABLE projection_checkpoint DROP COLUMN parked_by_category;
