-- What was denied is found without reading what was not, and who is on a list without those whose time is over.
-- A transaction may have several decisions: pages are in an order, and continued from a place, that tells them apart.

DROP INDEX fraud_decision_as_of_transaction_id_idx;
DROP INDEX fraud_decision_client_as_of_transaction_id_idx;
DROP INDEX fraud_listing_listed_at_id_idx;
CREATE INDEX ON fraud_decision (as_of, id, version);
CREATE INDEX ON fraud_decision (client, as_of, id, version);
CREATE INDEX ON fraud_decision (as_of, id, version) WHERE denied;
CREATE INDEX ON fraud_decision (client, as_of, id, version) WHERE denied;
CREATE UNIQUE INDEX ON fraud_decision ((md5(id::text || ' ' || version::text)::uuid));
CREATE INDEX ON fraud_listing (ends_at, id) WHERE over_at IS NULL;
