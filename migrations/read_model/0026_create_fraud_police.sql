-- What the fraud police knows: payments as they were judged, lists, labels and rule sets. Payments are in
-- two tables: what is counted before every decision is a narrow one.

CREATE TABLE fraud_payment (
    -- The card's stream, and the version of its event.
    id uuid NOT NULL,
    version integer NOT NULL,
    client text NOT NULL,
    as_of timestamptz NOT NULL,
    amount numeric NOT NULL,
    currency text NOT NULL,
    -- Where the event stands: a replay counts what was there at the time, and no more.
    partition smallint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (id, version)
);
CREATE INDEX ON fraud_payment (client, as_of, id, version);
CREATE INDEX ON fraud_payment (id, as_of, version);

CREATE TABLE fraud_decision (
    id uuid NOT NULL,
    version integer NOT NULL,
    transaction_id uuid NOT NULL,
    client text NOT NULL,
    as_of timestamptz NOT NULL,
    denied boolean NOT NULL,
    decided_by text NOT NULL,
    score integer NOT NULL,
    rules text NOT NULL,
    -- As in the event.
    payment jsonb NOT NULL,
    features jsonb NOT NULL,
    findings jsonb NOT NULL,
    -- The names of the rules that have hit.
    hits text[] NOT NULL,
    partition smallint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (id, version)
);
CREATE INDEX ON fraud_decision (transaction_id);
CREATE INDEX ON fraud_decision (partition, position);
CREATE INDEX ON fraud_decision (as_of, transaction_id);
CREATE INDEX ON fraud_decision (client, as_of, transaction_id);

CREATE TABLE fraud_listing (
    id uuid NOT NULL,
    version integer NOT NULL,
    list text NOT NULL,
    kind text NOT NULL,
    value text NOT NULL,
    ends_at timestamptz NOT NULL,
    reason text NOT NULL,
    listed_at timestamptz NOT NULL,
    position bigint NOT NULL,
    partition smallint NOT NULL,
    -- Of the event by which it was replaced or taken off.
    over_at bigint,
    PRIMARY KEY (id, version)
);
CREATE INDEX ON fraud_listing (value, kind);
CREATE INDEX ON fraud_listing (listed_at, id) WHERE over_at IS NULL;

CREATE TABLE fraud_label (
    id uuid PRIMARY KEY,
    transaction_id uuid NOT NULL,
    label text NOT NULL,
    reason text NOT NULL,
    labelled_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX ON fraud_label (transaction_id);

CREATE TABLE fraud_rule_set (
    id uuid PRIMARY KEY,
    hash text NOT NULL UNIQUE,
    text text NOT NULL,
    adopted_at timestamptz NOT NULL
);

-- What shadow rules find: added up from decisions and rule sets beside the projector, so that nothing that
-- such a rule does keeps a decision waiting.
CREATE TABLE fraud_shadow (
    id uuid NOT NULL,
    version integer NOT NULL,
    findings jsonb NOT NULL,
    hits text[] NOT NULL,
    PRIMARY KEY (id, version)
);

-- How far that has come. A decision that is projected later than it should have been takes it back.
CREATE TABLE fraud_shadow_reached (
    partition smallint PRIMARY KEY,
    position bigint NOT NULL
);
