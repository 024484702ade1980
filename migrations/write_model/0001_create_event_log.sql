-- The log: the only truth there is. Everything else can be computed again from these rows.

CREATE TABLE event (
    partition smallint NOT NULL,
    position bigint NOT NULL CHECK (position > 0),
    stream_id uuid NOT NULL,
    category text NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    type text NOT NULL,
    idempotence_key text NULL,
    data jsonb NOT NULL,
    meta jsonb NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (partition, position),
    -- Two writers that decided on the same state cannot both be right.
    UNIQUE (stream_id, version, partition)
);

-- A command happens once in its stream; only the first event of a command carries its key. The
-- first event of a stream needs no entry: the id of a stream that a command creates is made of its
-- key. That halves what an append of new streams writes, most of all right after a checkpoint.
CREATE UNIQUE INDEX event_idempotence_key
    ON event (stream_id, idempotence_key, partition)
    WHERE idempotence_key IS NOT NULL AND version > 1;

-- One row per partition. Its lock, held only inside append(), makes positions dense and puts
-- them in commit order: a reader that has seen n never meets a later arrival below n.
CREATE TABLE log_head (
    partition smallint PRIMARY KEY,
    position bigint NOT NULL DEFAULT 0,
    recorded_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 10);

-- Who holds what: an e-mail address belongs to one account.
CREATE TABLE claim (
    kind text NOT NULL,
    value text NOT NULL,
    stream_id uuid NOT NULL,
    PRIMARY KEY (kind, value)
);

-- What may be spent in total. `spent` is a function of the log and can be verified against it.
CREATE TABLE budget (
    name text PRIMARY KEY,
    spent numeric NOT NULL DEFAULT 0 CHECK (spent >= 0 AND spent <> 'NaN'),
    limit_value numeric NOT NULL CHECK (limit_value <> 'NaN'),
    CHECK (spent <= limit_value)
) WITH (fillfactor = 10);

-- How far event_relay has published with the broker's confirm.
CREATE TABLE relay_checkpoint (
    partition smallint PRIMARY KEY,
    position bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

-- By trigger as well as by privilege: not even the owner changes history by accident.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the event log is append-only: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER event_is_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
