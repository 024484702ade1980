-- Without its tables vip_customers starts again from the beginning of the log.

DROP TABLE vip_agent;
DROP TABLE vip_account;
DELETE FROM parked_event WHERE projector = 'vip_customers';
DELETE FROM parked_stream WHERE projector = 'vip_customers';
DELETE FROM discarded_event WHERE projector = 'vip_customers';
DELETE FROM projection_attempt WHERE projector = 'vip_customers';
DELETE FROM projection_checkpoint WHERE projector = 'vip_customers';
