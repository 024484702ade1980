-- Without its tables the fraud police starts again from the beginning of the log.

DROP TABLE fraud_shadow_reached;
DROP TABLE fraud_shadow;
DROP TABLE fraud_rule_set;
DROP TABLE fraud_label;
DROP TABLE fraud_listing;
DROP TABLE fraud_decision;
DROP TABLE fraud_payment;
DELETE FROM parked_event WHERE projector = 'fraud_police';
DELETE FROM parked_stream WHERE projector = 'fraud_police';
DELETE FROM discarded_event WHERE projector = 'fraud_police';
DELETE FROM projection_attempt WHERE projector = 'fraud_police';
DELETE FROM projection_checkpoint WHERE projector = 'fraud_police';
