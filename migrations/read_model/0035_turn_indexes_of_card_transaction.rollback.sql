-- As migrations 0021 and 0031 made them.

DROP INDEX card_transaction_client_requested_at_id_idx;
DROP INDEX card_transaction_requested_at_id_idx;
DROP INDEX card_transaction_client_status_requested_at_id_idx;
DROP INDEX card_transaction_status_requested_at_id_idx;
CREATE INDEX ON card_transaction (client, requested_at DESC, id DESC);
CREATE INDEX ON card_transaction (requested_at DESC, id DESC);
CREATE INDEX ON card_transaction (client, status, requested_at DESC, id DESC);
CREATE INDEX ON card_transaction (status, requested_at DESC, id DESC);

DROP INDEX alert_state_raised_at_id_idx;
CREATE INDEX ON alert (state, raised_at DESC, id DESC);
