-- What every projector knows about itself: how far it is, what it is trying, what it set aside.
-- It lives beside the rows it speaks of, so that rows and checkpoint commit in one transaction.

-- The checkpoint is also the fence: a projector commits only by moving it from where it believes
-- it to be, so one that has lost its place cannot commit. Whoever changes rows of a projector
-- (the projector, retry, rebuild) takes this row's lock first.
CREATE TABLE projection_checkpoint (
    projector text NOT NULL,
    partition smallint NOT NULL,
    position bigint NOT NULL DEFAULT 0 CHECK (position >= 0),
    -- So that a projector with nothing parked, the usual case, does not even ask.
    parked_streams integer NOT NULL DEFAULT 0 CHECK (parked_streams >= 0),
    PRIMARY KEY (projector, partition)
) WITH (fillfactor = 10);

-- What is being applied, noted before it is tried: after a crash this row tells what the crash may
-- have come from. `attempts` counts only when a single event was tried.
CREATE TABLE projection_attempt (
    projector text NOT NULL,
    partition smallint NOT NULL,
    first_position bigint NOT NULL,
    last_position bigint NOT NULL,
    attempts integer NOT NULL,
    PRIMARY KEY (projector, partition)
) WITH (fillfactor = 10);

-- A stream with an event that could not be applied. Only this stream waits.
CREATE TABLE parked_stream (
    projector text NOT NULL,
    stream_id uuid NOT NULL,
    partition smallint NOT NULL,
    category text NOT NULL,
    reason text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projector, stream_id)
);
CREATE INDEX ON parked_stream (projector, partition);

-- The events of parked streams that have not been applied, in the order of the log. Their content
-- stays in the log, which is where retry takes it from.
CREATE TABLE parked_event (
    projector text NOT NULL,
    partition smallint NOT NULL,
    position bigint NOT NULL,
    stream_id uuid NOT NULL,
    version integer NOT NULL,
    type text NOT NULL,
    PRIMARY KEY (projector, partition, position),
    FOREIGN KEY (projector, stream_id) REFERENCES parked_stream
);
CREATE INDEX ON parked_event (projector, stream_id, position);

-- Events that somebody decided to do without. Rebuild and verify leave them out and say so.
CREATE TABLE discarded_event (
    projector text NOT NULL,
    partition smallint NOT NULL,
    position bigint NOT NULL,
    stream_id uuid NOT NULL,
    version integer NOT NULL,
    type text NOT NULL,
    reason text NOT NULL,
    discarded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projector, partition, position)
);
