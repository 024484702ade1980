-- Pages read whatever lies between their rows again.

DROP INDEX fraud_decision_reference_idx;
CREATE INDEX fraud_listing_listed_at_id_idx ON fraud_listing (listed_at, id) WHERE over_at IS NULL;
DROP INDEX fraud_listing_ends_at_id_idx;
DROP INDEX fraud_decision_client_denied_idx;
DROP INDEX fraud_decision_denied_idx;
