-- What was asked of compliance is in the log: this is a function of it, like every view. What
-- compliance_request still holds is taken over into the log when compliance starts, and leaves there.

CREATE TABLE compliance_asked (
    -- The case: one stream for each agent. Its versions tell in which order requests were made.
    id uuid NOT NULL,
    version integer NOT NULL,
    -- The idempotence key of the command as well, so that it can be sent again without harm.
    request_id uuid NOT NULL UNIQUE,
    agent_id uuid NOT NULL,
    action text NOT NULL,
    reason text,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL,
    state text NOT NULL,
    -- Why it was refused.
    detail text,
    -- The first time.
    sent_at timestamptz,
    answered_at timestamptz,
    PRIMARY KEY (id, version),
    CHECK ((answered_at IS NULL) = (state IN ('waiting', 'sent')))
) WITH (fillfactor = 70);
-- Page by page; what has no answer yet, of an agent or of all; what is old enough to be forgotten.
CREATE INDEX ON compliance_asked (requested_at, request_id);
CREATE INDEX ON compliance_asked (agent_id, requested_at, request_id) WHERE answered_at IS NULL;
CREATE INDEX ON compliance_asked (answered_at) WHERE answered_at IS NOT NULL;
