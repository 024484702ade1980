-- Card transactions as clients list them, newest first, and each of their transitions with its reasons.
-- Of a card there is its brand and its last four digits; its fingerprints stay in the log.

CREATE TABLE card_transaction (
    id uuid PRIMARY KEY,
    client text NOT NULL,
    requested_at timestamptz NOT NULL,
    status text NOT NULL,
    status_at timestamptz NOT NULL,
    order_id text NOT NULL,
    order_name text NOT NULL,
    order_cost numeric NOT NULL CHECK (order_cost > 0 AND order_cost < 'Infinity'),
    order_currency text NOT NULL,
    payment_method text NOT NULL,
    payment_type text NOT NULL,
    amount numeric NOT NULL CHECK (amount > 0 AND amount < 'Infinity'),
    currency text NOT NULL,
    card_brand text NOT NULL,
    card_last_four text NOT NULL
);

-- One index per kind of page, each with the whole page key, so that no page needs a sort.
CREATE INDEX ON card_transaction (client, requested_at DESC, id DESC);
CREATE INDEX ON card_transaction (requested_at DESC, id DESC);
CREATE INDEX ON card_transaction (client, status, requested_at DESC, id DESC);
CREATE INDEX ON card_transaction (status, requested_at DESC, id DESC);

CREATE TABLE card_transition (
    id uuid NOT NULL,
    version integer NOT NULL,
    status text NOT NULL,
    at timestamptz NOT NULL,
    -- What the fraud police found; NULL where it was not asked.
    score text,
    findings jsonb,
    -- Why it ended so, and who said so if it was a person.
    reason text,
    settled_by text,
    PRIMARY KEY (id, version)
);
