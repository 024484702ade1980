-- What was denied is found without reading what was not, and who is on a list without those whose time is over.

CREATE INDEX fraud_decision_denied_idx ON fraud_decision (as_of, transaction_id) WHERE denied;
CREATE INDEX fraud_decision_client_denied_idx ON fraud_decision (client, as_of, transaction_id) WHERE denied;
CREATE INDEX fraud_listing_ends_at_id_idx ON fraud_listing (ends_at, id) WHERE over_at IS NULL;
DROP INDEX fraud_listing_listed_at_id_idx;

-- What a page of decisions is continued from: a transaction may have several.
CREATE UNIQUE INDEX fraud_decision_reference_idx ON fraud_decision ((md5(id::text || ' ' || version::text)::uuid));
