-- Alerts about flagged transactions as operators list them, newest first, and what they silenced.
-- Of a card there is its brand and its last four digits; of recipients, nothing.

CREATE TABLE alert (
    id uuid PRIMARY KEY,
    transaction_id uuid NOT NULL,
    channel text NOT NULL,
    client text NOT NULL,
    raised_at timestamptz NOT NULL,
    state text NOT NULL,
    state_at timestamptz NOT NULL,
    amount numeric NOT NULL CHECK (amount > 0 AND amount < 'Infinity'),
    currency text NOT NULL,
    card_brand text NOT NULL,
    card_last_four text NOT NULL,
    score text NOT NULL,
    rules jsonb NOT NULL,
    -- Why it is not sent, with the code and the text of whoever refused it.
    reason text,
    -- Recipients that were refused while others were not, by their number.
    refused jsonb NOT NULL
);

-- One index per kind of page, each with the whole page key, so that no page needs a sort.
CREATE INDEX ON alert (raised_at DESC, id DESC);
CREATE INDEX ON alert (state, raised_at DESC, id DESC);

CREATE TABLE alert_silence (
    id uuid PRIMARY KEY,
    begun_at timestamptz NOT NULL,
    client text,
    rule text,
    ends_at timestamptz NOT NULL,
    reason text NOT NULL,
    author text NOT NULL,
    ended_at timestamptz,
    ended_by text
);

CREATE INDEX ON alert_silence (begun_at DESC, id DESC);
-- What is asked before every alert.
CREATE INDEX ON alert_silence (ends_at) WHERE ended_at IS NULL;
