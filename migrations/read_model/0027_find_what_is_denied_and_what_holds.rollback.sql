-- Pages read whatever lies between their rows again.

DROP INDEX fraud_listing_ends_at_id_idx;
DROP INDEX fraud_decision_md5_idx;
DROP INDEX fraud_decision_client_as_of_id_version_idx1;
DROP INDEX fraud_decision_as_of_id_version_idx1;
DROP INDEX fraud_decision_client_as_of_id_version_idx;
DROP INDEX fraud_decision_as_of_id_version_idx;
CREATE INDEX ON fraud_listing (listed_at, id) WHERE over_at IS NULL;
CREATE INDEX ON fraud_decision (client, as_of, transaction_id);
CREATE INDEX ON fraud_decision (as_of, transaction_id);
