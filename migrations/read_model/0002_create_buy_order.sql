-- The buy orders as clients list them: newest first, one client's or everybody's.
-- Indexes and checks have no names of their own choosing, so that a table made by a rebuild, in
-- another schema and with LIKE, ends up with the same ones.

CREATE TABLE buy_order (
    id uuid PRIMARY KEY,
    client text NOT NULL,
    placed_at timestamptz NOT NULL,
    currency text NOT NULL,
    -- NaN and Infinity are not below Infinity: in Postgres NaN sorts above every number.
    currency_amount numeric NOT NULL CHECK (currency_amount > 0 AND currency_amount < 'Infinity'),
    btc_rate numeric NOT NULL CHECK (btc_rate > 0 AND btc_rate < 'Infinity'),
    btc_amount numeric NOT NULL CHECK (btc_amount > 0 AND btc_amount < 'Infinity'),
    price_source text NOT NULL
);

-- One index per kind of page; both carry the whole page key, so that no page needs a sort.
CREATE INDEX ON buy_order (client, placed_at DESC, id DESC);
CREATE INDEX ON buy_order (placed_at DESC, id DESC);
