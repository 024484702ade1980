-- Pages compare the whole order of an index at once, and begin with whose or how far the transactions
-- are: with columns in two directions only the first of them can be compared, and a page of a client
-- reads and sorts all that the client has ever paid. See migration 0008.

DROP INDEX card_transaction_client_requested_at_id_idx;
DROP INDEX card_transaction_requested_at_id_idx;
DROP INDEX card_transaction_client_status_requested_at_id_idx;
DROP INDEX card_transaction_status_requested_at_id_idx;
CREATE INDEX ON card_transaction (client, requested_at, id);
CREATE INDEX ON card_transaction (requested_at, id);
CREATE INDEX ON card_transaction (client, status, requested_at, id);
CREATE INDEX ON card_transaction (status, requested_at, id);

DROP INDEX alert_state_raised_at_id_idx;
CREATE INDEX ON alert (state, raised_at, id);
