-- Without its tables billing starts again from the beginning of the log.

DROP FUNCTION microseconds_of_use;
DROP FUNCTION microseconds_of_some_use;
DROP INDEX one_billing_per_store;
DROP TABLE billing_agent;
DROP TABLE billing_account;
DELETE FROM parked_event WHERE starts_with(projector, 'billing');
DELETE FROM parked_stream WHERE starts_with(projector, 'billing');
DELETE FROM discarded_event WHERE starts_with(projector, 'billing');
DELETE FROM projection_attempt WHERE starts_with(projector, 'billing');
DELETE FROM projection_checkpoint WHERE starts_with(projector, 'billing');
