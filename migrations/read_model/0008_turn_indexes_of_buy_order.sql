-- In the order in which orders arrive, so that new rows are added at the end of an index: what grows
-- at its beginning splits every page in half, and ends up nearly twice as large. Pages are read
-- backwards. With all columns in one direction, the whole order can be compared at once.

DROP INDEX buy_order_client_placed_at_id_idx;
DROP INDEX buy_order_placed_at_id_idx;
CREATE INDEX ON buy_order (client, placed_at, id);
CREATE INDEX ON buy_order (placed_at, id);
