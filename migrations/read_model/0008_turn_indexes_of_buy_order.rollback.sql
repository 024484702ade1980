-- As migration 0002 made them.

DROP INDEX buy_order_client_placed_at_id_idx;
DROP INDEX buy_order_placed_at_id_idx;
CREATE INDEX ON buy_order (client, placed_at DESC, id DESC);
CREATE INDEX ON buy_order (placed_at DESC, id DESC);
