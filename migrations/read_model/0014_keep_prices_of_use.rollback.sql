-- Without these tables only the first prices are known. After going up again prices that were set are
-- back with `orderly rebuild billing_prices` and `orderly rebuild vip_prices`.

DROP FUNCTION microseconds_by_part;
DROP FUNCTION microseconds_of_some_parts;
DROP TABLE vip_price;
DROP TABLE billing_price;
